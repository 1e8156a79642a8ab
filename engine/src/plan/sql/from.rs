//! FROM: tables, subqueries and joins, and the names that they offer.

use datafusion_sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectNamePart, Spanned, TableAlias,
    TableFactor, TableWithJoins,
};

use super::calls::{self, Clause};
use super::rewrite::Rewriter;
use super::scope::{Relation, Scope, nearest, quoted, same};

impl Rewriter<'_> {
    /// Adds the relations of one item of FROM to what can be read.
    pub(super) fn from(&mut self, table: &mut TableWithJoins, scope: &mut Scope) {
        let first = scope.relations.len();
        self.relation(&mut table.relation, scope);
        for join in &mut table.joins {
            self.join(join, scope, first);
        }
    }

    fn relation(&mut self, factor: &mut TableFactor, scope: &mut Scope) {
        if let TableFactor::NestedJoin { table_with_joins, alias: None } = factor {
            return self.from(table_with_joins, scope);
        }
        match self.factor(factor) {
            Some(relation) => {
                let taken = |r: &Relation| match (&r.name, &relation.name) {
                    (Some(a), Some(b)) => same(a, b),
                    _ => false,
                };
                if let (Some(name), true) = (&relation.name, scope.relations.iter().any(taken)) {
                    let what = format!("two relations are named {name}");
                    self.refuse(factor.span(), what, "give one of them another name with AS");
                }
                scope.relations.push(relation);
            }
            None => scope.unknown = true,
        }
    }

    fn factor(&mut self, factor: &mut TableFactor) -> Option<Relation> {
        match factor {
            TableFactor::Table { sample: Some(_), .. } => {
                let what = "Sampling is not supported on streaming DataFrames/Datasets";
                self.refuse(factor.span(), what, "write a condition on a column");
                None
            }
            TableFactor::Table { name, alias, args: None, .. } => {
                let part = name.0.last_mut()?;
                let ObjectNamePart::Identifier(ident) = part else { return None };
                let known = |t: &&Relation| t.name.as_ref().is_some_and(|n| same(n, &ident.value));
                match self.tables.iter().rev().find(known).cloned() {
                    Some(found) => {
                        let table_name = found.name.clone().unwrap_or_default();
                        *ident = quoted(&table_name, ident);
                        let name = rename(alias).or(found.name);
                        Some(Relation { name, columns: found.columns })
                    }
                    None => {
                        let ident = ident.clone();
                        self.unknown_table(&ident);
                        None
                    }
                }
            }
            TableFactor::Derived { subquery, alias, lateral: false, .. } => {
                let columns = self.query(subquery);
                Some(Relation { name: rename(alias), columns })
            }
            other => {
                let span = other.span();
                self.refuse(span, "this FROM is not in this version", "read the source's table");
                None
            }
        }
    }

    fn unknown_table(&mut self, ident: &Ident) {
        let names: Vec<&str> = self.tables.iter().filter_map(|t| t.name.as_deref()).collect();
        let fix = match nearest(&ident.value, names.iter().copied()) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("the tables are {}", names.join(", ")),
        };
        self.refuse(ident.span, format!("unknown table {}: it cannot be found", ident.value), fix);
    }

    /// `first`: the first relation on the join's left side.
    fn join(&mut self, join: &mut Join, scope: &mut Scope, first: usize) {
        use JoinOperator::*;
        let right = scope.relations.len();
        let span = join.relation.span();
        self.relation(&mut join.relation, scope);
        // The binder's names for what Spark calls SEMI and ANTI.
        match &mut join.join_operator {
            Semi(constraint) => join.join_operator = LeftSemi(take(constraint)),
            Anti(constraint) => join.join_operator = LeftAnti(take(constraint)),
            _ => {}
        }
        let (constraint, keeps_right) = match &mut join.join_operator {
            Join(c) | Inner(c) | Left(c) | LeftOuter(c) | Right(c) | RightOuter(c)
            | FullOuter(c) | CrossJoin(c) => (c, true),
            LeftSemi(c) | LeftAnti(c) => (c, false),
            _ => {
                self.refuse(span, "this kind of join is not Spark's", "write JOIN or LEFT JOIN");
                return;
            }
        };
        match constraint {
            JoinConstraint::On(condition) => {
                calls::rewrite(self, condition, scope, None, Clause::Where);
            }
            JoinConstraint::Using(names) => {
                let names = names.iter().filter_map(|name| name.0.last()?.as_ident().cloned());
                let names: Vec<Ident> = names.collect();
                *constraint = self.using(&names, scope, first, right);
            }
            JoinConstraint::Natural if right < scope.relations.len() => {
                let of_left = scope.relations[first..right].iter().flat_map(|r| &r.columns);
                let of_right = &scope.relations[right].columns;
                let both = of_left.filter(|name| of_right.iter().any(|other| same(name, other)));
                let names: Vec<Ident> = both.map(|name| Ident::with_quote('`', name)).collect();
                *constraint = self.using(&names, scope, first, right);
            }
            JoinConstraint::Natural | JoinConstraint::None => {}
        }
        let right_outer = matches!(join.join_operator, Right(_) | RightOuter(_));
        if !keeps_right {
            scope.relations.truncate(right);
            scope.using.retain(|(_, relation)| *relation < right);
        } else if right_outer {
            // The side that has every row gives the merged column its value.
            scope.using.iter_mut().for_each(|(_, relation)| *relation = right);
        }
    }

    /// `USING (a, b)` as a condition; a merged column is read from the side that has every row.
    fn using(
        &mut self,
        names: &[Ident],
        scope: &mut Scope,
        first: usize,
        right: usize,
    ) -> JoinConstraint {
        let mut condition: Option<Expr> = None;
        for name in names {
            let found = |relations: std::ops::Range<usize>, scope: &Scope| {
                relations.into_iter().find_map(|index| {
                    let relation = scope.relations.get(index)?;
                    let column = relation.columns.iter().find(|c| same(c, &name.value))?;
                    Some((index, relation.column(column, name)))
                })
            };
            let left = found(first..right, scope);
            let (Some((at, left)), Some((_, right))) = (left, found(right..right + 1, scope))
            else {
                let what = format!("{} is not a column of both sides", name.value);
                self.refuse(name.span, what, "write the condition with ON");
                continue;
            };
            let equal = super::spell::binary(
                left,
                datafusion_sql::sqlparser::ast::BinaryOperator::Eq,
                right,
            );
            condition = Some(match condition {
                None => equal,
                Some(condition) => super::spell::binary(
                    condition,
                    datafusion_sql::sqlparser::ast::BinaryOperator::And,
                    equal,
                ),
            });
            if !scope.using.iter().any(|(known, _)| same(known, &name.value)) {
                scope.using.push((name.value.clone(), at));
            }
        }
        condition.map_or(JoinConstraint::None, JoinConstraint::On)
    }
}

fn take(constraint: &mut JoinConstraint) -> JoinConstraint {
    std::mem::replace(constraint, JoinConstraint::None)
}

/// The alias as the binder is to take it; column lists after it are not Spark's.
fn rename(alias: &mut Option<TableAlias>) -> Option<String> {
    let alias = alias.as_mut()?;
    alias.name = quoted(&alias.name.value.clone(), &alias.name);
    Some(alias.name.value.clone())
}
