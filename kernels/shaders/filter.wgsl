// Filter: the rows that pass, one behind the other in their order. Twin of `cpu::filter`.
//
// One invocation a row (grid of `count` and `scatter`: rows / 256 workgroups; of `scan`: one), by exclusive
// prefix sums (Blelloch, CMU-CS-90-190, 1990; in a workgroup by Hillis and Steele):
//   count    each workgroup's rows by what becomes of them;
//   scan     how many there are before each workgroup;
//   scatter  writes each row where it belongs.
// Two counts go in one word, as a batch has fewer than 2^16 rows: below, rows that no filter dropped; above,
// rows of whose fate the host has to be told, as it is neither to pass nor to be dropped by the first filter.
// Those are counted, too: with the others they have to be all rows.

struct Params { rows: u32, record_words: u32, key_words: u32, unused: u32 }

@group(0) @binding(0) var<uniform> params: Params;
// The batch's number, then a fate a row; written by `project`.
@group(0) @binding(1) var<storage, read> fates: array<u32>;
@group(0) @binding(2) var<storage, read> records: array<u32>;
// Of each workgroup both counts, then the rows dropped by the first filter.
@group(0) @binding(3) var<storage, read_write> blocks: array<vec2<u32>>;
// The batch's number and the three counts; then for each row that passes its number and its record without
// the key; then for each row that is told of its number and its fate.
@group(0) @binding(4) var<storage, read_write> passed: array<u32>;

const LANES = 256u;
const HEAD = 4u;

var<workgroup> sums: array<vec2<u32>, LANES>;

// The sum of the counts of the invocations before this one; all of a workgroup ask together.
fn before(lane: u32, counts: vec2<u32>) -> vec2<u32> {
  sums[lane] = counts;
  workgroupBarrier();
  for (var step = 1u; step < LANES; step <<= 1u) {
    var more = vec2<u32>();
    if (lane >= step) { more = sums[lane - step]; }
    workgroupBarrier();
    sums[lane] += more;
    workgroupBarrier();
  }
  return sums[lane] - counts;
}
fn counts_of(row: u32) -> vec2<u32> {
  if (row >= params.rows) { return vec2<u32>(); }
  let fate = fates[row + 1u];
  return vec2<u32>(u32((fate & 3u) == 0u) | (u32(fate > 1u) << 16u), u32(fate == 1u));
}

@compute @workgroup_size(256)
fn count(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let own = counts_of(id.x);
  let all = before(lane, own) + own;
  if (lane == LANES - 1u) { blocks[workgroup.x] = all; }
}

@compute @workgroup_size(256)
fn scan(@builtin(local_invocation_index) lane: u32) {
  let used = (params.rows + LANES - 1u) / LANES;
  var own = vec2<u32>();
  if (lane < used) { own = blocks[lane]; }
  let sum = before(lane, own);
  if (lane < used) { blocks[lane] = sum; }
  if (lane == LANES - 1u) {
    let all = sum + own;
    passed[0] = fates[0];
    passed[1] = all.x & 0xffffu;
    passed[2] = all.x >> 16u;
    passed[3] = all.y;
  }
}

@compute @workgroup_size(256)
fn scatter(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = id.x;
  let own = counts_of(row);
  let place = (before(lane, own) + blocks[workgroup.x]).x;
  let words = 1u + params.record_words - params.key_words;
  if ((own.x & 0xffffu) != 0u) {
    let at = HEAD + (place & 0xffffu) * words;
    passed[at] = row;
    for (var word = 1u; word < words; word++) {
      passed[at + word] = records[row * params.record_words + params.key_words + word - 1u];
    }
  }
  if ((own.x >> 16u) != 0u) {
    let at = HEAD + passed[1] * words + (place >> 16u) * 2u;
    passed[at] = row;
    passed[at + 1u] = fates[row + 1u];
  }
}
