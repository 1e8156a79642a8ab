use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use super::*;

/// Files with their modification times, in seconds.
fn tree(files: &[(&str, u64)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, seconds) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
        let file = File::create(path).unwrap();
        file.set_times(FileTimes::new().set_modified(modified)).unwrap();
    }
    root
}

fn check(root: &Path, path: &str, expected: &str) {
    let found = match Place::of(&root.join(path)).and_then(|place| place.list()) {
        Ok(found) => found
            .iter()
            .map(|f| f.path.strip_prefix(root).unwrap().to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => format!("{error}").replace(&*root.to_string_lossy(), ""),
    };
    assert_eq!(found, expected, "{path}");
}

#[test]
fn a_path_names_its_files_by_time_then_name() {
    let root = tree(&[
        ("b.csv", 7),
        ("a.csv", 7),
        ("late.csv", 9),
        ("z.csv", 1),
        (".hidden.csv", 1),
        ("_temporary.csv", 1),
        ("below/x.csv", 2),
        ("below/deep/y.csv", 3),
        ("below/note.txt", 1),
    ]);
    let root = root.path();
    check(root, "a.csv", "a.csv");
    check(root, "", "z.csv a.csv b.csv late.csv");
    check(root, "below", "below/note.txt below/x.csv");
    check(root, "*.csv", "z.csv a.csv b.csv late.csv");
    check(root, "?.csv", "z.csv a.csv b.csv");
    check(root, "[ab].csv", "a.csv b.csv");
    check(root, "[!ab]*.csv", "z.csv late.csv");
    check(root, "[a-m]*.csv", "a.csv b.csv late.csv");
    check(root, "_*.csv", "_temporary.csv");
    check(root, "*/*.csv", "below/x.csv");
    check(root, "**/*.csv", "z.csv below/x.csv below/deep/y.csv a.csv b.csv late.csv");
    check(root, "below/**/y.csv", "below/deep/y.csv");
    check(root, "{late,z,be{low/x,fore}}.csv", "z.csv below/x.csv late.csv");
    check(root, "*.json", "");
}

#[test]
fn what_is_not_there_is_told_with_the_fix() {
    let root = tree(&[("a.csv", 1)]);
    let fix = "correct `path` (a relative one is relative to the job file) or create it";
    let missing = "No such file or directory (os error 2)";
    check(root.path(), "none.csv", &format!("cannot read /none.csv: {missing}; {fix}"));
    check(root.path(), "none/*.csv", &format!("cannot read /none: {missing}; {fix}"));
}

#[test]
fn a_pattern_matches_whole_names() {
    for (pattern, name, expected) in [
        ("*", "a", true),
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("a*b*c", "a1b2bc", true),
        ("a*b*c", "a1b2bcd", false),
        ("*aab", "aaaab", true),
        ("a?c", "abc", true),
        ("a?c", "aäc", true),
        ("a?c", "ac", false),
        ("[]]", "]", true),
        ("[a", "[a", true),
        ("x[0-9][0-9]", "x42", true),
        ("x[0-9][0-9]", "x4a", false),
        ("x[!0-9]", "x4", false),
        ("x[a-]", "x-", true),
    ] {
        assert_eq!(is_match(pattern, name), expected, "{pattern} {name}");
    }
}
