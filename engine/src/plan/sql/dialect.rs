//! Spark's dialect as sqlparser has it, with three corrections.
//!
//! `div` binds as tightly as `*` (sqlparser 0.62 lets it swallow the rest of the expression), and a
//! backslash in a string escapes the character after it, as in Spark; an INTERVAL may name its unit in
//! its text. Everything else is sqlparser's.

use std::any::TypeId;

use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr};
use datafusion_sql::sqlparser::dialect::{Dialect, Precedence, SparkSqlDialect};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};

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

    fn ignores_wildcard_escapes(&self) -> bool {
        true
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        _precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
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
