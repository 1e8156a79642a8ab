// States of the table as atomic units of 64 bits, on a device that has them. `sums_portable.wgsl` has the
// same names and the same bytes; where a unit lies is `far.wgsl`'s or `near.wgsl`'s.

alias Word = u64;
// Words of a unit, and what marks one of a workgroup's own.
const UNIT_WORDS = 1u;
const NEAR_WORD = 0x40000000u;

// Adds 64 bits and what the unit below carried; returns what is carried to the next one. Order-free: the
// carries of all additions to a unit are together what its sum has above 64 bits.
fn unit_add(at: u32, value: vec2<u32>, carry: u32) -> u32 {
  let term = to_u64(value);
  let sum = term + u64(carry);
  var over = u32(sum < term);
  if (sum != 0lu) {
    let old = word_add(at, sum);
    over += u32(old + sum < old);
  }
  return over;
}
fn unit_or(at: u32, value: vec2<u32>) { word_or(at, to_u64(value)); }
fn unit_xor(at: u32, value: vec2<u32>) { word_xor(at, to_u64(value)); }
fn unit_load(at: u32) -> vec2<u32> { return of_u64(word_load(at)); }
fn pointer_load(at: u32) -> u32 { return u32(word_load(at) & 0xfffffffflu); }
fn pointer_store(at: u32, value: u32) { word_store(at, u64(value)); }
// What was there, and 1 if it was replaced.
fn pointer_swap(at: u32, known: u32, value: u32) -> vec2<u32> {
  let result = word_swap(at, u64(known), u64(value));
  return vec2<u32>(u32(result.old & 0xfffffffflu), u32(result.exchanged));
}
