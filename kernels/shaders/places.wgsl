// Where rows stand in the input, for `first` and `last`. Twin of `cpu::aggregate::pick`.

// `row`: of rows that stand together, as those made of one row do, it is greater for the later.
struct Place { split: u32, major: vec2<u32>, minor: vec2<u32>, row: u32 }

fn place_of(row: u32) -> Place {
  let offset = vec2<u32>(records[row * RECORD_WORDS + OFFSET_AT], 0u);
  return Place(params.place.x, params.place.zw, add2(params.minor.xy, offset), params.place.y + row);
}
fn place_kept(copy: u32) -> Place {
  let major = vec2<u32>(extremes[copy + 1u], extremes[copy + 2u]);
  let minor = vec2<u32>(extremes[copy + 3u], extremes[copy + 4u]);
  return Place(extremes[copy], major, minor, extremes[copy + 5u]);
}
fn is_before(a: Place, b: Place) -> bool {
  if (a.split != b.split) { return a.split < b.split; }
  if (!equal2(a.major, b.major)) { return below2(a.major, b.major); }
  if (!equal2(a.minor, b.minor)) { return below2(a.minor, b.minor); }
  return a.row < b.row;
}
fn keep_place(copy: u32, place: Place) {
  extremes[copy] = place.split;
  extremes[copy + 1u] = place.major.x;
  extremes[copy + 2u] = place.major.y;
  extremes[copy + 3u] = place.minor.x;
  extremes[copy + 4u] = place.minor.y;
  extremes[copy + 5u] = place.row;
}
