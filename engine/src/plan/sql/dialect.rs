//! Spark's dialect as sqlparser has it, with a few corrections.
//!
//! `div` binds as tightly as `*` (sqlparser 0.62 lets it swallow the rest of the expression), and a
//! backslash in a string escapes the character after it, as in Spark; an INTERVAL may name its unit in
//! its text, or be of several units; `exists(array, x -> …)` is a function, `LIKE ALL (…)` an operator;
//! ORDER BY ALL; in `r'\d'` a backslash is itself; `'a' 'b'` is one text, and `<<`, `>>`, `>>>` are Spark's functions of these names.
//! Everything else is sqlparser's.

use std::any::TypeId;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, DateTimeField, Expr, ExtractSyntax, Ident, Interval, ObjectName,
    TrimWhereField, Value,
};
use datafusion_sql::sqlparser::dialect::{Dialect, Precedence, SparkSqlDialect};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{
    Location, Token, TokenWithSpan, Tokenizer, TokenizerError, Word,
};

use super::spell::call;

/// The tokens of a text, `r'…'` as the string that it is.
///
/// sqlparser takes the letter for a name and has escapes in the string behind it, which are undone by
/// looking at the text again.
pub fn tokens(dialect: &Spark, sql: &str) -> Result<Vec<TokenWithSpan>, TokenizerError> {
    let tokens = Tokenizer::new(dialect, sql).tokenize_with_location()?;
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for mut token in tokens {
        let is_text =
            matches!(token.token, Token::SingleQuotedString(_) | Token::DoubleQuotedString(_));
        let raw = out.pop_if(|before| match &before.token {
            Token::Word(word) => {
                is_text && word.quote_style.is_none() && word.value.eq_ignore_ascii_case("r")
            }
            _ => false,
        });
        if let Some(raw) = raw {
            let written = between(sql, token.span.start, token.span.end);
            let inner = &written[1..written.len() - 1];
            token.token = Token::SingleQuotedString(inner.to_string());
            token.span.start = raw.span.start;
        }
        out.push(token);
    }
    Ok(out)
}

/// The text between two places; lines and columns count characters from 1.
fn between(sql: &str, start: Location, end: Location) -> &str {
    let offset = |at: Location| {
        let lines = sql.split_inclusive('\n').take(at.line as usize - 1);
        let line: usize = lines.map(str::len).sum();
        let columns = sql[line..].chars().take(at.column as usize - 1);
        line + columns.map(char::len_utf8).sum::<usize>()
    };
    &sql[offset(start)..offset(end)]
}

#[derive(Debug)]
pub struct Spark(pub SparkSqlDialect);

macro_rules! as_sqlparser_has_it {
    ($($method:ident)*) => {
        $(fn $method(&self) -> bool { self.0.$method() })*
    };
}

impl Dialect for Spark {
    fn dialect(&self) -> TypeId {
        self.0.dialect()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.0.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.0.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.0.is_identifier_part(ch)
    }

    as_sqlparser_has_it! {
        supports_filter_during_aggregation
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_lambda_functions
        supports_select_wildcard_except
        supports_struct_literal
        supports_nested_comments
        supports_create_table_using
        supports_long_type_as_bigint
        supports_values_as_table_factor
        supports_bang_not_operator
        supports_select_item_multi_column_alias
        supports_cte_without_as
        supports_map_literal_with_angle_brackets
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    /// `INTERVAL '10 seconds'` names its unit inside the text.
    fn require_interval_qualifier(&self) -> bool {
        false
    }

    fn supports_order_by_all(&self) -> bool {
        true
    }

    fn supports_string_literal_concatenation(&self) -> bool {
        true
    }

    fn ignores_wildcard_escapes(&self) -> bool {
        true
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let (first, second) = (parser.peek_nth_token(0), parser.peek_nth_token(1));
        if let (Token::Number(digits, false), Token::Word(suffix)) = (&first.token, &second.token)
            && first.span.end == second.span.start
        {
            if let Some(name) = typed_by(&suffix.value) {
                let number = Value::Number(digits.clone(), false).with_span(first.span);
                parser.next_token();
                parser.next_token();
                return Some(Ok(call(name, vec![Expr::Value(number)], first.span)));
            }
            let digits = of_suffix(digits, &suffix.value)?;
            parser.next_token();
            parser.next_token();
            return Some(Ok(Expr::Value(Value::Number(digits, false).with_span(first.span))));
        }
        let Token::Word(word) = &first.token else { return None };
        match word.keyword {
            // With a scale that may be negative, which sqlparser does not read.
            Keyword::EXISTS | Keyword::CEIL | Keyword::FLOOR
                if second.token == Token::LParen && !opens_query(parser) =>
            {
                let name = Ident { value: word.value.clone(), quote_style: None, span: first.span };
                parser.next_token();
                Some(parser.parse_function(ObjectName::from(vec![name])))
            }
            Keyword::STRUCT if parser.peek_nth_token(2).token == Token::Mul => {
                let name = Ident { value: word.value.clone(), quote_style: None, span: first.span };
                parser.next_token();
                Some(parser.parse_function(ObjectName::from(vec![name])))
            }
            Keyword::EXTRACT if second.token == Token::LParen => Some(extract(parser)),
            Keyword::TRIM if second.token == Token::LParen => trim_of_blanks(parser),
            Keyword::INTERVAL if is_amount(&second.token) => {
                parser.next_token();
                Some(interval(parser))
            }
            _ => None,
        }
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        shift(parser).map(|_| Ok(SHIFTS))
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        _precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        if let Some(name) = shift(parser) {
            let span = parser.peek_token().span;
            for _ in 1..name.len() {
                parser.next_token();
            }
            let right = parser.parse_subexpr(SHIFTS);
            return Some(right.map(|right| call(name, vec![left.clone(), right], span)));
        }
        if !parser.parse_keyword(Keyword::DIV) {
            return None;
        }
        let tight = self.prec_value(Precedence::MulDivModOp);
        Some(parser.parse_subexpr(tight).map(|right| Expr::BinaryOp {
            left: Box::new(left.clone()),
            op: BinaryOperator::MyIntegerDivide,
            right: Box::new(right),
        }))
    }
}

/// Shifts bind weaker than `+` (30 in sqlparser), and tighter than `&` (23).
const SHIFTS: u8 = 27;

/// The shift that stands next: `>>>` is a token of two characters and one of one, without a blank.
fn shift(parser: &Parser) -> Option<&'static str> {
    let (first, second) = (parser.peek_nth_token(0), parser.peek_nth_token(1));
    match first.token {
        Token::ShiftLeft => Some("<<"),
        Token::ShiftRight if second.token == Token::Gt && first.span.end == second.span.start => {
            Some(">>>")
        }
        Token::ShiftRight => Some(">>"),
        _ => None,
    }
}

/// `3Y` is a TINYINT, `3S` a SMALLINT, `2.5F` a FLOAT: calls that leave the number's own name.
fn typed_by(suffix: &str) -> Option<&'static str> {
    match suffix.to_ascii_uppercase().as_str() {
        "Y" => Some("literal_tinyint"),
        "S" => Some("literal_smallint"),
        "F" => Some("literal_float"),
        _ => None,
    }
}

/// `EXTRACT(field FROM time)`, its field as it is written: it is part of the column's name.
fn extract(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.next_token();
    parser.expect_token(&Token::LParen)?;
    let field = DateTimeField::Custom(parser.parse_identifier()?);
    parser.expect_keyword_is(Keyword::FROM)?;
    let expr = Box::new(parser.parse_expr()?);
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Extract { field, syntax: ExtractSyntax::From, expr })
}

/// `TRIM(BOTH FROM text)`, which sqlparser takes for a column FROM. `None`: something is named to trim.
fn trim_of_blanks(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let Token::Word(side) = parser.peek_nth_token(2).token else { return None };
    let side = match side.keyword {
        Keyword::BOTH => TrimWhereField::Both,
        Keyword::LEADING => TrimWhereField::Leading,
        Keyword::TRAILING => TrimWhereField::Trailing,
        _ => return None,
    };
    match parser.peek_nth_token(3).token {
        Token::Word(word) if word.keyword == Keyword::FROM => {}
        _ => return None,
    }
    for _ in 0..4 {
        parser.next_token();
    }
    let text = parser.parse_expr();
    Some(text.and_then(|text| {
        parser.expect_token(&Token::RParen)?;
        let (expr, trim_where) = (Box::new(text), Some(side));
        Ok(Expr::Trim { expr, trim_where, trim_what: None, trim_characters: None })
    }))
}

/// `1.5D` is a double, `10BD` a decimal: numbers that show their type by their digits alone.
fn of_suffix(digits: &str, suffix: &str) -> Option<String> {
    match suffix.to_ascii_uppercase().as_str() {
        "D" => Some(format!("{digits}e0")),
        "BD" if digits.contains('.') => Some(digits.to_string()),
        "BD" => Some(format!("{digits}.")),
        _ => None,
    }
}

/// Whether a subquery stands behind `exists (`.
fn opens_query(parser: &Parser) -> bool {
    let Token::Word(Word { keyword, .. }) = parser.peek_nth_token(2).token else { return false };
    matches!(keyword, Keyword::SELECT | Keyword::WITH | Keyword::FROM | Keyword::VALUES)
}

fn is_amount(token: &Token) -> bool {
    matches!(token, Token::Number(..) | Token::SingleQuotedString(_) | Token::Minus)
}

/// `1 DAY 2 HOURS` as the text `1 DAY 2 HOURS`; one unit or a range of them as sqlparser has it.
fn interval(parser: &mut Parser) -> Result<Expr, ParserError> {
    let first = parser.parse_interval()?;
    let Expr::Interval(Interval { value, leading_field: Some(unit), last_field: None, .. }) =
        &first
    else {
        return Ok(first);
    };
    let mut text = format!("{} {unit}", amount(value));
    let mut several = false;
    while is_amount(&parser.peek_token().token) && names_unit(parser) {
        let Expr::Interval(Interval { value, leading_field: Some(unit), .. }) =
            parser.parse_interval()?
        else {
            break;
        };
        text += &format!(" {} {unit}", amount(&value));
        several = true;
    }
    if !several {
        return Ok(first);
    }
    Ok(Expr::Interval(Interval {
        value: Box::new(Expr::Value(Value::SingleQuotedString(text).with_empty_span())),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }))
}

/// Whether a unit of time stands behind the amount that comes next.
fn names_unit(parser: &Parser) -> bool {
    let at = 1 + usize::from(parser.peek_token().token == Token::Minus);
    let Token::Word(word) = parser.peek_nth_token(at).token else { return false };
    const UNITS: [&str; 9] =
        ["year", "month", "week", "day", "hour", "minute", "second", "millisecond", "microsecond"];
    UNITS.contains(&word.value.to_lowercase().trim_end_matches('s'))
}

fn amount(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}
