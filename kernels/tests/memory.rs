//! What tables and key spaces say that they hold is what they hold, and a batch that brings nothing
//! new allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field};
use pelton_kernels::cpu::aggregate::{
    AggregateFunction, AggregateSpec, Call, GroupTable, Positions,
};
use pelton_kernels::cpu::keys::{KeyInput, KeySpace, Rows};

struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator unchanged; the counters are plain numbers
// of this thread and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().wrapping_add(layout.size()));
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn call(function: AggregateFunction, argument: usize, data_type: &DataType) -> Call {
    let input = Some(data_type.clone());
    let output = data_type.clone();
    let spec = AggregateSpec { function, input, output, name: String::new() };
    Call { spec, argument: Some(argument), filter: None }
}

fn calls() -> Vec<Call> {
    use AggregateFunction::*;
    vec![
        call(Sum, 0, &DataType::Float64),
        call(VarianceSample, 0, &DataType::Float64),
        call(Min, 1, &DataType::Utf8),
        call(Last { ignore_nulls: true }, 1, &DataType::Utf8),
        call(Max, 2, &DataType::Int64),
    ]
}

/// Rows `rows` of an input with as many groups as rows: two keys of text and number, and arguments,
/// of which some make the exact sums spill.
struct Input {
    keys: [ArrayRef; 2],
    arguments: [ArrayRef; 3],
    offsets: Vec<u32>,
}

fn input(rows: std::ops::Range<i64>, spilling: bool) -> Input {
    let text = |row: i64| format!("the key of row number {row}");
    let double = |row: i64| if spilling && row % 3 == 0 { 1e-300 } else { row as f64 * 0.1 };
    Input {
        keys: [
            Arc::new(StringArray::from_iter_values(rows.clone().map(text))),
            Arc::new(Int64Array::from_iter_values(rows.clone())),
        ],
        arguments: [
            Arc::new(Float64Array::from_iter_values(rows.clone().map(double))),
            Arc::new(StringArray::from_iter_values(rows.clone().map(text))),
            Arc::new(Int64Array::from_iter_values(rows.clone())),
        ],
        offsets: rows.map(|row| row as u32).collect(),
    }
}

struct Pair {
    space: KeySpace,
    table: GroupTable,
    keys: Vec<u64>,
}

impl Pair {
    fn new() -> Self {
        let types = [DataType::Utf8, DataType::Int64];
        let fields = types.clone().map(|data_type| Field::new("key", data_type, true));
        let table = GroupTable::new(&fields, &calls());
        Pair { space: KeySpace::new(&types), table, keys: vec![] }
    }

    fn update(&mut self, input: &Input) {
        let rows = Rows::All(input.offsets.len());
        self.keys.clear();
        let inputs = [KeyInput::Values(&input.keys[0]), KeyInput::Values(&input.keys[1])];
        self.space.encode(&inputs, rows, &mut self.keys);
        let positions = Positions { offsets: &input.offsets, ..Positions::default() };
        self.table.update(&self.keys, rows, &input.arguments, &positions);
    }

    fn bytes_held(&self) -> usize {
        self.space.bytes_held() + self.table.bytes_held() + self.keys.capacity() * 8
    }
}

#[test]
fn bytes_held_are_the_bytes_held_within_a_tenth() {
    for (spilling, groups) in [(false, 20_000), (true, 20_000), (false, 300_000)] {
        let batches = (0..groups / 1000).map(|at| input(at * 1000..(at + 1) * 1000, spilling));
        let batches = batches.collect::<Vec<_>>();
        let before = HELD.get();
        let mut pair = Pair::new();
        let check = |pair: &Pair, when: &str| {
            let (said, held) = (pair.bytes_held() as f64, (HELD.get() - before) as f64);
            assert!((said / held - 1.0).abs() < 0.1, "{when}: says {said}, holds {held}");
        };
        batches.iter().for_each(|batch| pair.update(batch));
        check(&pair, "filled");
        let gone = pair.table.groups().iter().filter(|group| group % 10 != 0).collect::<Vec<_>>();
        pair.table.remove(&gone);
        drop(gone);
        check(&pair, "nine of ten removed");
        pair.table.compact(&mut pair.space);
        check(&pair, "compacted");
        pair.table.clear();
        pair.space.clear();
        check(&pair, "cleared");
    }
}

#[test]
fn groups_that_come_and_go_do_not_grow_the_table() {
    let mut pair = Pair::new();
    let mut most = 0;
    for epoch in 0..60 {
        pair.update(&input(epoch * 2000..(epoch + 1) * 2000, false));
        let old = pair.table.groups().iter().collect::<Vec<_>>();
        pair.table.remove(&old);
        if pair.space.ids_held() > 20_000 {
            pair.table.compact(&mut pair.space);
        }
        assert!(pair.table.groups().capacity() <= 2000, "numbers are given again");
        match epoch {
            ..20 => most = most.max(pair.bytes_held()),
            _ => assert!(pair.bytes_held() <= most * 11 / 10, "epoch {epoch}"),
        }
    }
}

#[test]
fn a_batch_that_brings_nothing_new_allocates_nothing_a_row() {
    let mut pair = Pair::new();
    let batch = input(0..4000, false);
    for _ in 0..3 {
        pair.update(&batch);
    }
    let before = CALLS.get();
    for _ in 0..10 {
        pair.update(&batch);
    }
    let calls = CALLS.get() - before;
    assert!(calls <= 10, "{calls} allocations in 10 batches of 4000 rows");
}
