// The words of all groups' states, in the table. `near.wgsl` has the same names.

@group(0) @binding(6) var<storage, read_write> sums: array<atomic<Word>>;

struct Swapped { old: Word, exchanged: bool }

fn word_add(at: u32, value: Word) -> Word { return atomicAdd(&sums[at], value); }
fn word_or(at: u32, value: Word) { atomicOr(&sums[at], value); }
fn word_xor(at: u32, value: Word) { atomicXor(&sums[at], value); }
fn word_load(at: u32) -> Word { return atomicLoad(&sums[at]); }
fn word_store(at: u32, value: Word) { atomicStore(&sums[at], value); }
fn word_swap(at: u32, known: Word, value: Word) -> Swapped {
  let result = atomicCompareExchangeWeak(&sums[at], known, value);
  return Swapped(result.old_value, result.exchanged);
}
