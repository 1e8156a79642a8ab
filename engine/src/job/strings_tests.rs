use crate::job::text::JobText;
use crate::job::tree::{self, Value};

fn env(name: &str) -> Option<String> {
    match name {
        "DIR" => Some("/data".into()),
        "EMPTY" => Some(String::new()),
        "TRAP" => Some("${DIR}".into()),
        _ => None,
    }
}

/// The value of `k = …` and, for each of its bytes, the text that made it.
fn read(written: &str) -> (String, Vec<String>, Vec<String>) {
    let file = format!("k = {written}\n");
    let text = JobText::new("j", &file, &[]);
    let mut findings = Vec::new();
    let root = tree::parse(&text, &env, &mut findings);
    let faults = findings
        .iter()
        .map(|f| format!("{} @ {}", f.what, f.at.clone().map_or("", |at| &file[at])))
        .collect();
    let Some(Value::Text(found)) = root.get("k").map(|entry| entry.node.value.clone()) else {
        return (String::new(), Vec::new(), faults);
    };
    let made =
        (0..found.value.len()).map(|i| file[found.map.source(i..i + 1)].to_owned()).collect();
    (found.value, made, faults)
}

#[test]
fn every_byte_of_a_string_leads_back_to_what_made_it() {
    for (written, value, made) in [
        (r#""ab""#, "ab", vec!["a", "b"]),
        (r#"'a\b'"#, r"a\b", vec!["a", r"\", "b"]),
        (r#""a\"\\\tb""#, "a\"\\\tb", vec!["a", r#"\""#, r"\\", r"\t", "b"]),
        (r#""\u0041\x42""#, "AB", vec![r"\u0041", r"\x42"]),
        ("\"\"\"\na\nb\"\"\"", "a\nb", vec!["a", "\n", "b"]),
        ("\"\"\"a \\\n   b\"\"\"", "a b", vec!["a", " ", "b"]),
        ("'''\n'a'\\'''", "'a'\\", vec!["'", "a", "'", "\\"]),
        (r#""""say "x" """"#, "say \"x\" ", vec!["s", "a", "y", " ", "\"", "x", "\"", " "]),
        ("\"\"\"x\"\"\"\"\"", "x\"\"", vec!["x", "\"", "\""]),
        (r#""""#, "", vec![]),
        (
            r#""${DIR}/f""#,
            "/data/f",
            vec!["${DIR}", "${DIR}", "${DIR}", "${DIR}", "${DIR}", "/", "f"],
        ),
    ] {
        let (found, pieces, faults) = read(written);
        let made = made.iter().map(|&piece| piece.into()).collect();
        assert_eq!((found.as_str(), pieces, faults), (value, made, Vec::new()), "{written}");
    }
}

#[test]
fn variables_are_replaced_inside_strings_once() {
    for (written, value) in [
        (r#""${DIR}/x""#, "/data/x"),
        (r#""${NONE:-data}/x""#, "data/x"),
        (r#""${EMPTY:-data}/x""#, "data/x"),
        (r#""${EMPTY}/x""#, "/x"),
        (r#""${NONE:-}""#, ""),
        (r#""a${DIR}${DIR}b""#, "a/data/datab"),
        (r#""$${DIR} costs $5""#, "${DIR} costs $5"),
        (r#""${TRAP}""#, "${DIR}"),
        (r#""^\\d+$""#, r"^\d+$"),
    ] {
        let (found, _, faults) = read(written);
        assert_eq!((found.as_str(), faults), (value, Vec::new()), "{written}");
    }
}

#[test]
fn what_is_no_variable_is_a_finding_at_its_place() {
    for (written, fault) in [
        (r#""a/${NONE}/b""#, "the environment variable NONE is not set @ ${NONE}"),
        (r#""\t${NONE}""#, "the environment variable NONE is not set @ ${NONE}"),
        (r#""${DIR""#, "\"${DIR\" is not closed @ ${DIR"),
        (r#""${}""#, "\"${}\" names no environment variable @ ${}"),
        (r#""${1X}""#, "\"${1X}\" names no environment variable @ ${1X}"),
        (r#""${a-b}""#, "\"${a-b}\" names no environment variable @ ${a-b}"),
    ] {
        assert_eq!(read(written).2, [fault], "{written}");
    }
}
