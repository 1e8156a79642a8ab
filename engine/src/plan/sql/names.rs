//! The name that Spark gives a column whose query gives it none: `count(1)`, `sum((v * 2))`.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, NullTreatment, Subscript, UnaryOperator, Value,
    visit_expressions_mut,
};

use super::duration;
use super::spell::cast_target;
use crate::plan::functions::cast::double_text;

/// Name of a column of SELECT: a bare column or field keeps its own, also through a cast.
pub fn of_column(expr: &Expr) -> String {
    match expr {
        Expr::Nested(inner) => of_column(inner),
        Expr::Cast { expr: inner, .. } if is_named(inner) => of_column(inner),
        Expr::CompoundIdentifier(parts) => {
            parts.last().map(|part| part.value.clone()).unwrap_or_default()
        }
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(field))) if is_named(root) => field.value.clone(),
            Some(AccessExpr::Dot(Expr::Identifier(field))) if is_window(root) => {
                format!("{}.{}", of_column(root), field.value)
            }
            Some(AccessExpr::Dot(_)) => within(expr),
            _ => within(expr),
        },
        Expr::Function(call) => match function_name(call).as_str() {
            "explode" | "explode_outer" | "unnest" => "col".into(),
            "window" | "tumble" => "window".into(),
            "session_window" | "session" => "session_window".into(),
            _ => within(expr),
        },
        _ => within(expr),
    }
}

fn is_window(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if function_name(call).contains("window"))
}

/// Lower-case name of a function as it is called.
pub fn function_name(call: &Function) -> String {
    let name = call.name.0.last().and_then(|part| part.as_ident());
    name.map(|ident| ident.value.to_lowercase()).unwrap_or_default()
}

fn is_named(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Nested(inner) => is_named(inner),
        _ => false,
    }
}

/// Text of an expression inside a name: operators in parentheses, strings without quotes.
fn within(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(parts) => {
            parts.last().map(|part| part.value.clone()).unwrap_or_default()
        }
        Expr::Nested(inner) => within(inner),
        Expr::Value(value) => literal(&value.value),
        Expr::TypedString(typed) => format!("{} '{}'", typed.data_type, text(&typed.value.value)),
        Expr::BinaryOp { left, op, right } => binary(left, op, right),
        Expr::UnaryOp { op, expr } => unary(op, expr),
        Expr::Cast { kind, expr, data_type, .. } => {
            let kind = match kind {
                CastKind::Cast | CastKind::DoubleColon => "CAST",
                _ => "TRY_CAST",
            };
            let name = match data_type {
                DataType::Char(_) | DataType::Varchar(_) => "STRING".to_string(),
                other => other.to_string(),
            };
            format!("{kind}({} AS {name})", within(expr))
        }
        Expr::Case { operand, conditions, else_result, .. } => {
            let mut out = String::from("CASE");
            for when in conditions {
                let condition = match operand {
                    Some(operand) => format!("({} = {})", within(operand), within(&when.condition)),
                    None => within(&when.condition),
                };
                out += &format!(" WHEN {condition} THEN {}", within(&when.result));
            }
            if let Some(otherwise) = else_result {
                out += &format!(" ELSE {}", within(otherwise));
            }
            out + " END"
        }
        Expr::Function(call) => function(call),
        Expr::CompoundFieldAccess { root, access_chain } => {
            access_chain.iter().fold(within(root), |out, access| match access {
                AccessExpr::Dot(field) => format!("{out}.{}", within(field)),
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    format!("{out}[{}]", within(index))
                }
                AccessExpr::Subscript(slice) => format!("{out}[{slice}]"),
            })
        }
        Expr::Substring { expr, substring_from, substring_for, shorthand, .. } => {
            let name = if *shorthand { "substr" } else { "substring" };
            let from = substring_from.as_deref().map_or("1".into(), within);
            let length = substring_for.as_deref().map_or("2147483647".into(), within);
            format!("{name}({}, {from}, {length})", within(expr))
        }
        Expr::Trim { expr, trim_where, trim_what, .. } => {
            use datafusion_sql::sqlparser::ast::TrimWhereField::{Both, Leading, Trailing};
            let side = match trim_where {
                None | Some(Both) => "BOTH",
                Some(Leading) => "LEADING",
                Some(Trailing) => "TRAILING",
            };
            match (trim_what, trim_where) {
                (None, None | Some(Both)) => format!("trim({})", within(expr)),
                (None, Some(Leading)) => format!("ltrim({})", within(expr)),
                (None, Some(Trailing)) => format!("rtrim({})", within(expr)),
                (Some(what), _) => format!("TRIM({side} {} FROM {})", within(what), within(expr)),
            }
        }
        Expr::Position { expr, r#in } => format!("locate({}, {}, 1)", within(expr), within(r#in)),
        Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            let length = overlay_for.as_deref().map_or("-1".into(), within);
            let (what, from) = (within(overlay_what), within(overlay_from));
            format!("overlay({}, {what}, {from}, {length})", within(expr))
        }
        Expr::Struct { values, .. } => format!("struct({})", list_of(values)),
        Expr::Tuple(values) if values.len() > 1 => {
            let field = |(at, value): (usize, &Expr)| {
                let name = match value {
                    Expr::Identifier(name) => name.value.clone(),
                    Expr::CompoundIdentifier(parts) => parts[parts.len() - 1].value.clone(),
                    _ => format!("col{}", at + 1),
                };
                format!("{name}, {}", within(value))
            };
            let fields: Vec<String> = values.iter().enumerate().map(field).collect();
            format!("named_struct({})", fields.join(", "))
        }
        Expr::Named { expr, name } => format!("{} AS {}", within(expr), name.value),
        Expr::Interval(interval) => duration::name(interval).unwrap_or_else(|| expr.to_string()),
        Expr::Lambda(lambda) => {
            let params: Vec<&str> =
                lambda.params.iter().map(|param| param.name.value.as_str()).collect();
            let body = within(&with_variables(lambda.body.as_ref().clone(), &params));
            let params = vec!["namedlambdavariable()"; params.len()].join(", ");
            format!("lambdafunction({body}, {params})")
        }
        Expr::Subquery(_) => "scalarsubquery()".into(),
        Expr::Extract { field, expr, .. } => format!("extract({field} FROM {})", within(expr)),
        other => predicate(other),
    }
}

fn predicate(expr: &Expr) -> String {
    match expr {
        Expr::IsNull(inner) => format!("({} IS NULL)", within(inner)),
        Expr::IsNotNull(inner) => format!("({} IS NOT NULL)", within(inner)),
        Expr::IsTrue(inner) => format!("({} <=> true)", within(inner)),
        Expr::IsFalse(inner) => format!("({} <=> false)", within(inner)),
        Expr::IsNotTrue(inner) => format!("(NOT ({} <=> true))", within(inner)),
        Expr::IsNotFalse(inner) => format!("(NOT ({} <=> false))", within(inner)),
        Expr::IsUnknown(inner) => format!("({} IS NULL)", within(inner)),
        Expr::IsNotUnknown(inner) => format!("({} IS NOT NULL)", within(inner)),
        Expr::IsDistinctFrom(a, b) => format!("(NOT ({} <=> {}))", within(a), within(b)),
        Expr::IsNotDistinctFrom(a, b) => format!("({} <=> {})", within(a), within(b)),
        Expr::Between { expr, negated, low, high } => {
            let between = format!("between({}, {}, {})", within(expr), within(low), within(high));
            negate(*negated, between)
        }
        Expr::InList { expr, list, negated } => {
            negate(*negated, format!("({} IN ({}))", within(expr), list_of(list)))
        }
        Expr::Like { negated, expr, any, pattern, .. } if *any || is_all(pattern) => {
            let not = if *negated { "not" } else { "" };
            let which = if *any { "any" } else { "all" };
            format!("{not}like{which}({})", within(expr))
        }
        Expr::Like { negated, expr, pattern, escape_char, .. } => {
            let escape = escape_char.as_ref().map(|escape| text(&escape.value));
            let escape = escape.map(|escape| format!(" ESCAPE '{escape}'")).unwrap_or_default();
            negate(*negated, format!("{} LIKE {}{escape}", within(expr), within(pattern)))
        }
        Expr::ILike { negated, expr, pattern, .. } => {
            negate(*negated, format!("ilike({}, {})", within(expr), within(pattern)))
        }
        Expr::RLike { negated, expr, pattern, .. } => {
            negate(*negated, format!("RLIKE({}, {})", within(expr), within(pattern)))
        }
        other => other.to_string(),
    }
}

fn negate(negated: bool, text: String) -> String {
    if negated { format!("(NOT {text})") } else { text }
}

/// The patterns of `LIKE ALL (…)`, which the parser takes for a call.
fn is_all(pattern: &Expr) -> bool {
    matches!(pattern, Expr::Function(call) if function_name(call) == "all")
}

/// Parameters of a lambda by the name that all of them have.
fn with_variables(body: Expr, params: &[&str]) -> Expr {
    let mut body = body;
    let _: ControlFlow<()> = visit_expressions_mut(&mut body, |expr| {
        let is_param = |ident: &Ident| params.iter().any(|p| p.eq_ignore_ascii_case(&ident.value));
        let variable = || Expr::Identifier(Ident::new("namedlambdavariable()"));
        match expr {
            Expr::Identifier(ident) if is_param(ident) => *expr = variable(),
            Expr::CompoundIdentifier(parts) if is_param(&parts[0]) => {
                let fields =
                    parts[1..].iter().map(|p| AccessExpr::Dot(Expr::Identifier(p.clone())));
                let access_chain = fields.collect();
                *expr = Expr::CompoundFieldAccess { root: Box::new(variable()), access_chain };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    body
}

fn binary(left: &Expr, op: &BinaryOperator, right: &Expr) -> String {
    let shifts = matches!(right, Expr::Interval(_));
    let (left, right) = (within(left), within(right));
    match op {
        BinaryOperator::NotEq => format!("(NOT ({left} = {right}))"),
        BinaryOperator::StringConcat => format!("concat({left}, {right})"),
        BinaryOperator::MyIntegerDivide => format!("({left} div {right})"),
        BinaryOperator::Plus | BinaryOperator::Minus if shifts => format!("{left} {op} {right}"),
        BinaryOperator::Spaceship => format!("({left} <=> {right})"),
        op => format!("({left} {op} {right})"),
    }
}

fn unary(op: &UnaryOperator, inner: &Expr) -> String {
    match (op, inner) {
        (UnaryOperator::Minus, Expr::Value(_)) => format!("-{}", within(inner)),
        (UnaryOperator::Minus, _) => format!("(- {})", within(inner)),
        (UnaryOperator::Plus, _) => format!("(+ {})", within(inner)),
        (UnaryOperator::Not | UnaryOperator::BangNot, _) => format!("(NOT {})", within(inner)),
        _ => format!("{op}{}", within(inner)),
    }
}

fn function(call: &Function) -> String {
    let name = match function_name(call).as_str() {
        "tumble" => "window".to_string(),
        "array_agg" => "collect_list".into(),
        "dateadd" if arguments(call) == 2 => "date_add".into(),
        "dateadd" | "date_add" if arguments(call) == 3 => "timestampadd".into(),
        "datediff" | "date_diff" if arguments(call) == 3 => "timestampdiff".into(),
        "to_varchar" => "to_char".into(),
        // What skips NULL is made anew, under the first of its names.
        "first_value" if skips_null(call) => "first".into(),
        "last_value" if skips_null(call) => "last".into(),
        "regexp" | "regexp_like" | "rlike" => function_name(call).to_uppercase(),
        name @ ("ceil" | "floor") if arguments(call) == 2 => name.into(),
        name if IN_CAPITALS.contains(&name) => name.to_uppercase(),
        name => name.to_string(),
    };
    let mut inner = String::new();
    if let FunctionArguments::List(list) = &call.args {
        if list.duplicate_treatment.is_some() {
            inner += "DISTINCT ";
        }
        let args = list.args.iter().map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => within(expr),
            // Spark counts the literal 1 for `count(*)`.
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => "1".into(),
            other => other.to_string(),
        });
        let mut args = args.collect::<Vec<_>>();
        let written = args.len();
        if let Some(whole) = made_of(&name, &mut args) {
            return whole;
        }
        let known = DEFAULTS.iter().find(|(known, given, _)| *known == name && *given == written);
        args.extend(known.iter().flat_map(|(_, _, defaults)| *defaults).map(|d| d.to_string()));
        if name == "if" {
            return format!("(IF({}))", args.join(", "));
        }
        inner += &args.join(", ");
    }
    match &call.filter {
        Some(filter) => format!("{name}({inner}) FILTER (WHERE {})", within(filter)),
        None => format!("{name}({inner})"),
    }
}

/// What Spark makes of some calls: a whole name, or arguments that the call left out or that are none of
/// what runs.
fn made_of(name: &str, args: &mut Vec<String>) -> Option<String> {
    let written = args.len();
    match name {
        // A cast that is no CAST has its operand's name.
        of_type if written == 1 && cast_target(of_type).is_some() => return Some(args.remove(0)),
        "isnull" if written == 1 => return Some(format!("({} IS NULL)", args[0])),
        "isnotnull" if written == 1 => return Some(format!("({} IS NOT NULL)", args[0])),
        "positive" if written == 1 => return Some(format!("(+ {})", args[0])),
        "like" if written == 2 => return Some(format!("{} LIKE {}", args[0], args[1])),
        "first" | "last" | "first_value" | "last_value" | "any_value" => args.truncate(1),
        "ltrim" if written == 2 => {
            return Some(format!("TRIM(LEADING {} FROM {})", args[0], args[1]));
        }
        "rtrim" if written == 2 => {
            return Some(format!("TRIM(TRAILING {} FROM {})", args[0], args[1]));
        }
        "datepart" if written == 2 => return Some(format!("datepart({})", args.join(" FROM "))),
        "convert_timezone" if written == 2 => args.insert(0, "current_timezone()".into()),
        "make_dt_interval" => {
            let zeros = ["0", "0", "0", "0.000000"];
            args.extend(zeros.iter().skip(written).map(|zero| zero.to_string()));
        }
        "aggregate" | "reduce" if written == 3 => args.push(IDENTITY.into()),
        "LOG" if written == 1 => return Some(format!("LOG(E(), {})", args[0])),
        // The schema is no argument of what Spark runs.
        "from_json" | "from_csv" => args.truncate(1),
        "<<" | ">>" | ">>>" => return Some(format!("({})", args.join(&format!(" {name} ")))),
        _ => {}
    }
    None
}

fn skips_null(call: &Function) -> bool {
    call.null_treatment == Some(NullTreatment::IgnoreNulls)
}

fn arguments(call: &Function) -> usize {
    match &call.args {
        FunctionArguments::List(list) => list.args.len(),
        _ => 0,
    }
}

/// What `aggregate` does with its result where it is not told.
const IDENTITY: &str = "lambdafunction(namedlambdavariable(), namedlambdavariable())";

/// How `array_sort` compares where it is not told.
const BY_VALUE: &str = "lambdafunction((IF(((namedlambdavariable() IS NULL) AND \
    (namedlambdavariable() IS NULL)), 0, (IF((namedlambdavariable() IS NULL), 1, \
    (IF((namedlambdavariable() IS NULL), -1, (IF((namedlambdavariable() < namedlambdavariable()), \
    -1, (IF((namedlambdavariable() > namedlambdavariable()), 1, 0)))))))))), \
    namedlambdavariable(), namedlambdavariable())";

/// Functions that Spark's names write in capitals, but not their aliases.
const IN_CAPITALS: [&str; 33] = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh",
    "cot", "csc", "degrees", "e", "exp", "expm1", "floor", "hypot", "log", "log10", "log1p",
    "log2", "pi", "power", "radians", "sec", "signum", "sin", "sinh", "sqrt", "tan", "tanh",
];

/// Arguments that a name shows although the call left them out: function, how many were written.
const DEFAULTS: [(&str, usize, &[&str]); 29] = [
    ("array_sort", 1, &[BY_VALUE]),
    ("round", 1, &["0"]),
    ("bround", 1, &["0"]),
    ("split", 2, &["-1"]),
    ("str_to_map", 1, &[",", ":"]),
    ("str_to_map", 2, &[":"]),
    ("substr", 2, &["2147483647"]),
    ("locate", 2, &["1"]),
    ("position", 2, &["1"]),
    ("lpad", 2, &[" "]),
    ("rpad", 2, &[" "]),
    ("replace", 2, &[""]),
    ("overlay", 3, &["-1"]),
    ("mask", 1, &["X", "x", "n", "NULL"]),
    ("mask", 2, &["x", "n", "NULL"]),
    ("mask", 3, &["n", "NULL"]),
    ("mask", 4, &["NULL"]),
    ("regexp_extract", 2, &["1"]),
    ("regexp_extract_all", 2, &["1"]),
    ("regexp_instr", 2, &["0"]),
    ("regexp_replace", 3, &["1"]),
    ("sort_array", 1, &["true"]),
    ("months_between", 2, &["true"]),
    ("unix_timestamp", 1, &["yyyy-MM-dd HH:mm:ss"]),
    ("to_unix_timestamp", 1, &["yyyy-MM-dd HH:mm:ss"]),
    ("from_unixtime", 1, &["yyyy-MM-dd HH:mm:ss"]),
    ("percentile", 2, &["1"]),
    ("percentile_approx", 2, &["10000"]),
    ("approx_percentile", 2, &["10000"]),
];

fn list_of(list: &[Expr]) -> String {
    list.iter().map(within).collect::<Vec<_>>().join(", ")
}

fn literal(value: &Value) -> String {
    match value {
        Value::Number(digits, _) if digits.contains(['e', 'E']) => {
            digits.parse().map_or_else(|_| digits.clone(), double_text)
        }
        Value::Number(digits, _) => match digits.trim_start_matches('0') {
            "" => "0".into(),
            rest if rest.starts_with('.') => format!("0{rest}"),
            rest => rest.to_string(),
        },
        Value::HexStringLiteral(digits) => format!("X'{}'", digits.to_uppercase()),
        Value::Null => "NULL".into(),
        Value::Boolean(value) => value.to_string(),
        other => text(other),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
        other => other.to_string(),
    }
}
