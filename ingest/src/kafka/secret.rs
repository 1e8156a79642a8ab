//! Settings of librdkafka, and the secrets among them, looked up when a client is made.
//!
//! Invariant: what is looked up goes to librdkafka and nowhere else; errors name the place, not the
//! value.

use std::fs;

use pelton_engine::error::{Error, Result};
use pelton_engine::job::spec::Setting;

/// Each setting with its value.
///
/// Errors: `BadJob` where a variable is not set or a file cannot be read.
pub fn revealed(properties: &[(String, Setting)]) -> Result<Vec<(&str, String)>> {
    properties.iter().map(|(key, setting)| Ok((key.as_str(), reveal(key, setting)?))).collect()
}

fn reveal(key: &str, setting: &Setting) -> Result<String> {
    let missing =
        |what: String| Error::BadJob { rendered: format!("the setting \"{key}\": {what}") };
    match setting {
        Setting::Plain(value) => Ok(value.clone()),
        Setting::Env(name) => std::env::var(name)
            .map_err(|_| missing(format!("the environment has no variable {name}"))),
        Setting::File(path) => {
            let text = fs::read_to_string(path)
                .map_err(|error| missing(format!("cannot read {}: {error}", path.display())))?;
            Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_setting_is_a_text_a_variable_or_a_file_and_never_shown() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from a file\n").unwrap();
        let set = |key: &str, setting| (key.to_owned(), setting);
        let properties = [
            set("a", Setting::Plain("plain".into())),
            set("b", Setting::Env("CARGO_MANIFEST_DIR".into())),
            set("c", Setting::File(file.path().to_owned())),
        ];
        if std::env::var("CARGO_MANIFEST_DIR").is_ok() {
            let values = revealed(&properties).unwrap();
            assert_eq!(values[0], ("a", "plain".into()));
            assert!(values[1].1.contains("ingest"));
            assert_eq!(values[2], ("c", "from a file".into()));
        }
        let shown = format!("{properties:?}");
        assert!(!shown.contains("plain") && !shown.contains("from a file"), "{shown}");
        for (setting, named) in [
            (Setting::Env("PELTON_NO_SUCH".into()), "PELTON_NO_SUCH"),
            (Setting::File("/no/such".into()), "/no/such"),
        ] {
            let error = revealed(&[set("sasl.password", setting)]).unwrap_err();
            assert_eq!(error.exit_code(), 78);
            let said = error.to_string();
            assert!(said.contains("sasl.password") && said.contains(named), "{said}");
        }
    }
}
