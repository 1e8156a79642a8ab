//! The state of a join of two streams: the rows of both sides that later rows may still meet.
//!
//! A row is kept as bytes under its number, its keys and, where the watermark takes it, its time. What
//! a checkpoint needs of an epoch is a batch, as of any state: the rows that came and stay, and the
//! numbers of older ones that met their first match.
//!
//! Invariant: every pair of rows of the two sides meets once, in the epoch that brought the later of
//! them; a row that leaves without a match has met none. Rows leave in the order in which they came:
//! first what the left side's new rows meet, then what the right side's meet, then rows without a
//! match. As Spark's `StreamingSymmetricHashJoinExec`.

mod bag;
mod file;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, RecordBatch, UInt32Array,
    new_null_array,
};
use arrow::compute::{filter, take};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::error::{Error, Result};
use crate::plan::expr::Compiled;
use crate::plan::side::normal;
use crate::plan::stream_join::{JoinSide, Leaves, StreamJoin};
use bag::{Bag, Held};
pub use file::file_columns;

/// Pairs that are looked at together; those of one new row are not parted.
const PAIRS_MAX: usize = 8 << 10;
/// What a row costs beside its bytes: places in three indexes.
const ROW_BYTES: usize = 160;

pub struct JoinStore {
    join: Arc<StreamJoin>,
    keys: RowConverter,
    sides: [Bag; 2],
    /// Number of the next row; rows are numbered in the order in which they come.
    next: u64,
    /// Number of the epoch's first row.
    first_new: u64,
    /// Older rows that met their first match in this epoch.
    newly_matched: [BTreeSet<u64>; 2],
}

/// New rows of one side, ready to meet the other's.
struct Coming<'a> {
    rows: &'a RecordBatch,
    keys: Vec<Option<Arc<[u8]>>>,
    times: Vec<Option<i64>>,
    encoded: Rows,
    /// Rows that may meet any; `None`: all.
    pre: Option<BooleanArray>,
    matched: Vec<bool>,
}

impl JoinStore {
    /// Panics on types that the planner refuses.
    pub fn new(join: &Arc<StreamJoin>) -> JoinStore {
        let keys = join.sides[0].keys.iter().map(Compiled::data_type);
        let keys = keys.map(|data_type| SortField::new(data_type.clone())).collect();
        JoinStore {
            keys: RowConverter::new(keys).expect("the planner asked whether keys compare"),
            sides: [0, 1].map(|side| Bag::new(&join.sides[side].schema)),
            next: 0,
            first_new: 0,
            newly_matched: Default::default(),
            join: Arc::clone(join),
        }
    }

    pub fn len(&self) -> usize {
        self.sides.iter().map(|side| side.rows.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes_held(&self) -> usize {
        self.sides.iter().map(|side| side.bytes + side.rows.len() * ROW_BYTES).sum()
    }

    pub fn clear(&mut self) {
        *self = JoinStore::new(&Arc::clone(&self.join));
    }

    /// New rows of the left side meet the old ones of the right, then those of the right meet all of
    /// the left; what comes of it, in order.
    ///
    /// Errors: `Failed` where a condition stops.
    pub fn meet(&mut self, new: [&RecordBatch; 2]) -> Result<Vec<RecordBatch>> {
        let mut out = Vec::new();
        for (side, rows) in new.into_iter().enumerate() {
            if rows.num_rows() > 0 {
                self.meet_side(side, rows, &mut out)?;
            }
        }
        Ok(out)
    }

    fn meet_side(
        &mut self,
        side: usize,
        rows: &RecordBatch,
        out: &mut Vec<RecordBatch>,
    ) -> Result<()> {
        let join = Arc::clone(&self.join);
        let mut coming = self.coming(side, rows)?;
        let (mut new, mut old) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let Some(key) = coming.key(row) else { continue };
            let Some(of_key) = self.sides[1 - side].by_key.get(key) else { continue };
            new.extend(std::iter::repeat_n(row as u32, of_key.len()));
            old.extend(of_key);
            if new.len() >= PAIRS_MAX {
                self.pairs(side, &mut coming, &new, &old, out)?;
                (new, old) = (Vec::new(), Vec::new());
            }
        }
        self.pairs(side, &mut coming, &new, &old, out)?;
        if let (Some(pre), true) = (&coming.pre, join.kind.keeps(side)) {
            let alone = (0..rows.num_rows() as u32).filter(|&row| !pre.value(row as usize));
            let alone = UInt32Array::from_iter_values(alone);
            if !alone.is_empty() {
                out.push(self.alone(side, taken(rows.columns(), &alone))?);
            }
        }
        self.store(side, coming);
        Ok(())
    }

    /// Whether each row may meet any, and the forms in which it is compared and kept.
    fn coming<'a>(&self, side: usize, rows: &'a RecordBatch) -> Result<Coming<'a>> {
        let of = &self.join.sides[side];
        let keys = evaluate(&of.keys, rows)?;
        let encoded = self.keys.convert_columns(&normal(&keys)).map_err(internal)?;
        let key = |row: usize| {
            let mut each = keys.iter().zip(&self.join.null_safe);
            let is_known = each.all(|(key, null_safe)| *null_safe || key.is_valid(row));
            is_known.then(|| Arc::from(encoded.row(row).as_ref()))
        };
        let times = match of.time(&keys, rows.columns()) {
            None => vec![None; rows.num_rows()],
            Some(times) => times.as_primitive::<TimestampMicrosecondType>().iter().collect(),
        };
        let pre = match &of.pre {
            None => None,
            Some(pre) => {
                let pre = evaluate([pre], rows)?.remove(0);
                let pre = pre.as_boolean();
                Some(pre.iter().map(|passes| Some(passes == Some(true))).collect())
            }
        };
        Ok(Coming {
            keys: (0..rows.num_rows()).map(key).collect(),
            times,
            encoded: self.sides[side]
                .converter
                .convert_columns(rows.columns())
                .map_err(internal)?,
            pre,
            matched: vec![false; rows.num_rows()],
            rows,
        })
    }

    /// New rows beside old ones of the other side: those for which the rest of ON is true meet.
    fn pairs(
        &mut self,
        side: usize,
        coming: &mut Coming,
        new: &[u32],
        old: &[u64],
        out: &mut Vec<RecordBatch>,
    ) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let join = Arc::clone(&self.join);
        let of_new = taken(coming.rows.columns(), &UInt32Array::from(new.to_vec()));
        let of_old = self.sides[1 - side].columns(old)?;
        let (left, right) = if side == 0 { (of_new, of_old) } else { (of_old, of_new) };
        let all = RecordBatch::try_new(Arc::clone(&join.schema), [left, right].concat());
        let all = all.map_err(internal)?;
        let meets = match &join.residual {
            None => BooleanArray::from(vec![true; new.len()]),
            Some(rest) => {
                let rest = evaluate([rest], &all)?.remove(0);
                rest.as_boolean().iter().map(|is| Some(is == Some(true))).collect()
            }
        };
        let mut leaves = BooleanBuilder::with_capacity(new.len());
        for (pair, (&row, &number)) in new.iter().zip(old).enumerate() {
            if !meets.value(pair) {
                leaves.append_value(false);
                continue;
            }
            let first_of_new = !std::mem::replace(&mut coming.matched[row as usize], true);
            let first_of_old = self.match_old(1 - side, number);
            leaves.append_value(match (join.kind.is_semi(), side) {
                (false, _) => true,
                (true, 0) => first_of_new,
                (true, _) => first_of_old,
            });
        }
        let met = kept(&all, &leaves.finish())?;
        if met.num_rows() > 0 {
            out.push(if join.kind.is_semi() { self.left_of(met)? } else { met });
        }
        Ok(())
    }

    /// An old row meets one: whether it is its first.
    fn match_old(&mut self, side: usize, number: u64) -> bool {
        let held =
            self.sides[side].rows.get_mut(&number).expect("an index names rows that are held");
        let first = !std::mem::replace(&mut held.matched, true);
        if first && number < self.first_new {
            self.newly_matched[side].insert(number);
        }
        first
    }

    /// A semi join tells of the left row alone.
    fn left_of(&self, met: RecordBatch) -> Result<RecordBatch> {
        let width = self.join.sides[0].schema.fields().len();
        self.alone(0, met.columns()[..width].to_vec())
    }

    /// Rows of a side beside NULL.
    fn alone(&self, side: usize, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        let rows = columns.first().map_or(0, |column| column.len());
        let other = self.join.sides[1 - side].schema.fields().iter();
        let nulls = other.map(|field| new_null_array(field.data_type(), rows)).collect();
        let columns = if side == 0 { [columns, nulls].concat() } else { [nulls, columns].concat() };
        RecordBatch::try_new(Arc::clone(&self.join.schema), columns).map_err(internal)
    }

    fn store(&mut self, side: usize, coming: Coming) {
        let semi = self.join.kind.is_semi();
        for row in 0..coming.rows.num_rows() {
            let is_out = coming.pre.as_ref().is_some_and(|pre| !pre.value(row));
            let has_left = semi && side == 0 && coming.matched[row];
            if is_out || has_left {
                continue;
            }
            let held = Held {
                row: coming.encoded.row(row).as_ref().into(),
                key: coming.keys[row].clone(),
                time: coming.times[row],
                matched: coming.matched[row],
            };
            self.sides[side].insert(self.next, held);
            self.next += 1;
        }
    }

    /// Rows that the watermark takes leave the state, all of them at the end of the input. Gives how
    /// many, and those that leave without a match.
    pub fn evict(&mut self, watermark: i64, ended: bool) -> Result<(usize, Vec<RecordBatch>)> {
        let (mut removed, mut out) = (0, Vec::new());
        for side in [0, 1] {
            let gone = self.gone(side, watermark, ended);
            if self.join.kind.keeps(side) {
                let bag = &self.sides[side];
                let unmatched: Vec<u64> =
                    gone.iter().copied().filter(|number| !bag.rows[number].matched).collect();
                for part in unmatched.chunks(PAIRS_MAX) {
                    out.push(self.alone(side, self.sides[side].columns(part)?)?);
                }
            }
            gone.iter().for_each(|&number| self.sides[side].remove(number));
            removed += gone.len();
        }
        Ok((removed, out))
    }

    /// As [`JoinStore::evict`], for what a checkpoint says: it left long ago.
    pub fn settle(&mut self, watermark: Option<i64>) {
        for side in [0, 1] {
            let gone = watermark.map_or(Vec::new(), |w| self.gone(side, w, false));
            gone.iter().for_each(|&number| self.sides[side].remove(number));
        }
        self.end_epoch();
    }

    fn gone(&self, side: usize, watermark: i64, ended: bool) -> Vec<u64> {
        let bag = &self.sides[side];
        if ended {
            return bag.rows.keys().copied().collect();
        }
        let Some(passed) = self.join.sides[side].passed(watermark) else { return Vec::new() };
        let mut gone: Vec<u64> =
            bag.by_time.range(..=passed).flat_map(|(_, rows)| rows).copied().collect();
        gone.sort_unstable();
        gone
    }

    /// Rows that came or met their first match in the epoch that ends here.
    pub fn updated(&self) -> usize {
        let new = |side: &Bag| side.rows.range(self.first_new..).count();
        let matched: usize = self.newly_matched.iter().map(BTreeSet::len).sum();
        self.sides.iter().map(new).sum::<usize>() + matched
    }

    /// What the epoch changed, and still counts, where a checkpoint `keeps` it; then the next begins.
    pub fn take_delta(&mut self, keeps: bool) -> Result<Vec<RecordBatch>> {
        let mut delta = Vec::new();
        for side in [0, 1].into_iter().filter(|_| keeps) {
            let bag = &self.sides[side];
            let new: Vec<u64> = bag.rows.range(self.first_new..).map(|(&at, _)| at).collect();
            let old = self.newly_matched[side].iter().filter(|at| bag.rows.contains_key(*at));
            let old: Vec<u64> = old.copied().collect();
            if !new.is_empty() {
                delta.push(self.file_rows(side, &new, true)?);
            }
            if !old.is_empty() {
                delta.push(self.file_rows(side, &old, false)?);
            }
        }
        self.end_epoch();
        Ok(delta)
    }

    fn end_epoch(&mut self) {
        self.first_new = self.next;
        self.newly_matched = Default::default();
    }
}

impl Coming<'_> {
    /// What a row is compared by; none for one that meets none.
    fn key(&self, row: usize) -> Option<&Arc<[u8]>> {
        let passes = self.pre.as_ref().is_none_or(|pre| pre.value(row));
        self.keys[row].as_ref().filter(|_| passes)
    }
}

impl JoinSide {
    /// The times by which the watermark takes rows.
    fn time<'a>(&self, keys: &'a [ArrayRef], columns: &'a [ArrayRef]) -> Option<&'a ArrayRef> {
        match &self.leaves {
            Leaves::Never => None,
            Leaves::Key(key) | Leaves::Window(key, _) => Some(&keys[*key]),
            Leaves::Time(column, _) => Some(&columns[*column]),
        }
    }
}

/// Values of expressions over rows of a join. A row at which one stops stops the job, as in Spark.
fn evaluate<'a>(
    exprs: impl IntoIterator<Item = &'a Compiled>,
    rows: &RecordBatch,
) -> Result<Vec<ArrayRef>> {
    let value = |expr: &Compiled| {
        let evaluated = expr.evaluate(rows.columns(), rows.num_rows(), None);
        match evaluated.errors.into_iter().next() {
            None => Ok(evaluated.values),
            Some((_, reason)) => {
                Err(Error::failed(format!("a join's condition stopped: {reason}")))
            }
        }
    };
    exprs.into_iter().map(value).collect()
}

fn taken(columns: &[ArrayRef], rows: &UInt32Array) -> Vec<ArrayRef> {
    let taken = columns.iter().map(|column| take(column, rows, None));
    taken.collect::<Result<_, _>>().expect("rows of these columns")
}

fn kept(rows: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(|column| filter(column, mask));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(internal)?;
    RecordBatch::try_new(rows.schema(), columns).map_err(internal)
}

fn internal(error: ArrowError) -> Error {
    Error::failed(format!("the rows of a join do not fit its schema: {error}"))
}
