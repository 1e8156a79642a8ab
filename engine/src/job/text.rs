//! A job's text: the job file and what the command line sets beside it, as one range of bytes.
//!
//! Findings name bytes of this range, so that a fault in `--set query.mode=x` has a place as one in
//! the file has. The file is read once, whole, and refused above a size that no job needs.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::finding::{Finding, block};
use crate::error::{Error, Result};

/// A job file is written by hand: the bundled ones have 2 KB, this leaves room for 500 times that.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// As many findings as a terminal shows; the rest is counted.
pub(super) const FINDINGS_MAX: usize = 20;

#[derive(Clone, Debug)]
pub struct JobText {
    path: PathBuf,
    /// The file, a newline, then `key=value` and a newline for each override.
    text: String,
    file_len: usize,
    overrides: Vec<Override>,
    /// What is legal in this job but perhaps not meant; [`JobText::render_warnings`] prints it.
    pub warnings: Vec<Finding>,
}

/// Where a `--set key=value` stands in the text.
#[derive(Clone, Debug)]
pub struct Override {
    pub key: Range<usize>,
    pub value: Range<usize>,
}

impl JobText {
    pub fn new(path: impl Into<PathBuf>, file: &str, overrides: &[(String, String)]) -> Self {
        // A byte order mark is no part of the text: the first column of line 1 is the first letter.
        let file = file.strip_prefix('\u{feff}').unwrap_or(file);
        let mut text = format!("{file}\n");
        let mut places = Vec::new();
        for (key, value) in overrides {
            let start = text.len();
            let equals = start + key.len();
            text.push_str(key);
            text.push('=');
            text.push_str(value);
            places.push(Override { key: start..equals, value: equals + 1..text.len() });
            text.push('\n');
        }
        JobText {
            path: path.into(),
            text,
            file_len: file.len(),
            overrides: places,
            warnings: Vec::new(),
        }
    }

    /// Reads the job file.
    ///
    /// Errors: `Unavailable` where it cannot be read; `BadJob` where it is too long or not UTF-8.
    pub fn load(path: &Path, overrides: &[(String, String)]) -> Result<Self> {
        let unavailable = |error: &std::io::Error| Error::Unavailable {
            what: format!("cannot read the job file {}: {error}", path.display()),
            fix: similar_file(path)
                .map_or("check the path".into(), |name| format!("did you mean {name}?")),
        };
        let file = File::open(path).map_err(|e| unavailable(&e))?;
        let about = file.metadata().map_err(|e| unavailable(&e))?;
        if about.is_dir() {
            return Err(Error::Unavailable {
                what: format!("{} is a directory, not a job file", path.display()),
                fix: "name a .toml file".into(),
            });
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| unavailable(&e))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(JobText::new(path, "", &[]).refuse(&[Finding {
                at: None,
                what: format!(
                    "{} long, a job file has at most 1 MiB",
                    if about.len() > FILE_BYTES_MAX {
                        format!("{} MiB", about.len().div_ceil(1 << 20))
                    } else {
                        "more than 1 MiB".into()
                    }
                ),
                fix: "is this the data instead of the job?".into(),
            }]));
        }
        match String::from_utf8(bytes) {
            Ok(file) => Ok(JobText::new(path, &file, overrides)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let byte = error.as_bytes()[valid];
                let file = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let at = valid..valid + char::REPLACEMENT_CHARACTER.len_utf8();
                Err(JobText::new(path, &file, &[]).refuse(&[Finding::new(
                    at,
                    format!("a job file is UTF-8 text, found the byte 0x{byte:02X}"),
                    "save the file as UTF-8",
                )]))
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What every place counts in: the file's bytes first.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The file's own bytes.
    pub fn file(&self) -> &str {
        &self.text[..self.file_len]
    }

    pub(super) fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// The error that refuses the job for these findings.
    pub fn refuse(&self, findings: &[Finding]) -> Error {
        Error::BadJob { rendered: self.render(findings) }
    }

    /// One block a finding, in the order of the file, at most twenty.
    pub fn render(&self, findings: &[Finding]) -> String {
        self.render_as("", findings)
    }

    pub fn render_warnings(&self) -> String {
        self.render_as("warning: ", &self.warnings)
    }

    fn render_as(&self, label: &str, findings: &[Finding]) -> String {
        let mut ordered: Vec<&Finding> = findings.iter().collect();
        ordered.sort_by_key(|finding| finding.at.as_ref().map(|at| at.start));
        let mut blocks: Vec<String> =
            ordered.iter().take(FINDINGS_MAX).map(|finding| self.block(label, finding)).collect();
        match ordered.len().saturating_sub(FINDINGS_MAX) {
            0 => {}
            1 => blocks.push("… and one more finding".into()),
            more => blocks.push(format!("… and {more} more findings")),
        }
        blocks.join("\n")
    }

    fn block(&self, label: &str, finding: &Finding) -> String {
        let what = format!("{label}{}", finding.what);
        let flag = finding.at.as_ref().and_then(|at| {
            self.overrides.iter().find(|o| (o.key.start..=o.value.end).contains(&at.start))
        });
        match (&finding.at, flag) {
            (Some(at), Some(flag)) => {
                let start = flag.key.start;
                let text = &self.text[start..flag.value.end];
                let at = at.start - start..at.end.max(at.start) - start;
                block(Head::CommandLine, text, Some(at), &what, &finding.fix)
            }
            (at, _) => block(Head::File(&self.path), self.file(), at.clone(), &what, &finding.fix),
        }
    }
}

/// What a finding's first line begins with.
pub(super) enum Head<'a> {
    File(&'a Path),
    CommandLine,
}

/// A file beside `path` whose name is close to it.
fn similar_file(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let names: Vec<String> =
        std::fs::read_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".toml") && name != wanted)
            .collect();
    let close =
        super::finding::closest(wanted, names.iter().map(String::as_str)).or_else(|| {
            names.iter().map(String::as_str).find(|n| n.strip_suffix(".toml") == Some(wanted))
        })?;
    Some(parent.join(close).display().to_string())
}
