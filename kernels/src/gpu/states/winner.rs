//! States that one row of a group decides: the shader by which rows compete for them, and what is copied
//! of the row that won.
//!
//! Invariant: a pointer is 0 (no row yet), a fresh row of the batch in work, or says that the copy holds
//! the winner of the batches before. Rows are compared by a total order, so who wins is a function of
//! their set.

use std::fmt::Write;

use super::write_line;

/// Words of a place, and of whether the value there is NULL.
pub(in super::super) const PLACE_WORDS: usize = 6;

/// What rows compete by, and what is kept of the winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Race {
    /// A value of so many words that is least or greatest.
    Extreme { words: usize },
    /// A text that is least or greatest: the copy says where the group's own lies.
    Text,
    /// The row's place; kept beside it: whether the value is NULL, and the value, a text as above.
    Place { words: usize, is_text: bool },
}

impl Race {
    /// Words of the copy.
    pub fn copy_words(self) -> usize {
        match self {
            Race::Extreme { words } => words,
            Race::Text => 2,
            Race::Place { words, .. } => PLACE_WORDS + 1 + words,
        }
    }

    pub fn keeps_text(self) -> bool {
        matches!(self, Race::Text | Race::Place { is_text: true, .. })
    }
}

/// One such state in the shader.
pub(super) struct Winner<'a> {
    /// Its unit, by which its functions are named.
    pub at: usize,
    /// Where its copy begins among a group's.
    pub copy: usize,
    pub race: Race,
    /// The greatest, or last, wins.
    pub greatest: bool,
    /// Of all states: units of a group, words of copies.
    pub units: usize,
    pub extremes: usize,
    /// The argument in a record: its value, ordered as its words; whether it is there.
    pub value: &'a str,
    pub is_there: &'a str,
}

impl Winner<'_> {
    /// `candidate`, `held`, `offer` and `keep` of the state.
    pub fn shader(&self, text: &mut String) {
        let Winner { at, copy, units, extremes, greatest, .. } = *self;
        let (kind, candidate, held) = self.compared();
        let kept = "owner == PERSISTED";
        let better = match (self.race, greatest) {
            (Race::Text, false) => {
                format!("less_text(value, false, held_{at}(group, owner), {kept})")
            }
            (Race::Text, true) => {
                format!("less_text(held_{at}(group, owner), {kept}, value, false)")
            }
            (race, false) => format!("{}(value, held_{at}(group, owner))", less(race)),
            (race, true) => format!("{}(held_{at}(group, owner), value)", less(race)),
        };
        let stores = self.stores();
        write!(
            text,
            "fn candidate_{at}(row: u32) -> {kind} {{\n  let record = row * RECORD_WORDS;\n  \
             return {candidate};\n}}\n\
             fn held_{at}(group: u32, owner: u32) -> {kind} {{\n  \
             if (owner != PERSISTED) {{ return candidate_{at}(owner & ~FRESH); }}\n  \
             let copy = group * {extremes}u + {copy}u;\n  return {held};\n}}\n\
             fn offer_{at}(pointer: u32, group: u32, row: u32) {{\n  let value = candidate_{at}(row);\n  \
             var owner = pointer_load(pointer);\n  loop {{\n    \
             if (owner != 0u && !{better}) {{ return; }}\n    \
             let swapped = pointer_swap(pointer, owner, FRESH | row);\n    \
             if (swapped.y == 1u) {{ return; }}\n    owner = swapped.x;\n  }}\n}}\n\
             fn keep_{at}(group: u32, row: u32) {{\n  let pointer = group * {units}u + {at}u;\n  \
             if (pointer_load(pointer) != (FRESH | row)) {{ return; }}\n  \
             let value = candidate_{at}(row);\n  let copy = group * {extremes}u + {copy}u;\n{stores}  \
             pointer_store(pointer, PERSISTED);\n}}\n"
        )
        .expect("a String takes all text");
    }

    /// The type of what is compared, and how to get it from a record and from the copy.
    fn compared(&self) -> (String, String, String) {
        let copied = |words: usize| {
            let held = (0..words).map(|word| format!("extremes[copy + {word}u]"));
            let kind = format!("vec{words}<u32>");
            let held = format!("{kind}({})", held.collect::<Vec<_>>().join(", "));
            (kind, self.value.to_owned(), held)
        };
        match self.race {
            Race::Extreme { words } => copied(words),
            Race::Text => copied(2),
            Race::Place { .. } => {
                ("Place".to_owned(), "place_of(row)".to_owned(), "place_kept(copy)".to_owned())
            }
        }
    }

    /// What `keep` copies of the winner, `value`.
    fn stores(&self) -> String {
        let mut text = String::new();
        let (value, there, at) = (self.value, self.is_there, PLACE_WORDS);
        match self.race {
            Race::Extreme { words } => store(&mut text, "value", 0, words),
            Race::Text => write_line(&mut text, 1, "keep_text(copy, value);"),
            Race::Place { words, is_text } => {
                write_line(&mut text, 1, "let record = row * RECORD_WORDS;");
                write_line(&mut text, 1, "keep_place(copy, value);");
                let is_null = format!("extremes[copy + {at}u] = u32(!({there}));");
                write_line(&mut text, 1, &is_null);
                if is_text {
                    let keep = format!("keep_text(copy + {}u, {value});", at + 1);
                    write_line(&mut text, 1, &keep);
                } else {
                    write_line(&mut text, 1, &format!("let kept = {value};"));
                    store(&mut text, "kept", at + 1, words);
                }
            }
        }
        text
    }
}

fn less(race: Race) -> &'static str {
    match race {
        Race::Extreme { words: 2 } => "less2",
        Race::Extreme { .. } => "less4",
        Race::Text => "less_text",
        Race::Place { .. } => "is_before",
    }
}

fn store(text: &mut String, value: &str, from: usize, words: usize) {
    for (word, part) in ["x", "y", "z", "w"][..words].iter().enumerate() {
        write_line(text, 1, &format!("extremes[copy + {}u] = {value}.{part};", from + word));
    }
}
