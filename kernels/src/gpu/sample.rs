//! The work that devices are measured by: readings of sensors from decoded columns to a partial, with
//! as many groups and as many measured columns as asked for.
//!
//! Invariant: a function of its arguments; the same on the CPU and on a device. The rows are a filter's
//! (three of four pass), in windows of ten seconds by device: count, mean, least and most of each column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Array, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, TimeUnit, UInt32Type};

use super::{Device, Fate, Input, Program, Projector, Query, ROWS_MAX, Result, Selected, Table};
use crate::cpu::aggregate::{AggregateFunction, AggregateSpec, Call, GroupTable, Positions};
use crate::cpu::filter;
use crate::cpu::keys::{KeyInput, KeySpace, Rows};
use crate::cpu::project::evaluate;
use crate::expr::{ArithmeticOp, CompareOp, Expr, ExprKind, Literal};

/// Rows of a batch: what a device gets at once.
pub const BATCH_ROWS: usize = ROWS_MAX;
/// Aggregates of a measured column.
pub const CALLS_OF_COLUMN: usize = 3;
/// Devices of the readings at most; more groups are more windows.
const DEVICES_MAX: u64 = 1_000;
const WINDOW_US: i64 = 10_000_000;
/// Time and device are of groups alone.
const FIRST_OF_ROWS: usize = 2;

/// The query over so many measured columns.
pub fn query(columns: usize) -> Query {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let input = |data_type: &DataType, is_ids| Input { data_type: data_type.clone(), is_ids };
    let status = Box::new(Expr::column(2, DataType::Int32));
    let zero = Box::new(Expr::literal(Literal::Int(0), DataType::Int32));
    let not_zero = ExprKind::Compare(CompareOp::NotEqual, status, zero);
    let of_time = Box::new(Expr::column(0, time.clone()));
    let start = ExprKind::WindowStart { time: of_time, size_us: WINDOW_US, offset_us: 0 };
    let mut inputs =
        vec![input(&time, false), input(&DataType::Utf8, true), input(&DataType::Int32, false)];
    inputs.extend((0..columns).map(|_| input(&DataType::Float64, false)));
    let call = |function, argument: Option<usize>, output| Call {
        spec: AggregateSpec {
            function,
            input: argument.map(|_| DataType::Float64),
            output,
            name: format!("{function:?}"),
        },
        argument,
        filter: None,
    };
    let mut calls = vec![call(AggregateFunction::CountRows, None, DataType::Int64)];
    for column in 0..columns {
        use AggregateFunction::{Avg, Max, Min};
        let of = |function| call(function, Some(column), DataType::Float64);
        calls.extend([Avg, Min, Max].map(of));
    }
    Query {
        inputs,
        filters: vec![Expr { kind: not_zero, data_type: DataType::Boolean }],
        keys: vec![Expr { kind: start, data_type: time.clone() }, Expr::column(1, DataType::Utf8)],
        window: None,
        key_fields: vec![
            Field::new("start", time, true),
            Field::new("device", DataType::Utf8, true),
        ],
        arguments: (0..columns).map(|i| Expr::column(3 + i, DataType::Float64)).collect(),
        calls,
        offsets: None,
    }
}

/// The query of rows that pass the same filter, with a value computed of each measured column.
pub fn rows_query(columns: usize) -> Query {
    let with_groups = query(columns);
    let shifted = |expr: &Expr| expr.map_columns(&mut |column, _| column - FIRST_OF_ROWS);
    let computed = |argument: &Expr| {
        let number = |value| Box::new(Expr::literal(Literal::Float(value), DataType::Float64));
        let of = |op, a: Expr, b| Expr {
            kind: ExprKind::Arithmetic(op, Box::new(a), b),
            data_type: DataType::Float64,
        };
        let product = of(ArithmeticOp::Multiply, shifted(argument), number(1.8));
        of(ArithmeticOp::Add, product, number(32.0))
    };
    Query {
        inputs: with_groups.inputs[FIRST_OF_ROWS..].to_vec(),
        filters: with_groups.filters.iter().map(shifted).collect(),
        arguments: with_groups.arguments.iter().map(computed).collect(),
        keys: Vec::new(),
        key_fields: Vec::new(),
        calls: Vec::new(),
        ..with_groups
    }
}

/// The columns of a batch that such a query reads.
pub fn of_rows(batch: &[ArrayRef]) -> &[ArrayRef] {
    &batch[FIRST_OF_ROWS..]
}

/// Bytes of those of a row.
pub fn passing_row_bytes(columns: usize) -> usize {
    4 + 8 * columns
}

/// What is computed of the rows that pass, with the CPU's kernels; `batch` as of [`of_rows`].
pub fn pass(query: &Query, batch: &[ArrayRef]) -> Vec<ArrayRef> {
    let (rows, mut kept) = (batch[0].len(), Vec::new());
    let mask = evaluate(&query.filters[0], batch, rows).values;
    filter::select(mask.as_boolean(), &mut kept);
    let kept = UInt32Array::from(kept);
    let of = |argument| {
        let values = evaluate(argument, batch, rows).values;
        take(&values, &kept, None).expect("row numbers are within the batch")
    };
    query.arguments.iter().map(of).collect()
}

/// Bytes of a row's columns.
pub fn row_bytes(columns: usize) -> usize {
    8 + 4 + 4 + 8 * columns
}

/// Columns of rows that fall into so many groups, a batch after the other.
pub fn batches(rows: u64, groups: u64, columns: usize) -> Vec<Vec<ArrayRef>> {
    let hash = |row: u64, salt: u64| {
        ((row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt).wrapping_mul(0xbf58_476d_1ce4_e5b9)
            >> 33
    };
    let devices = groups.min(DEVICES_MAX);
    let windows = groups / devices;
    let batch = |first: u64| -> Vec<ArrayRef> {
        let all = first..(first + BATCH_ROWS as u64).min(rows);
        let time = |row: u64| (u128::from(row) * u128::from(windows) / u128::from(rows)) as i64;
        let times = all.clone().map(|row| time(row) * WINDOW_US);
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
            Arc::new(UInt32Array::from_iter_values(
                all.clone().map(|row| 1 + (hash(row, 1) % devices) as u32),
            )),
            Arc::new(Int32Array::from_iter_values(
                all.clone().map(|row| (hash(row, 2) % 4) as i32),
            )),
        ];
        for column in 0..columns as u64 {
            let value = |row| (hash(row, 3 + column) % 10_000) as f64 / 100.0 - 20.0;
            arrays.push(Arc::new(Float64Array::from_iter_values(all.clone().map(value))));
        }
        arrays
    };
    (0..rows).step_by(BATCH_ROWS).map(batch).collect()
}

/// Keys and groups of one core.
pub struct Groups {
    pub space: KeySpace,
    pub table: GroupTable,
}

impl Groups {
    pub fn new(query: &Query) -> Groups {
        let types: Vec<_> = query.key_fields.iter().map(|f| f.data_type().clone()).collect();
        let mut space = KeySpace::new(&types);
        for id in 1..=DEVICES_MAX {
            space.interner_mut(1).intern(id.to_string().as_bytes());
        }
        Groups { space, table: GroupTable::new(&query.key_fields, &query.calls) }
    }

    /// Takes a batch in with the CPU's kernels.
    pub fn take(&mut self, query: &Query, batch: &[ArrayRef]) {
        let rows = batch[0].len();
        let mut kept = Vec::with_capacity(rows);
        let mask = evaluate(&query.filters[0], batch, rows).values;
        filter::select(mask.as_boolean(), &mut kept);
        let start = evaluate(&query.keys[0], batch, rows).values;
        let ids = batch[1].as_primitive::<UInt32Type>().values();
        let mut keys = Vec::with_capacity(kept.len());
        let inputs = [KeyInput::Values(&start), KeyInput::Ids(ids)];
        let rows = Rows::Selected(&kept);
        self.space.encode(&inputs, rows, &mut keys);
        self.table.update(&keys, rows, &batch[3..], &Positions::default());
    }
}

/// One core's kernels on a device.
pub struct Kernels {
    pub projector: Projector,
    pub table: Table,
}

impl Kernels {
    /// Errors: as [`Program::new`].
    pub fn new(device: &Arc<Device>, query: Query) -> Result<Kernels> {
        let program = Arc::new(Program::new(device, query)?);
        Ok(Kernels { projector: Projector::new(&program), table: Table::new(&program) })
    }

    /// Filters and projects a batch; the rows that pass are selected.
    pub fn project(&mut self, batch: &[ArrayRef]) -> Result<Selected> {
        let rows = batch[0].len();
        let mut fates: Vec<Fate> = Vec::with_capacity(rows);
        let batch = self.projector.project(batch, 0, rows, &mut fates)?;
        let word = |rows: &[Fate]| {
            rows.iter().rev().fold(0, |word, fate| word << 1 | u32::from(fate.passes()))
        };
        let rows = fates.chunks(32).map(word).collect();
        Ok(Selected { batch: Arc::new(batch), rows, back_us: 0 })
    }

    /// Takes batches in, several a submission, as an epoch does.
    pub fn take(&mut self, batches: &[Vec<ArrayRef>]) -> Result<()> {
        for some in batches.chunks(SUBMITTED) {
            let selected = some.iter().map(|batch| self.project(batch)).collect::<Result<_>>()?;
            self.table.aggregate(selected, &mut self.projector)?;
        }
        Ok(())
    }

    /// Ends the epoch: the groups go to the CPU's.
    pub fn drain(&mut self, into: &mut Groups) -> Result<()> {
        self.table.drain(&mut into.table, &mut into.space, &mut self.projector)
    }
}

/// Batches of a submission.
const SUBMITTED: usize = 8;
