use super::*;

#[test]
fn a_finding_points_at_its_line_and_column() {
    let text = "name = \"x\"\ntrigger = 5\n";
    let finding = Finding::new(21..22, "expected a duration, found 5", "write \"5s\"");
    assert_eq!(
        render(Path::new("job.toml"), text, &[finding]),
        "job.toml:2:11: expected a duration, found 5\n 2 | trigger = 5\n   |           ^\n   = write \"5s\""
    );
}

#[test]
fn findings_come_in_the_order_of_the_file_and_end_after_twenty() {
    let text = "a\n".repeat(30);
    let findings: Vec<Finding> =
        (0..30).rev().map(|i| Finding::new(i * 2..i * 2 + 1, format!("fault {i}"), "")).collect();
    let shown = render(Path::new("j"), &text, &findings);
    assert!(shown.starts_with("j:1:1: fault 0\n 1 | a\n   | ^\nj:2:1: fault 1\n"), "{shown}");
    assert!(
        shown.ends_with("j:20:1: fault 19\n 20 | a\n    | ^\n… and 10 more findings"),
        "{shown}"
    );
}

#[test]
fn a_line_is_shown_in_one_cell_a_character_and_not_beyond_a_terminal() {
    let text = format!("\tk = \x1b[31m\r\n{}X{}\n", "é".repeat(300), "o".repeat(300));
    let at = text.find('X').expect("it is there");
    let shown = render(
        Path::new("j"),
        &text,
        &[Finding::new(1..2, "tab", ""), Finding::new(at..at + 1, "far", "")],
    );
    assert_eq!(
        shown,
        format!(
            "j:1:2: tab\n 1 |  k = \u{fffd}[31m\n   |  ^\nj:2:301: far\n 2 | …{}X{}…\n   | {}^",
            "é".repeat(20),
            "o".repeat(79),
            " ".repeat(21)
        )
    );
}

#[test]
fn places_outside_the_text_or_inside_a_character_do_no_harm() {
    let shown = render(
        Path::new("j"),
        "ü",
        &[Finding::new(1..2, "inside", ""), Finding::new(90..99, "outside", "fix")],
    );
    assert_eq!(shown, "j:1:1: inside\n 1 | ü\n   | ^\nj:1:2: outside\n 1 | ü\n   |  ^\n   = fix");
}

#[test]
fn a_suggestion_is_made_only_where_it_is_close() {
    let keys = ["path", "type", "bootstrap_servers", "mode", "sql", "delimiter"];
    for (word, expected) in [
        ("pth", Some("path")),
        ("Path", Some("path")),
        ("bootstrapServers", Some("bootstrap_servers")),
        ("bootstrap.servers", Some("bootstrap_servers")),
        ("outputMode", Some("mode")),
        ("sep", Some("delimiter")),
        ("query", Some("sql")),
        ("x", None),
        ("parallelism", None),
    ] {
        assert_eq!(closest(word, keys.iter().copied()), expected, "{word}");
    }
}
