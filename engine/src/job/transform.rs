//! `[[transform]]`: steps over the source's rows, in order, in place of the SQL.
//!
//! They become SQL: there is one plan type, and no second engine. So far one step is built.

use super::finding::closest;
use super::reader::{Choice, Reader, Section};
use super::spec::Column;
use super::tree::{Entry, Node, Value};

pub const KEYS: &[&str] = &["op", "columns"];

const FORM: &str = "write [[transform]] and below it op = \"remove_columns\", columns = [\"a\"]";

/// What the steps leave of the source's columns, by their place in its schema.
pub struct Transform {
    pub kept: Vec<usize>,
}

/// `None` inside: the job has no steps.
pub fn read(r: &mut Reader, root: &Section, schema: &[Column]) -> Option<Option<Transform>> {
    let Some(entry) = root.get("transform") else { return Some(None) };
    let Value::List(steps) = &entry.node.value else {
        return r.wrong(entry, "a list of steps", FORM);
    };
    let mut kept: Vec<usize> = (0..schema.len()).collect();
    for (at, step) in steps.iter().enumerate() {
        self::step(r, at, step, schema, &mut kept)?;
    }
    if kept.is_empty() {
        r.find(entry.key_at.clone(), "no column is left", "keep one column at least");
        return None;
    }
    Some(Some(Transform { kept }))
}

fn step(
    r: &mut Reader,
    at: usize,
    step: &Node,
    schema: &[Column],
    kept: &mut Vec<usize>,
) -> Option<()> {
    let Value::Table(table) = &step.value else {
        r.find(step.at.clone(), "a step is a table", FORM);
        return None;
    };
    let name = format!("[[transform]] number {}", at + 1);
    let section = Section::new(name, Some(step.at.clone()), table, KEYS.to_vec());
    let section = r.open(section, &[]);
    if !r.present(&section, "op", FORM) {
        return None;
    }
    let ops = [("remove_columns", Choice::Is(()))];
    r.choice(&section, "op", &ops)?;
    if !r.present(&section, "columns", FORM) {
        return None;
    }
    let entry = section.get("columns")?;
    for column in r.texts(&section, "columns")? {
        remove(r, entry, &column, schema, kept)?;
    }
    Some(())
}

fn remove(
    r: &mut Reader,
    entry: &Entry,
    column: &str,
    schema: &[Column],
    kept: &mut Vec<usize>,
) -> Option<()> {
    let place = kept.iter().position(|&at| schema[at].name.eq_ignore_ascii_case(column));
    if let Some(place) = place {
        kept.remove(place);
        return Some(());
    }
    let names = kept.iter().map(|&at| schema[at].name.as_str());
    let fix = match closest(column, names.clone()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("the columns here are {}", names.collect::<Vec<_>>().join(", ")),
    };
    let what = format!("there is no column \"{}\" to remove", column.escape_default());
    r.find(entry.node.at.clone(), what, fix);
    None
}

/// The query that selects some columns of a table.
pub fn select(table: &str, columns: &[usize], schema: &[Column]) -> String {
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    let names: Vec<String> = columns.iter().map(|&at| quoted(&schema[at].name)).collect();
    format!("SELECT {} FROM {}", names.join(", "), quoted(table))
}
