// States of the table as units of two atomic words of 32 bits. `sums_native.wgsl` has the same names and the
// same bytes.

@group(0) @binding(6) var<storage, read_write> sums: array<atomic<u32>>;

fn half_add(at: u32, term: u32, carry: u32) -> u32 {
  let sum = term + carry;
  var over = u32(sum < term);
  if (sum != 0u) {
    let old = atomicAdd(&sums[at], sum);
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
  atomicOr(&sums[2u * at], value.x);
  atomicOr(&sums[2u * at + 1u], value.y);
}
fn unit_xor(at: u32, value: vec2<u32>) {
  atomicXor(&sums[2u * at], value.x);
  atomicXor(&sums[2u * at + 1u], value.y);
}
fn pointer_load(at: u32) -> u32 { return atomicLoad(&sums[2u * at]); }
fn pointer_store(at: u32, value: u32) { atomicStore(&sums[2u * at], value); }
// What was there, and 1 if it was replaced.
fn pointer_swap(at: u32, known: u32, value: u32) -> vec2<u32> {
  let result = atomicCompareExchangeWeak(&sums[2u * at], known, value);
  return vec2<u32>(result.old_value, u32(result.exchanged));
}
