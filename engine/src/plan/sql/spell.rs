//! What Spark's spellings are made of once they are the binder's: names, literals, calls.

use datafusion_sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion_sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, NullTreatment, ObjectName,
    UnaryOperator, Value,
};
use datafusion_sql::sqlparser::tokenizer::Span;

/// Why a function has no place in a result that is the same for any run.
pub(super) fn volatile(name: &str) -> Option<&'static str> {
    match name {
        "now" | "current_timestamp" | "current_date" | "localtimestamp" | "curdate"
        | "current_time" | "unix_timestamp_now" => Some("depends on when the job runs"),
        "rand" | "randn" | "random" | "uuid" | "shuffle" | "monotonically_increasing_id" => {
            Some("differs each time it is asked")
        }
        _ => None,
    }
}

/// Whether Spark has the function, and we have not.
pub(super) fn absent(name: &str) -> bool {
    const ABSENT: [&str; 26] = [
        "aes_decrypt",
        "aes_encrypt",
        "bitmap_construct_agg",
        "bitmap_or_agg",
        "collate",
        "collation",
        "count_min_sketch",
        "from_xml",
        "histogram_numeric",
        "hll_sketch_agg",
        "hll_sketch_estimate",
        "hll_union",
        "hll_union_agg",
        "java_method",
        "make_ym_interval",
        "parse_json",
        "reflect",
        "schema_of_csv",
        "schema_of_xml",
        "sentences",
        "to_xml",
        "validate_utf8",
        "variant_get",
        "version",
        "xpath",
        "xpath_string",
    ];
    ABSENT.contains(&name)
}

/// One spelling for functions that have several.
pub(super) fn canonical(name: &str) -> &str {
    match name {
        // An average of Spark's types leaves no range that its sum does not leave.
        "mean" | "try_avg" => "avg",
        "first_value" | "any_value" => "first",
        "last_value" => "last",
        "every" => "bool_and",
        "some" | "any" => "bool_or",
        "std" | "stddev_samp" => "stddev",
        "var_samp" => "variance",
        "char_length" | "character_length" | "len" => "length",
        "lcase" => "lower",
        "ucase" => "upper",
        "substr" => "substring",
        "ifnull" | "nvl" => "coalesce",
        "pow" => "power",
        "ceiling" => "ceil",
        "signum" => "sign",
        "dayofmonth" => "day",
        "dow" => "dayofweek",
        "doy" => "dayofyear",
        "week" => "weekofyear",
        "date_diff" => "datediff",
        "regexp" | "regexp_like" => "rlike",
        "isnan" => "is_nan",
        "array_agg" => "collect_list",
        "listagg" => "string_agg",
        "approx_percentile" => "percentile_approx",
        "char" => "chr",
        "position" | "charindex" => "locate",
        "cardinality" => "size",
        "getbit" => "bit_get",
        "printf" => "format_string",
        "dateadd" => "date_add",
        "<<" => "shiftleft",
        ">>" => "shiftright",
        ">>>" => "shiftrightunsigned",
        "to_unix_timestamp" => "unix_timestamp",
        "to_timestamp_ltz" => "to_timestamp",
        "sha" => "sha1",
        "reduce" => "aggregate",
        "make_timestamp_ltz" => "make_timestamp",
        "to_varchar" => "to_char",
        other => other,
    }
}

/// Calls that are other expressions in disguise.
pub(super) fn respell(name: &str, function: &mut Function) -> Option<Expr> {
    let args = match &function.args {
        FunctionArguments::List(list) => {
            list.args.iter().map(expression_of).collect::<Option<Vec<_>>>()?
        }
        _ => return None,
    };
    if let (Some(data_type), [arg]) = (cast_target(name), args.as_slice()) {
        return Some(cast(arg.clone(), data_type));
    }
    let mut args = args.into_iter();
    match (name, args.len()) {
        ("if" | "iff", 3) => {
            let condition = args.next()?;
            Some(case(condition, args.next()?, args.next()))
        }
        ("nvl2", 3) => {
            let condition = Expr::IsNotNull(Box::new(args.next()?));
            Some(case(condition, args.next()?, args.next()))
        }
        ("nullif", 2) => {
            let (left, right) = (args.next()?, args.next()?);
            let equal = binary(left.clone(), BinaryOperator::Eq, right);
            Some(case(equal, Expr::Value(Value::Null.into()), Some(left)))
        }
        ("coalesce", 1..) => {
            let last = args.next_back();
            let conditions = args.map(|arg| CaseWhen {
                condition: Expr::IsNotNull(Box::new(arg.clone())),
                result: arg,
            });
            Some(Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions: conditions.collect(),
                else_result: last.map(Box::new),
            })
        }
        ("is_nan", 1) => {
            let value = args.next()?;
            let nan = call("is_nan", vec![value.clone()], Span::empty());
            let otherwise = Expr::Value(Value::Boolean(false).into());
            Some(case(Expr::IsNotNull(Box::new(value)), nan, Some(otherwise)))
        }
        ("to_timestamp_ntz", 1) => {
            let to = DataType::TimestampNtz(None);
            Some(cast(args.next()?, to))
        }
        ("to_date", 2) => Some(plain("read_date", args)),
        ("to_timestamp", 2) => Some(plain("read_timestamp", args)),
        ("unix_timestamp", 2) => {
            Some(plain("unix_timestamp", [plain("read_timestamp", args)].into_iter()))
        }
        ("try_add", 2) => {
            Some(null_on_error(binary(args.next()?, BinaryOperator::Plus, args.next()?)))
        }
        ("try_subtract", 2) => {
            Some(null_on_error(binary(args.next()?, BinaryOperator::Minus, args.next()?)))
        }
        ("try_multiply", 2) => {
            Some(null_on_error(binary(args.next()?, BinaryOperator::Multiply, args.next()?)))
        }
        ("try_divide", 2) => {
            Some(null_on_error(binary(args.next()?, BinaryOperator::Divide, args.next()?)))
        }
        ("try_mod", 2) => {
            Some(null_on_error(binary(args.next()?, BinaryOperator::Modulo, args.next()?)))
        }
        ("try_element_at", 2) => Some(null_on_error(plain("element_at", args))),
        ("try_to_date", 1) => Some(null_on_error(plain("to_date", args))),
        ("try_to_date", 2) => Some(null_on_error(plain("read_date", args))),
        ("try_to_timestamp", 1) => Some(null_on_error(plain("to_timestamp", args))),
        ("try_to_timestamp", 2) => Some(null_on_error(plain("read_timestamp", args))),
        ("try_make_timestamp", 6 | 7) => Some(null_on_error(plain("make_timestamp", args))),
        ("date_part" | "datepart", 2) => {
            let field = literal_text(&args.next()?)?;
            Some(call(super::forms::part(&field), args.collect(), Span::empty()))
        }
        ("try_to_number", 2) => Some(null_on_error(plain("to_number", args))),
        ("try_to_binary", 1 | 2) => Some(null_on_error(plain("to_binary", args))),
        ("convert_timezone", 2 | 3) => {
            let ntz = DataType::TimestampNtz(None);
            let mut all: Vec<Expr> = args.collect();
            let time = all.pop()?;
            if all.len() == 1 {
                all.insert(0, call("current_timezone", Vec::new(), Span::empty()));
            }
            all.push(cast(time, ntz));
            Some(plain("convert_timezone", all.into_iter()))
        }
        ("equal_null", 2) => Some(binary(args.next()?, BinaryOperator::Spaceship, args.next()?)),
        ("nullifzero", 1) => {
            let value = args.next()?;
            let zero = binary(value.clone(), BinaryOperator::Eq, int("0"));
            Some(case(zero, Expr::Value(Value::Null.into()), Some(value)))
        }
        ("zeroifnull", 1) => {
            let value = args.next()?;
            Some(case(Expr::IsNotNull(Box::new(value.clone())), value, Some(int("0"))))
        }
        ("decode", 3..) => {
            let value = args.next()?;
            let mut conditions = Vec::new();
            let mut otherwise = None;
            while let Some(sought) = args.next() {
                match args.next() {
                    Some(result) => conditions.push(CaseWhen {
                        condition: binary(value.clone(), BinaryOperator::Spaceship, sought),
                        result,
                    }),
                    None => otherwise = Some(Box::new(sought)),
                }
            }
            Some(Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions,
                else_result: otherwise,
            })
        }
        ("e", 0) => Some(number("2.718281828459045E0", false, Span::empty())),
        ("pi", 0) => Some(number("3.141592653589793E0", false, Span::empty())),
        ("map", _) if args.len().is_multiple_of(2) => {
            let all: Vec<Expr> = args.collect();
            let every = |from: usize| all.iter().skip(from).step_by(2).cloned();
            let keys = plain("array", every(0));
            Some(plain("map_from_arrays", [keys, plain("array", every(1))].into_iter()))
        }
        ("from_json", 2) => {
            let text = args.next()?;
            let schema = args.next()?;
            let told = match &schema {
                Expr::Function(call) if super::names::function_name(call) == "schema_of_json" => {
                    schema_literal(call)?
                }
                _ => schema,
            };
            Some(call(name, vec![text, told], Span::empty()))
        }
        ("schema_of_json", 1) => schema_literal(function),
        ("struct", 1..) => Some(named_struct(args)),
        // The function's own order: what is trimmed off comes first.
        ("trim" | "ltrim" | "rtrim", 2) => {
            let what = args.next()?;
            Some(call(name, vec![args.next()?, what], Span::empty()))
        }
        ("btrim", 1 | 2) => Some(plain("trim", args)),
        ("isnull", 1) => Some(Expr::IsNull(Box::new(args.next()?))),
        ("isnotnull", 1) => Some(Expr::IsNotNull(Box::new(args.next()?))),
        ("mod", 2) => Some(binary(args.next()?, BinaryOperator::Modulo, args.next()?)),
        ("negative", 1) => {
            Some(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(args.next()?) })
        }
        ("positive", 1) => args.next(),
        _ => None,
    }
}

/// The schema of a JSON text that is a constant.
fn schema_literal(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let text = literal_text(&expression_of(list.args.first()?)?)?;
    let schema = crate::plan::functions::json::schema_of(&text)?;
    Some(Expr::Value(Value::SingleQuotedString(schema).with_empty_span()))
}

/// A struct whose fields have their columns' names, or `col1`, `col2` by their place.
pub(super) fn named_struct(values: impl Iterator<Item = Expr>) -> Expr {
    let named = values.enumerate().flat_map(|(at, field)| {
        let (name, field) = match field {
            Expr::Named { expr, name } => (name.value, *expr),
            Expr::Identifier(name) => (name.value.clone(), Expr::Identifier(name)),
            Expr::CompoundIdentifier(parts) => {
                let name = parts.last().map(|part| part.value.clone()).unwrap_or_default();
                (name, Expr::CompoundIdentifier(parts))
            }
            other => (format!("col{}", at + 1), other),
        };
        [Expr::Value(Value::SingleQuotedString(name).with_empty_span()), field]
    });
    plain("named_struct", named)
}

fn plain(name: &str, args: impl Iterator<Item = Expr>) -> Expr {
    call(name, args.collect(), Span::empty())
}

/// NULL where the expression stops.
fn null_on_error(expr: Expr) -> Expr {
    call("null_on_error", vec![expr], Span::empty())
}

/// The text of a literal: of a number, also one that has its type already, or of a text.
pub(super) fn literal_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => literal_text(expr),
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) | Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn cast_target(name: &str) -> Option<DataType> {
    Some(match name {
        "tinyint" | "literal_tinyint" => DataType::TinyInt(None),
        "smallint" | "literal_smallint" => DataType::SmallInt(None),
        "int" => DataType::Int(None),
        "bigint" => DataType::BigInt(None),
        "float" | "literal_float" => DataType::Float(ExactNumberInfo::None),
        "double" => DataType::Double(ExactNumberInfo::None),
        "decimal" => DataType::Decimal(ExactNumberInfo::PrecisionAndScale(10, 0)),
        "string" => DataType::String(None),
        "boolean" => DataType::Boolean,
        "date" => DataType::Date,
        "binary" => DataType::Binary(None),
        "timestamp" => {
            DataType::Timestamp(None, datafusion_sql::sqlparser::ast::TimezoneInfo::None)
        }
        _ => return None,
    })
}

/// `first(v, true)` is `first(v) IGNORE NULLS`.
pub(super) fn ignore_nulls(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    if let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(flag)))] =
        list.args.as_slice()
        && let Value::Boolean(ignore) = flag.value
    {
        list.args.truncate(1);
        if ignore {
            function.null_treatment = Some(NullTreatment::IgnoreNulls);
        }
    }
}

/// The scale of `round(x, 2)` as a text: a constant before types are known, unlike a typed number.
pub(super) fn constant_scale(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    if let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(scale))] = list.args.as_mut_slice()
        && let Expr::Cast { expr, .. } = &*scale
        && let Expr::Value(value) = expr.as_ref()
        && let Value::Number(digits, _) = &value.value
    {
        *scale = Expr::Value(Value::SingleQuotedString(digits.clone()).with_span(value.span));
    }
}

/// `x BETWEEN a AND b` is `x >= a AND x <= b`: the binder compares by Spark's rules then.
pub(super) fn between(expr: &mut Expr) {
    let Expr::Between { expr: inner, negated, low, high } = expr else { return };
    let negated = *negated;
    let inner = take(inner);
    let least = binary(inner.clone(), BinaryOperator::GtEq, take(low));
    let greatest = binary(inner, BinaryOperator::LtEq, take(high));
    let both = Expr::Nested(Box::new(binary(least, BinaryOperator::And, greatest)));
    *expr = if negated { not(both) } else { both };
}

/// A number with Spark's type: INT, BIGINT, DECIMAL, or DOUBLE where it has an exponent.
pub(super) fn number(digits: &str, long: bool, span: Span) -> Expr {
    let value = |text: &str| Expr::Value(Value::Number(text.into(), false).with_span(span));
    if digits.contains(['e', 'E']) {
        return cast(value(digits), DataType::Double(ExactNumberInfo::None));
    }
    if let Some((whole, fraction)) = digits.split_once('.') {
        let whole = whole.trim_start_matches('0');
        let scale = fraction.len();
        let precision = (whole.len() + scale).max(scale).max(1);
        let info = ExactNumberInfo::PrecisionAndScale(precision as u64, scale as i64);
        let text = Value::SingleQuotedString(digits.into()).with_span(span);
        return cast(Expr::Value(text), DataType::Decimal(info));
    }
    match digits.parse::<i64>() {
        Ok(n) if !long && i32::try_from(n).is_ok() => cast(value(digits), DataType::Int(None)),
        Ok(_) => cast(value(digits), DataType::BigInt(None)),
        Err(_) => {
            let info = ExactNumberInfo::PrecisionAndScale(digits.len() as u64, 0);
            let text = Value::SingleQuotedString(digits.into()).with_span(span);
            cast(Expr::Value(text), DataType::Decimal(info))
        }
    }
}

/// `-5` is one literal: the least INT has no positive twin.
pub(super) fn negative(inner: &Expr) -> Option<Expr> {
    let Expr::Cast { expr, .. } = inner else { return None };
    let Expr::Value(value) = expr.as_ref() else { return None };
    match &value.value {
        Value::Number(digits, _) if !digits.starts_with('-') => {
            let negative = format!("-{digits}");
            if digits.contains(['e', 'E']) {
                let value = Value::Number(negative, false).with_span(value.span);
                return Some(cast(Expr::Value(value), DataType::Double(ExactNumberInfo::None)));
            }
            let fits = negative.parse::<i64>().is_ok_and(|n| i32::try_from(n).is_ok());
            let data_type = if fits { DataType::Int(None) } else { DataType::BigInt(None) };
            Some(cast(Expr::Value(Value::Number(negative, false).with_span(value.span)), data_type))
        }
        _ => None,
    }
}

pub(super) fn fields(root: Expr, names: &[Ident]) -> Expr {
    names.iter().fold(root, |root, name| {
        let field = Value::SingleQuotedString(name.value.clone()).with_span(name.span);
        call("get_field", vec![root, Expr::Value(field)], name.span)
    })
}

pub(super) fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

pub(super) fn case(condition: Expr, result: Expr, otherwise: Option<Expr>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: otherwise.map(Box::new),
    }
}

pub(super) fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

pub(super) fn not(inner: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(inner) }
}

pub(super) fn int(digits: &str) -> Expr {
    number(digits, false, Span::empty())
}

pub(super) fn call(name: &str, args: Vec<Expr>, span: Span) -> Expr {
    let args = args.into_iter().map(argument).collect();
    Expr::Function(Function {
        name: object_name(name, span),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

pub(super) fn argument(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

pub(super) fn expression_of(arg: &FunctionArg) -> Option<Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

pub(super) fn object_name(name: &str, span: Span) -> ObjectName {
    ObjectName::from(vec![Ident { value: name.into(), quote_style: None, span }])
}

pub(super) fn take(expr: &mut Box<Expr>) -> Expr {
    std::mem::replace(expr.as_mut(), Expr::Value(Value::Null.into()))
}
