//! Which names a clause can read, and what a name in any spelling stands for.

use datafusion_sql::sqlparser::ast::{Expr, Ident};

/// The relations of one FROM, and the columns that each of them offers, in their own spelling.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub relations: Vec<Relation>,
    /// Names that SELECT gives: GROUP BY and HAVING read them after the columns, ORDER BY before.
    pub aliases: Vec<String>,
    pub aliases_first: bool,
    /// What the items of SELECT before this one are, by their names: read after the columns.
    pub lateral: Vec<(String, Expr)>,
    /// GROUP BY has a window, or a part of one.
    pub windows: bool,
    /// The keys of GROUP BY where it has several sets of them, in their order.
    pub sets: Option<Vec<Expr>>,
    /// Columns that USING made one of, and the relation that gives their values.
    pub using: Vec<(String, usize)>,
    /// The relations are columns of one subquery, [`VIEW`], under the names that [`hidden`] gives.
    pub in_view: bool,
    /// What a subquery inside an expression can read beside its own FROM.
    pub around: Option<Box<Scope>>,
    /// FROM was refused: what its columns are is not known, and no name here is at fault.
    pub unknown: bool,
}

#[derive(Clone, Debug)]
pub struct Relation {
    /// As the query calls it; `None` for a subquery without a name.
    pub name: Option<String>,
    pub columns: Vec<String>,
}

impl Relation {
    /// The column as the binder is to read it, standing where `from` stands.
    pub fn column(&self, name: &str, from: &Ident) -> Expr {
        let column = quoted(name, from);
        match &self.name {
            Some(relation) => Expr::CompoundIdentifier(vec![quoted(relation, from), column]),
            None => Expr::Identifier(column),
        }
    }
}

pub enum Resolved {
    /// The column, and how many of the name's parts it took.
    Column(Box<Expr>, usize),
    Ambiguous(String),
    Unknown,
}

/// What the subquery is called that a LATERAL VIEW makes of FROM.
pub const VIEW: &str = "$view";

/// A column's name in [`VIEW`]: relations may have columns of one name.
pub fn hidden(relation: usize, column: &str) -> String {
    format!("{relation}${column}")
}

impl Scope {
    /// A relation's column as the binder is to read it, standing where `from` stands.
    pub fn column(&self, relation: usize, name: &str, from: &Ident) -> Expr {
        match self.in_view {
            false => self.relations[relation].column(name, from),
            true => Expr::CompoundIdentifier(vec![
                quoted(VIEW, from),
                quoted(&hidden(relation, name), from),
            ]),
        }
    }

    /// What the parts of a name stand for; case does not matter.
    pub fn resolve(&self, parts: &[Ident]) -> Resolved {
        if self.aliases_first
            && let Some(alias) = self.alias(&parts[0])
        {
            return Resolved::Column(Box::new(alias), 1);
        }
        if let [relation, column, ..] = parts
            && let Some(found) = self.qualified(relation, column)
        {
            return Resolved::Column(Box::new(found), 2);
        }
        if let Some((_, at)) = self.using.iter().find(|(column, _)| same(column, &parts[0].value))
            && let Some(relation) = self.relations.get(*at)
            && let Some(column) = relation.columns.iter().find(|c| same(c, &parts[0].value))
        {
            return Resolved::Column(Box::new(self.column(*at, column, &parts[0])), 1);
        }
        let mut found = None;
        for (at, relation) in self.relations.iter().enumerate() {
            for column in relation.columns.iter().filter(|name| same(name, &parts[0].value)) {
                if found.is_some() {
                    return Resolved::Ambiguous(column.clone());
                }
                found = Some(match self.relations.len() {
                    1 if self.around.is_none() => Expr::Identifier(quoted(column, &parts[0])),
                    _ => self.column(at, column, &parts[0]),
                });
            }
        }
        let lateral = || {
            let found = self.lateral.iter().find(|(name, _)| same(name, &parts[0].value));
            found.map(|(_, expr)| Expr::Nested(Box::new(expr.clone())))
        };
        match found.or_else(|| self.alias(&parts[0])).or_else(lateral) {
            Some(found) => Resolved::Column(Box::new(found), 1),
            None => match &self.around {
                Some(around) => around.resolve(parts),
                None => Resolved::Unknown,
            },
        }
    }

    /// Every name that could have been meant, in the order of the relations.
    pub fn names(&self) -> Vec<&str> {
        let columns = self.relations.iter().flat_map(|relation| &relation.columns);
        let lateral = self.lateral.iter().map(|(name, _)| name);
        let own = columns.chain(&self.aliases).chain(lateral).map(String::as_str);
        own.chain(self.around.iter().flat_map(|around| around.names())).collect()
    }

    fn qualified(&self, relation: &Ident, column: &Ident) -> Option<Expr> {
        let named = |r: &&Relation| r.name.as_ref().is_some_and(|name| same(name, &relation.value));
        let at = self.relations.iter().position(|r| named(&r))?;
        let name = self.relations[at].columns.iter().find(|name| same(name, &column.value))?;
        Some(self.column(at, name, column))
    }

    fn alias(&self, part: &Ident) -> Option<Expr> {
        let alias = self.aliases.iter().find(|name| same(name, &part.value))?;
        Some(Expr::Identifier(quoted(alias, part)))
    }
}

pub fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// A name that the binder takes letter by letter, standing where `from` stands.
pub fn quoted(name: &str, from: &Ident) -> Ident {
    Ident { value: name.to_string(), quote_style: Some('`'), span: from.span }
}

/// The known name that a misspelt one most resembles.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let scored =
        known.into_iter().map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k));
    let allowed = (lower.chars().count() / 3).max(1);
    scored.filter(|(distance, _)| *distance <= allowed).min_by_key(|(d, _)| *d).map(|(_, k)| k)
}
