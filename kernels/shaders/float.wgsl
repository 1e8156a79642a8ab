// Floats by their bits, computed in integers: IEEE 754, round to nearest even.
//
// No device is asked for a float: a driver may flush subnormals, fuse a product with a sum, round a quotient
// by 2.5 units, and many have no 64 bits at all. So the answer is the CPU's, bit for bit, on every device.
// After SoftFloat 3e (Hauser): a finite number is `significand * 2^(exponent - 1085)`, bit 62 of the
// significand set, so that ten bits below the last one keep what rounding must know ("jam").
// Twin of the float half of `cpu::project`.

struct Number { negative: bool, exponent: i32, significand: vec2<u32> }

const NAN = vec2<u32>(0u, 0x7ff80000u);

fn is_nan(a: vec2<u32>) -> bool {
  let high = a.y & 0x7fffffffu;
  return high > 0x7ff00000u || (high == 0x7ff00000u && a.x != 0u);
}
fn is_infinite(a: vec2<u32>) -> bool { return (a.y & 0x7fffffffu) == 0x7ff00000u && a.x == 0u; }
fn is_zero(a: vec2<u32>) -> bool { return ((a.y & 0x7fffffffu) | a.x) == 0u; }
fn canonical(a: vec2<u32>) -> vec2<u32> { return select(a, NAN, is_nan(a)); }
// As a signed 64-bit number: -0.0 before 0.0, one NaN, the greatest.
fn ordered(a: vec2<u32>) -> vec2<u32> {
  let one = canonical(a);
  return select(one, one ^ vec2<u32>(0xffffffffu, 0x7fffffffu), is_negative(one));
}
// Equal numbers have equal keys: -0.0 is 0.0.
fn float_key(a: vec2<u32>) -> vec2<u32> { return select(canonical(a), vec2<u32>(), is_zero(a)); }
fn float_equal(a: vec2<u32>, b: vec2<u32>) -> bool { return equal2(float_key(a), float_key(b)); }
fn float_less(a: vec2<u32>, b: vec2<u32>) -> bool {
  return less2(ordered(float_key(a)), ordered(float_key(b)));
}

// Of a finite number.
fn unpack(a: vec2<u32>) -> Number {
  let negative = is_negative(a);
  let biased = (a.y >> 20u) & 0x7ffu;
  let fraction = vec2<u32>(a.x, a.y & 0xfffffu);
  if (biased != 0u) {
    return Number(negative, i32(biased), shl2(fraction | vec2<u32>(0u, 0x100000u), 10u));
  }
  if (is_nothing(fraction)) { return Number(negative, 0, fraction); }
  let zeros = zeros2(fraction);
  return Number(negative, 12 - i32(zeros), shl2(fraction, zeros - 1u));
}
// Shifts right; the last bit stays set where a bit was lost.
fn jam(a: vec2<u32>, by: u32) -> vec2<u32> {
  if (by == 0u) { return a; }
  if (by > 63u) { return vec2<u32>(u32(!is_nothing(a)), 0u); }
  let lost = !is_nothing(shl2(a, 64u - by));
  return shr2(a, by) | vec2<u32>(u32(lost), 0u);
}
fn jam_one(a: vec2<u32>) -> vec2<u32> { return shr2(a, 1u) | vec2<u32>(a.x & 1u, 0u); }
fn pack(negative: bool, exponent: i32, significand: vec2<u32>) -> vec2<u32> {
  let sign = select(0u, 0x80000000u, negative);
  if (is_nothing(significand)) { return vec2<u32>(0u, sign); }
  if (exponent >= 0x7ff) { return vec2<u32>(0u, sign | 0x7ff00000u); }
  var kept = significand;
  var field = 0u;
  if (exponent <= 0) { kept = jam(kept, u32(1 - exponent)); } else { field = u32(exponent - 1); }
  let rest = kept.x & 0x3ffu;
  var rounded = shr2(add2(kept, vec2<u32>(0x200u, 0u)), 10u);
  if (rest == 0x200u) { rounded.x &= 0xfffffffeu; }
  let packed = add2(vec2<u32>(0u, field << 20u), rounded);
  return vec2<u32>(packed.x, packed.y | sign);
}
// Brings bit 62 back where a difference lost it.
fn pack_low(negative: bool, exponent: i32, significand: vec2<u32>) -> vec2<u32> {
  if (is_nothing(significand)) { return pack(negative, 0, significand); }
  let zeros = zeros2(significand) - 1u;
  return pack(negative, exponent - i32(zeros), shl2(significand, zeros));
}
// Takes bit 63 down.
fn pack_high(negative: bool, exponent: i32, significand: vec2<u32>) -> vec2<u32> {
  if (is_negative(significand)) { return pack(negative, exponent + 1, jam_one(significand)); }
  return pack(negative, exponent, significand);
}

fn add_float(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (is_nan(a) || is_nan(b)) { return NAN; }
  if (is_infinite(a) || is_infinite(b)) {
    if (is_infinite(a) && is_infinite(b) && a.y != b.y) { return NAN; }
    return select(b, a, is_infinite(a));
  }
  if (is_zero(a) && is_zero(b)) { return a & b; }
  if (is_zero(a)) { return b; }
  if (is_zero(b)) { return a; }
  var x = unpack(a);
  var y = unpack(b);
  if (x.exponent < y.exponent || (x.exponent == y.exponent && below2(x.significand, y.significand))) {
    let swap = x;
    x = y;
    y = swap;
  }
  let aligned = jam(y.significand, u32(x.exponent - y.exponent));
  if (x.negative == y.negative) {
    return pack_high(x.negative, x.exponent, add2(x.significand, aligned));
  }
  let difference = sub2(x.significand, aligned);
  return pack_low(x.negative && !is_nothing(difference), x.exponent, difference);
}
fn sub_float(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (is_nan(b)) { return NAN; }
  return add_float(a, b ^ LONG_MIN);
}
fn neg_float(a: vec2<u32>) -> vec2<u32> { return canonical(a ^ LONG_MIN); }
fn mul_float(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (is_nan(a) || is_nan(b)) { return NAN; }
  let sign = (a.y ^ b.y) & 0x80000000u;
  if (is_infinite(a) || is_infinite(b)) {
    if (is_zero(a) || is_zero(b)) { return NAN; }
    return vec2<u32>(0u, sign | 0x7ff00000u);
  }
  if (is_zero(a) || is_zero(b)) { return vec2<u32>(0u, sign); }
  let x = unpack(a);
  let y = unpack(b);
  let product = mul2(x.significand, y.significand);
  let exact = is_nothing(vec2<u32>(product.x, product.y & 0x3fffffffu));
  let high = shl2(product.zw, 2u) | vec2<u32>((product.y >> 30u) | u32(!exact), 0u);
  return pack_high(sign != 0u, x.exponent + y.exponent - 1023, high);
}
// A zero divisor is the caller's to refuse; here it gives the infinity that IEEE says.
fn div_float(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (is_nan(a) || is_nan(b)) { return NAN; }
  let sign = (a.y ^ b.y) & 0x80000000u;
  if (is_infinite(a)) { return select(vec2<u32>(0u, sign | 0x7ff00000u), NAN, is_infinite(b)); }
  if (is_zero(b)) { return select(vec2<u32>(0u, sign | 0x7ff00000u), NAN, is_zero(a)); }
  if (is_infinite(b) || is_zero(a)) { return vec2<u32>(0u, sign); }
  let x = unpack(a);
  let y = unpack(b);
  var exponent = x.exponent - y.exponent + 1023;
  var rest = x.significand;
  if (below2(rest, y.significand)) {
    rest = shl2(rest, 1u);
    exponent -= 1;
  }
  var quotient = vec2<u32>();
  for (var bit = 0u; bit < 63u; bit++) {
    quotient = shl2(quotient, 1u);
    if (!below2(rest, y.significand)) {
      rest = sub2(rest, y.significand);
      quotient.x |= 1u;
    }
    rest = shl2(rest, 1u);
  }
  quotient.x |= u32(!is_nothing(rest));
  return pack(sign != 0u, exponent, quotient);
}
// C's fmod: exact, with the dividend's sign.
fn rem_float(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (is_nan(a) || is_nan(b) || is_infinite(a) || is_zero(b)) { return NAN; }
  if (is_infinite(b) || is_zero(a)) { return a; }
  let x = unpack(a);
  let y = unpack(b);
  if (x.exponent < y.exponent) { return a; }
  var rest = x.significand;
  for (var left = x.exponent - y.exponent; left >= 0; left--) {
    if (!below2(rest, y.significand)) { rest = sub2(rest, y.significand); }
    if (left > 0) { rest = shl2(rest, 1u); }
  }
  return pack_low(x.negative, y.exponent, rest);
}

fn float_of_long(a: vec2<u32>) -> vec2<u32> {
  let magnitude = abs2(a);
  if (is_negative(magnitude)) { return pack(true, 1086, jam_one(magnitude)); }
  return pack_low(is_negative(a), 1085, magnitude);
}
fn float_of_int(a: i32) -> vec2<u32> { return float_of_long(long_of(a)); }
fn float_of_bool(a: bool) -> vec2<u32> { return vec2<u32>(0u, select(0u, 0x3ff00000u, a)); }
// Towards zero; what 64 bits do not hold fails.
fn long_of_float(a: vec2<u32>) -> Long {
  if (is_nan(a) || is_infinite(a)) { return Long(a, true); }
  if (is_zero(a)) { return Long(vec2<u32>(), false); }
  let x = unpack(a);
  let power = x.exponent - 1023;
  if (power < 0) { return Long(vec2<u32>(), false); }
  if (power > 63) { return Long(a, true); }
  if (power == 63) { return signed(shl2(x.significand, 1u), x.negative); }
  return signed(shr2(x.significand, u32(62 - power)), x.negative);
}
fn float_of_single(a: u32) -> vec2<u32> {
  let sign = a & 0x80000000u;
  let biased = (a >> 23u) & 0xffu;
  let fraction = a & 0x7fffffu;
  if (biased == 0xffu) { return select(vec2<u32>(0u, sign | 0x7ff00000u), NAN, fraction != 0u); }
  if (biased != 0u) {
    return vec2<u32>(fraction << 29u, sign | ((biased + 896u) << 20u) | (fraction >> 3u));
  }
  if (fraction == 0u) { return vec2<u32>(0u, sign); }
  let zeros = countLeadingZeros(fraction);
  return pack(sign != 0u, 905 - i32(zeros), shl2(vec2<u32>(fraction, 0u), zeros + 31u));
}
// The same, but for a NaN, whose bits stay as a processor keeps them.
fn widened(a: u32) -> vec2<u32> {
  let fraction = a & 0x7fffffu;
  let kept = vec2<u32>(fraction << 29u, (a & 0x80000000u) | 0x7ff80000u | (fraction >> 3u));
  return select(float_of_single(a), kept, (a & 0x7f800000u) == 0x7f800000u && fraction != 0u);
}
// Sums, products and quotients of two singles, computed in 53 bits and rounded here, are rounded as if once:
// 53 >= 2 * 24 + 2 (Figueroa, "When is double rounding innocuous?", 1995).
fn single_of_float(a: vec2<u32>) -> u32 {
  let sign = a.y & 0x80000000u;
  if (is_nan(a)) { return 0x7fc00000u; }
  if (is_infinite(a)) { return sign | 0x7f800000u; }
  if (is_zero(a)) { return sign; }
  let x = unpack(a);
  let exponent = x.exponent - 896;
  if (exponent >= 0xff) { return sign | 0x7f800000u; }
  var kept = x.significand;
  var field = 0u;
  if (exponent <= 0) { kept = jam(kept, u32(1 - exponent)); } else { field = u32(exponent - 1); }
  let rest = vec2<u32>(kept.x, kept.y & 0x7fu);
  let half = vec2<u32>(0u, 0x40u);
  var rounded = kept.y >> 7u;
  if (below2(half, rest) || (equal2(half, rest) && (rounded & 1u) == 1u)) { rounded += 1u; }
  return sign | ((field << 23u) + rounded);
}
