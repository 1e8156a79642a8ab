// States of the table as atomic units of 64 bits, on a device that has them. `sums_portable.wgsl` has the
// same names and the same bytes.

@group(0) @binding(6) var<storage, read_write> sums: array<atomic<u64>>;

// Adds 64 bits and what the unit below carried; returns what is carried to the next one. Order-free: the
// carries of all additions to a unit are together what its sum has above 64 bits.
fn unit_add(at: u32, value: vec2<u32>, carry: u32) -> u32 {
  let term = to_u64(value);
  let sum = term + u64(carry);
  var over = u32(sum < term);
  if (sum != 0lu) {
    let old = atomicAdd(&sums[at], sum);
    over += u32(old + sum < old);
  }
  return over;
}
fn unit_or(at: u32, value: vec2<u32>) { atomicOr(&sums[at], to_u64(value)); }
fn unit_xor(at: u32, value: vec2<u32>) { atomicXor(&sums[at], to_u64(value)); }
fn pointer_load(at: u32) -> u32 { return u32(atomicLoad(&sums[at]) & 0xfffffffflu); }
fn pointer_store(at: u32, value: u32) { atomicStore(&sums[at], u64(value)); }
// What was there, and 1 if it was replaced.
fn pointer_swap(at: u32, known: u32, value: u32) -> vec2<u32> {
  let result = atomicCompareExchangeWeak(&sums[at], u64(known), u64(value));
  return vec2<u32>(u32(result.old_value & 0xfffffffflu), u32(result.exchanged));
}
