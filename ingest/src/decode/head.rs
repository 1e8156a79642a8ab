//! The head of a file: byte order mark, lines to pass over, header.

use std::fmt;
use std::sync::Arc;

use memchr::memchr;

use pelton_engine::batch::{InputColumn, Reason};
use pelton_engine::job::spec::{Format, Header, SourceSpec};

use super::frame::Framer;
use super::tier::SimdTier;
use super::{dialect, field_rules};

/// Which field of a row holds each column; differs from file to file where headers are matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Fields that a row has.
    pub(super) fields: usize,
    /// By column of the plan's input.
    pub(super) of_input: Arc<[usize]>,
}

impl Mapping {
    /// Number of fields, and the field of each column of the plan's input.
    pub fn to_parts(&self) -> (usize, Vec<usize>) {
        (self.fields, self.of_input.to_vec())
    }

    pub fn from_parts((fields, of_input): (usize, Vec<usize>)) -> Mapping {
        Mapping { fields, of_input: of_input.into() }
    }

    /// Fields in the order of the schema.
    pub(super) fn of_schema(source: &SourceSpec, input: &[InputColumn]) -> Mapping {
        let fields = source.written();
        Mapping { fields, of_input: input.iter().map(|column| column.source).collect() }
    }
}

/// What stands before the first row of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Where the first row begins.
    pub consumed: usize,
    /// Newlines before the first row.
    pub newlines: u64,
    pub mapping: Mapping,
}

/// Why a file cannot be read at all. The caller adds its name.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadError {
    Utf16,
    MissingColumn { name: String, found: Vec<String> },
    AmbiguousColumn { name: String },
    BrokenHeader { line: u64, reason: Reason },
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeadError::Utf16 => {
                write!(f, "expected UTF-8, found UTF-16 (by its byte order mark); convert the file")
            }
            HeadError::MissingColumn { name, found } => {
                let found = found.join("\", \"");
                write!(f, "expected a column \"{name}\" in the header, found \"{found}\"")
            }
            HeadError::AmbiguousColumn { name } => {
                write!(f, "expected one column \"{name}\" in the header, found several")
            }
            HeadError::BrokenHeader { line, reason } => {
                write!(f, "line {line}: expected a header, found {reason:?}")
            }
        }
    }
}

impl std::error::Error for HeadError {}

/// Reads the head of a file whose first bytes are given; `None`: more bytes are needed to tell.
///
/// A byte order mark is one only here. `skip_lines` counts lines by their newlines, quotes or not.
/// The header is the first row after them: blank lines and comments before it are passed over. Names
/// are compared as they are, then without regard to case, as SQL does.
///
/// Errors: [`HeadError`]; only columns that the plan reads can be missing.
pub fn file_head(
    source: &SourceSpec,
    input: &[InputColumn],
    bytes: &[u8],
    at_end: bool,
) -> Result<Option<Head>, HeadError> {
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err(HeadError::Utf16);
    }
    const MARK: &[u8] = b"\xEF\xBB\xBF";
    let mut at = match bytes.strip_prefix(MARK) {
        Some(_) => MARK.len(),
        None if !at_end && MARK.starts_with(bytes) => return Ok(None),
        None => 0,
    };
    let mapping = Mapping::of_schema(source, input);
    let Format::Csv(csv) = &source.format else {
        return Ok(Some(Head { consumed: at, newlines: 0, mapping }));
    };
    for _ in 0..csv.skip_lines {
        match memchr(b'\n', &bytes[at..]) {
            Some(newline) => at += newline + 1,
            None if at_end => at = bytes.len(),
            None => return Ok(None),
        }
    }
    if csv.header == Header::None {
        return Ok(Some(head(bytes, at, mapping)));
    }
    let Some((consumed, names)) = header(source, bytes, at, at_end)? else { return Ok(None) };
    let mapping = match csv.header {
        Header::Match if !names.is_empty() => matched(source, input, &names)?,
        _ => mapping,
    };
    Ok(Some(head(bytes, consumed, mapping)))
}

fn head(bytes: &[u8], consumed: usize, mapping: Mapping) -> Head {
    let newlines = bytes[..consumed].iter().filter(|&&b| b == b'\n').count() as u64;
    Head { consumed, newlines, mapping }
}

/// Reads the first row from `at` on; returns where the next one begins, and the fields' texts: none if
/// the input has no row.
fn header(
    source: &SourceSpec,
    bytes: &[u8],
    at: usize,
    at_end: bool,
) -> Result<Option<(usize, Vec<String>)>, HeadError> {
    let mut dialect = dialect(source, source.written());
    dialect.fewer_allowed = true;
    dialect.more_allowed = true;
    let mut framer = Framer::new(dialect, SimdTier::Portable);
    let mut at = at;
    loop {
        let frame = framer.frame(&bytes[at..], at_end, 1);
        if let Some(error) = framer.rows.errors.first() {
            let before = &bytes[..at + error.start as usize];
            let line = 1 + before.iter().filter(|&&b| b == b'\n').count() as u64;
            return Err(HeadError::BrokenHeader { line, reason: error.reason.clone() });
        }
        if !framer.rows.starts.is_empty() {
            let names = header_names(source, &framer, &bytes[at..]);
            return Ok(Some((at + frame.consumed, names)));
        }
        at += frame.consumed;
        if frame.need_more {
            return Ok((at_end).then(|| (at, Vec::new())));
        }
    }
}

fn header_names(source: &SourceSpec, framer: &Framer, bytes: &[u8]) -> Vec<String> {
    let mut rules = field_rules(source, None);
    rules.nulls.clear();
    let (first, found) = match framer.stride() {
        Some(stride) => (0, stride),
        None => (framer.rows.first[0] as usize, framer.rows.found[0] as usize),
    };
    let mut start = framer.rows.starts[0];
    let mut room = Vec::new();
    let ends = &framer.index.positions()[first..first + found];
    ends.iter()
        .map(|&end| {
            let text = rules.text(bytes, start, end, &mut room).unwrap_or_default();
            start = end + 1;
            String::from_utf8_lossy(text).into_owned()
        })
        .collect()
}

fn matched(
    source: &SourceSpec,
    input: &[InputColumn],
    names: &[String],
) -> Result<Mapping, HeadError> {
    let of_input = input.iter().map(|column| {
        let name = &source.schema[column.source].name;
        let only = |is: &dyn Fn(&String) -> bool| {
            let mut found = (0..names.len()).filter(|&i| is(&names[i]));
            (found.next(), found.next())
        };
        let exact = only(&|n| n == name);
        let found = if exact.0.is_some() { exact } else { only(&|n| n.eq_ignore_ascii_case(name)) };
        match found {
            (Some(field), None) => Ok(field),
            (Some(_), Some(_)) => Err(HeadError::AmbiguousColumn { name: name.clone() }),
            (None, _) => {
                Err(HeadError::MissingColumn { name: name.clone(), found: names.to_vec() })
            }
        }
    });
    Ok(Mapping { fields: names.len(), of_input: of_input.collect::<Result<_, _>>()? })
}
