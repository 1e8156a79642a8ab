//! Patterns of dates and times: Java's `DateTimeFormatter` letters, as Spark's.
//!
//! This checks a pattern where it is written; the decoder compiles it. The two lists of letters are
//! equal.

use std::ops::Range;

use super::finding::quoted;
use super::unit::Fault;

const FORM: &str = "patterns are Java's, as \"yyyy-MM-dd HH:mm:ss.SSS\" or \"dd.MM.yyyy\"; other \
                    words stand in 'quotes'";

/// `zoned`: the column is a TIMESTAMP, so that its text may name an offset.
pub fn check(text: &str, zoned: bool) -> Result<(), Fault> {
    if text.contains('%') {
        return Err(Fault::all(text, format!("{} is no pattern of ours", quoted(text)), FORM));
    }
    let fields = fields(text)?;
    if fields.is_empty() {
        return Err(Fault::all(text, format!("{} is no pattern", quoted(text)), FORM));
    }
    let has = |letters: &str| fields.iter().find(|(letter, _)| letters.contains(*letter));
    if let Some((_, at)) = fields.iter().find(|(letter, at)| !known(*letter, at.len())) {
        let what = format!("{} is no field of a pattern", quoted(&text[at.clone()]));
        return Err(Fault::new(at.clone(), what, FORM));
    }
    if let (Some((letter, at)), None) = (has("hK"), has("a")) {
        let what = format!("`{letter}` is an hour of a half day, and no `a` says which half");
        return Err(Fault::new(at.clone(), what, "write HH for 0 to 23, or add a for AM and PM"));
    }
    if let (Some((_, at)), false) = (has("XxZ"), zoned) {
        let what = "only a TIMESTAMP has a zone";
        return Err(Fault::new(at.clone(), what, "declare the column TIMESTAMP"));
    }
    Ok(())
}

/// The runs of equal letters outside quotes.
fn fields(text: &str) -> Result<Vec<(char, Range<usize>)>, Fault> {
    let mut fields: Vec<(char, Range<usize>)> = Vec::new();
    let mut quote = None;
    let mut optional = Vec::new();
    for (i, c) in text.char_indices() {
        match c {
            '\'' => quote = if quote.is_some() { None } else { Some(i) },
            _ if quote.is_some() => {}
            '[' => optional.push(i),
            ']' if optional.pop().is_some() => {}
            ']' | '{' | '}' | '#' => {
                return Err(Fault::new(i..i + 1, format!("`{c}` has no meaning here"), FORM));
            }
            'a'..='z' | 'A'..='Z' => match fields.last_mut() {
                Some((letter, at)) if *letter == c && at.end == i => at.end += 1,
                _ => fields.push((c, i..i + 1)),
            },
            _ => {}
        }
    }
    match quote.or(optional.pop()) {
        Some(open) => Err(Fault::new(open..open + 1, "this is not closed", FORM)),
        None => Ok(fields),
    }
}

fn known(letter: char, width: usize) -> bool {
    match letter {
        'y' | 'u' | 'M' | 'L' => width <= 4,
        'd' | 'H' | 'k' | 'h' | 'K' | 'm' | 's' => width <= 2,
        'D' | 'X' | 'x' => width <= 3,
        'S' => width <= 9,
        'a' => width == 1,
        'Z' => width <= 3 || width == 5,
        _ => false,
    }
}
