//! The name that Spark gives a column whose query gives it none: `count(1)`, `sum((v * 2))`.

use datafusion_sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CeilFloorKind, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, UnaryOperator, Value,
};

/// Name of a column of SELECT: a bare column or field keeps its own, also through a cast.
pub fn of_column(expr: &Expr) -> String {
    match expr {
        Expr::Nested(inner) => of_column(inner),
        Expr::Cast { expr: inner, .. } if is_named(inner) => of_column(inner),
        Expr::CompoundIdentifier(parts) => {
            parts.last().map(|part| part.value.clone()).unwrap_or_default()
        }
        Expr::CompoundFieldAccess { root, access_chain } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(field))) => field.value.clone(),
            Some(AccessExpr::Dot(field)) => field.to_string(),
            _ => within(&Expr::CompoundFieldAccess {
                root: root.clone(),
                access_chain: access_chain.clone(),
            }),
        },
        Expr::Function(call) => match function_name(call).as_str() {
            "explode" | "unnest" => "col".into(),
            "window" | "tumble" => "window".into(),
            "session_window" | "session" => "session_window".into(),
            _ => within(expr),
        },
        _ => within(expr),
    }
}

/// Lower-case name of a function as it is called.
pub fn function_name(call: &Function) -> String {
    let name = call.name.0.last().and_then(|part| part.as_ident());
    name.map(|ident| ident.value.to_lowercase()).unwrap_or_default()
}

fn is_named(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_named(inner),
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
                datafusion_sql::sqlparser::ast::CastKind::Cast => "CAST",
                _ => "TRY_CAST",
            };
            format!("{kind}({} AS {data_type})", within(expr))
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
                AccessExpr::Subscript(index) => format!("{out}[{index}]"),
            })
        }
        Expr::Substring { expr, substring_from, substring_for, .. } => {
            let from = substring_from.as_deref().map_or("1".into(), within);
            match substring_for {
                Some(length) => format!("substring({}, {from}, {})", within(expr), within(length)),
                None => format!("substring({}, {from}, 2147483647)", within(expr)),
            }
        }
        Expr::Trim { expr, .. } => format!("trim({})", within(expr)),
        Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(_) } => {
            format!("CEIL({})", within(expr))
        }
        Expr::Floor { expr, field: CeilFloorKind::DateTimeField(_) } => {
            format!("FLOOR({})", within(expr))
        }
        Expr::Extract { field, expr, .. } => format!("extract({field} FROM {})", within(expr)),
        other => predicate(other),
    }
}

fn predicate(expr: &Expr) -> String {
    match expr {
        Expr::IsNull(inner) => format!("({} IS NULL)", within(inner)),
        Expr::IsNotNull(inner) => format!("({} IS NOT NULL)", within(inner)),
        Expr::IsTrue(inner) => format!("({} IS TRUE)", within(inner)),
        Expr::IsFalse(inner) => format!("({} IS FALSE)", within(inner)),
        Expr::Between { expr, negated, low, high } => {
            let between = format!("between({}, {}, {})", within(expr), within(low), within(high));
            negate(*negated, between)
        }
        Expr::InList { expr, list, negated } => {
            negate(*negated, format!("({} IN ({}))", within(expr), list_of(list)))
        }
        Expr::Like { negated, expr, pattern, .. } => {
            negate(*negated, format!("{} LIKE {}", within(expr), within(pattern)))
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

fn binary(left: &Expr, op: &BinaryOperator, right: &Expr) -> String {
    let (left, right) = (within(left), within(right));
    match op {
        BinaryOperator::NotEq => format!("(NOT ({left} = {right}))"),
        BinaryOperator::StringConcat => format!("concat({left}, {right})"),
        BinaryOperator::MyIntegerDivide => format!("({left} div {right})"),
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
        "ceil" | "ceiling" => "CEIL".into(),
        "floor" => "FLOOR".into(),
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
        inner += &args.collect::<Vec<_>>().join(", ");
    }
    match &call.filter {
        Some(filter) => format!("{name}({inner}) FILTER (WHERE {})", within(filter)),
        None => format!("{name}({inner})"),
    }
}

fn list_of(list: &[Expr]) -> String {
    list.iter().map(within).collect::<Vec<_>>().join(", ")
}

fn literal(value: &Value) -> String {
    match value {
        Value::Number(digits, _) => digits.clone(),
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
