//! The groups of a chain: keys, windows among them, several sets of keys, DISTINCT.
//!
//! Several sets of keys (ROLLUP, CUBE, GROUPING SETS) are one set behind an explode, as Spark's Expand
//! has it: each row comes once for every set, the set's number is a key, and a key that the set has
//! not is NULL.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{AggregateFunction as BoundAggregate, Case, InList};
use datafusion_expr::{Aggregate, Cast, Expr, GroupingSet, LogicalPlan, TryCast, lit};

use super::aggregated::aggregate_of;
use super::functions::{packed, window};
use super::lower::{
    Aggregated, Arm, Chain, Exploded, Grouping, Key, Refused, Step, Window, element_column,
    group_column, inline, refuse, unaliased,
};
use super::types::is_integer;
use super::windows::{both, window_of_below, window_of_row, window_part, window_time};
use super::words::logical;

/// Adds an aggregate's groups to an arm.
pub fn group(node: &Aggregate, arm: &mut Arm) -> Result<(), Refused> {
    let Arm { chain, made_of: columns } = arm;
    let columns = std::mem::take(columns);
    let schema = node.input.schema();
    let mut grouping = Grouping::default();
    let sets = match node.group_expr.as_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => Some(sets),
        _ => None,
    };
    let mut made_of = Vec::new();
    let mut expanded = None;
    if let Some(sets) = sets {
        let key = |key: &Expr| inline(key, schema, &columns);
        let sets = sets.iter().map(|set| set.iter().map(key).collect::<Result<Vec<_>, _>>());
        let sets = Expanded::new(sets.collect::<Result<_, _>>()?, chain);
        for (index, key) in sets.keys.iter().enumerate() {
            let expr = sets.key(key)?;
            made_of.push(grouping.push_key(expr, node.schema.field(index).data_type()));
        }
        // The binder counts a number of its own behind the keys.
        let number = grouping.push_key(sets.number.clone(), &DataType::Int32);
        made_of.push(number.clone());
        expanded = Some((sets, number));
    } else {
        for (index, key) in node.group_expr.iter().enumerate() {
            let expr = inline(key, schema, &columns)?;
            made_of.push(grouping.push_key(expr, node.schema.field(index).data_type()));
        }
    }
    let before = node.schema.fields().len() - node.aggr_expr.len();
    for (index, aggregated) in node.aggr_expr.iter().enumerate() {
        let asked = match &expanded {
            Some((sets, number)) => {
                sets.asked(aggregated, number, |key| inline(key, schema, &columns))?
            }
            None => None,
        };
        if let Some(asked) = asked {
            made_of.push(asked);
            continue;
        }
        let output = node.schema.field(before + index).data_type().clone();
        let mut aggregate = aggregate_of(aggregated, output, schema, &columns)?;
        let tried = tried(&mut aggregate, aggregated);
        let unpack = aggregate.pack();
        grouping.aggregates.push(aggregate);
        let own = Expr::Column(group_column(grouping.keys.len() + grouping.aggregates.len() - 1));
        made_of.push(match (tried, unpack) {
            (Some(data_type), _) => Expr::TryCast(TryCast::new(Box::new(own), data_type)),
            (None, Some(unpack)) => unpack(own),
            (None, None) => own,
        });
    }
    if chain.meeting.is_some() {
        // A row without a time is in no window, so that a join need not let rows without one leave.
        let of_time = |key: &&Key| {
            matches!(key.window, Some(Window::Sliding { .. } | Window::Session { .. }))
        };
        for key in grouping.keys.iter().filter(of_time) {
            chain.filter(Expr::IsNotNull(Box::new(key.expr.clone())));
        }
    }
    chain.groups = Some(grouping);
    arm.made_of = made_of;
    Ok(())
}

/// `try_sum` of integers sums decimals, and its value is tried as the type returned here.
fn tried(aggregate: &mut Aggregated, bound: &Expr) -> Option<DataType> {
    let Expr::AggregateFunction(BoundAggregate { func, .. }) = unaliased(bound) else {
        return None;
    };
    let argument = aggregate.argument.take_if(|_| {
        func.name() == "try_sum" && aggregate.input.as_ref().is_some_and(is_integer)
    })?;
    let wide = DataType::Decimal128(20, 0);
    aggregate.argument = Some(Expr::Cast(Cast::new(Box::new(argument), wide.clone())));
    aggregate.input = Some(wide);
    Some(std::mem::replace(&mut aggregate.output, DataType::Decimal128(30, 0)))
}

/// DISTINCT is a GROUP BY of every column.
pub fn distinct(input: &LogicalPlan, arm: &mut Arm) {
    let mut grouping = Grouping { distinct: true, ..Grouping::default() };
    let mut made_of = Vec::new();
    for (field, expr) in input.schema().fields().iter().zip(std::mem::take(&mut arm.made_of)) {
        made_of.push(grouping.push_key(expr, field.data_type()));
        let key = grouping.keys.last_mut().expect("it was just added");
        if key.window.is_none() {
            key.name.clone_from(field.name());
        }
    }
    arm.made_of = made_of;
    arm.chain.groups = Some(grouping);
}

/// Rows that come once for each grouping set.
struct Expanded {
    sets: Vec<Vec<Expr>>,
    /// The keys of all sets, in the order in which they are named first.
    keys: Vec<Expr>,
    /// The number of a row's set.
    number: Expr,
}

impl Expanded {
    fn new(sets: Vec<Vec<Expr>>, chain: &mut Chain) -> Expanded {
        let mut keys: Vec<Expr> = Vec::new();
        for key in sets.iter().flatten() {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        let numbers: Vec<ScalarValue> =
            (0..sets.len() as i32).map(|number| ScalarValue::Int32(Some(number))).collect();
        let list = ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &DataType::Int32));
        let number = Expr::Column(element_column(chain.steps.len()));
        let element = DataType::Int32;
        chain.steps.push(Step::Explode(Exploded { list: lit(list), element, filters: Vec::new() }));
        Expanded { sets, keys, number }
    }

    /// Whether a row's set, whose number is given, has the key.
    fn has(&self, key: &Expr, number: &Expr) -> Expr {
        let with = self.sets.iter().zip(0i32..).filter(|(set, _)| set.contains(key));
        let list = with.map(|(_, number)| lit(number)).collect();
        Expr::InList(InList::new(Box::new(number.clone()), list, false))
    }

    fn key(&self, key: &Expr) -> Result<Expr, Refused> {
        if self.sets.iter().all(|set| set.contains(key)) {
            return Ok(key.clone());
        }
        if window::parts(key).is_some() || window::session_parts(key).is_some() {
            let fix = "write GROUP BY window(…), ROLLUP(…)";
            return refuse("a window that not every grouping set has is not in this version", fix);
        }
        Ok(when(self.has(key, &self.number), key.clone(), None))
    }

    /// `grouping(key)`: 1 where the row's set has it not; `grouping_id(keys…)`: their bits, the first
    /// the highest. `None`: another aggregate.
    fn asked(
        &self,
        aggregate: &Expr,
        number: &Expr,
        inline: impl Fn(&Expr) -> Result<Expr, Refused>,
    ) -> Result<Option<Expr>, Refused> {
        let Expr::AggregateFunction(BoundAggregate { func, params }) = unaliased(aggregate) else {
            return Ok(None);
        };
        let data_type = match func.name() {
            "grouping" => DataType::Int8,
            "grouping_id" => DataType::Int64,
            _ => return Ok(None),
        };
        let asked = params.args.iter().map(inline).collect::<Result<Vec<_>, _>>()?;
        let bits = |set: &Vec<Expr>| {
            asked.iter().fold(0_i64, |bits, key| bits << 1 | i64::from(!set.contains(key)))
        };
        let mut values: Vec<i64> = self.sets.iter().map(bits).collect();
        values.sort_unstable();
        values.dedup();
        let last = values.pop().unwrap_or(0);
        let of = |value: i64| {
            let sets = self.sets.iter().zip(0i32..).filter(|(set, _)| bits(set) == value);
            let list = sets.map(|(_, number)| lit(number)).collect();
            Expr::InList(InList::new(Box::new(number.clone()), list, false))
        };
        let value = values
            .into_iter()
            .fold(lit(last), |otherwise, value| when(of(value), lit(value), Some(otherwise)));
        Ok(Some(Expr::Cast(Cast::new(Box::new(value), data_type))))
    }
}

fn when(condition: Expr, then: Expr, otherwise: Option<Expr>) -> Expr {
    let branches = vec![(Box::new(condition), Box::new(then))];
    Expr::Case(Case::new(None, branches, otherwise.map(Box::new)))
}

impl Grouping {
    /// Adds a key; what its column is made of: a window is a struct of its start and end.
    fn push_key(&mut self, expr: Expr, data_type: &DataType) -> Expr {
        let time_type = match data_type {
            DataType::Struct(fields) => fields.first().map(|field| field.data_type().clone()),
            _ => None,
        };
        let time_type = time_type.unwrap_or_else(|| data_type.clone());
        let key = |name: &str, expr, window| Key {
            name: name.into(),
            expr,
            window: Some(window),
            in_part: false,
            data_type: time_type.clone(),
        };
        let own = |index: usize| Expr::Column(group_column(index));
        let at = self.keys.len();
        let sliding = window::parts(&expr).map(|(time, size_us, slide_us, offset_us)| {
            (window_time(time), Window::Sliding { size_us, slide_us, offset_us })
        });
        if let Some((time, window)) = sliding.or_else(|| window_of_row(&expr)) {
            let at = self.push_window(key("window", time, window));
            both(own(at), window::shift(own(at), self.keys[at].size_us()))
        } else if let Some((time, gap)) = window::session_parts(&expr) {
            let (time, gap) = (window_time(time), Box::new(gap.clone()));
            let end = window::shift_by(time.clone(), gap.as_ref().clone());
            self.keys.push(key("session_window", time, Window::Session { gap }));
            self.keys.push(key("session_window.end", end, Window::SessionEnd));
            both(own(at), own(at + 1))
        } else if let Some((start, size_us)) = window_of_below(&expr) {
            self.keys.push(key("window", start, Window::Start { size_us }));
            both(own(at), window::shift(own(at), size_us))
        } else if let Some((time, window, is_start)) = window_part(&expr) {
            let at = self.push_window(Key { in_part: true, ..key("window", time, window) });
            if is_start { own(at) } else { window::shift(own(at), self.keys[at].size_us()) }
        } else {
            let name = logical(&expr, &[]);
            let is_packed = packed::is_packed(data_type);
            let (expr, held, made_of) = match is_packed {
                true => {
                    let value = packed::unpack(own(at), data_type.clone());
                    (packed::pack_key(expr), DataType::Binary, value)
                }
                false => (expr, data_type.clone(), own(at)),
            };
            self.keys.push(Key { name, expr, window: None, in_part: false, data_type: held });
            made_of
        }
    }

    /// Adds a window's key, once for all its parts; its index.
    fn push_window(&mut self, key: Key) -> usize {
        let same = |known: &Key| known.window == key.window && known.expr == key.expr;
        match self.keys.iter().position(same) {
            Some(at) => {
                self.keys[at].in_part &= key.in_part;
                at
            }
            None => {
                self.keys.push(key);
                self.keys.len() - 1
            }
        }
    }
}

impl Key {
    fn size_us(&self) -> i64 {
        match self.window {
            Some(Window::Sliding { size_us, .. } | Window::Start { size_us }) => size_us,
            _ => 0,
        }
    }
}
