// States of the table as units of two atomic words of 32 bits. `sums_native.wgsl` has the same names and the
// same bytes; where a unit lies is `far.wgsl`'s or `near.wgsl`'s.

alias Word = u32;
// Words of a unit, and what marks one of a workgroup's own.
const UNIT_WORDS = 2u;
const NEAR_WORD = 0x80000000u;

fn half_add(at: u32, term: u32, carry: u32) -> u32 {
  let sum = term + carry;
  var over = u32(sum < term);
  if (sum != 0u) {
    let old = word_add(at, sum);
    over += u32(old + sum < old);
  }
  return over;
}
// Adds 64 bits and what the unit below carried; returns what is carried to the next one. Order-free: the
// carries of all additions to a word are together what its sum has above 32 bits.
fn unit_add(at: u32, value: vec2<u32>, carry: u32) -> u32 {
  return half_add(2u * at + 1u, value.y, half_add(2u * at, value.x, carry));
}
fn unit_or(at: u32, value: vec2<u32>) {
  word_or(2u * at, value.x);
  word_or(2u * at + 1u, value.y);
}
fn unit_xor(at: u32, value: vec2<u32>) {
  word_xor(2u * at, value.x);
  word_xor(2u * at + 1u, value.y);
}
fn unit_load(at: u32) -> vec2<u32> { return vec2<u32>(word_load(2u * at), word_load(2u * at + 1u)); }
fn pointer_load(at: u32) -> u32 { return word_load(2u * at); }
fn pointer_store(at: u32, value: u32) { word_store(2u * at, value); }
// What was there, and 1 if it was replaced.
fn pointer_swap(at: u32, known: u32, value: u32) -> vec2<u32> {
  let result = word_swap(2u * at, known, value);
  return vec2<u32>(result.old, u32(result.exchanged));
}
