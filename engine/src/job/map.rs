//! Where the bytes of a decoded string stand in the job's text.
//!
//! A string of the job file is not its bytes in the file: escapes are resolved, `${VAR}` is replaced,
//! the newline after `"""` is dropped. The map leads a byte of the value back to the bytes that made
//! it, so that an error in line 3 of the SQL points at line 3 of the SQL.

use std::ops::Range;

/// The default map is that of a string that begins at byte 0 and holds no escapes.
#[derive(Clone, Debug, PartialEq)]
pub struct TextMap {
    /// Ordered by `value`; the first is at 0.
    runs: Vec<Run>,
    /// Length of the value.
    len: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Run {
    /// First byte of the run in the value.
    value: usize,
    /// First byte of what made it.
    source: usize,
    /// Byte for byte as in the source; otherwise all of the run comes from this many bytes.
    whole: Option<usize>,
}

impl Default for TextMap {
    fn default() -> Self {
        TextMap::starting_at(0)
    }
}

impl TextMap {
    /// The map of a value that begins at byte `source`.
    pub fn starting_at(source: usize) -> Self {
        TextMap { runs: vec![Run { value: 0, source, whole: None }], len: 0 }
    }

    /// The next `len` bytes of the value are those at `source`.
    pub fn push(&mut self, len: usize, source: usize) {
        let last = self.runs.last().expect("a map has at least one run");
        if last.whole.is_some() || last.source + (self.len - last.value) != source {
            self.add(Run { value: self.len, source, whole: None });
        }
        self.len += len;
    }

    /// The next `len` bytes of the value come from all of `source`.
    pub fn push_whole(&mut self, len: usize, source: Range<usize>) {
        self.add(Run { value: self.len, source: source.start, whole: Some(source.len()) });
        self.len += len;
    }

    /// A run without bytes is replaced by the one that follows it.
    fn add(&mut self, run: Run) {
        if self.runs.last().is_some_and(|last| last.value == run.value) {
            self.runs.pop();
        }
        self.runs.push(run);
    }

    fn run(&self, at: usize) -> &Run {
        let after = self.runs.partition_point(|run| run.value <= at);
        &self.runs[after.saturating_sub(1)]
    }

    /// The bytes of the source that made `value`; of an empty range the place where it stands.
    pub fn source(&self, value: Range<usize>) -> Range<usize> {
        let run = self.run(value.start);
        let start = match run.whole {
            Some(width) if value.start >= self.len => run.source + width,
            Some(_) => run.source,
            None => run.source + (value.start - run.value),
        };
        if value.is_empty() {
            return start..start;
        }
        let last = self.run(value.end - 1);
        let end = match last.whole {
            Some(width) => last.source + width,
            None => last.source + (value.end - last.value),
        };
        start..end.max(start)
    }

    /// The map of a value made from this one's value: `outer` says which bytes of it were used.
    pub fn through(&self, outer: &TextMap) -> TextMap {
        let mut map = TextMap::starting_at(self.source(0..0).start);
        for (i, run) in outer.runs.iter().enumerate() {
            let end = outer.runs.get(i + 1).map_or(outer.len, |next| next.value);
            match run.whole {
                Some(width) => {
                    map.push_whole(end - run.value, self.source(run.source..run.source + width));
                }
                None => self.copy(run.source..run.source + (end - run.value), &mut map),
            }
        }
        map
    }

    /// Appends the part of this map that covers `value`.
    fn copy(&self, value: Range<usize>, to: &mut TextMap) {
        let mut at = value.start;
        while at < value.end {
            let index = self.runs.partition_point(|run| run.value <= at).saturating_sub(1);
            let run = &self.runs[index];
            let end = self.runs.get(index + 1).map_or(self.len, |next| next.value).min(value.end);
            match run.whole {
                Some(width) => to.push_whole(end - at, run.source..run.source + width),
                None => to.push(end - at, run.source + (at - run.value)),
            }
            at = end.max(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a\nb${X}c` with X = "1234": the escape is one byte of two, the variable four bytes of four.
    fn map() -> TextMap {
        let mut map = TextMap::starting_at(10);
        map.push(1, 10);
        map.push_whole(1, 11..13);
        map.push(1, 13);
        map.push_whole(4, 14..18);
        map.push(1, 18);
        map
    }

    #[test]
    fn a_byte_of_the_value_leads_to_the_bytes_that_made_it() {
        for (value, source) in [
            (0..1, 10..11),
            (1..2, 11..13),
            (2..3, 13..14),
            (3..4, 14..18),
            (5..7, 14..18),
            (7..8, 18..19),
            (0..8, 10..19),
            (2..5, 13..18),
            (8..8, 19..19),
            (3..3, 14..14),
        ] {
            assert_eq!(map().source(value.clone()), source, "{value:?}");
        }
    }

    #[test]
    fn maps_compose() {
        let mut outer = TextMap::starting_at(0);
        outer.push(2, 0);
        outer.push_whole(3, 2..4);
        outer.push(4, 4);
        let composed = map().through(&outer);
        for (value, source) in
            [(0..1, 10..11), (1..2, 11..13), (2..3, 13..18), (5..6, 14..18), (8..9, 18..19)]
        {
            assert_eq!(composed.source(value.clone()), source, "{value:?}");
        }
    }

    #[test]
    fn the_place_after_a_replaced_end_is_behind_it() {
        let mut map = TextMap::starting_at(0);
        map.push_whole(2, 0..6);
        assert_eq!(map.source(2..2), 6..6);
    }
}
