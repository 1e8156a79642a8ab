//! The states of a group on a device: which there are, where they lie, and the shader that folds a
//! row into them.
//!
//! Invariant: one state here for each of `cpu::aggregate`'s layout, so that a table that is read back
//! is taken into the CPU's as any other one. Sums lie in units of 64 bits that start at zero. A least
//! or greatest value, a first or a last one is a pointer to the row that has it, and once that row's chunk
//! is done a copy of the value: comparing needs no atomic operation as wide as the value.

mod winner;

use std::fmt::Write;

use super::query::Records;
use crate::cpu::aggregate::fold::{Operation, Width};
use crate::cpu::aggregate::layout::{Input, Layout, Placed};
use crate::cpu::aggregate::state::State;
use crate::cpu::aggregate::{AggregateSpec, Call};
use crate::cpu::column::Class;
use winner::Winner;
pub(super) use winner::{PLACE_WORDS, Race};

pub(super) struct States {
    /// Of all groups, in units of 64 bits.
    pub units: usize,
    /// Words of what is copied of a group's winning rows.
    pub extreme_words: usize,
    /// How many of those copies are texts.
    pub texts: usize,
    pub filters: Vec<Filtered>,
    /// Number of exact sums: each has a base exponent.
    pub exact: Vec<Exact>,
}

/// An exact sum of doubles, or of their squares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
    pub is_square: bool,
}

pub(super) struct Filtered {
    pub filter: Option<usize>,
    pub rows: usize,
    pub inputs: Vec<OfInput>,
}

pub(super) struct OfInput {
    pub argument: usize,
    pub nulls: usize,
    pub states: Vec<OnDevice>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum OnDevice {
    /// An integer of so many units at this one.
    Sum {
        at: usize,
        units: usize,
    },
    /// The complement's `or`, so that nothing is all zeros.
    And {
        at: usize,
    },
    Or {
        at: usize,
    },
    Xor {
        at: usize,
    },
    /// A pointer at this unit, what is kept of its row at this word of the copies.
    Winner {
        at: usize,
        copy: usize,
        race: Race,
        greatest: bool,
        /// Rows whose value is NULL compete, too.
        takes_nulls: bool,
    },
    /// Three units, or five for squares, and its number among the exact sums.
    Exact {
        at: usize,
        number: usize,
    },
}

impl States {
    /// Why an aggregate has no kernel on a device, if it has none.
    pub fn refusal(spec: &AggregateSpec) -> Option<String> {
        let call =
            Call { spec: spec.clone(), argument: spec.input.as_ref().map(|_| 0), filter: None };
        let layout = Layout::new(&[call]);
        let inputs = layout.filters.iter().flat_map(|filtered| &filtered.inputs);
        let mut states = inputs.flat_map(|input| &input.states).map(|placed| &placed.state);
        states.find_map(|state| match state {
            State::Kept(_) => Some("sets and lists of values are kept on the CPU".to_owned()),
            State::Text(_) | State::Pick(_) => None,
            State::Fold(_) | State::Sum(_) | State::Squares(_) => None,
        })
    }

    pub fn new(layout: &Layout) -> States {
        let mut states =
            States { units: 0, extreme_words: 0, texts: 0, filters: Vec::new(), exact: Vec::new() };
        for filtered in &layout.filters {
            let rows = states.place(1);
            let inputs = filtered.inputs.iter().map(|input| states.of_input(input)).collect();
            states.filters.push(Filtered { filter: filtered.filter, rows, inputs });
        }
        states
    }

    fn place(&mut self, units: usize) -> usize {
        self.units += units;
        self.units - units
    }

    fn of_input(&mut self, input: &Input) -> OfInput {
        let nulls = self.place(1);
        let states = input.states.iter().map(|placed| self.of_state(placed));
        OfInput { argument: input.argument, nulls, states: states.collect() }
    }

    fn of_state(&mut self, placed: &Placed) -> OnDevice {
        match &placed.state {
            State::Sum(_) => self.exact(false),
            State::Squares(_) => self.exact(true),
            State::Fold(fold) => {
                let units = match fold.width {
                    Width::Word => 1,
                    Width::Pair => 2,
                    Width::Triple => 3,
                };
                match fold.operation {
                    Operation::Sum => OnDevice::Sum { at: self.place(units), units },
                    Operation::And => OnDevice::And { at: self.place(1) },
                    Operation::Or => OnDevice::Or { at: self.place(1) },
                    Operation::Xor => OnDevice::Xor { at: self.place(1) },
                    Operation::Least | Operation::Greatest => {
                        let greatest = fold.operation == Operation::Greatest;
                        self.winner(Race::Extreme { words: 2 * units }, greatest, false)
                    }
                }
            }
            State::Text(text) => self.winner(Race::Text, text.greatest, false),
            State::Pick(pick) => {
                let words = if pick.class == Class::Decimal { 4 } else { 2 };
                let race = Race::Place { words, is_text: pick.class == Class::Bytes };
                self.winner(race, pick.last, !pick.ignore_nulls)
            }
            State::Kept(_) => unreachable!("refused before"),
        }
    }

    fn winner(&mut self, race: Race, greatest: bool, takes_nulls: bool) -> OnDevice {
        let (at, copy) = (self.place(1), self.extreme_words);
        self.extreme_words += race.copy_words();
        self.texts += usize::from(race.keeps_text());
        OnDevice::Winner { at, copy, race, greatest, takes_nulls }
    }

    fn exact(&mut self, is_square: bool) -> OnDevice {
        let (at, number) = (self.place(if is_square { 5 } else { 3 }), self.exact.len());
        self.exact.push(Exact { is_square });
        OnDevice::Exact { at, number }
    }

    /// The functions `fold` and `keep` of `aggregate.wgsl`, with those that they call; and `merge` where
    /// states lie near: a driver compiles also what nothing calls.
    pub fn shader(&self, records: &Records, classes: &[Option<Class>], is_near: bool) -> String {
        let mut text = String::new();
        let (mut fold, mut keep, mut merge) = (String::new(), String::new(), String::new());
        for filtered in &self.filters {
            let passes = filtered.filter.map_or("true".to_owned(), |filter| {
                let at = records.arguments[filter].at;
                format!("{} && records[record + {at}u] != 0u", is_there(filter))
            });
            write_line(&mut fold, 1, &format!("if ({passes}) {{"));
            count(&mut fold, 2, filtered.rows);
            merge_sum(&mut merge, filtered.rows, 1);
            for input in &filtered.inputs {
                let class = classes[input.argument];
                let mut of_all = String::new();
                write_line(&mut fold, 2, &format!("if ({}) {{", is_there(input.argument)));
                for state in &input.states {
                    let class = class.expect("a state has values that are computed with");
                    let value = value_of(records.arguments[input.argument].at, class);
                    let takes_nulls = matches!(state, OnDevice::Winner { takes_nulls: true, .. });
                    let fold = if takes_nulls { &mut of_all } else { &mut fold };
                    let mask = format!("records[record + {}u]", records.key_words);
                    let there = is_bit(&mask, input.argument);
                    self.state(&mut text, (fold, &mut keep), state, (&value, &there, class));
                }
                input.states.iter().for_each(|state| self.merge(&mut merge, state));
                write_line(&mut fold, 2, "} else {");
                count(&mut fold, 3, input.nulls);
                merge_sum(&mut merge, input.nulls, 1);
                write_line(&mut fold, 2, "}");
                fold.push_str(&of_all);
            }
            write_line(&mut fold, 1, "}");
        }
        let units = self.units;
        let mask = records.key_words;
        write!(
            text,
            "const UNITS = {units}u;\n\
             fn fold(unit: u32, group: u32, row: u32) {{\n  \
             let record = row * RECORD_WORDS;\n  let there = records[record + {mask}u];\n{fold}}}\n\
             fn keep(group: u32, row: u32) {{\n{keep}}}\n"
        )
        .expect("a String takes all text");
        if is_near {
            let head = "fn merge(other: u32, unit: u32, group: u32) {\n  var carry = 0u;\n";
            text.extend([head, &merge, "}\n"]);
        }
        text
    }

    fn state(
        &self,
        text: &mut String,
        (fold, keep): (&mut String, &mut String),
        state: &OnDevice,
        (value, is_there, class): (&str, &str, Class),
    ) {
        match *state {
            OnDevice::Sum { at, units } => {
                let wide = if class == Class::Decimal {
                    value.to_owned()
                } else {
                    format!("wide_of({value})")
                };
                let name = if units == 3 { "add_triple" } else { "add_pair" };
                write_line(fold, 3, &format!("{name}(unit + {at}u, {wide});"));
            }
            OnDevice::And { at } => {
                write_line(fold, 3, &format!("unit_or(unit + {at}u, ~{value});"))
            }
            OnDevice::Or { at } => write_line(fold, 3, &format!("unit_or(unit + {at}u, {value});")),
            OnDevice::Xor { at } => {
                write_line(fold, 3, &format!("unit_xor(unit + {at}u, {value});"))
            }
            OnDevice::Exact { at, number } => {
                let name = if self.exact[number].is_square { "add_square" } else { "add_exact" };
                let line = format!("{name}(unit + {at}u, group, {number}u, {value});");
                write_line(fold, 3, &line);
            }
            OnDevice::Winner { at, copy, race, greatest, .. } => {
                let is_ordered = matches!(race, Race::Extreme { .. }) && class == Class::Float;
                let ordered =
                    if is_ordered { format!("ordered({value})") } else { value.to_owned() };
                let (units, extremes) = (self.units, self.extreme_words);
                let value = ordered.as_str();
                Winner { at, copy, race, greatest, units, extremes, value, is_there }.shader(text);
                write_line(fold, 3, &format!("offer_{at}(unit + {at}u, group, row);"));
                write_line(keep, 1, &format!("keep_{at}(group, row);"));
            }
        }
    }

    /// A state, taken into the same one of another copy of the group.
    fn merge(&self, merge: &mut String, state: &OnDevice) {
        match *state {
            OnDevice::Sum { at, units } => merge_sum(merge, at, units),
            OnDevice::Exact { at, number } => {
                merge_sum(merge, at, if self.exact[number].is_square { 5 } else { 3 });
            }
            OnDevice::And { at } | OnDevice::Or { at } => {
                write_line(merge, 1, &format!("unit_or(unit + {at}u, unit_load(other + {at}u));"));
            }
            OnDevice::Xor { at } => {
                write_line(merge, 1, &format!("unit_xor(unit + {at}u, unit_load(other + {at}u));"));
            }
            OnDevice::Winner { at, .. } => {
                let there = format!("let row_{at} = pointer_load(other + {at}u);");
                write_line(merge, 1, &there);
                let offer = format!("offer_{at}(unit + {at}u, group, row_{at} & ~FRESH);");
                write_line(merge, 1, &format!("if (row_{at} != 0u) {{ {offer} }}"));
            }
        }
    }
}

fn is_there(argument: usize) -> String {
    is_bit("there", argument)
}

fn is_bit(mask: &str, argument: usize) -> String {
    format!("(({mask} >> {argument}u) & 1u) != 0u")
}

/// A value in a record, by the function that reads it.
fn value_of(at: usize, class: Class) -> String {
    let word = |i: usize| format!("records[record + {}u]", at + i);
    let words = if class == Class::Decimal { 4 } else { 2 };
    let list = (0..words).map(word).collect::<Vec<_>>().join(", ");
    format!("vec{words}<u32>({list})")
}

fn count(text: &mut String, depth: usize, unit: usize) {
    write_line(text, depth, &format!("unit_add(unit + {unit}u, vec2<u32>(1u, 0u), 0u);"));
}

fn merge_sum(text: &mut String, at: usize, units: usize) {
    for unit in at..at + units {
        let carry = if unit == at { "0u" } else { "carry" };
        let add = format!("carry = unit_add(unit + {unit}u, unit_load(other + {unit}u), {carry});");
        write_line(text, 1, &add);
    }
}

fn write_line(text: &mut String, depth: usize, line: &str) {
    writeln!(text, "{:width$}{line}", "", width = 2 * depth).expect("a String takes all text");
}
