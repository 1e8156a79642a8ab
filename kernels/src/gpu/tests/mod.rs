//! The device against the CPU's kernels, by bits, on software Vulkan, in both tiers.
//!
//! A missing adapter is a failure here: `tests/run` installs Mesa's lavapipe.

mod aggregate;
mod faults;
mod filter;
mod flow;
mod probe;
mod project;
mod queries;
mod rows;
mod traps;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type,
};

use super::{
    Choice, Device, Fate, Place, Program, Projector, Query, Result, Selected, Table, Tier,
};
use crate::cpu::aggregate::{GroupTable, Positions};
use crate::cpu::filter::truth;
use crate::cpu::keys::{KeyInput, KeySpace, Rows};
use crate::cpu::project::evaluate;

/// Seeds of a random test: `PELTON_SEEDS` of them from `PELTON_FIRST` on, where the variables say so.
pub(super) fn seeds(otherwise: Range<u64>) -> Range<u64> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let Some(seeds) = number("PELTON_SEEDS") else { return otherwise };
    let first = number("PELTON_FIRST").unwrap_or(0);
    first..first + seeds
}

pub(super) const TIERS: [Tier; 2] = [Tier::Native, Tier::Portable];

/// A device of each tier, opened once for all tests.
pub(super) fn device(tier: Tier) -> Arc<Device> {
    static DEVICES: [OnceLock<Arc<Device>>; 2] = [OnceLock::new(), OnceLock::new()];
    Arc::clone(DEVICES[tier as usize].get_or_init(|| fresh_device(tier)))
}

/// A device of its own, for a test that breaks it.
pub(super) fn fresh_device(tier: Tier) -> Arc<Device> {
    let choice = Choice { tier: Some(tier), ..Choice::default() };
    Arc::new(Device::open(choice).expect("apt-get install mesa-vulkan-drivers libvulkan1"))
}

/// One cell, by its bits.
pub(super) fn cell(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".to_owned();
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).to_string(),
        DataType::Timestamp(..) => {
            array.as_primitive::<TimestampMicrosecondType>().value(row).to_string()
        }
        DataType::Float32 => {
            format!("{:08x}", array.as_primitive::<Float32Type>().value(row).to_bits())
        }
        DataType::Float64 => {
            format!("{:016x}", array.as_primitive::<Float64Type>().value(row).to_bits())
        }
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value(row).to_string(),
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value(row).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => format!("{:02x?}", array.as_binary::<i32>().value(row)),
        DataType::Dictionary(..) => {
            let array = array.as_dictionary::<UInt32Type>();
            cell(array.values(), array.keys().value(row) as usize)
        }
        DataType::Struct(_) => {
            let fields = array.as_struct();
            fields.columns().iter().map(|field| cell(field, row)).collect::<Vec<_>>().join("/")
        }
        other => unreachable!("no cell of {other}"),
    }
}

/// The rows of a partial, by their keys.
pub(super) fn rows(partial: &RecordBatch, keys: usize) -> BTreeMap<Vec<String>, Vec<String>> {
    let row = |row: usize| {
        let mut cells = partial.columns().iter().map(|column| cell(column, row));
        let key = cells.by_ref().take(keys).collect();
        (key, cells.collect())
    };
    let rows: BTreeMap<_, _> = (0..partial.num_rows()).map(row).collect();
    assert_eq!(rows.len(), partial.num_rows(), "each key once");
    rows
}

/// What a core has besides its kernels.
pub(super) struct Side {
    pub space: KeySpace,
    pub table: GroupTable,
}

impl Side {
    pub fn new(query: &Query) -> Side {
        let types: Vec<_> = query.key_fields.iter().map(|f| f.data_type().clone()).collect();
        let table = GroupTable::new(&query.key_fields, &query.calls);
        Side { space: KeySpace::new(&types), table }
    }

    pub fn partial(&self, query: &Query) -> BTreeMap<Vec<String>, Vec<String>> {
        rows(&self.table.partial(&self.space, None), query.keys.len())
    }
}

/// The batches on the CPU: filters, keys, arguments, groups.
pub(super) fn on_cpu(query: &Query, side: &mut Side, columns: &[ArrayRef]) {
    on_cpu_at(query, side, columns, Place::default());
}

pub(super) fn on_cpu_at(query: &Query, side: &mut Side, columns: &[ArrayRef], place: Place) {
    on_cpu_of(query, side, columns, place, 0, &|_| true);
}

/// Those of the rows that count in the window that lies so far before the last one.
pub(super) fn on_cpu_of(
    query: &Query,
    side: &mut Side,
    columns: &[ArrayRef],
    place: Place,
    back_us: i64,
    counts: &dyn Fn(u32) -> bool,
) {
    let count = columns[0].len();
    let mut kept: Vec<u32> = (0..count as u32).filter(|&row| counts(row)).collect();
    let mut keep = |errors: &Option<arrow::buffer::BooleanBuffer>| {
        if let Some(errors) = errors {
            kept.retain(|&row| !errors.value(row as usize));
        }
    };
    for filter in &query.filters {
        let evaluated = evaluate(filter, columns, count);
        keep(&Some(!&truth(evaluated.values.as_boolean())));
    }
    let mut all = |expressions: &[crate::expr::Expr]| {
        let mut arrays = Vec::new();
        for expr in expressions {
            let evaluated = evaluate(expr, columns, count);
            keep(&evaluated.errors);
            arrays.push(evaluated.values);
        }
        arrays
    };
    let (mut keys, arguments) = (all(&query.keys), all(&query.arguments));
    if let Some(window) = query.window {
        let starts = keys[window].as_primitive::<TimestampMicrosecondType>();
        let moved = starts.unary::<_, TimestampMicrosecondType>(|start| start - back_us);
        keys[window] = Arc::new(moved.with_data_type(starts.data_type().clone()));
    }
    let inputs: Vec<_> = keys
        .iter()
        .map(|key| match key.as_any().downcast_ref::<UInt32Array>() {
            Some(ids) => KeyInput::Ids(ids.values()),
            None => KeyInput::Values(key),
        })
        .collect();
    let mut packed = Vec::new();
    side.space.encode(&inputs, Rows::Selected(&kept), &mut packed);
    let offsets = match query.offsets {
        Some(at) => columns[at].as_primitive::<UInt32Type>().values().to_vec(),
        None => vec![0; count],
    };
    let Place { split, major, minor, .. } = place;
    let positions = Positions { split, major, minor, offsets: &offsets };
    side.table.update(&packed, Rows::Selected(&kept), &arguments, &positions);
}

/// One core's device kernels.
pub(super) struct Gpu {
    pub projector: Projector,
    pub table: Table,
}

impl Gpu {
    pub fn new(device: &Arc<Device>, query: &Query) -> Result<Gpu> {
        let program = Arc::new(Program::new(device, query.clone())?);
        Ok(Gpu { projector: Projector::new(&program), table: Table::new(&program) })
    }

    /// The rows that pass, in batches of so many rows.
    pub fn take(&mut self, columns: &[ArrayRef], batch_rows: usize) -> Result<()> {
        self.take_at(columns, batch_rows, Place::default())
    }

    pub fn take_at(&mut self, columns: &[ArrayRef], batch_rows: usize, place: Place) -> Result<()> {
        let count = columns[0].len();
        let mut batches = Vec::new();
        for start in (0..count).step_by(batch_rows) {
            let mut fates = Vec::new();
            let rows = batch_rows.min(count - start);
            let batch = self.projector.project(columns, start, rows, &mut fates)?;
            let batch = Arc::new(batch.at(Place { first: start as u32, ..place }));
            batches.push(Selected { batch, rows: passing(&fates), back_us: 0 });
        }
        self.table.aggregate(batches, &mut self.projector)
    }

    pub fn drain(&mut self, side: &mut Side) -> Result<()> {
        self.table.drain(&mut side.table, &mut side.space, &mut self.projector)
    }
}

/// A bit for each row that passes.
pub(super) fn passing(fates: &[Fate]) -> Vec<u32> {
    let word = |rows: &[Fate]| {
        rows.iter().enumerate().fold(0, |word, (i, fate)| word | u32::from(fate.passes()) << i)
    };
    fates.chunks(32).map(word).collect()
}
