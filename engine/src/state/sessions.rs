//! Sessions: intervals of a key that unite where they touch.
//!
//! A row is a session of its own, `[t, t + gap)`; a session's group has its start and its end among
//! its keys. Merging a partial finds, for each of its rows, the open sessions of the same key that it
//! touches, gives all of them the start and end of their union, and lets the fold's merge do the rest.
//! So the states of a session are a function of the set of its rows, as any group's are.
//!
//! Invariant: the open sessions of a key neither overlap nor touch. Cost: a lookup a row, and a move
//! for each session whose bounds change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use pelton_kernels::cpu::keys::{KeyInput, Rows};

use super::StateStore;
use crate::error::{Error, Result};
use crate::plan::SessionKey;

pub(super) struct Sessions {
    key: SessionKey,
    /// Number of key columns, start and end included.
    keys: usize,
    converter: RowConverter,
    /// By key: start → end.
    open: HashMap<Box<[u8]>, BTreeMap<i64, Open>>,
}

#[derive(Clone, Copy)]
struct Open {
    end: i64,
    /// The union that it belongs to in the merge at work.
    union: Option<usize>,
}

/// What a merge unites.
#[derive(Default)]
struct Union {
    start: i64,
    end: i64,
    /// Rows of the partial.
    rows: Vec<u32>,
    /// Start and end of sessions that were open before.
    olds: Vec<(i64, i64)>,
}

/// A session to be moved: a row with its key, its bounds so far, its new ones.
struct Move {
    row: u32,
    from: (i64, i64),
    to: (i64, i64),
}

impl Sessions {
    pub fn new(key: SessionKey, key_columns: &[arrow::datatypes::Field]) -> Result<Sessions> {
        let others = key_columns.iter().enumerate().filter(|(at, _)| !key.is_bound(*at));
        let fields = others.map(|(_, field)| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect()).map_err(failed)?;
        Ok(Sessions { key, keys: key_columns.len(), converter, open: HashMap::new() })
    }

    fn key_rows(&self, columns: &[ArrayRef]) -> Result<Vec<Box<[u8]>>> {
        let others = columns[..self.keys].iter().enumerate();
        let others = others.filter(|(at, _)| !self.key.is_bound(*at)).map(|(_, c)| Arc::clone(c));
        let rows = self.converter.convert_columns(&others.collect::<Vec<_>>()).map_err(failed)?;
        Ok(rows.iter().map(|row| row.as_ref().into()).collect())
    }

    fn bounds<'a>(&self, columns: &'a [ArrayRef]) -> (&'a [i64], &'a [i64]) {
        let of = |at: usize| {
            let times = columns[at].as_primitive::<TimestampMicrosecondType>();
            times.values().as_ref()
        };
        (of(self.key.start), of(self.key.end))
    }

    /// Enters the rows of a partial; the unions that come of it, those without rows are empty.
    fn enter(&mut self, partial: &RecordBatch) -> Result<Vec<Union>> {
        let keys = self.key_rows(partial.columns())?;
        let (starts, ends) = self.bounds(partial.columns());
        let mut unions: Vec<Union> = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            let sessions = match self.open.get_mut(key) {
                Some(sessions) => sessions,
                None => self.open.entry(key.clone()).or_default(),
            };
            let (mut start, mut end) = (starts[row], ends[row]);
            let mut into: Option<usize> = None;
            while let Some((&other, &open)) = sessions.range(..=end).next_back() {
                if open.end < start {
                    break;
                }
                sessions.remove(&other);
                let union = open.union.unwrap_or_else(|| {
                    unions.push(Union { olds: vec![(other, open.end)], ..Union::default() });
                    unions.len() - 1
                });
                (start, end) = (start.min(other), end.max(open.end));
                into = Some(into.map_or(union, |into| join(&mut unions, into, union)));
            }
            let union = into.unwrap_or_else(|| {
                unions.push(Union::default());
                unions.len() - 1
            });
            (unions[union].start, unions[union].end) = (start, end);
            unions[union].rows.push(row as u32);
            sessions.insert(start, Open { end, union: Some(union) });
        }
        for union in unions.iter().filter(|union| !union.rows.is_empty()) {
            let sessions = self.open.get_mut(&keys[union.rows[0] as usize]);
            let open = sessions.and_then(|sessions| sessions.get_mut(&union.start));
            open.expect("a union's session is open").union = None;
        }
        Ok(unions)
    }

    /// Forgets sessions that are gone, by their key columns.
    pub fn forget(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let keys = self.key_rows(columns)?;
        let (starts, _) = self.bounds(columns);
        for (key, start) in keys.iter().zip(starts) {
            if let Some(sessions) = self.open.get_mut(key) {
                sessions.remove(start);
                if sessions.is_empty() {
                    self.open.remove(key);
                }
            }
        }
        Ok(())
    }

    pub fn clear(&mut self) {
        self.open.clear();
    }

    pub fn bytes_held(&self) -> usize {
        // A key's bytes are not walked: a tree node and a table slot stand for them.
        self.open.capacity() * 48 + self.open.len() * 256
    }
}

/// Moves what the one holds to the other; the one that is left.
fn join(unions: &mut [Union], a: usize, b: usize) -> usize {
    if a == b {
        return a;
    }
    let size = |union: &Union| union.rows.len() + union.olds.len();
    let (into, from) = if size(&unions[a]) < size(&unions[b]) { (b, a) } else { (a, b) };
    let Union { mut rows, mut olds, .. } = std::mem::take(&mut unions[from]);
    unions[into].rows.append(&mut rows);
    unions[into].olds.append(&mut olds);
    into
}

impl StateStore {
    /// The partial with the bounds of the sessions that its rows belong to now; open sessions whose
    /// bounds change are moved to their new ones.
    pub(super) fn unite(
        &mut self,
        sessions: &mut Sessions,
        partial: &RecordBatch,
    ) -> Result<RecordBatch> {
        let unions = sessions.enter(partial)?;
        let (starts, ends) = sessions.bounds(partial.columns());
        let (mut starts, mut ends) = (starts.to_vec(), ends.to_vec());
        let mut moves = Vec::new();
        for union in unions.iter().filter(|union| !union.rows.is_empty()) {
            let to = (union.start, union.end);
            for &row in &union.rows {
                (starts[row as usize], ends[row as usize]) = to;
            }
            let stays = |from: &&(i64, i64)| **from != to;
            let moved = union.olds.iter().filter(stays);
            moves.extend(moved.map(|&from| Move { row: union.rows[0], from, to }));
        }
        self.move_sessions(sessions.key, partial, &moves)?;
        with_bounds(sessions.key, partial, starts, ends)
    }

    fn move_sessions(
        &mut self,
        key: SessionKey,
        partial: &RecordBatch,
        moves: &[Move],
    ) -> Result<()> {
        if moves.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = moves.iter().map(|m| m.row).collect::<Vec<_>>().into();
        let keys = self.space.types().len();
        let mut columns = Vec::with_capacity(keys);
        for (at, column) in partial.columns()[..keys].iter().enumerate() {
            let bound = |of: fn(&Move) -> i64| times(column, moves.iter().map(of).collect());
            columns.push(match at {
                at if at == key.start => bound(|m| m.from.0),
                at if at == key.end => bound(|m| m.from.1),
                _ => take(column, &rows, None).map_err(failed)?,
            });
        }
        let inputs: Vec<KeyInput<'_>> = columns.iter().map(KeyInput::Values).collect();
        let mut packed = Vec::with_capacity(moves.len());
        self.space.encode(&inputs, Rows::All(moves.len()), &mut packed);
        let find =
            |&key: &u64| self.table.groups().find(key).expect("an open session has its group");
        let groups: Vec<u32> = packed.iter().map(find).collect();
        let olds = self.table.partial(&self.space, Some(&groups));
        self.take_out(&groups);
        let to = |of: fn(&Move) -> i64| moves.iter().map(of).collect();
        let moved = with_bounds(key, &olds, to(|m| m.to.0), to(|m| m.to.1))?;
        self.fold(&moved)
    }
}

fn times(like: &ArrayRef, values: Vec<i64>) -> ArrayRef {
    let times = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(values);
    Arc::new(times.with_data_type(like.data_type().clone()))
}

fn with_bounds(
    key: SessionKey,
    partial: &RecordBatch,
    starts: Vec<i64>,
    ends: Vec<i64>,
) -> Result<RecordBatch> {
    let mut columns = partial.columns().to_vec();
    columns[key.start] = times(&columns[key.start], starts);
    columns[key.end] = times(&columns[key.end], ends);
    RecordBatch::try_new(partial.schema(), columns).map_err(failed)
}

fn failed(error: ArrowError) -> Error {
    Error::failed(format!("sessions: {error}"))
}
