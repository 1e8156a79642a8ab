//! What an epoch pays to evict a hundred thousand groups, with as many more of them open as with ten
//! million. If eviction costs what is evicted, the answer is the same.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, TimeUnit};
use pelton_engine::state::{Closing, StateSpec, StateStore};
use pelton_kernels::cpu::aggregate::{AggregateFunction, AggregateSpec, Call, partial_schema};

use crate::error::Error;

/// Keys of a window: what an epoch opens and what it evicts.
pub const KEYS: usize = 100_000;
/// Windows that stay open: up to ten million groups.
pub const WINDOWS: [i64; 3] = [1, 10, 100];
const SIZE_US: i64 = 10_000_000;
const EPOCHS: usize = 9;

/// The middle of some epochs.
#[derive(Clone, Copy, Debug)]
pub struct Eviction {
    pub open: usize,
    pub milliseconds: f64,
}

/// Epochs in the middle of a stream, by so many open windows: one opens, the oldest one closes.
pub fn measure(windows: i64) -> Result<Eviction, Error> {
    let failed = |error: pelton_engine::error::Error| Error::Wrong(error.to_string());
    let spec = spec();
    let mut store = StateStore::new(&spec);
    for window in 0..windows {
        store.merge(&partial(&spec, window)).map_err(failed)?;
    }
    store.settle(None).map_err(failed)?;
    let open = windows as usize * KEYS;
    let mut times = Vec::with_capacity(EPOCHS);
    for oldest in 0..EPOCHS as i64 {
        let next = partial(&spec, oldest + windows);
        let began = Instant::now();
        store.merge(&next).map_err(failed)?;
        let evicted = store.settle(Some((oldest + 1) * SIZE_US)).map_err(failed)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        if (evicted, store.len()) != (KEYS, open) {
            let left = store.len();
            return Err(Error::Wrong(format!("{evicted} groups of {KEYS} evicted, {left} left")));
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Eviction { open, milliseconds: times[EPOCHS / 2] })
}

fn spec() -> StateSpec {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let count = AggregateSpec {
        function: AggregateFunction::CountRows,
        input: None,
        output: DataType::Int64,
        name: "n".into(),
    };
    StateSpec {
        keys: vec![Field::new("start", time, true), Field::new("id", DataType::Int64, true)],
        calls: vec![Call { spec: count, argument: None, filter: None }],
        closing: Closing::Window { key: 0, size_us: SIZE_US },
        session: None,
        moving: false,
    }
}

/// The groups of one window.
fn partial(spec: &StateSpec, window: i64) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_value(window * SIZE_US, KEYS)),
        Arc::new(Int64Array::from_iter_values(0..KEYS as i64)),
        Arc::new(UInt64Array::from_value(1, KEYS)),
    ];
    RecordBatch::try_new(partial_schema(&spec.keys, &spec.calls), columns).expect("it fits")
}
