//! What makes rows of rows before they are grouped or leave: explode, and joins with static tables.

use std::sync::Arc;

use super::Plan;
use super::expr::Compiled;
use super::join::JoinKind;
use super::side;

/// What makes rows of rows. Expressions of a step read the input's columns and those that the steps
/// before it added, in their order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a plan has a handful of steps")]
pub enum Derive {
    /// Adds the element.
    Explode(Explode),
    /// Adds the columns that are read of a static table, where the kind of join has any.
    Join(StaticJoin),
}

impl Derive {
    /// WHERE above this step.
    pub fn filter(&self) -> Option<&Compiled> {
        match self {
            Derive::Explode(explode) => explode.filter.as_ref(),
            Derive::Join(join) => join.filter.as_ref(),
        }
    }

    /// Whether it is a condition that stands below the watermark.
    pub fn is_below(&self) -> bool {
        matches!(self, Derive::Join(join) if join.below)
    }

    /// How many columns it adds.
    pub fn width(&self) -> usize {
        match self {
            Derive::Explode(_) => 1,
            Derive::Join(join) if join.kind.adds_columns() => join.side.columns.len(),
            Derive::Join(join) => usize::from(join.kind == JoinKind::Mark),
        }
    }

    /// Every expression over the row so far.
    pub fn expressions(&self) -> Vec<&Compiled> {
        let own: Vec<&Compiled> = match self {
            Derive::Explode(Explode { list: ExplodeList::List(list), .. }) => vec![list],
            Derive::Explode(_) => Vec::new(),
            Derive::Join(join) => join.keys.iter().chain(&join.residual).collect(),
        };
        own.into_iter().chain(self.filter()).collect()
    }
}

/// One row becomes one row for each match in a static table.
#[derive(Debug)]
pub struct StaticJoin {
    pub kind: JoinKind,
    pub side: side::Side,
    /// The table's name, for messages.
    pub table: String,
    /// Compared with the side's keys, pair by pair.
    pub keys: Vec<Compiled>,
    /// The rest of ON, over the row so far and then the side's columns.
    pub residual: Option<Compiled>,
    /// WHERE above the join, over the same.
    pub filter: Option<Compiled>,
    /// A condition of WHERE on other columns of the input than the event time: rows that it drops
    /// move no watermark, wherever it stands among the steps.
    pub below: bool,
}

/// One row becomes one row for each element of a list; none for NULL and for the empty list.
#[derive(Debug)]
pub struct Explode {
    pub list: ExplodeList,
    /// WHERE above the explode, over the row so far and then the element.
    pub filter: Option<Compiled>,
}

#[derive(Debug)]
pub enum ExplodeList {
    /// `split(column, 'c')` with a one-byte literal separator: words become ids without a copy. The
    /// element is delivered as ids, the input column as a Utf8 array.
    SplitByByte { input: usize, separator: u8 },
    /// Any expression of a list type over the row so far.
    List(Compiled),
}

impl Plan {
    /// What each join of this level meets now, in the order of the joins.
    pub fn lookups(&self) -> Vec<Arc<side::Lookup>> {
        let lookup = |step: &Derive| match step {
            Derive::Join(join) => Some(join.side.lookup()),
            Derive::Explode(_) => None,
        };
        self.derive.iter().filter_map(lookup).collect()
    }
}
