// Words of 64 bits as a device of the native tier has them. `portable.wgsl` has the same names.

fn to_u64(a: vec2<u32>) -> u64 { return u64(a.x) | (u64(a.y) << 32u); }
fn of_u64(a: u64) -> vec2<u32> { return vec2<u32>(u32(a & 0xfffffffflu), u32(a >> 32u)); }
// Of magnitudes; the divisor is not zero.
fn divide2(a: vec2<u32>, b: vec2<u32>) -> Quotient {
  let x = to_u64(a);
  let y = to_u64(b);
  let q = x / y;
  return Quotient(of_u64(q), of_u64(x - q * y));
}
