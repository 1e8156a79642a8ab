//! Whether rows are Spark's: by type, exact but for doubles that Spark adds in some order.

use super::json::{self, Object};

/// One row as comparable texts; NULL is none.
pub type Row = Vec<Option<String>>;

/// Names and types of `a INT, ``count(1)`` BIGINT, w STRUCT<start: TIMESTAMP, end: TIMESTAMP>`.
pub fn columns(schema: &str) -> Vec<(String, String)> {
    let (mut parts, mut depth, mut quoted) = (vec![String::new()], 0, false);
    for c in schema.chars() {
        match c {
            '`' => quoted = !quoted,
            '(' | '<' if !quoted => depth += 1,
            ')' | '>' if !quoted => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 && !quoted {
            parts.push(String::new());
        } else {
            parts.last_mut().expect("it starts with one").push(c);
        }
    }
    parts.iter().map(|part| column(part.trim())).collect()
}

fn column(part: &str) -> (String, String) {
    let (name, data_type) = match part.strip_prefix('`') {
        Some(rest) => rest.rsplit_once('`').expect("a quoted name ends"),
        None => part.split_once(' ').expect("a column has a type"),
    };
    (name.to_string(), data_type.trim().to_string())
}

/// A row of a case's CSV.
pub fn expected(columns: &[(String, String)], row: &[Option<String>]) -> Row {
    let cell = |((_, data_type), cell): (&(String, String), &Option<String>)| {
        cell.as_ref().map(|cell| canonical(data_type, cell))
    };
    columns.iter().zip(row).map(cell).collect()
}

/// A row of the program's JSON, in which NULL fields are left out.
///
/// Errors: a member that is no column, or out of their order.
pub fn found(columns: &[(String, String)], row: &Object) -> Result<Row, String> {
    let mut members = row.iter().peekable();
    let cells = columns.iter().map(|(name, data_type)| {
        let (_, value) = members.next_if(|(member, _)| member == name)?;
        let is_text = value.starts_with('"');
        let text = if is_text { json::string(value) } else { value.clone() };
        Some(canonical(data_type, &text))
    });
    let cells = cells.collect();
    match members.next() {
        None => Ok(cells),
        Some((name, _)) => Err(format!("column {name} was not expected in {row:?}")),
    }
}

/// One text for equal values.
fn canonical(data_type: &str, text: &str) -> String {
    let bad = |error: &dyn std::fmt::Display| -> ! { panic!("{text} as {data_type}: {error}") };
    match data_type {
        "DOUBLE" => match text.parse::<f64>() {
            Ok(value) => format!("{value:?}"),
            Err(error) => bad(&error),
        },
        "FLOAT" => match text.parse::<f32>() {
            Ok(value) => format!("{value:?}"),
            Err(error) => bad(&error),
        },
        _ => text.to_string(),
    }
}

/// Why the rows differ, if they do. Without `ordered` their order does not count.
pub fn difference(
    columns: &[(String, String)],
    approx: &[&str],
    ordered: bool,
    mut expected: Vec<Row>,
    mut found: Vec<Row>,
) -> Option<String> {
    let is_approx: Vec<bool> = columns.iter().map(|(name, _)| approx.contains(&&**name)).collect();
    if !ordered {
        let key = |row: &Row| -> Row {
            let exact = row.iter().zip(&is_approx).filter(|(_, approx)| !**approx);
            exact.map(|(cell, _)| cell.clone()).collect()
        };
        expected.sort_by_key(key);
        found.sort_by_key(key);
    }
    let same_row = |(a, b): (&Row, &Row)| {
        a.iter().zip(b).zip(&is_approx).all(|((a, b), approx)| a == b || *approx && is_near(a, b))
    };
    let same = expected.len() == found.len() && expected.iter().zip(&found).all(same_row);
    (!same).then(|| format!("expected {}, found {}", lines(&expected), lines(&found)))
}

/// Equal to 1e-12 of their size.
fn is_near(a: &Option<String>, b: &Option<String>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) else { return false };
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

fn lines(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let cells = row.iter().map(|cell| cell.as_deref().unwrap_or("NULL"));
        format!("\n      {}", cells.collect::<Vec<_>>().join(" | "))
    };
    if rows.is_empty() { "no row".to_string() } else { rows.iter().map(row).collect() }
}

/// Whether a refusal gives Spark's reason: most words of its first sentence, or of what that ends
/// with behind a colon.
pub fn is_reason(spark: &str, own: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let word = |c: char| !c.is_alphanumeric() && c != '_';
        text.to_lowercase().split(word).filter(|w| w.len() > 2).map(str::to_string).collect()
    };
    let message = spark.split_once("] ").map_or(spark, |(_, message)| message);
    let sentence = message.split(['.', ';']).next().unwrap_or(message);
    let own = words(own);
    let is_there = |reason: &str| {
        let theirs = words(reason);
        let there = theirs.iter().filter(|word| own.contains(word)).count();
        there * 3 >= theirs.len() * 2
    };
    // `Cannot resolve "…" due to data type mismatch: the reason`
    is_there(sentence) || sentence.rsplit_once(": ").is_some_and(|(_, reason)| is_there(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_cut_at_their_own_commas() {
        let found = columns("a INT, `sum((v, 2))` DECIMAL(10,2), w STRUCT<start: DATE, end: DATE>");
        let of = |name: &str, data_type: &str| (name.to_string(), data_type.to_string());
        let last = of("w", "STRUCT<start: DATE, end: DATE>");
        assert_eq!(found, vec![of("a", "INT"), of("sum((v, 2))", "DECIMAL(10,2)"), last]);
    }

    #[test]
    fn rows_differ_by_value_by_number_and_where_it_counts_by_order() {
        let columns = columns("k INT, x DOUBLE");
        let row = |k: &str, x: &str| expected(&columns, &[Some(k.into()), Some(x.into())]);
        let check = |approx: &[&str], ordered, a: Vec<Row>, b: Vec<Row>| {
            difference(&columns, approx, ordered, a, b).is_none()
        };
        let one = || vec![row("1", "1e16"), row("2", "0.5")];
        let other = || vec![row("2", "5E-1"), row("1", "10000000000000000.0")];
        assert!(check(&[], false, one(), other()));
        assert!(!check(&[], true, one(), other()));
        assert!(!check(&[], false, one(), vec![row("1", "1e16")]));
        assert!(!check(&[], false, vec![row("1", "0.1")], vec![row("1", "0.10000000000000001e1")]));
        assert!(check(&["x"], false, vec![row("1", "0.3")], vec![row("1", "0.30000000000000004")]));
        assert!(!check(&["x"], false, vec![row("1", "0.3")], vec![row("1", "0.3001")]));
    }

    #[test]
    fn a_reason_is_sparks_by_most_of_its_words() {
        let spark = "[A.B] Limits are not supported on streaming DataFrames in Update output mode";
        assert!(is_reason(
            spark,
            "Limits are not supported on streaming tables in Update output mode"
        ));
        assert!(!is_reason(spark, "LIMIT is not in this version"));
    }
}
