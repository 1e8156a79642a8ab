// Integers of 64 and 128 bits as words of 32, low word first: what no baseline device has.
//
// Both tiers compute with these: a GPU splits a 64-bit operation into 32-bit ones anyway, and one text is
// tested for all. Twin of the integer half of `cpu::project`; an operation that can fail says so in `failed`.

struct Int { v: i32, failed: bool }
struct Long { v: vec2<u32>, failed: bool }
struct Wide { v: vec4<u32>, failed: bool }
struct Quotient { q: vec2<u32>, r: vec2<u32> }
struct WideQuotient { q: vec4<u32>, r: vec4<u32> }

const LONG_MIN = vec2<u32>(0u, 0x80000000u);

fn long_of(v: i32) -> vec2<u32> { return vec2<u32>(bitcast<u32>(v), bitcast<u32>(v >> 31u)); }
fn is_negative(a: vec2<u32>) -> bool { return (a.y >> 31u) != 0u; }
fn is_nothing(a: vec2<u32>) -> bool { return (a.x | a.y) == 0u; }
fn add2(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + u32(low < a.x));
}
fn sub2(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(a.x - b.x, a.y - b.y - u32(a.x < b.x));
}
fn neg2(a: vec2<u32>) -> vec2<u32> { return sub2(vec2<u32>(0u, 0u), a); }
fn abs2(a: vec2<u32>) -> vec2<u32> { return select(a, neg2(a), is_negative(a)); }
fn equal2(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x == b.x && a.y == b.y; }
fn below2(a: vec2<u32>, b: vec2<u32>) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }
fn less2(a: vec2<u32>, b: vec2<u32>) -> bool { return below2(a ^ LONG_MIN, b ^ LONG_MIN); }
fn zeros2(a: vec2<u32>) -> u32 {
  return select(countLeadingZeros(a.y), 32u + countLeadingZeros(a.x), a.y == 0u);
}
// Shifts by 0 to 63.
fn shl2(a: vec2<u32>, by: u32) -> vec2<u32> {
  if (by == 0u) { return a; }
  if (by >= 32u) { return vec2<u32>(0u, a.x << (by - 32u)); }
  return vec2<u32>(a.x << by, (a.y << by) | (a.x >> (32u - by)));
}
fn shr2(a: vec2<u32>, by: u32) -> vec2<u32> {
  if (by == 0u) { return a; }
  if (by >= 32u) { return vec2<u32>(a.y >> (by - 32u), 0u); }
  return vec2<u32>((a.x >> by) | (a.y << (32u - by)), a.y >> by);
}
fn mul32(a: u32, b: u32) -> vec2<u32> {
  let ll = (a & 0xffffu) * (b & 0xffffu);
  let lh = (a & 0xffffu) * (b >> 16u);
  let hl = (a >> 16u) * (b & 0xffffu);
  let hh = (a >> 16u) * (b >> 16u);
  let middle = (ll >> 16u) + (lh & 0xffffu) + (hl & 0xffffu);
  return vec2<u32>((ll & 0xffffu) | (middle << 16u), hh + (lh >> 16u) + (hl >> 16u) + (middle >> 16u));
}
// The whole product of two magnitudes.
fn mul2(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
  let low = mul32(a.x, b.x);
  let one = mul32(a.x, b.y);
  let two = mul32(a.y, b.x);
  let high = mul32(a.y, b.y);
  let middle = add2(vec2<u32>(low.y, 0u), vec2<u32>(one.x, 0u));
  let middle2 = add2(middle, vec2<u32>(two.x, 0u));
  let upper = add2(add2(high, vec2<u32>(one.y, 0u)), vec2<u32>(two.y, 0u));
  let top = add2(upper, vec2<u32>(middle2.y, 0u));
  return vec4<u32>(low.x, middle2.x, top.x, top.y);
}

// Integers of 8, 16 and 32 bits live in an i32.
fn fits(v: i32, bits: u32) -> bool { let s = 32u - bits; return ((v << s) >> s) == v; }
fn fits_long(v: vec2<u32>, bits: u32) -> bool {
  let low = bitcast<i32>(v.x);
  return equal2(v, long_of(low)) && fits(low, bits);
}
fn add_int(a: i32, b: i32, bits: u32) -> Int {
  let v = bitcast<i32>(bitcast<u32>(a) + bitcast<u32>(b));
  return Int(v, ((a ^ v) & (b ^ v)) < 0 || !fits(v, bits));
}
fn sub_int(a: i32, b: i32, bits: u32) -> Int {
  let v = bitcast<i32>(bitcast<u32>(a) - bitcast<u32>(b));
  return Int(v, ((a ^ b) & (a ^ v)) < 0 || !fits(v, bits));
}
fn mul_int(a: i32, b: i32, bits: u32) -> Int {
  let product = mul_long(long_of(a), long_of(b));
  return Int(bitcast<i32>(product.v.x), !fits_long(product.v, bits));
}
fn div_int(a: i32, b: i32, bits: u32) -> Int {
  let quotient = div_long(long_of(a), long_of(b));
  return Int(bitcast<i32>(quotient.v.x), quotient.failed || !fits_long(quotient.v, bits));
}
fn rem_int(a: i32, b: i32, bits: u32) -> Int {
  let rest = rem_long(long_of(a), long_of(b));
  return Int(bitcast<i32>(rest.v.x), rest.failed);
}
fn neg_int(a: i32, bits: u32) -> Int { return sub_int(0, a, bits); }
fn narrow(v: vec2<u32>, bits: u32) -> Int { return Int(bitcast<i32>(v.x), !fits_long(v, bits)); }

fn add_long(a: vec2<u32>, b: vec2<u32>) -> Long {
  let v = add2(a, b);
  return Long(v, (((a.y ^ v.y) & (b.y ^ v.y)) >> 31u) != 0u);
}
fn sub_long(a: vec2<u32>, b: vec2<u32>) -> Long {
  let v = sub2(a, b);
  return Long(v, (((a.y ^ b.y) & (a.y ^ v.y)) >> 31u) != 0u);
}
fn neg_long(a: vec2<u32>) -> Long { return sub_long(vec2<u32>(0u, 0u), a); }
// A magnitude that gets its sign back; one above 2^63 - 1 fails, but for -2^63.
fn signed(magnitude: vec2<u32>, negative: bool) -> Long {
  let v = select(magnitude, neg2(magnitude), negative);
  return Long(v, is_negative(magnitude) && !(negative && equal2(magnitude, LONG_MIN)));
}
fn mul_long(a: vec2<u32>, b: vec2<u32>) -> Long {
  let product = mul2(abs2(a), abs2(b));
  let result = signed(product.xy, is_negative(a) != is_negative(b));
  return Long(result.v, result.failed || (product.z | product.w) != 0u);
}
fn div_long(a: vec2<u32>, b: vec2<u32>) -> Long {
  if (is_nothing(b)) { return Long(b, true); }
  return signed(divide2(abs2(a), abs2(b)).q, is_negative(a) != is_negative(b));
}
fn rem_long(a: vec2<u32>, b: vec2<u32>) -> Long {
  if (is_nothing(b)) { return Long(b, true); }
  let rest = divide2(abs2(a), abs2(b)).r;
  return Long(select(rest, neg2(rest), is_negative(a)), false);
}
// Quotient and rest downwards; the divisor is positive.
fn floor_divide(a: vec2<u32>, b: vec2<u32>) -> Quotient {
  let parts = divide2(abs2(a), b);
  if (!is_negative(a)) { return parts; }
  if (is_nothing(parts.r)) { return Quotient(neg2(parts.q), parts.r); }
  return Quotient(sub2(neg2(parts.q), vec2<u32>(1u, 0u)), sub2(b, parts.r));
}
fn window_start(time: vec2<u32>, size: vec2<u32>, offset: vec2<u32>) -> Long {
  let rest = floor_divide(time, size).r;
  var into = sub2(rest, offset);
  if (is_negative(into)) { into = add2(into, size); }
  return sub_long(time, into);
}

fn wide_of(v: vec2<u32>) -> vec4<u32> {
  let sign = select(0u, 0xffffffffu, is_negative(v));
  return vec4<u32>(v.x, v.y, sign, sign);
}
fn is_negative4(a: vec4<u32>) -> bool { return (a.w >> 31u) != 0u; }
fn is_nothing4(a: vec4<u32>) -> bool { return (a.x | a.y | a.z | a.w) == 0u; }
fn add4(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  let low = add2(a.xy, b.xy);
  let high = add2(a.zw, b.zw);
  let carried = add2(high, vec2<u32>(u32(below2(low, a.xy)), 0u));
  return vec4<u32>(low.x, low.y, carried.x, carried.y);
}
fn neg4(a: vec4<u32>) -> vec4<u32> { return add4(~a, vec4<u32>(1u, 0u, 0u, 0u)); }
fn sub4(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> { return add4(a, neg4(b)); }
fn abs4(a: vec4<u32>) -> vec4<u32> { return select(a, neg4(a), is_negative4(a)); }
fn equal4(a: vec4<u32>, b: vec4<u32>) -> bool { return equal2(a.xy, b.xy) && equal2(a.zw, b.zw); }
fn below4(a: vec4<u32>, b: vec4<u32>) -> bool {
  return below2(a.zw, b.zw) || (equal2(a.zw, b.zw) && below2(a.xy, b.xy));
}
fn less4(a: vec4<u32>, b: vec4<u32>) -> bool {
  let sign = vec4<u32>(0u, 0u, 0u, 0x80000000u);
  return below4(a ^ sign, b ^ sign);
}
fn zeros4(a: vec4<u32>) -> u32 { return select(zeros2(a.zw), 64u + zeros2(a.xy), is_nothing(a.zw)); }
fn shl4(a: vec4<u32>, by: u32) -> vec4<u32> {
  if (by == 0u) { return a; }
  if (by >= 64u) { let high = shl2(a.xy, by - 64u); return vec4<u32>(0u, 0u, high.x, high.y); }
  let low = shl2(a.xy, by);
  let high = shl2(a.zw, by) | shr2(shr2(a.xy, 63u - by), 1u);
  return vec4<u32>(low.x, low.y, high.x, high.y);
}
// The low 128 bits of a product; whoever asks has made sure that no others are set.
fn mul4(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  let low = mul2(a.xy, b.xy);
  let cross = add2(mul2(a.xy, b.zw).xy, mul2(a.zw, b.xy).xy);
  let high = add2(low.zw, cross);
  return vec4<u32>(low.x, low.y, high.x, high.y);
}
// Shift and subtract, from the first bit that the quotient can have.
fn divide4(a: vec4<u32>, b: vec4<u32>) -> WideQuotient {
  if (is_nothing(a.zw) && is_nothing(b.zw)) {
    let short = divide2(a.xy, b.xy);
    return WideQuotient(vec4<u32>(short.q.x, short.q.y, 0u, 0u), vec4<u32>(short.r.x, short.r.y, 0u, 0u));
  }
  var q = vec4<u32>();
  var r = a;
  if (below4(a, b)) { return WideQuotient(q, r); }
  var place = i32(zeros4(b) - zeros4(a));
  loop {
    if (place < 0) { break; }
    let step = shl4(b, u32(place));
    if (!below4(r, step)) {
      r = sub4(r, step);
      q |= shl4(vec4<u32>(1u, 0u, 0u, 0u), u32(place));
    }
    place -= 1;
  }
  return WideQuotient(q, r);
}
