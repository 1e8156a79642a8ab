//! `$.a.b[0]`, `$['a']`, `$.a[*].b`: the paths of `get_json_object`, with Hive's rules for what several
//! matches are.
//!
//! After Spark's `GetJsonObjectEvaluator.evaluatePath`, whose cases come in the same order here.

use super::read::{Node, Value};
use super::write;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Named(String),
    AnyField,
    Index(usize),
    AnyItem,
}

/// `None`: no path.
pub fn parse(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while let Some(first) = rest.chars().next() {
        match first {
            '.' => {
                let end = rest[1..].find(['.', '[']).map_or(rest.len(), |end| end + 1);
                let name = &rest[1..end];
                if name.is_empty() {
                    return None;
                }
                let any = name == "*";
                steps.push(if any { Step::AnyField } else { Step::Named(name.to_string()) });
                rest = &rest[end..];
            }
            '[' if rest.starts_with("['") => {
                let end = rest.find("']")?;
                let name = &rest[2..end];
                if name.is_empty() || name.contains('?') {
                    return None;
                }
                let any = name == "*";
                steps.push(if any { Step::AnyField } else { Step::Named(name.to_string()) });
                rest = &rest[end + 2..];
            }
            '[' => {
                let end = rest.find(']')?;
                let index = &rest[1..end];
                let any = index == "*";
                steps.push(if any { Step::AnyItem } else { Step::Index(index.parse().ok()?) });
                rest = &rest[end + 1..];
            }
            _ => return None,
        }
    }
    Some(steps)
}

/// How a match is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A text without its quotes.
    Raw,
    Quoted,
    /// The items of an array in its parent's place.
    Flatten,
}

/// What a path finds, as a text.
pub fn find(node: &Node, steps: &[Step]) -> Option<String> {
    let mut out = Out::default();
    matches(node, steps, Style::Raw, &mut out).then_some(out.text)
}

/// A value as a text: a text itself, anything else as JSON; NULL for null.
pub fn plain(node: &Node) -> Option<String> {
    if let Value::Null = node.value { None } else { find(node, &[]) }
}

#[derive(Default)]
struct Out {
    text: String,
    /// Values in an array are told apart.
    in_array: bool,
}

impl Out {
    fn value(&mut self, text: &str) {
        if self.in_array && !self.text.is_empty() && !self.text.ends_with('[') {
            self.text.push(',');
        }
        self.text.push_str(text);
    }

    /// What is written inside an array of its own.
    fn array(write: impl FnOnce(&mut Out) -> usize) -> (usize, String) {
        let mut inner = Out { text: String::new(), in_array: true };
        let found = write(&mut inner);
        (found, inner.text)
    }
}

fn matches(node: &Node, steps: &[Step], style: Style, out: &mut Out) -> bool {
    use Step::{AnyField, AnyItem, Index, Named};
    match (&node.value, steps) {
        (Value::Text(text), []) if style == Style::Raw => {
            out.value(text);
            true
        }
        (Value::Array(items), []) if style == Style::Flatten => {
            count(items, |item| matches(item, &[], style, out)) > 0
        }
        (_, []) => {
            out.value(&write::node(node));
            true
        }
        (Value::Object(fields), [step @ (Named(_) | AnyField), rest @ ..]) => {
            fields.iter().any(|(name, value)| match step {
                Named(wanted) if wanted == name && !matches!(value.value, Value::Null) => {
                    matches(value, rest, style, out)
                }
                AnyField => matches(value, rest, style, out),
                _ => false,
            })
        }
        (Value::Array(items), [AnyItem, AnyItem, rest @ ..]) => {
            let (found, text) =
                Out::array(|out| count(items, |item| matches(item, rest, Style::Flatten, out)));
            out.value(&format!("[{text}]"));
            found > 0
        }
        (Value::Array(items), [AnyItem, rest @ ..]) if style != Style::Quoted => {
            let next = if style == Style::Raw { Style::Quoted } else { Style::Flatten };
            let (found, text) =
                Out::array(|out| count(items, |item| matches(item, rest, next, out)));
            match found {
                0 => {}
                1 => out.value(&text),
                _ => out.value(&format!("[{text}]")),
            }
            found > 0
        }
        (Value::Array(items), [AnyItem, rest @ ..]) => {
            let (found, text) =
                Out::array(|out| count(items, |item| matches(item, rest, Style::Quoted, out)));
            out.value(&format!("[{text}]"));
            found > 0
        }
        (Value::Array(items), [Index(at), rest @ ..]) => {
            let style = if rest.first() == Some(&AnyItem) { Style::Quoted } else { style };
            items.get(*at).is_some_and(|item| matches(item, rest, style, out))
        }
        _ => false,
    }
}

fn count(items: &[Node], mut matches: impl FnMut(&Node) -> bool) -> usize {
    items.iter().map(|item| usize::from(matches(item))).sum()
}

#[cfg(test)]
mod tests {
    use super::super::read::first;
    use super::*;

    /// Expected values: Spark's `JsonExpressionsSuite`, over Hive's sample document.
    #[test]
    fn paths_find_what_sparks_find() {
        const STORE: &str = r#"{"store":{"fruit":[{"weight":8,"type":"apple"},{"weight":9,"type":"pear"}],"basket":[[1,2,{"b":"y","a":"x"}],[3,4],[5,6]],"book":[{"author":"Nigel Rees","price":8.95},{"author":"J. R. R. Tolkien","price":22.99,"reader":[{"age":25,"name":"bob"},{"age":26,"name":"jack"}]}],"bicycle":{"price":19.95,"color":"red"}},"email":"amy@only_for_json_udf_test.net","owner":"amy","zip code":"94025","fb:testid":"1234"}"#;
        let check = |path: &str, expected: Option<&str>| {
            let steps = parse(path);
            let found = steps.and_then(|steps| find(&first(STORE).unwrap(), &steps));
            assert_eq!(found.as_deref(), expected, "{path}");
        };
        check("$.owner", Some("amy"));
        check("$.store.bicycle", Some(r#"{"price":19.95,"color":"red"}"#));
        check("$.store.book[0]", Some(r#"{"author":"Nigel Rees","price":8.95}"#));
        check("$.store.fruit[0].weight", Some("8"));
        check("$.store.fruit[*].type", Some(r#"["apple","pear"]"#));
        check("$.store.book[*].reader[0].age", Some("25"));
        check("$.store.book[*].reader[*].name", Some(r#"["bob","jack"]"#));
        check("$.store.basket[0][1]", Some("2"));
        check("$.store.basket[*]", Some(r#"[[1,2,{"b":"y","a":"x"}],[3,4],[5,6]]"#));
        check("$.store.basket[*][0]", Some("[1,3,5]"));
        check("$.store.basket[0][*]", Some(r#"[1,2,{"b":"y","a":"x"}]"#));
        check("$.store.basket[*][*]", Some(r#"[1,2,{"b":"y","a":"x"},3,4,5,6]"#));
        check("$.store.basket[0][2].b", Some("y"));
        check("$.store.basket[0][*].b", Some(r#"["y"]"#));
        check("$.zip code", Some("94025"));
        check("$.fb:testid", Some("1234"));
        check("$['owner']", Some("amy"));
        check("$.non_exist_key", None);
        check("$..no_recursive", None);
        check("$.store.book[10]", None);
        check("$.store.book[0].non_exist_key", None);
        check("owner", None);
    }
}
