//! The plan as a user reads it.

use std::fmt::Write as _;

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::Expr as Logical;
use pelton_kernels::cpu::aggregate::AggregateFunction;
use pelton_kernels::expr::{ArithmeticOp, CompareOp, Expr, ExprKind, Literal};

use super::device::{Filter, computed_on_cpu, device_plan};
use super::expr::Compiled;
use super::functions::{arithmetic, window};
use super::types::{is_integer, is_text, is_time, sql_name};
use super::{Aggregate, Explode, ExplodeList, First, Groups, Plan, Shape};
use crate::batch::Encoding;
use crate::job::spec::{Device, LateRule, OutputMode};
use crate::state::Closing;

/// The whole plan, from what is decoded to what leaves.
pub fn explain(plan: &Plan) -> String {
    let mut out = String::new();
    let names = row_names(plan);
    if !plan.fed_by_state {
        _ = writeln!(out, "mode     {}", mode(plan.mode));
        inputs(&mut out, plan);
    }
    if plan.fed_by_state && plan.watermark.is_some() {
        _ = writeln!(out, "watermark as below; what comes is final, so nothing is late");
    }
    let clock = plan.event_time.filter(|_| !plan.fed_by_state);
    if let (Some(time), Some(watermark)) = (clock, plan.watermark) {
        let rule = match watermark.late {
            LateRule::Row => "each row by the rows before it",
            LateRule::Epoch => "by the watermark of the epoch before",
        };
        let delay = duration(watermark.delay_us);
        _ = writeln!(out, "watermark {} - {delay}; late: {rule}", plan.input_names[time]);
        if let Some(skew) = watermark.max_future_skew_us {
            let skew = duration(skew);
            _ = writeln!(out, "guard    rows more than {skew} ahead of those before are rejected");
        }
    }
    let of_time = if plan.fed_by_state { "" } else { " on the event time" };
    let filters = [(&plan.filter_below, ""), (&plan.filter_above, of_time)];
    for (filter, on) in filters {
        if let Some(filter) = filter {
            _ = writeln!(out, "filter   {}{on}{}", text(filter, &names), place(filter));
        }
    }
    if let Some(explode) = &plan.explode {
        explode_line(&mut out, explode, &names);
    }
    match &plan.shape {
        Shape::Rows { columns, schema } => {
            _ = writeln!(out, "rows     one for each row that passes, in its order; no state");
            for (field, column) in schema.fields().iter().zip(columns) {
                let (text, data_type) = (text(column, &names), sql_name(column.data_type()));
                _ = writeln!(out, "  {} = {text}: {data_type}{}", field.name(), place(column));
            }
        }
        Shape::First(first) => deduplication(&mut out, plan, first),
        Shape::Groups(groups) => grouping(&mut out, plan, groups, &names),
    }
    if plan.above.is_none() || plan.output.having.is_some() {
        output(&mut out, plan);
    }
    if let Some(above) = &plan.above {
        _ = writeln!(out, "above    what leaves goes through a second query");
        out.push_str(&explain(above));
    }
    out
}

/// Where the kernels run, and why; what the CPU computes for the GPU.
pub fn device(plan: &Plan, device: Device) -> String {
    let part = device_plan(plan);
    let mut out = String::new();
    match (device, &part) {
        (Device::Cpu, _) => out.push_str("device   CPU: the job says so\n"),
        (Device::Gpu(_), Ok(_)) => out.push_str("device   GPU: filters, keys and aggregates\n"),
        (Device::Auto, Ok(_)) => out.push_str(
            "device   CPU: auto takes no GPU yet, as none was measured; device = \"gpu\" would run\n",
        ),
        (_, Err(refusals)) => {
            out.push_str("device   CPU: a GPU cannot run it\n");
            for refusal in refusals {
                _ = writeln!(out, "  {}: {}", refusal.node, refusal.reason);
            }
        }
    }
    if let (Device::Auto | Device::Gpu(_), Ok(part), Shape::Groups(groups)) =
        (device, &part, &plan.shape)
    {
        let names = row_names(plan);
        for computed in computed_on_cpu(part, groups) {
            _ = writeln!(out, "  on the CPU first: {}", text(computed, &names));
        }
        for (filter, stage) in
            [(&plan.filter_below, Filter::Below), (&plan.filter_above, Filter::Above)]
        {
            if let Some(filter) = filter.as_ref().filter(|_| !part.filters.contains(&stage)) {
                _ = writeln!(out, "  filtered on the CPU: {}", text(filter, &names));
            }
        }
    }
    out
}

fn deduplication(out: &mut String, plan: &Plan, first: &First) {
    let keys = first.keys.iter().map(|&key| first.schema.field(key).name().as_str());
    _ = writeln!(out, "first    row of each {}", keys.collect::<Vec<_>>().join(", "));
    _ = writeln!(out, "state    {}", first_bound(plan, first));
}

fn first_bound(plan: &Plan, first: &First) -> String {
    match (first.time, first.within_us) {
        _ if plan.mode == OutputMode::Batch => "the keys of one epoch".into(),
        _ if matches!(plan.mode, OutputMode::Complete) => {
            "every key ever seen: complete mode drops none".into()
        }
        (Some(_), Some(within)) => {
            format!("keys whose first row is not {} behind the watermark", duration(within))
        }
        (Some(_), None) => "keys that the watermark has not passed".to_string(),
        (None, _) => "every key ever seen: the event time is not among the columns".to_string(),
    }
}

pub(super) fn row_names(plan: &Plan) -> Vec<String> {
    let mut names = plan.input_names.clone();
    names.push("element".into());
    names
}

fn inputs(out: &mut String, plan: &Plan) {
    if plan.input.is_empty() {
        _ = writeln!(out, "decode   no column: rows are counted");
        return;
    }
    let columns = plan.input.iter().zip(&plan.input_names).map(|(input, name)| {
        let form = match input.encoding {
            Encoding::Values => "values",
            Encoding::Ids => "ids",
        };
        let first = if input.in_filter { ", before the filter" } else { "" };
        format!("{name} ({form}{first})")
    });
    _ = writeln!(out, "decode   {}", columns.collect::<Vec<_>>().join(", "));
}

fn explode_line(out: &mut String, explode: &Explode, names: &[String]) {
    _ = writeln!(out, "explode  {}", list_text(&explode.list, names));
    if let Some(filter) = &explode.filter {
        _ = writeln!(out, "filter   {} on the elements{}", text(filter, names), place(filter));
    }
}

pub(super) fn list_text(list: &ExplodeList, names: &[String]) -> String {
    match list {
        ExplodeList::SplitByByte { input, separator } => {
            let separator = char::from(*separator);
            format!("{} at each {separator:?}, straight to ids", names[*input])
        }
        ExplodeList::List(list) => format!("{}{}", text(list, names), place(list)),
    }
}

fn grouping(out: &mut String, plan: &Plan, groups: &Groups, names: &[String]) {
    if groups.keys.is_empty() {
        _ = writeln!(out, "groups   one, always there");
    } else {
        _ = writeln!(out, "groups");
    }
    for (index, key) in groups.keys.iter().enumerate() {
        let data_type = sql_name(key.expr.data_type());
        let closing = match (groups.window, groups.session) {
            (Some(window), _) if window.key == index => {
                let size = duration(window.size_us);
                match window.slide_us == window.size_us {
                    true => format!(", windows of {size}"),
                    false => format!(", windows of {size}, one each {}", duration(window.slide_us)),
                }
            }
            (_, Some(session)) if session.start == index => ", sessions".to_string(),
            _ => String::new(),
        };
        let (text, place) = (text(&key.expr, names), place(&key.expr));
        _ = writeln!(out, "  key {} = {text}: {data_type}{closing}{place}", key.name);
    }
    for aggregate in &groups.aggregates {
        let data_type = sql_name(&aggregate.spec.output);
        _ = writeln!(out, "  {}: {data_type}", aggregate_text(aggregate, groups, names));
    }
    _ = writeln!(out, "state    {}", state_bound(plan, groups));
}

/// What an operator should know of a job that is legal: state that nothing bounds, a watermark that
/// one row can carry away.
pub fn advice(plan: &Plan, source_is_trusted: bool) -> Vec<String> {
    let mut advice = Vec::new();
    for (at, level) in plan.levels().enumerate() {
        let bound = match &level.shape {
            Shape::Rows { .. } => continue,
            Shape::Groups(groups) => state_bound(level, groups).to_string(),
            Shape::First(first) => first_bound(level, first),
        };
        if bound.starts_with(UNBOUNDED) {
            let of = if at == 0 { "" } else { " of the query above" };
            advice.push(format!("the state{of} grows without bound: it holds {bound}"));
        }
    }
    if plan.watermark.is_some_and(|w| w.max_future_skew_us.is_none()) && !source_is_trusted {
        advice.push(
            "one row with a time far ahead closes every window: max_future_skew = \"1h\" in the \
             watermark rejects such rows"
                .into(),
        );
    }
    advice
}

/// How the bound of a state begins that has none.
const UNBOUNDED: &str = "every ";

/// What keeps the state from growing for ever, if anything does.
fn state_bound(plan: &Plan, groups: &Groups) -> &'static str {
    let closes = Closing::of(groups) != Closing::Never;
    match plan.mode {
        OutputMode::Batch => "the groups of one epoch",
        _ if groups.keys.is_empty() => "one group",
        OutputMode::Complete => "every group ever seen: complete mode drops none",
        _ if plan.watermark.is_some() && closes => "groups that the watermark has not passed",
        _ => "every group ever seen: no watermark closes one",
    }
}

pub(super) fn aggregate_text(aggregate: &Aggregate, groups: &Groups, names: &[String]) -> String {
    let argument = aggregate.argument.map(|index| text(&groups.arguments[index], names));
    let name = match aggregate.spec.function {
        AggregateFunction::CountRows => {
            return with_filter("count(*)".into(), aggregate, groups, names);
        }
        AggregateFunction::Count => "count",
        AggregateFunction::Sum => "sum",
        AggregateFunction::Avg => "avg",
        AggregateFunction::Min => "min",
        AggregateFunction::Max => "max",
        AggregateFunction::VarianceSample => "variance",
        AggregateFunction::VariancePopulation => "var_pop",
        AggregateFunction::StddevSample => "stddev",
        AggregateFunction::StddevPopulation => "stddev_pop",
        AggregateFunction::First { ignore_nulls: false } => "first",
        AggregateFunction::First { ignore_nulls: true } => "first ignoring nulls",
        AggregateFunction::Last { ignore_nulls: false } => "last",
        AggregateFunction::Last { ignore_nulls: true } => "last ignoring nulls",
        AggregateFunction::BoolAnd => "bool_and",
        AggregateFunction::BoolOr => "bool_or",
        AggregateFunction::BitAnd => "bit_and",
        AggregateFunction::BitOr => "bit_or",
        AggregateFunction::BitXor => "bit_xor",
    };
    with_filter(format!("{name}({})", argument.unwrap_or_default()), aggregate, groups, names)
}

fn with_filter(call: String, aggregate: &Aggregate, groups: &Groups, names: &[String]) -> String {
    match aggregate.filter {
        Some(index) => format!("{call} where {}", text(&groups.arguments[index], names)),
        None => call,
    }
}

fn output(out: &mut String, plan: &Plan) {
    let output = &plan.output;
    let names: Vec<String> = match &plan.shape {
        Shape::Rows { schema, .. } => schema.fields().iter().map(|f| f.name().clone()).collect(),
        Shape::First(first) => first.schema.fields().iter().map(|f| f.name().clone()).collect(),
        Shape::Groups(groups) => {
            let keys = groups.keys.iter().map(|key| key.name.clone());
            let row_names = row_names(plan);
            let aggregates =
                groups.aggregates.iter().map(|a| aggregate_text(a, groups, &row_names));
            keys.chain(aggregates).collect()
        }
    };
    if let Some(having) = &output.having {
        _ = writeln!(out, "having   {}{}", text(having, &names), place(having));
    }
    if matches!(plan.shape, Shape::Groups(_)) {
        _ = writeln!(out, "output");
        for (field, column) in output.schema.fields().iter().zip(&output.columns) {
            let (text, data_type) = (text(column, &names), sql_name(field.data_type()));
            _ = writeln!(out, "  {} = {text}: {data_type}{}", field.name(), place(column));
        }
    }
    for order in &output.order_by {
        let column = output.columns.iter().chain(&output.hidden).nth(order.column);
        let text = column.map(|column| text(column, &names)).unwrap_or_default();
        let direction = if order.descending { "descending" } else { "ascending" };
        let nulls = if order.nulls_first { "NULL first" } else { "NULL last" };
        _ = writeln!(out, "order by {text} {direction}, {nulls}");
    }
    if let Some(limit) = output.limit {
        _ = writeln!(out, "limit    {limit}");
    }
}

/// Where an expression is computed, where that is worth a word.
fn place(compiled: &Compiled) -> &'static str {
    match compiled {
        _ if compiled.column().is_some() => "",
        Compiled::Kernel(_) => "  [kernel]",
        Compiled::DataFusion { .. } => "  [DataFusion]",
    }
}

pub(super) fn mode(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Append => "append",
        OutputMode::Update => "update",
        OutputMode::Complete => "complete",
        OutputMode::Batch => "batch",
    }
}

fn duration(us: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (86_400_000_000, "d"),
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
        (1, "us"),
    ];
    let fits = UNITS.iter().find(|(unit, _)| us % unit == 0 && us != 0);
    fits.map_or("0s".into(), |(unit, name)| format!("{}{name}", us / unit))
}

/// A compiled expression over columns of these names.
pub fn text(compiled: &Compiled, names: &[String]) -> String {
    match compiled {
        Compiled::Kernel(expr) => kernel(expr, names),
        Compiled::DataFusion { text, .. } => text.clone(),
    }
}

fn kernel(expr: &Expr, names: &[String]) -> String {
    let of = |e: &Expr| kernel(e, names);
    match &expr.kind {
        ExprKind::Column(index) => {
            names.get(*index).cloned().unwrap_or_else(|| format!("#{index}"))
        }
        ExprKind::Literal(literal) => literal_text(literal, expr),
        ExprKind::Not(e) => format!("NOT {}", of(e)),
        ExprKind::IsNull(e) => format!("({} IS NULL)", of(e)),
        ExprKind::IsNotNull(e) => format!("({} IS NOT NULL)", of(e)),
        ExprKind::And(a, b) => format!("({} AND {})", of(a), of(b)),
        ExprKind::Or(a, b) => format!("({} OR {})", of(a), of(b)),
        ExprKind::Compare(op, a, b) => format!("({} {} {})", of(a), compare(*op), of(b)),
        ExprKind::Arithmetic(op, a, b) => {
            let right = match (&b.kind, is_time(&expr.data_type), &b.data_type) {
                (ExprKind::Literal(Literal::Int(us)), true, DataType::Int64) => duration(*us),
                (ExprKind::Literal(Literal::Int(days)), true, _) => format!("{days}d"),
                _ => of(b),
            };
            format!("({} {} {right})", of(a), symbol(*op, expr))
        }
        ExprKind::Negate(e) => format!("-{}", of(e)),
        ExprKind::Cast(e) => format!("CAST({} AS {})", of(e), sql_name(&expr.data_type)),
        ExprKind::Case { branches, otherwise } => {
            let branches = branches.iter();
            let branches =
                branches.map(|(when, then)| format!(" WHEN {} THEN {}", of(when), of(then)));
            let otherwise = otherwise.as_ref().map(|e| format!(" ELSE {}", of(e)));
            format!("CASE{}{} END", branches.collect::<String>(), otherwise.unwrap_or_default())
        }
        ExprKind::WindowStart { time, size_us, offset_us } => {
            start_text(&of(time), *size_us, *offset_us)
        }
    }
}

fn start_text(time: &str, size_us: i64, offset_us: i64) -> String {
    let size = duration(size_us);
    match offset_us {
        0 => format!("start of {time}'s {size} window"),
        offset => format!("start of {time}'s {size} window at {}", duration(offset)),
    }
}

fn literal_text(literal: &Literal, expr: &Expr) -> String {
    let value = match literal {
        Literal::Null => return "NULL".into(),
        Literal::Boolean(value) => return value.to_string(),
        Literal::Float(value) => return value.to_string(),
        Literal::Int(value) if is_integer(&expr.data_type) => {
            return value.to_string();
        }
        Literal::Int(value) => match &expr.data_type {
            DataType::Date32 => ScalarValue::Date32(Some(*value as i32)),
            DataType::Timestamp(_, zone) => {
                ScalarValue::TimestampMicrosecond(Some(*value), zone.clone())
            }
            _ => return value.to_string(),
        },
        Literal::Decimal(value) => match &expr.data_type {
            DataType::Decimal128(precision, scale) => {
                ScalarValue::Decimal128(Some(*value), *precision, *scale)
            }
            _ => return value.to_string(),
        },
    };
    scalar(&value)
}

fn scalar(value: &ScalarValue) -> String {
    use arrow::util::display::array_value_to_string;
    if value.is_null() {
        return "NULL".into();
    }
    let text = value.to_array().ok().and_then(|a| array_value_to_string(&a, 0).ok());
    let text = text.unwrap_or_else(|| value.to_string());
    let data_type = value.data_type();
    let quoted = is_text(&data_type) || is_time(&data_type);
    if quoted { format!("'{text}'") } else { text }
}

fn compare(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "=",
        CompareOp::NotEqual => "<>",
        CompareOp::Less => "<",
        CompareOp::LessOrEqual => "<=",
        CompareOp::Greater => ">",
        CompareOp::GreaterOrEqual => ">=",
    }
}

fn symbol(op: ArithmeticOp, expr: &Expr) -> &'static str {
    arithmetic::symbol(op, &expr.data_type)
}

/// A bound expression: names without their relations, the groups' columns by `names`.
pub fn logical(expr: &Logical, names: &[String]) -> String {
    let of = |e: &Logical| logical(e, names);
    if let Some((op, left, right, to)) = arithmetic::parts(expr) {
        return format!("({} {} {})", of(left), arithmetic::symbol(op, to), of(right));
    }
    if let Some((time, us)) = window::shift_parts(expr) {
        return format!("({} + {})", of(time), duration(us));
    }
    if let Some((time, size_us, offset_us)) = window::start_parts(expr) {
        return start_text(&of(time), size_us, offset_us);
    }
    let list = |exprs: &[Logical]| exprs.iter().map(of).collect::<Vec<_>>().join(", ");
    match expr {
        Logical::Alias(alias) => of(&alias.expr),
        Logical::Column(column) => match &column.relation {
            Some(relation) if relation.table() == super::lower::GROUP => {
                let name = column.name.parse().ok().and_then(|index: usize| names.get(index));
                name.cloned().unwrap_or_else(|| format!("#{}", column.name))
            }
            _ => column.name.clone(),
        },
        Logical::Literal(value, _) => scalar(value),
        Logical::BinaryExpr(b) => format!("({} {} {})", of(&b.left), b.op, of(&b.right)),
        Logical::Not(e) => format!("NOT {}", of(e)),
        Logical::IsNull(e) => format!("({} IS NULL)", of(e)),
        Logical::IsNotNull(e) => format!("({} IS NOT NULL)", of(e)),
        Logical::Negative(e) => format!("-{}", of(e)),
        Logical::Cast(cast) => {
            format!("CAST({} AS {})", of(&cast.expr), sql_name(cast.field.data_type()))
        }
        Logical::TryCast(cast) => {
            format!("TRY_CAST({} AS {})", of(&cast.expr), sql_name(cast.field.data_type()))
        }
        Logical::ScalarFunction(call) => format!("{}({})", call.func.name(), list(&call.args)),
        Logical::InList(l) => {
            let not = if l.negated { "NOT " } else { "" };
            format!("({} {not}IN ({}))", of(&l.expr), list(&l.list))
        }
        Logical::Like(l) => {
            let not = if l.negated { "NOT " } else { "" };
            format!("({} {not}LIKE {})", of(&l.expr), of(&l.pattern))
        }
        Logical::Case(case) => {
            let operand = case.expr.as_ref().map(|e| format!(" {}", of(e)));
            let branches = case.when_then_expr.iter();
            let branches =
                branches.map(|(when, then)| format!(" WHEN {} THEN {}", of(when), of(then)));
            let otherwise = case.else_expr.as_ref().map(|e| format!(" ELSE {}", of(e)));
            let branches = branches.collect::<String>();
            format!(
                "CASE{}{branches}{} END",
                operand.unwrap_or_default(),
                otherwise.unwrap_or_default()
            )
        }
        other => other.to_string(),
    }
}
