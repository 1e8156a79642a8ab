//! The state of one shard: its groups, when each closes, which an epoch touched.
//!
//! Invariant: state = the merge of every partial that reached the shard, less the groups that the
//! watermark closed. The cost of eviction is that of what is evicted.

mod agenda;
mod first;
pub mod join;
pub mod order;
pub mod partition;
mod sessions;
pub mod shard;
pub mod spill;
#[cfg(test)]
mod tests;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{Field, TimestampMicrosecondType};
use arrow::error::ArrowError;
use pelton_kernels::cpu::aggregate::{Call, GroupTable};
use pelton_kernels::cpu::keys::KeySpace;

use crate::error::{Error, Result};
use crate::plan::{Groups, SessionKey};
use agenda::Agenda;
use sessions::Sessions;

/// Ids of dead keys are given up when they are this many and outnumber the live ones.
const DEAD_IDS_MAX: usize = 1 << 16;

/// What a state holds: for each key the states of some aggregates, and when it leaves.
pub struct StateSpec {
    pub keys: Vec<Field>,
    pub calls: Vec<Call>,
    pub closing: Closing,
    pub session: Option<SessionKey>,
    /// The end of a group may change while it is open.
    pub moving: bool,
}

pub struct StateStore {
    space: KeySpace,
    table: GroupTable,
    closing: Closing,
    agenda: Agenda,
    sessions: Option<Sessions>,
    /// By group: it was touched in this epoch.
    is_touched: Vec<bool>,
    touched: Vec<u32>,
    merged: Vec<u32>,
}

/// The column of a partial that tells when a group closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    Never,
    /// This one is the start of a window of this size.
    Window {
        key: usize,
        size_us: i64,
    },
    /// This one is the time itself.
    At {
        column: usize,
    },
}

impl Closing {
    pub fn of(groups: &Groups) -> Closing {
        match (groups.session, groups.window.filter(|window| window.closes), groups.event_time_key)
        {
            (Some(session), _, _) if session.closes => Closing::At { column: session.end },
            (_, Some(window), _) => Closing::Window { key: window.key, size_us: window.size_us },
            (_, None, Some(key)) => Closing::At { column: key },
            (_, None, None) => Closing::Never,
        }
    }

    /// When the group of each row of a partial closes; `None`: never, or never for a NULL.
    pub fn ends(self, columns: &[ArrayRef]) -> Option<Vec<Option<i64>>> {
        let (column, size_us) = match self {
            Closing::Never => return None,
            Closing::Window { key, size_us } => (key, size_us),
            Closing::At { column } => (column, 0),
        };
        let starts = columns[column].as_primitive::<TimestampMicrosecondType>();
        Some(starts.iter().map(|start| start.map(|start| start.saturating_add(size_us))).collect())
    }
}

impl StateStore {
    /// Panics on key types that the planner refuses.
    pub fn new(spec: &StateSpec) -> Self {
        let types: Vec<_> = spec.keys.iter().map(|field| field.data_type().clone()).collect();
        let table = GroupTable::new(&spec.keys, &spec.calls);
        let key_fields = &table.schema().fields()[..spec.keys.len()];
        let sessions = spec.session.map(|key| {
            let fields: Vec<Field> =
                key_fields.iter().map(|field| field.as_ref().clone()).collect();
            Sessions::new(key, &fields).expect("a type that can be a key can be compared")
        });
        StateStore {
            space: KeySpace::new(&types),
            closing: spec.closing,
            agenda: Agenda::new(spec.moving || spec.session.is_some()),
            sessions,
            is_touched: Vec::new(),
            touched: Vec::new(),
            merged: Vec::new(),
            table,
        }
    }

    /// Makes room for so many groups in all, so that taking them in moves none.
    pub fn reserve(&mut self, groups: usize) {
        self.table.reserve(groups);
        self.space.reserve(groups);
    }

    /// As [`StateStore::merge`], from a state file, whose text keys are plain. Keys are the first
    /// columns; a state is found by its name among `names`, those of this store's columns in files.
    /// A file of format 1 has them in their order.
    pub fn merge_file(&mut self, partial: &RecordBatch, names: &[String]) -> Result<()> {
        let fields = self.table.schema().fields();
        let of_old = partial.schema_ref().fields().iter().zip(fields);
        let in_order = partial.num_columns() == fields.len()
            && of_old.skip(self.space.types().len()).all(|(old, field)| old.name() == field.name());
        let keys = self.space.types().len();
        let columns = fields.iter().zip(names).enumerate().map(|(at, (field, name))| {
            let column = match at < keys || in_order {
                true => partial.columns().get(at),
                false => partial.column_by_name(name),
            };
            let missing = || ArrowError::SchemaError(format!("it has no column {name:?}"));
            let column = column.ok_or_else(missing)?;
            if column.data_type() == field.data_type() {
                return Ok(column.clone());
            }
            cast(column, field.data_type())
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>();
        let rows = RecordBatchOptions::new().with_row_count(Some(partial.num_rows()));
        let schema = self.table.schema().clone();
        let partial = columns
            .and_then(|columns| RecordBatch::try_new_with_options(schema, columns, &rows))
            .map_err(|error| Error::failed(format!("a state file has another form: {error}")))?;
        self.merge(&partial)
    }

    /// Folds a partial into the state; its groups count as touched until [`StateStore::settle`].
    pub fn merge(&mut self, partial: &RecordBatch) -> Result<()> {
        let Some(mut sessions) = self.sessions.take() else { return self.fold(partial) };
        let united = self.unite(&mut sessions, partial);
        self.sessions = Some(sessions);
        self.fold(&united?)
    }

    fn fold(&mut self, partial: &RecordBatch) -> Result<()> {
        self.merged.clear();
        self.table
            .merge(&mut self.space, partial, &mut self.merged)
            .map_err(|error| Error::failed(error.to_string()))?;
        self.grow();
        let merged = std::mem::take(&mut self.merged);
        self.touch(&merged);
        if let Some(ends) = self.closing.ends(partial.columns()) {
            self.agenda.file(&merged, &ends);
        }
        self.merged = merged;
        Ok(())
    }

    fn touch(&mut self, groups: &[u32]) {
        for &group in groups {
            if !std::mem::replace(&mut self.is_touched[group as usize], true) {
                self.touched.push(group);
            }
        }
    }

    /// Takes groups out of the table; they are another's now.
    fn take_out(&mut self, groups: &[u32]) {
        for &group in groups {
            self.is_touched[group as usize] = false;
        }
        self.agenda.forget(groups);
        self.table.remove(groups);
    }

    /// A query without GROUP BY has its one group from the first epoch on.
    pub fn ensure_global_group(&mut self) {
        let group = self.table.ensure(0);
        self.grow();
        if !std::mem::replace(&mut self.is_touched[group as usize], true) {
            self.touched.push(group);
        }
    }

    /// Groups that the running epoch touched, each once.
    pub fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// Groups that close at `watermark`.
    pub fn closed(&self, watermark: i64) -> Vec<u32> {
        self.agenda.closed(watermark)
    }

    pub fn all(&self) -> Vec<u32> {
        self.table.groups().iter().collect()
    }

    pub fn len(&self) -> usize {
        self.table.groups().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys, then values, of some groups.
    ///
    /// Errors: `Failed` where an aggregate left the range of its type.
    pub fn rows(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let keys: Vec<u64> = groups.iter().map(|&group| self.table.groups().key(group)).collect();
        let mut columns = self.space.decode(&keys);
        let values = self.table.values(groups).map_err(|error| Error::failed(error.to_string()))?;
        columns.extend(values);
        Ok(columns)
    }

    /// The whole state as one partial: what a base is written from.
    pub fn partial(&self) -> RecordBatch {
        self.table.partial(&self.space, None)
    }

    /// Some groups as a partial.
    pub fn partial_of(&self, groups: &[u32]) -> RecordBatch {
        self.table.partial(&self.space, Some(groups))
    }

    /// Names of the columns of its partials.
    pub fn column_names(&self) -> Vec<String> {
        self.table.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The keys of some groups.
    pub fn keys(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let keys: Vec<u64> = groups.iter().map(|&group| self.table.groups().key(group)).collect();
        self.space.decode(&keys)
    }

    pub fn is_touched(&self, group: u32) -> bool {
        self.is_touched[group as usize]
    }

    /// When the first group closes; `None`: none does.
    pub fn first_end(&self) -> Option<i64> {
        self.agenda.first()
    }

    /// Ends the epoch: touched marks go, and with a watermark the groups that it closes. Returns
    /// how many were evicted.
    pub fn settle(&mut self, watermark: Option<i64>) -> Result<usize> {
        self.untouch();
        let Some(watermark) = watermark else { return Ok(0) };
        let closed = self.agenda.take_closed(watermark);
        if closed.len() * 4 > self.len() * 3 {
            self.keep_only_open(&closed)?;
            return Ok(closed.len());
        }
        if let Some(sessions) = &mut self.sessions {
            let keys: Vec<u64> = closed.iter().map(|&g| self.table.groups().key(g)).collect();
            sessions.forget(&self.space.decode(&keys))?;
        }
        self.table.remove(&closed);
        self.give_up_dead_ids();
        Ok(closed.len())
    }

    fn untouch(&mut self) {
        for group in self.touched.drain(..) {
            self.is_touched[group as usize] = false;
        }
    }

    /// Forgets every group: `batch` mode, after each epoch.
    pub fn clear(&mut self) {
        self.table.clear();
        self.space.clear();
        self.agenda.clear();
        self.is_touched.clear();
        self.touched.clear();
        if let Some(sessions) = &mut self.sessions {
            sessions.clear();
        }
    }

    /// Most groups close: the few others move to an empty table, which costs less than to take each
    /// closed one out.
    fn keep_only_open(&mut self, closed: &[u32]) -> Result<()> {
        let mut is_closed = vec![false; self.table.groups().capacity()];
        for &group in closed {
            is_closed[group as usize] = true;
        }
        let open: Vec<u32> =
            self.table.groups().iter().filter(|&group| !is_closed[group as usize]).collect();
        let open = self.table.partial(&self.space, Some(&open));
        self.clear();
        self.merge(&open)?;
        self.untouch();
        Ok(())
    }

    fn give_up_dead_ids(&mut self) {
        let held = self.space.ids_held();
        if held <= DEAD_IDS_MAX || held <= 2 * self.len() {
            return;
        }
        self.table.compact(&mut self.space);
        // Groups have new numbers now.
        self.agenda.clear();
        self.is_touched.clear();
        self.touched.clear();
        self.grow();
        if self.closing != Closing::Never {
            let all = self.all();
            let partial = self.table.partial(&self.space, Some(&all));
            let ends = self.closing.ends(partial.columns()).expect("it closes");
            self.agenda.file(&all, &ends);
        }
    }

    fn grow(&mut self) {
        let slots = self.table.groups().capacity();
        self.agenda.grow(slots);
        self.is_touched.resize(slots, false);
    }

    pub fn bytes_held(&self) -> usize {
        self.table.bytes_held()
            + self.space.bytes_held()
            + self.agenda.bytes_held()
            + self.sessions.as_ref().map_or(0, Sessions::bytes_held)
            + self.is_touched.capacity()
    }
}

/// The rows of a partial that are still open at `watermark`: the others leave in the epoch that
/// brought them, so no checkpoint needs them.
pub fn still_open(closing: Closing, partial: &RecordBatch, watermark: Option<i64>) -> RecordBatch {
    let (Some(watermark), Some(ends)) = (watermark, closing.ends(partial.columns())) else {
        return partial.clone();
    };
    let open = ends.iter().map(|end| Some(end.is_none_or(|end| end > watermark))).collect();
    filter_record_batch(partial, &open).expect("one flag a row")
}
