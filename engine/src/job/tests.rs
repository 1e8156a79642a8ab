//! Whole job files: what is read, and each refusal as it is shown.

use super::*;

/// Every job that comes with the program is read without a finding.
#[test]
fn the_bundled_jobs_are_good() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../jobs"));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).expect("jobs/ is in the repository") {
        let path = entry.expect("a readable directory").path();
        if let Err(error) = read(&path, &[], &|_| None) {
            panic!("{error}");
        }
        names.push(path.file_name().expect("a file").to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["generate.toml", "sensors.toml", "word-count.toml"]);
}
