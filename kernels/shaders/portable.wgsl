// Words of 64 bits on a device of the portable tier, from words of 32. `native.wgsl` has the same names.

// Of magnitudes; the divisor is not zero. Shift and subtract, from the first bit that the quotient can have.
fn divide2(a: vec2<u32>, b: vec2<u32>) -> Quotient {
  if (a.y == 0u && b.y == 0u) {
    let q = a.x / b.x;
    return Quotient(vec2<u32>(q, 0u), vec2<u32>(a.x - q * b.x, 0u));
  }
  var q = vec2<u32>();
  var r = a;
  if (below2(a, b)) { return Quotient(q, r); }
  var place = i32(zeros2(b) - zeros2(a));
  loop {
    if (place < 0) { break; }
    let step = shl2(b, u32(place));
    if (!below2(r, step)) {
      r = sub2(r, step);
      q |= shl2(vec2<u32>(1u, 0u), u32(place));
    }
    place -= 1;
  }
  return Quotient(q, r);
}
