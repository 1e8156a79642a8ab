// Hash aggregate: rows to groups. Twin of `cpu::aggregate::table` and `cpu::groups`.
//
// One invocation a row (grid: rows / 64 workgroups), three dispatches a chunk of rows:
//   find     gives each selected row its group, making new ones;
//   update   folds the row into the states of its group (`fold` is generated from the query's layout);
//            where there are few groups `update_near` does (`near.wgsl`);
//   persist  copies the extreme values whose rows are about to be overwritten.
// A slot of the index is empty, a group's number + 1, or the row that claimed it in this dispatch: losers
// compare keys at that row in memory nobody writes now. So nothing is published between workgroups of one
// dispatch, which relaxed atomics would not allow, and keys are as wide as they like.
// A group's states lie by its number, so growing copies them and rebuilds the index alone.

struct Params {
  rows: u32,
  slot_count: u32,
  group_capacity: u32,
  exception_capacity: u32,
  seed: u32,
  groups_before: u32,
  selection_words: u32,
  row_capacity: u32,
  // By how many microseconds the window's start among the key lies before the one in the records.
  back: vec4<u32>,
  // Numbers of the epoch and of the submission; groups and their copies in a workgroup's own memory.
  more: vec4<u32>,
  // Of the batch: split, number of its first row, major; minor and the words that there is room for of texts.
  place: vec4<u32>,
  minor: vec4<u32>,
  bases: array<vec4<u32>, SUM_COUNT>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> records: array<u32>;
// The group + 1 of each row, or the row that made it; then the slot that the row claimed.
@group(0) @binding(2) var<storage, read_write> places: array<u32>;
// 0: rows that found no room, 1: the submission's number; from 4 on a bit for each row asked for, then one for each without room.
@group(0) @binding(3) var<storage, read_write> bits: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> slots: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read_write> keys: array<u32>;
@group(0) @binding(7) var<storage, read_write> extremes: array<u32>;
// 0: groups, 1: exceptions, 2: rows taken in, 3: the epoch's number, 4: words of texts; exceptions from 16 on: group, state,
// bits of the double.
@group(0) @binding(8) var<storage, read_write> control: array<atomic<u32>>;

const FRESH = 0x80000000u;
const NOWHERE = 0xffffffffu;
const PERSISTED = 1u;
const PROBES = 64u;

var<workgroup> taken: atomic<u32>;

fn is_selected(row: u32) -> bool {
  return row < params.rows && ((atomicLoad(&bits[4u + (row >> 5u)]) >> (row & 31u)) & 1u) != 0u;
}
// Murmur3's steps (Appleby), 32 bits.
fn mix(hash: u32, word: u32) -> u32 {
  var k = word * 0xcc9e2d51u;
  k = ((k << 15u) | (k >> 17u)) * 0x1b873593u;
  let h = hash ^ k;
  return ((h << 13u) | (h >> 19u)) * 5u + 0xe6546b64u;
}
fn spread(hash: u32) -> u32 {
  var h = hash;
  h = (h ^ (h >> 16u)) * 0x85ebca6bu;
  h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
  return h ^ (h >> 16u);
}
// A word of a row's key. Windows that overlap are folded one after the other, each further back.
fn key_word(row: u32, word: u32) -> u32 {
  let at = row * RECORD_WORDS;
  if (WINDOW_AT == 0u || word < WINDOW_AT || word > WINDOW_AT + 1u) { return records[at + word]; }
  let start = vec2<u32>(records[at + WINDOW_AT], records[at + WINDOW_AT + 1u]);
  let moved = sub_long(start, params.back.xy);
  let held = select(moved.v, LONG_MIN, moved.failed);
  return select(held.x, held.y, word > WINDOW_AT);
}
// A hash's slot: the upper half of its product with their number (Lemire), which need be no power of two.
fn slot_of(hash: u32) -> u32 { return mul32(hash, params.slot_count).y; }
fn slot_after(slot: u32) -> u32 { return select(slot + 1u, 0u, slot + 1u == params.slot_count); }
fn hash_record(row: u32) -> u32 {
  var h = params.seed;
  for (var word = 0u; word < KEY_WORDS; word++) { h = mix(h, key_word(row, word)); }
  return spread(h);
}
fn hash_key(group: u32) -> u32 {
  var h = params.seed;
  for (var word = 0u; word < KEY_WORDS; word++) { h = mix(h, keys[group * KEY_WORDS + word]); }
  return spread(h);
}
fn is_key_of_row(a: u32, b: u32) -> bool {
  for (var word = 0u; word < KEY_WORDS; word++) {
    if (records[a * RECORD_WORDS + word] != records[b * RECORD_WORDS + word]) { return false; }
  }
  return true;
}
fn is_key_of_group(row: u32, group: u32) -> bool {
  for (var word = 0u; word < KEY_WORDS; word++) {
    if (key_word(row, word) != keys[group * KEY_WORDS + word]) { return false; }
  }
  return true;
}

fn claim(row: u32, slot: u32) {
  let group = atomicAdd(&control[0], 1u);
  places[params.row_capacity + row] = slot;
  if (group >= params.group_capacity) { return; }
  for (var word = 0u; word < KEY_WORDS; word++) {
    keys[group * KEY_WORDS + word] = key_word(row, word);
  }
  places[row] = group + 1u;
}

@compute @workgroup_size(64)
fn find(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x;
  if (!is_selected(row)) { return; }
  places[row] = NOWHERE;
  places[params.row_capacity + row] = NOWHERE;
  var slot = slot_of(hash_record(row));
  for (var probe = 0u; probe < PROBES; probe++) {
    var owner = atomicLoad(&slots[slot]);
    if (owner == 0u) {
      let result = atomicCompareExchangeWeak(&slots[slot], 0u, FRESH | row);
      if (result.exchanged) { claim(row, slot); return; }
      owner = result.old_value;
      if (owner == 0u) { continue; }
    }
    if (owner != NOWHERE) {
      if ((owner & FRESH) != 0u) {
        if (is_key_of_row(row, owner & ~FRESH)) { places[row] = owner; return; }
      } else if (is_key_of_group(row, owner - 1u)) {
        places[row] = owner;
        return;
      }
    }
    slot = slot_after(slot);
  }
}

// The group + 1 of a row; `NOWHERE` where there was no room.
fn group_of(row: u32) -> u32 {
  let place = places[row];
  if (place != NOWHERE && (place & FRESH) != 0u) { return places[place & ~FRESH]; }
  return place;
}

// The group of a selected row; `NOWHERE` where there was no room, which is told.
fn settle(row: u32) -> u32 {
  // A slot claimed for a group that got no room stays closed until the index is rebuilt: opened, it
  // would cut off the keys behind it.
  let slot = places[params.row_capacity + row];
  if (slot != NOWHERE) { atomicStore(&slots[slot], places[row]); }
  let group = group_of(row);
  if (group == NOWHERE) {
    atomicAdd(&bits[0], 1u);
    atomicOr(&bits[4u + params.selection_words + (row >> 5u)], 1u << (row & 31u));
    return NOWHERE;
  }
  atomicAdd(&taken, 1u);
  return group - 1u;
}
// Once by each workgroup, after its rows: what it took in, and what it was asked.
fn report(lane: u32) {
  workgroupBarrier();
  if (lane == 0u) {
    atomicAdd(&control[2], atomicLoad(&taken));
    atomicStore(&control[3], params.more.x);
    atomicStore(&bits[1], params.more.y);
  }
}

@compute @workgroup_size(64)
fn update(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = id.x;
  if (is_selected(row)) {
    let group = settle(row);
    if (group != NOWHERE) { fold(group * UNITS, group, row); }
  }
  report(lane);
}

@compute @workgroup_size(64)
fn persist(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x;
  if (!is_selected(row)) { return; }
  let group = group_of(row);
  if (group != NOWHERE) { keep(group - 1u, row); }
}

// Rebuilds the index from the keys of the groups there were; their number is right again afterwards.
@compute @workgroup_size(64)
fn rehash(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
  let group = id.y * grid.x * 64u + id.x;
  let groups = min(atomicLoad(&control[0]), params.groups_before);
  if (group == 0u) { atomicStore(&control[0], groups); }
  if (group >= groups) { return; }
  var slot = slot_of(hash_key(group));
  loop {
    let result = atomicCompareExchangeWeak(&slots[slot], 0u, group + 1u);
    if (result.exchanged) { return; }
    if (result.old_value != 0u) { slot = slot_after(slot); }
  }
}

// Exact sums: an integer of 192 bits above an exponent given by the host, `bases`; see `cpu::exact_sum`.
// What falls outside goes to the exceptions, which the host adds when it reads the table.
fn except(group: u32, state: u32, value: vec2<u32>) {
  let at = atomicAdd(&control[1], 1u);
  if (at >= params.exception_capacity) { return; }
  atomicStore(&control[16u + 4u * at], group);
  atomicStore(&control[17u + 4u * at], state);
  atomicStore(&control[18u + 4u * at], value.x);
  atomicStore(&control[19u + 4u * at], value.y);
}
fn place_at(words: ptr<function, array<u32, 10>>, index: u32, value: u32) {
  if (index < 10u) { (*words)[index] = value; }
}
// `value << shift` over ten words, shift below 160.
fn shifted(value: vec4<u32>, shift: u32) -> array<u32, 10> {
  var words = array<u32, 10>();
  let whole = shift >> 5u;
  let low = shl4(vec4<u32>(value.x, value.y, 0u, 0u), shift & 31u);
  let high = shl4(vec4<u32>(value.z, value.w, 0u, 0u), shift & 31u);
  place_at(&words, whole, low.x);
  place_at(&words, whole + 1u, low.y);
  place_at(&words, whole + 2u, low.z | high.x);
  place_at(&words, whole + 3u, high.y);
  place_at(&words, whole + 4u, high.z);
  return words;
}
fn significand_of(value: vec2<u32>) -> vec2<u32> { return vec2<u32>(value.x, (value.y & 0xfffffu) | 0x100000u); }
fn add_exact(at: u32, group: u32, state: u32, value: vec2<u32>) {
  let shift = ((value.y >> 20u) & 0x7ffu) - params.bases[state].x;
  if (shift >= 96u) {
    if (!is_zero(value)) { except(group, state, value); }
    return;
  }
  let significand = significand_of(value);
  let words = shifted(vec4<u32>(significand.x, significand.y, 0u, 0u), shift);
  var low = vec4<u32>(words[0], words[1], words[2], words[3]);
  var high = vec2<u32>(words[4], words[5]);
  if (is_negative(value)) {
    low = neg4(low);
    high = select(~high, neg2(high), is_nothing4(low));
  }
  let carry = unit_add(at + 1u, low.zw, unit_add(at, low.xy, 0u));
  unit_add(at + 2u, high, carry);
}
// The square of a value, 320 bits; those that are not finite count in the sum beside it.
fn add_square(at: u32, group: u32, state: u32, value: vec2<u32>) {
  let shift = ((value.y >> 20u) & 0x7ffu) - params.bases[state].x;
  if (shift >= 64u) {
    if (!is_zero(value)) { except(group, state, value); }
    return;
  }
  let significand = significand_of(value);
  let words = shifted(mul2(significand, significand), 2u * shift);
  var carry = unit_add(at, vec2<u32>(words[0], words[1]), 0u);
  carry = unit_add(at + 1u, vec2<u32>(words[2], words[3]), carry);
  carry = unit_add(at + 2u, vec2<u32>(words[4], words[5]), carry);
  carry = unit_add(at + 3u, vec2<u32>(words[6], words[7]), carry);
  unit_add(at + 4u, vec2<u32>(words[8], words[9]), carry);
}
fn add_pair(at: u32, value: vec4<u32>) {
  let carry = unit_add(at, value.xy, 0u);
  unit_add(at + 1u, value.zw, carry);
}
fn add_triple(at: u32, value: vec4<u32>) {
  let carry = unit_add(at + 1u, value.zw, unit_add(at, value.xy, 0u));
  let sign = select(0u, 0xffffffffu, is_negative4(value));
  unit_add(at + 2u, vec2<u32>(sign, sign), carry);
}
