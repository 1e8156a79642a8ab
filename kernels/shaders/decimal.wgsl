// Decimals as unscaled integers of 128 bits. Twin of `cpu::project::decimal`, of its narrow way: the planner
// sends here only what cannot leave 128 bits before it is rounded.

fn within(v: vec4<u32>, limit: vec4<u32>) -> Wide { return Wide(v, below4(limit, abs4(v))); }
fn signed_wide(magnitude: vec4<u32>, negative: bool) -> vec4<u32> {
  return select(magnitude, neg4(magnitude), negative);
}
fn scale_up(a: vec4<u32>, power: vec4<u32>) -> vec4<u32> {
  return signed_wide(mul4(abs4(a), power), is_negative4(a));
}
// To the nearest, halves away from zero; the divisor is not zero.
fn half_up(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  let divisor = abs4(b);
  let parts = divide4(abs4(a), divisor);
  var q = parts.q;
  if (!below4(parts.r, sub4(divisor, parts.r))) { q = add4(q, vec4<u32>(1u, 0u, 0u, 0u)); }
  return signed_wide(q, is_negative4(a) != is_negative4(b));
}
fn towards_zero(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  return signed_wide(divide4(abs4(a), abs4(b)).q, is_negative4(a) != is_negative4(b));
}
fn rem_wide(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  return signed_wide(divide4(abs4(a), abs4(b)).r, is_negative4(a));
}
fn mul_wide(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  return signed_wide(mul4(abs4(a), abs4(b)), is_negative4(a) != is_negative4(b));
}
fn long_of_wide(a: vec4<u32>) -> Long { return Long(a.xy, !equal4(a, wide_of(a.xy))); }
