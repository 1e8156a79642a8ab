//! A job that changed while its state stayed: what of the state is kept, made anew or refused.
//!
//! Pure: it compares words. What a state depends on is its [`Part`]s: mode, watermark, the rows
//! taken, the keys, and each column of the state files by its name. A column that both queries have
//! is kept, also when another aggregate reads it now (`avg` beside `sum`); one that only the old
//! query had is dropped. One that only the new query has has no past, as the rows before are gone:
//! that is refused, and so is every change of mode, rows or keys. A watermark's delay is applied
//! anew to the greatest event time seen.

use std::fmt;

use pelton_kernels::cpu::aggregate::partial_schema;

use super::manifest::{Manifest, Part};
use super::table;
use crate::plan::identity;
use crate::plan::query::{Level, Query};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Dropped,
    Recomputed,
    Refused,
}

/// One part of the state, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub fate: Fate,
    pub what: String,
}

const WATERMARK: &str = "watermark";
const STATE: &str = "state ";

/// What the state of a query depends on; parts of a query over the query say so.
pub fn parts(query: &Query) -> Vec<Part> {
    let levels = query.levels.iter().enumerate();
    levels.flat_map(|(number, level)| level_parts(number, level)).collect()
}

fn level_parts(number: usize, level: &Level) -> Vec<Part> {
    let above = if number == 0 { String::new() } else { format!("query {number} above: ") };
    let mut parts = Vec::new();
    for (number, arm) in level.arms.iter().enumerate() {
        let of_arm = if number == 0 { String::new() } else { format!("arm {}: ", number + 1) };
        let mut of_plan = identity::state_parts(&arm.plan);
        of_plan.iter_mut().for_each(|part| part.name.insert_str(0, &format!("{above}{of_arm}")));
        parts.extend(of_plan);
    }
    if let Some(join) = &level.join {
        let text = identity::join_text(join);
        parts.push(Part { name: format!("{above}join"), text });
        return parts;
    }
    if let Some(spec) = level.state() {
        let states = partial_schema(&spec.keys, &spec.calls);
        let named =
            table::columns(level.plan()).into_iter().zip(states.fields()).skip(spec.keys.len());
        parts.extend(named.map(|(name, state)| Part {
            name: format!("{STATE}{above}{name}"),
            text: state.data_type().to_string(),
        }));
    }
    parts
}

/// What becomes of a manifest's state under a query; nothing where the query is the one that wrote it.
pub fn compare(manifest: &Manifest, query: &Query) -> Vec<Change> {
    if manifest.fingerprint == query.fingerprint {
        return Vec::new();
    }
    let stateless = query.levels.iter().all(|level| !level.keeps_state());
    let changes = compare_parts(&manifest.parts, &parts(query), stateless);
    if changes.iter().any(|change| change.fate != Fate::Kept) {
        return changes;
    }
    // The words are the same and the queries are not, or the manifest is of a format without words.
    vec![Change { fate: Fate::Refused, what: "all of it: another query wrote it".into() }]
}

fn compare_parts(was: &[Part], now: &[Part], stateless: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut say = |fate, what: String| changes.push(Change { fate, what });
    for part in now {
        let old = was.iter().find(|old| old.name == part.name);
        let state = part.name.strip_prefix(STATE);
        match (old, state) {
            (Some(old), _) if old.text == part.text => say(Fate::Kept, part.name.clone()),
            (Some(old), None) => {
                let fate = fate_of(&part.name, &old.text, &part.text, stateless);
                say(fate, format!("{}: was {}, is {}", part.name, old.text, part.text));
            }
            (Some(old), Some(_)) => {
                say(Fate::Refused, format!("{}: was {}, is {}", part.name, old.text, part.text));
            }
            (None, _) => say(
                Fate::Refused,
                format!("{}: it has no past, the rows read so far are not in it", part.name),
            ),
        }
    }
    for old in was.iter().filter(|old| now.iter().all(|part| part.name != old.name)) {
        say(Fate::Dropped, old.name.clone());
    }
    changes
}

fn fate_of(name: &str, was: &str, now: &str, stateless: bool) -> Fate {
    let column = |text: &str| text.rsplit_once(" - ").map(|(column, _)| column.to_owned());
    if stateless {
        // Only the place in the input is kept, and that depends on no query.
        Fate::Recomputed
    } else if name == WATERMARK && column(was).is_some() && column(was) == column(now) {
        Fate::Recomputed
    } else {
        Fate::Refused
    }
}

/// Why a changed job does not go on, with all that would become of its state.
pub fn refusal(changes: &[Change], last: &Manifest, location: &str) -> String {
    let refused = changes.iter().any(|change| change.fate == Fate::Refused);
    let fix = match refused {
        true => "go back to that query, or give this one a [checkpoint] path of its own",
        false => "run it with --accept-state-change to go on so, or go back to that query",
    };
    format!(
        "the state in {location} was written by another query (job \"{}\", epoch {})\n{}   = {fix}",
        last.job,
        last.epoch,
        Shown(changes)
    )
}

/// The changes as lines for an operator.
pub struct Shown<'a>(pub &'a [Change]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Change { fate, what } in self.0 {
            let word = match fate {
                Fate::Kept => "kept",
                Fate::Dropped => "dropped",
                Fate::Recomputed => "recomputed",
                Fate::Refused => "refused",
            };
            writeln!(f, "   {word:<10}  {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> Part {
        let (name, text) = text.split_once('=').expect("name=text");
        Part { name: name.into(), text: text.into() }
    }

    fn check(was: &[&str], now: &[&str], expected: &str) {
        let of = |texts: &[&str]| texts.iter().map(|text| part(text)).collect::<Vec<_>>();
        let changes = compare_parts(&of(was), &of(now), false);
        assert_eq!(Shown(&changes).to_string(), expected, "{was:?} -> {now:?}");
    }

    #[test]
    fn f56_each_state_is_kept_dropped_made_anew_or_refused() {
        let base = ["keys=device", "state rows=UInt64", "state sum v=Int64"];
        check(
            &base,
            &["keys=device", "state rows=UInt64"],
            "   kept        keys\n   kept        state rows\n   dropped     state sum v\n",
        );
        check(
            &base,
            &["keys=region", "state rows=UInt64", "state sum v=Int64"],
            "   refused     keys: was device, is region\n   kept        state rows\n   kept        state sum v\n",
        );
        check(
            &["keys=device"],
            &["keys=device", "state max v=Int64"],
            "   kept        keys\n   refused     state max v: it has no past, the rows read so far are not in it\n",
        );
        check(
            &["state sum v=Int64"],
            &["state sum v=Float64"],
            "   refused     state sum v: was Int64, is Float64\n",
        );
        check(
            &["watermark=ts - 5s"],
            &["watermark=ts - 9s"],
            "   recomputed  watermark: was ts - 5s, is ts - 9s\n",
        );
        check(
            &["watermark=ts - 5s"],
            &["watermark=at - 5s"],
            "   refused     watermark: was ts - 5s, is at - 5s\n",
        );
        check(
            &["watermark=none"],
            &["watermark=ts - 5s"],
            "   refused     watermark: was none, is ts - 5s\n",
        );
    }
}
