// Few groups: a workgroup folds its rows into states of its own, then each group's once into the table.
// Twin of `cpu::aggregate::table`, as `update` in `aggregate.wgsl` is; the same states, as sums know no order.
//
// One invocation takes four rows (grid: rows / 1,024 workgroups). Where there are very few groups, several
// copies of their states keep the invocations of a workgroup apart. Groups beyond those that the host
// expected are folded into the table directly, so what it expects decides about speed alone.

@group(0) @binding(6) var<storage, read_write> sums: array<atomic<Word>>;
var<workgroup> near: array<atomic<Word>, NEAR_UNITS * UNIT_WORDS>;

// What marks a unit as the workgroup's own.
const NEAR = 0x40000000u;
const NEAR_LANES = 256u;
const NEAR_ROWS = 1024u;

struct Swapped { old: Word, exchanged: bool }

fn word_add(at: u32, value: Word) -> Word {
  if ((at & NEAR_WORD) != 0u) { return atomicAdd(&near[at & ~NEAR_WORD], value); }
  return atomicAdd(&sums[at], value);
}
fn word_or(at: u32, value: Word) {
  if ((at & NEAR_WORD) != 0u) { atomicOr(&near[at & ~NEAR_WORD], value); } else { atomicOr(&sums[at], value); }
}
fn word_xor(at: u32, value: Word) {
  if ((at & NEAR_WORD) != 0u) { atomicXor(&near[at & ~NEAR_WORD], value); } else { atomicXor(&sums[at], value); }
}
fn word_load(at: u32) -> Word {
  if ((at & NEAR_WORD) != 0u) { return atomicLoad(&near[at & ~NEAR_WORD]); }
  return atomicLoad(&sums[at]);
}
fn word_store(at: u32, value: Word) {
  if ((at & NEAR_WORD) != 0u) { atomicStore(&near[at & ~NEAR_WORD], value); } else { atomicStore(&sums[at], value); }
}
fn word_swap(at: u32, known: Word, value: Word) -> Swapped {
  if ((at & NEAR_WORD) != 0u) {
    let result = atomicCompareExchangeWeak(&near[at & ~NEAR_WORD], known, value);
    return Swapped(result.old_value, result.exchanged);
  }
  let result = atomicCompareExchangeWeak(&sums[at], known, value);
  return Swapped(result.old_value, result.exchanged);
}

@compute @workgroup_size(256)
fn update_near(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let groups = params.more.z;
  let copies = params.more.w;
  for (var i = lane; i < NEAR_ROWS; i += NEAR_LANES) {
    let row = workgroup.x * NEAR_ROWS + i;
    if (!is_selected(row)) { continue; }
    let group = settle(row);
    if (group == NOWHERE) { continue; }
    let own = NEAR | (((lane % copies) * groups + group) * UNITS);
    fold(select(group * UNITS, own, group < groups), group, row);
  }
  workgroupBarrier();
  for (var copy = groups + lane; copy < groups * copies; copy += NEAR_LANES) {
    merge(NEAR | (copy * UNITS), NEAR | ((copy % groups) * UNITS), copy % groups);
  }
  workgroupBarrier();
  for (var group = lane; group < groups; group += NEAR_LANES) {
    merge(NEAR | (group * UNITS), group * UNITS, group);
  }
  report(lane);
}
