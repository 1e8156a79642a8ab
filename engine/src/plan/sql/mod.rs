//! SQL text to the binder's tree: parsed in Spark's dialect, names resolved, Spark's spellings
//! turned into what the binder knows. Every fault points at its token in the job file.

mod aggregates;
mod calls;
mod dialect;
pub mod duration;
mod forms;
mod from;
mod grouping;
mod lateral;
mod names;
pub mod place;
pub(in crate::plan) mod rewrite;
mod scope;
mod spell;
mod star;
pub mod unions;
mod windows;

use std::ops::Range;

use datafusion_sql::sqlparser::ast::{Query, Statement};
use datafusion_sql::sqlparser::dialect::SparkSqlDialect;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};

use crate::job::finding::Finding;

use super::functions::Catalog;
use super::lower::Relations;
use place::Places;

/// A query whose names are resolved and whose output columns all have names.
#[derive(Debug)]
pub struct Parsed {
    pub query: Box<Query>,
    pub marks: Marks,
}

/// Where the clauses of the outermost query stand, for what is found out later.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    pub group_by: Option<Range<usize>>,
    pub order_by: Option<Range<usize>>,
    pub limit: Option<Range<usize>>,
    pub distinct: Option<Range<usize>>,
    pub filter: Option<Range<usize>>,
    /// The first join.
    pub join: Option<Range<usize>>,
}

/// Parses one query over the sources' tables and perhaps static ones.
pub fn parse(
    sql: &str,
    relations: Relations,
    catalog: &Catalog,
    places: &Places,
) -> Result<Parsed, Vec<Finding>> {
    let dialect = dialect::Spark(SparkSqlDialect {});
    let statements = dialect::tokens(&dialect, sql)
        .map_err(ParserError::from)
        .and_then(|tokens| {
            Parser::new(&dialect).with_tokens_with_locations(tokens).parse_statements()
        })
        .map_err(|error| vec![syntax(error, places)])?;
    let mut query = match <[Statement; 1]>::try_from(statements) {
        Ok([Statement::Query(query)]) => query,
        Ok(_) => return Err(vec![one_select(places)]),
        Err(_) => return Err(vec![one_select(places)]),
    };
    let marks = rewrite::rewrite(&mut query, relations, catalog, places)?;
    Ok(Parsed { query, marks })
}

fn one_select(places: &Places) -> Finding {
    Finding::new(places.whole(), "the query is not one SELECT", "write one SELECT statement")
}

/// The parser says where it stopped in the text of its message: ` at Line: 3, Column: 7`.
fn syntax(error: ParserError, places: &Places) -> Finding {
    let message = match error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
        ParserError::RecursionLimitExceeded => "the query is nested too deeply".into(),
    };
    let (what, at) = match message.split_once(" at Line: ") {
        None => (message, places.whole()),
        Some((what, place)) => {
            let mut numbers = place.split(", Column: ").map(|n| n.trim().parse::<u64>());
            let at = match (numbers.next(), numbers.next()) {
                (Some(Ok(line)), Some(Ok(column))) if line > 0 && column > 0 => {
                    places.token(line, column)
                }
                _ => places.whole(),
            };
            (what.to_string(), at)
        }
    };
    Finding::new(at, format!("SQL syntax error: {what}"), "correct the SQL here or just before")
}
