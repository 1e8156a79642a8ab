//! From the parser's tree to DataFusion's logical plan over the source's table and static ones.
//!
//! Subqueries inside expressions become joins or values here (`subquery`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DataFusionError, Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_optimizer::AnalyzerRule;
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_sql::planner::{ParserOptions, SqlToRel};
use datafusion_sql::sqlparser::ast::{DataType as SqlType, Query, Statement, TimezoneInfo};

use super::coerce;
use super::functions::Catalog;
use super::lower::Relations;
use super::operators::SparkOperators;
use super::sql::place::Places;
use super::sql::{Marks, unions};
use super::subquery::{self, Planned};
use super::types::timestamp;
use crate::job::finding::Finding;
use crate::job::spec::Column;

/// Binds a query whose names are resolved; types come out by Spark's rules.
pub fn bind(
    mut query: Box<Query>,
    relations: Relations,
    catalog: &Catalog,
    marks: &Marks,
    places: &Places,
) -> Result<Planned, Vec<Finding>> {
    let context = Context::new(relations, catalog);
    let options = ParserOptions::new()
        .with_enable_ident_normalization(false)
        .with_map_string_types_to_utf8view(false)
        .with_collect_spans(true);
    let planner = SqlToRel::new_with_options(&context, options);
    let types = |side: Query| {
        let plan = planner.sql_statement_to_plan(Statement::Query(Box::new(side)))?;
        Ok(plan.schema().fields().iter().map(|field| field.data_type().clone()).collect())
    };
    let bound = unions::widen(&mut query, &types)
        .and_then(|()| planner.sql_statement_to_plan(Statement::Query(query)))
        .and_then(coerce::plan)
        .and_then(|plan| TypeCoercion::new().analyze(plan, &context.options))
        .and_then(|plan| subquery::plan(plan, relations));
    bound.map_err(|error| vec![finding(&error, marks, places)])
}

/// The binder's message in the words of this planner, at the place that it knows or names.
fn finding(error: &DataFusionError, marks: &Marks, places: &Places) -> Finding {
    let root = error.find_root();
    let text = match root {
        DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => text.clone(),
        DataFusionError::Diagnostic(diagnostic, _) => diagnostic.message.clone(),
        other => other.strip_backtrace(),
    };
    let said = Said::of(text.trim());
    let diagnostic = error.diagnostic().or_else(|| root.diagnostic());
    let known = diagnostic.and_then(|d| d.span).map(|span| places.bound(span));
    let named = || places.call(said.function.as_deref()?);
    let clause = || if said.filter { marks.filter.clone() } else { None };
    let at = known.or_else(named).or_else(clause);
    Finding::new(at.unwrap_or_else(|| places.whole()), said.what, said.fix)
}

struct Said {
    what: String,
    fix: &'static str,
    /// The function that it is about.
    function: Option<String>,
    /// It is about WHERE.
    filter: bool,
}

impl Said {
    /// DataFusion wraps what a function says of its arguments, and speaks of its own types.
    fn of(text: &str) -> Said {
        let between = |from: &str, to: &str| {
            let start = text.find(from)? + from.len();
            let end = text[start..].find(to).map_or(text.len(), |end| start + end);
            Some(text[start..end].trim().to_string())
        };
        let said = |what: String, fix| Said { what, fix, function: None, filter: false };
        if let Some(what) = between("coercion failed with: Error during planning: ", " No function")
        {
            let what = what.trim_end_matches('.').to_string();
            let function = what.split(|c: char| !c.is_alphanumeric() && c != '_').next();
            let function = function.map(str::to_string);
            let fix = "cast the argument, or take another column";
            return Said { what, fix, function, filter: false };
        }
        if let Some(column) = between("column \"", "\" must appear in the GROUP BY") {
            let name = column.rsplit('.').next().unwrap_or(&column);
            // A LATERAL VIEW numbers the relations that it makes one of.
            let name = name.split_once('$').map_or(name, |(_, name)| name);
            let what = format!(
                "the non-aggregating expression {name} is based on columns which are not \
                 participating in the GROUP BY clause"
            );
            return said(what, "group by it, or take first(…) of it");
        }
        if text.starts_with("Aggregate function calls cannot be nested") {
            let what = "it is not allowed to use an aggregate function in the argument of another \
                        aggregate function";
            return said(what.to_string(), "use the inner aggregate in a subquery");
        }
        if text.starts_with("Cannot create filter with non-boolean predicate") {
            let what = "the filter's condition is no BOOLEAN".to_string();
            let fix = "compare the value with something";
            return Said { what, fix, function: None, filter: true };
        }
        if text.starts_with("Queries with streaming sources") {
            return said(text.to_string(), "join with the stream, or read a [table.NAME]");
        }
        if text.contains(": expected ") {
            return said(text.to_string(), "cast one side, as in CAST(x AS INT)");
        }
        said(text.to_string(), "write this part in another way")
    }
}

struct Context<'a> {
    catalog: &'a Catalog,
    tables: Vec<(&'a str, Arc<Table>)>,
    options: ConfigOptions,
    operators: Vec<Arc<dyn ExprPlanner>>,
}

impl<'a> Context<'a> {
    fn new(relations: Relations<'a>, catalog: &'a Catalog) -> Self {
        let Relations { sources, tables } = relations;
        let tables = tables.iter().map(|table| (table.name.as_str(), Table::of(&table.schema)));
        let streams =
            sources.iter().map(|source| (source.name.as_str(), Table::of(&source.schema)));
        let tables = streams.chain(tables).collect();
        let between = catalog.scalar("time_between").expect("the catalog has it");
        let apart = catalog.scalar("days_between").expect("the catalog has it");
        let operators: Vec<Arc<dyn ExprPlanner>> =
            vec![Arc::new(SparkOperators { between, apart })];
        let mut options = ConfigOptions::default();
        options.sql_parser.map_string_types_to_utf8view = false;
        Context { catalog, tables, options, operators }
    }
}

#[derive(Debug)]
struct Table {
    schema: SchemaRef,
}

impl Table {
    fn of(columns: &[Column]) -> Arc<Table> {
        let field = |column: &Column| Field::new(&column.name, column.data_type.clone(), true);
        let fields: Vec<Field> = columns.iter().map(field).collect();
        Arc::new(Table { schema: Arc::new(Schema::new(fields)) })
    }
}

impl TableSource for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

#[derive(Debug)]
struct SparkTypes;

impl TypePlanner for SparkTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let data_type = match sql_type {
            SqlType::Timestamp(_, TimezoneInfo::None) => timestamp(),
            SqlType::TimestampNtz(_) => {
                DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None)
            }
            SqlType::Float(_) => DataType::Float32,
            SqlType::String(_) => DataType::Utf8,
            SqlType::Binary(_) => DataType::Binary,
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", data_type, true))))
    }
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.tables.iter().find(|(known, _)| *known == name.table()) {
            Some((_, table)) => Ok(Arc::clone(table) as Arc<dyn TableSource>),
            None => plan_err!("unknown table {}", name.table()),
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.operators
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(SparkTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.catalog.scalar(name)
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.catalog.higher_order(name)
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.catalog.aggregate(name)
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.catalog.names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
