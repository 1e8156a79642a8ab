//! UNION by Spark's rules of types: both sides' columns are cast to a type that holds both.
//!
//! DataFusion would take the first side's types for what stands above, and others for the union
//! itself. So the casts are written into the sides before the query is bound; the types of a side come
//! from binding it alone.

use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Diagnostic, Result, plan_datafusion_err};
use datafusion_sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion_sql::sqlparser::ast::{
    Cte, DataType as SqlType, ExactNumberInfo, Query, SelectItem, SetExpr, SetOperator, Spanned,
    TableFactor, TableWithJoins, TimezoneInfo, With,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::spell;
use crate::plan::operators::common_type;
use crate::plan::types::sql_name;

/// Gives the types of a query's columns.
type Types<'a> = dyn Fn(Query) -> Result<Vec<DataType>> + 'a;

/// Writes the casts that the unions of a query need.
///
/// Errors: those of binding a side; columns that have no common type.
pub fn widen(query: &mut Query, types: &Types) -> Result<()> {
    Widening { types, known: Vec::new() }.query(query)
}

struct Widening<'a> {
    types: &'a Types<'a>,
    /// The queries that WITH names here.
    known: Vec<Cte>,
}

impl Widening<'_> {
    fn query(&mut self, query: &mut Query) -> Result<()> {
        let outside = self.known.len();
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            self.query(&mut cte.query)?;
            self.known.push(cte.clone());
        }
        let bare = Query { with: None, order_by: None, limit_clause: None, ..query.clone() };
        self.body(&mut query.body, &bare)?;
        self.known.truncate(outside);
        Ok(())
    }

    /// `bare`: the query around, from which a side is made a query of its own.
    fn body(&mut self, body: &mut SetExpr, bare: &Query) -> Result<()> {
        match body {
            SetExpr::Query(inner) => self.query(inner),
            SetExpr::Select(select) => select.from.iter_mut().try_for_each(|from| self.from(from)),
            SetExpr::SetOperation { op: SetOperator::Union, left, right, .. } => {
                self.body(left, bare)?;
                self.body(right, bare)?;
                let types = [self.types_of(left, bare)?, self.types_of(right, bare)?];
                let both = types[0].iter().zip(&types[1]);
                let fault = || left.span().union(&right.span());
                let common = both.map(|(of_left, of_right)| {
                    common_type(of_left, of_right)
                        .ok_or_else(|| incompatible(of_left, of_right, fault()))
                });
                let common = common.collect::<Result<Vec<_>>>()?;
                cast(left, &types[0], &common);
                cast(right, &types[1], &common);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn from(&mut self, from: &mut TableWithJoins) -> Result<()> {
        let joined = from.joins.iter_mut().map(|join| &mut join.relation);
        for factor in std::iter::once(&mut from.relation).chain(joined) {
            match factor {
                TableFactor::Derived { subquery, .. } => self.query(subquery)?,
                TableFactor::NestedJoin { table_with_joins, .. } => self.from(table_with_joins)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn types_of(&self, side: &SetExpr, bare: &Query) -> Result<Vec<DataType>> {
        let with = (!self.known.is_empty()).then(|| With {
            with_token: AttachedToken::empty(),
            recursive: false,
            cte_tables: self.known.clone(),
        });
        (self.types)(Query { with, body: Box::new(side.clone()), ..bare.clone() })
    }
}

fn incompatible(left: &DataType, right: &DataType, span: Span) -> DataFusionError {
    let (left, right) = (sql_name(left), sql_name(right));
    let what = format!(
        "UNION can only be performed on inputs with compatible column types: {left} and {right}: \
         expected one type"
    );
    let span = datafusion_common::Span::try_from_sqlparser_span(span);
    plan_datafusion_err!("{what}").with_diagnostic(Diagnostic::new_error(what, span))
}

/// Casts the columns of a side whose types differ from those that are wanted.
fn cast(side: &mut SetExpr, types: &[DataType], wanted: &[DataType]) {
    match side {
        SetExpr::Query(inner) => cast(&mut inner.body, types, wanted),
        SetExpr::SetOperation { left, right, .. } => {
            cast(left, types, wanted);
            cast(right, types, wanted);
        }
        SetExpr::Select(select) => {
            let both = types.iter().zip(wanted);
            for (item, (is, wanted)) in select.projection.iter_mut().zip(both) {
                let (SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr)) = item
                else {
                    continue;
                };
                if let (true, Some(data_type)) = (is != wanted, written(wanted)) {
                    *expr = spell::cast(expr.clone(), data_type);
                }
            }
        }
        _ => {}
    }
}

/// A type as SQL writes it; none for those that are the same on both sides or have no common one.
fn written(data_type: &DataType) -> Option<SqlType> {
    Some(match data_type {
        DataType::Boolean => SqlType::Boolean,
        DataType::Int8 => SqlType::TinyInt(None),
        DataType::Int16 => SqlType::SmallInt(None),
        DataType::Int32 => SqlType::Int(None),
        DataType::Int64 => SqlType::BigInt(None),
        DataType::Float32 => SqlType::Float(ExactNumberInfo::None),
        DataType::Float64 => SqlType::Double(ExactNumberInfo::None),
        DataType::Utf8 => SqlType::String(None),
        DataType::Binary => SqlType::Binary(None),
        DataType::Date32 => SqlType::Date,
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamp(None, TimezoneInfo::None),
        DataType::Timestamp(_, None) => SqlType::TimestampNtz(None),
        DataType::Decimal128(precision, scale) => SqlType::Decimal(
            ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)),
        ),
        _ => return None,
    })
}
