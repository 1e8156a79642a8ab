//! What a file sink left behind, read as its reader would.

use std::path::Path;

/// The rows of a directory of CSV files, in epoch order, without headers.
///
/// Panics at a file that is none of the sink's: a leftover of staging must not lie among the output.
pub fn rows(dir: &Path, header: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for name in files(dir) {
        let text = std::fs::read_to_string(dir.join(&name)).expect("the sink writes UTF-8");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(header), "the header of {name}");
        rows.extend(lines.map(String::from));
        assert!(text.ends_with('\n'), "{name} ends with a whole row");
    }
    rows
}

/// The sink's files by epoch and number.
pub fn files(dir: &Path) -> Vec<String> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("{}: {error}", dir.display()),
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a directory can be read").file_name().into_string())
        .map(|name| name.expect("the sink's names are UTF-8"))
        .filter(|name| name != "_pelton")
        .collect();
    for name in &names {
        assert!(name.starts_with("epoch-") && name.ends_with(".csv"), "{name} lies in the output");
    }
    names.sort();
    names
}
