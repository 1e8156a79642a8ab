// Texts: those of a batch behind its records, those of groups behind their copies in `extremes`. Twin of
// `cpu::aggregate::text` and its arena.
//
// A text is where its words begin and how many bytes it has. A word holds four bytes, the first one highest,
// the last word zeros where the text has ended: so words that differ are in the order of the bytes, and of
// texts whose words are alike the shorter one is less.

fn word_of_text(at: u32, is_kept: bool) -> u32 {
  if (is_kept) { return extremes[params.group_capacity * EXTREME_WORDS + at]; }
  return records[at];
}
fn words_of_text(bytes: u32) -> u32 { return (bytes + 3u) >> 2u; }
fn less_text(a: vec2<u32>, is_a_kept: bool, b: vec2<u32>, is_b_kept: bool) -> bool {
  let words = words_of_text(min(a.y, b.y));
  for (var word = 0u; word < words; word++) {
    let x = word_of_text(a.x + word, is_a_kept);
    let y = word_of_text(b.x + word, is_b_kept);
    if (x != y) { return x < y; }
  }
  return a.y < b.y;
}
// Copies a text of the batch over the one that a group has kept, or behind all others where it is longer. What
// there is no room for shows when the host compares what was asked for with it.
fn keep_text(copy: u32, value: vec2<u32>) {
  let words = words_of_text(value.y);
  var to = extremes[copy];
  if (words > words_of_text(extremes[copy + 1u])) {
    to = atomicAdd(&control[4], words);
    let room = params.minor.z;
    if (words > room || to > room - words) { return; }
  }
  for (var word = 0u; word < words; word++) {
    extremes[params.group_capacity * EXTREME_WORDS + to + word] = records[value.x + word];
  }
  extremes[copy] = to;
  extremes[copy + 1u] = value.y;
}
