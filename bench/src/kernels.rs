//! Question: from how many groups and columns on is a device worth its transfers, and in which tier?
//!
//! One core's work from decoded columns to a partial (filter, window, keys, states), on the CPU's
//! kernels and on a device's, for each number of groups and of measured columns. The device's figures
//! hold everything: upload, dispatch, waiting for the fates, drain.
//! Checked first: both partials are equal, row by row and bit by bit.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use pelton_kernels::cpu::aggregate::{
    AggregateFunction, AggregateSpec, Call, GroupTable, Positions,
};
use pelton_kernels::cpu::filter;
use pelton_kernels::cpu::keys::{KeyInput, KeySpace, Rows};
use pelton_kernels::cpu::project::evaluate;
use pelton_kernels::expr::{CompareOp, Expr, ExprKind, Literal};
use pelton_kernels::gpu::{
    Choice, Device, Input, Kind, Program, Projector, Query, Selected, Table, Tier, adapters,
};
use serde_json::{Value, json};

use crate::error::Error;
use crate::record;

const GROUPS: [u64; 4] = [1, 100, 10_000, 1_000_000];
const COLUMNS: [usize; 2] = [1, 4];
/// Rows of a batch: what a device gets at once.
const BATCH: usize = 32 << 10;
/// More rows make no other rate.
const ROWS_MAX: u64 = 4_000_000;
const WINDOW_US: i64 = 10_000_000;

/// Rates of one shape of the work.
struct Line {
    groups: u64,
    columns: usize,
    /// Rows a second: the CPU, then each device.
    rates: Vec<f64>,
}

struct Candidate {
    name: String,
    is_software: bool,
    device: Arc<Device>,
}

/// Measures, prints a table with the crossovers to `out`, and records it in `record_dir`.
///
/// Errors: `Unavailable` without a device, `Wrong` where a device's answer is not the CPU's.
pub fn run(
    rows: u64,
    rounds: usize,
    record_dir: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let rows = rows.clamp(1, ROWS_MAX);
    let candidates = candidates()?;
    let mut lines = Vec::new();
    for groups in GROUPS.into_iter().filter(|groups| *groups <= rows) {
        for columns in COLUMNS {
            eprintln!("{groups} groups, {columns} columns");
            lines.push(measure(rows, groups, columns, rounds, &candidates)?);
        }
    }
    print(rows, &lines, &candidates, out).map_err(|e| Error::io("cannot print the table", e))?;
    if let Some(dir) = record_dir {
        let path = write_record(rows, rounds, &lines, &candidates, dir)?;
        eprintln!("recorded in {}", path.display());
    }
    Ok(())
}

/// Every adapter in each tier that it has.
fn candidates() -> Result<Vec<Candidate>, Error> {
    let mut candidates = Vec::new();
    for adapter in adapters() {
        for tier in [Tier::Native, Tier::Portable] {
            if tier == Tier::Native && adapter.tier != Ok(Tier::Native) {
                continue;
            }
            let choice =
                Choice { index: Some(adapter.index), tier: Some(tier), ..Choice::default() };
            let device = Device::open(choice).map_err(|e| Error::Unavailable(e.to_string()))?;
            let name = format!("{} {}", adapter.name, tier.name());
            let is_software = adapter.kind == Kind::Software;
            candidates.push(Candidate { name, is_software, device: Arc::new(device) });
        }
    }
    match candidates.is_empty() {
        true => Err(Error::Unavailable("Vulkan shows no adapter".into())),
        false => Ok(candidates),
    }
}

fn measure(
    rows: u64,
    groups: u64,
    columns: usize,
    rounds: usize,
    candidates: &[Candidate],
) -> Result<Line, Error> {
    let query = query(columns);
    let batches = batches(rows, groups, columns);
    let types: Vec<_> = query.key_fields.iter().map(|field| field.data_type().clone()).collect();
    let mut space = KeySpace::new(&types);
    for id in 1..=groups.min(1_000) {
        space.interner_mut(1).intern(id.to_string().as_bytes());
    }
    let mut table = GroupTable::new(&query.key_fields, &query.calls);
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        table.clear();
        let began = Instant::now();
        batches.iter().for_each(|batch| on_cpu(&query, batch, &mut space, &mut table));
        best = best.min(began.elapsed().as_secs_f64());
    }
    let expected = sorted(&table, &space);
    let mut rates = vec![rows as f64 / best];
    for candidate in candidates {
        let failed = |error: pelton_kernels::gpu::GpuError| {
            Error::Unavailable(format!("{}: {error}", candidate.name))
        };
        let program = Arc::new(Program::new(&candidate.device, query.clone()).map_err(failed)?);
        let (mut projector, mut on_device) = (Projector::new(&program), Table::new(&program));
        let mut best = f64::INFINITY;
        // One round more: the first pays for building pipelines and growing the table.
        for _ in 0..=rounds {
            table.clear();
            let began = Instant::now();
            for batch in &batches {
                let (mut fates, rows) = (Vec::with_capacity(BATCH), batch[0].len());
                let records = projector.project(batch, 0, rows, &mut fates).map_err(failed)?;
                let word = |fates: &[pelton_kernels::gpu::Fate]| {
                    fates.iter().rev().fold(0, |word, fate| word << 1 | u32::from(fate.passes()))
                };
                let rows = fates.chunks(32).map(word).collect();
                let selected = vec![Selected { batch: records, rows }];
                on_device.aggregate(selected, &mut projector).map_err(failed)?;
            }
            on_device.drain(&mut table, &mut space, &mut projector).map_err(failed)?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        if sorted(&table, &space) != expected {
            return Err(Error::Wrong(format!("{} has other groups than the CPU", candidate.name)));
        }
        rates.push(rows as f64 / best);
    }
    Ok(Line { groups, columns, rates })
}

/// The partial in the order of the packed keys.
fn sorted(table: &GroupTable, space: &KeySpace) -> RecordBatch {
    let mut groups: Vec<u32> = table.groups().iter().collect();
    groups.sort_by_key(|&group| table.groups().key(group));
    table.partial(space, Some(&groups))
}

fn on_cpu(query: &Query, batch: &[ArrayRef], space: &mut KeySpace, table: &mut GroupTable) {
    let rows = batch[0].len();
    let mut kept = Vec::with_capacity(rows);
    let mask = evaluate(&query.filters[0], batch, rows).values;
    filter::select(mask.as_boolean(), &mut kept);
    let start = evaluate(&query.keys[0], batch, rows).values;
    let ids = batch[1].as_primitive::<arrow::datatypes::UInt32Type>().values();
    let mut keys = Vec::with_capacity(kept.len());
    let inputs = [KeyInput::Values(&start), KeyInput::Ids(ids)];
    space.encode(&inputs, Rows::Selected(&kept), &mut keys);
    table.update(&keys, Rows::Selected(&kept), &batch[3..], &Positions::default());
}

/// The sensors query with so many measured columns: windows and devices, count, mean, least, most.
fn query(columns: usize) -> Query {
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
        key_fields: vec![
            Field::new("start", time, true),
            Field::new("device", DataType::Utf8, true),
        ],
        arguments: (0..columns).map(|i| Expr::column(3 + i, DataType::Float64)).collect(),
        calls,
    }
}

/// Columns of rows that fall into so many groups: up to a thousand devices, then windows.
fn batches(rows: u64, groups: u64, columns: usize) -> Vec<Vec<ArrayRef>> {
    let hash = |row: u64, salt: u64| {
        ((row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt).wrapping_mul(0xbf58_476d_1ce4_e5b9)
            >> 33
    };
    let devices = groups.min(1_000);
    let windows = groups / devices;
    let batch = |first: u64| -> Vec<ArrayRef> {
        let all = first..(first + BATCH as u64).min(rows);
        let time = |row: u64| (row as u128 * u128::from(windows) / u128::from(rows)) as i64;
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
    (0..rows).step_by(BATCH).map(batch).collect()
}

fn print(
    rows: u64,
    lines: &[Line],
    candidates: &[Candidate],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    writeln!(out, "kernels: {rows} rows a measurement, M rows/s of one core and of each device")?;
    write!(out, "{:>9} {:>8} {:>9}", "groups", "columns", "CPU")?;
    for place in 1..=candidates.len() {
        write!(out, " {:>9}", format!("[{place}]"))?;
    }
    writeln!(out)?;
    let most = lines.iter().flat_map(|line| &line.rates).copied().fold(0.0, f64::max);
    for line in lines {
        write!(out, "{:>9} {:>8}", line.groups, line.columns)?;
        for rate in &line.rates {
            write!(out, " {:>9.2}", rate / 1e6)?;
        }
        let bars = line.rates.iter().map(|rate| "▇".repeat((rate / most * 12.0).round() as usize));
        writeln!(out, "   {}", bars.collect::<Vec<_>>().join(" | "))?;
    }
    for (place, candidate) in candidates.iter().enumerate() {
        let software = if candidate.is_software { ": software, no GPU's figures" } else { "" };
        let crossover = crossover(lines, place);
        writeln!(out, "[{}] {}{software}; {crossover}", place + 1, candidate.name)?;
    }
    Ok(())
}

/// Where a device begins to be worth it.
fn crossover(lines: &[Line], place: usize) -> String {
    let wins: Vec<_> = lines.iter().filter(|line| line.rates[place + 1] > line.rates[0]).collect();
    match wins.first() {
        None => "the device loses here, whatever the groups and columns".to_owned(),
        Some(_) if wins.len() == lines.len() => "the device wins everywhere".to_owned(),
        Some(first) => format!(
            "the device wins {} of {} shapes, the first with {} groups and {} columns",
            wins.len(),
            lines.len(),
            first.groups,
            first.columns
        ),
    }
}

fn write_record(
    rows: u64,
    rounds: usize,
    lines: &[Line],
    candidates: &[Candidate],
    dir: &Path,
) -> Result<PathBuf, Error> {
    let names: Vec<_> = candidates.iter().map(|candidate| candidate.name.clone()).collect();
    let line = |line: &Line| {
        let mut rates = serde_json::Map::new();
        let engines = std::iter::once("cpu".to_owned()).chain(names.iter().cloned());
        for (name, rate) in engines.zip(&line.rates) {
            rates.insert(name, json!((rate / 1e4).round() / 100.0));
        }
        json!({ "groups": line.groups, "columns": line.columns, "m_rows_per_second": rates })
    };
    let crossovers: Vec<Value> = (0..names.len())
        .map(|at| json!({ "device": names[at], "crossover": crossover(lines, at) }))
        .collect();
    let note = match candidates.iter().all(|candidate| candidate.is_software) {
        true => {
            "no GPU was at hand: the device is software on the same processor, and its figures \
                 say nothing of a GPU's"
        }
        false => "",
    };
    let lines: Value = lines.iter().map(line).collect();
    let facts = json!({
        "rows": rows,
        "rounds": rounds,
        "note": note,
        "lines": lines,
        "crossovers": crossovers,
    });
    record::keep("kernels", facts, dir)
}
