//! `*`, `t.*`, and `s.*` of a struct whose fields can be seen where it is made.

use datafusion_sql::sqlparser::ast::{
    Expr, FunctionArguments, Ident, SelectItem, Value, WildcardAdditionalOptions,
};

use super::lateral;
use super::names::function_name;
use super::rewrite::Rewriter;
use super::scope::{Relation, Resolved, Scope, same};
use super::spell::expression_of;
use crate::plan::functions::json;

impl Rewriter<'_> {
    /// Puts the columns that `*` stands for among the items, and their names among the columns.
    pub(super) fn star(
        &mut self,
        relation: Option<&Ident>,
        options: &WildcardAdditionalOptions,
        scope: &Scope,
        window: Option<&Expr>,
        (columns, items): (&mut Vec<String>, &mut Vec<SelectItem>),
    ) {
        let span = options.wildcard_token.0.span;
        if options.opt_replace.is_some() || options.opt_rename.is_some() {
            self.refuse(span, "this form of * is not in this version", "name the columns");
        }
        let except: Vec<&Ident> = options
            .opt_except
            .iter()
            .flat_map(|except| {
                std::iter::once(&except.first_element).chain(&except.additional_elements)
            })
            .collect();
        let named = |r: &Relation| match relation {
            Some(ident) => r.name.as_ref().is_some_and(|name| same(name, &ident.value)),
            None => true,
        };
        let relations = scope.relations.iter().enumerate().filter(|(_, r)| named(r));
        let relations: Vec<(usize, &Relation)> = relations.collect();
        if let (Some(ident), true) = (relation, relations.is_empty() && !scope.unknown) {
            if let Some((of, fields)) = self.struct_of(ident, scope, window) {
                for name in fields {
                    let ident = Ident { value: name.clone(), quote_style: Some('`'), span };
                    let expr = super::spell::fields(of.clone(), std::slice::from_ref(&ident));
                    columns.push(name);
                    items.push(SelectItem::ExprWithAlias { expr, alias: ident });
                }
                return;
            }
            let known: Vec<&str> =
                scope.relations.iter().filter_map(|r| r.name.as_deref()).collect();
            let fix = format!("the relations here are {}", known.join(", "));
            self.refuse(ident.span, format!("unknown relation {}", ident.value), fix);
        }
        let is_merged = |name: &str| scope.using.iter().any(|(column, _)| same(column, name));
        // The columns of USING come first.
        let all = relations.iter().flat_map(|(at, relation)| {
            relation.columns.iter().map(move |name| (*at, *relation, name))
        });
        let place = |name: &str| match relation {
            Some(_) => None,
            None => scope.using.iter().position(|(column, _)| same(column, name)),
        };
        let mut all: Vec<(usize, &Relation, &String)> = all.collect();
        all.sort_by_key(|(_, _, name)| place(name).unwrap_or(usize::MAX));
        let mut merged: Vec<&str> = Vec::new();
        for (at, relation, name) in all {
            let excepted = except.iter().any(|ident| same(&ident.value, name));
            if excepted || name.starts_with(lateral::HIDDEN) {
                continue;
            }
            // A column of USING is one column.
            if is_merged(name) {
                if merged.iter().any(|merged| same(merged, name)) {
                    continue;
                }
                merged.push(name);
            }
            let ident = Ident { value: name.clone(), quote_style: Some('`'), span };
            let expr = match scope.in_view || relation.name.is_some() {
                true => scope.column(at, name, &ident),
                false => Expr::Identifier(ident.clone()),
            };
            columns.push(name.clone());
            items.push(SelectItem::ExprWithAlias { expr, alias: ident });
        }
    }

    /// A struct by its column's name, and its fields; the window of GROUP BY is one.
    fn struct_of(
        &self,
        name: &Ident,
        scope: &Scope,
        window: Option<&Expr>,
    ) -> Option<(Expr, Vec<String>)> {
        match scope.resolve(std::slice::from_ref(name)) {
            Resolved::Column(column, _) => {
                let known = self.structs.iter().rfind(|(known, _)| same(known, &name.value))?;
                Some((*column, known.1.clone()))
            }
            _ if name.value.eq_ignore_ascii_case("window") => {
                Some((window?.clone(), vec!["start".into(), "end".into()]))
            }
            _ => None,
        }
    }
}

/// The names of a struct's fields, where they can be seen.
pub(super) fn struct_fields(expr: &Expr) -> Option<Vec<String>> {
    let name = |(at, value): (usize, &Expr)| match value {
        Expr::Named { name, .. } => name.value.clone(),
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(parts) => parts[parts.len() - 1].value.clone(),
        _ => format!("col{}", at + 1),
    };
    let function = match expr {
        Expr::Nested(inner) => return struct_fields(inner),
        Expr::Struct { values, .. } => return Some(values.iter().enumerate().map(name).collect()),
        Expr::Function(function) => function,
        _ => return None,
    };
    let FunctionArguments::List(list) = &function.args else { return None };
    let args = list.args.iter().map(expression_of).collect::<Option<Vec<Expr>>>()?;
    let text = |expr: &Expr| match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    match (function_name(function).as_str(), args.as_slice()) {
        ("struct", args) => Some(args.iter().enumerate().map(name).collect()),
        ("named_struct", args) => args.iter().step_by(2).map(text).collect(),
        ("from_json", [_, schema]) => json::fields_of(&text(schema)?),
        ("window" | "session_window", _) => Some(vec!["start".into(), "end".into()]),
        _ => None,
    }
}
