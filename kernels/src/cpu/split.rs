//! Splits text at a byte: what `explode(split(value, ' '))` needs, without copying a word.

use arrow::array::{Array, StringArray};

use crate::cpu::bits;

/// The words of some rows: each a span of the text array's value bytes, and the row it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub rows: Vec<u32>,
    pub starts: Vec<u32>,
    pub ends: Vec<u32>,
}

impl Words {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.starts.clear();
        self.ends.clear();
    }

    fn push(&mut self, row: u32, start: usize, end: usize) {
        self.rows.push(row);
        self.starts.push(start as u32);
        self.ends.push(end as u32);
    }
}

/// Appends the words of `rows` to `out`: Java's `split(separator, -1)`, row by row.
///
/// Every separator ends a word, so two in a row enclose an empty one, and text without a separator
/// is one word: the empty line is one empty word. NULL gives none. Spans count bytes of
/// `text.value_data()`. A separator is ASCII, so no span cuts a character.
pub fn split_by_byte(
    text: &StringArray,
    separator: u8,
    rows: impl Iterator<Item = u32>,
    out: &mut Words,
) {
    assert!(separator.is_ascii(), "the separator is one character of one byte");
    let bytes = text.value_data();
    let offsets = text.value_offsets();
    for row in rows {
        let index = row as usize;
        if text.is_null(index) {
            continue;
        }
        let (mut start, end) = (offsets[index] as usize, offsets[index + 1] as usize);
        let mut block = start;
        while block < end {
            let mut found = separators(bytes, block, end, separator);
            while found != 0 {
                let at = block + found.trailing_zeros() as usize;
                out.push(row, start, at);
                start = at + 1;
                found &= found - 1;
            }
            block += 64;
        }
        out.push(row, start, end);
    }
}

/// Where the separator stands in the 64 bytes from `block` on, `end` excluded.
///
/// A short rest is read as whole 64 bytes too where the array has them: the loop then has a
/// constant length, and what lies past `end` is masked off.
#[inline(always)]
fn separators(bytes: &[u8], block: usize, end: usize, separator: u8) -> u64 {
    let inside = end - block;
    match bytes[block..].first_chunk::<64>() {
        Some(whole) if inside < 64 => {
            bits::word(whole, |byte| byte == separator) & ((1 << inside) - 1)
        }
        Some(whole) => bits::word(whole, |byte| byte == separator),
        None => bits::word(&bytes[block..end], |byte| byte == separator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &StringArray, rows: &[u32]) -> Vec<(u32, String)> {
        let mut words = Words::default();
        split_by_byte(text, b' ', rows.iter().copied(), &mut words);
        assert_eq!(words.len(), words.starts.len());
        assert_eq!(words.len(), words.ends.len());
        (0..words.len())
            .map(|i| {
                let span = words.starts[i] as usize..words.ends[i] as usize;
                let word = std::str::from_utf8(&text.value_data()[span]).expect("whole characters");
                (words.rows[i], word.to_owned())
            })
            .collect()
    }

    /// The library's split has the same meaning: no limit, empty words kept.
    fn naive(text: &StringArray, rows: &[u32]) -> Vec<(u32, String)> {
        let valid = rows.iter().filter(|&&row| text.is_valid(row as usize));
        valid
            .flat_map(|&row| text.value(row as usize).split(' ').map(move |w| (row, w.to_owned())))
            .collect()
    }

    #[test]
    fn empty_words_are_words_and_null_has_none() {
        let text = StringArray::from(vec![Some("a  b"), None, Some(""), Some(" "), Some("c ")]);
        let words = split(&text, &[0, 1, 2, 3, 4]);
        let expected = [(0, "a"), (0, ""), (0, "b"), (2, ""), (3, ""), (3, ""), (4, "c"), (4, "")]
            .map(|(row, word)| (row, word.to_owned()));
        assert_eq!(words, expected);
        assert_eq!(split(&text, &[4, 1]), [(4, "c".to_owned()), (4, String::new())]);
    }

    proptest! {
        #[test]
        fn splits_as_the_library_does(
            lines in prop::collection::vec(prop::option::weighted(0.9, "[ a-cé]{0,150}"), 0..12),
            cut in 0_usize..12,
        ) {
            let text = StringArray::from(lines);
            let cut = cut.min(text.len());
            for text in [text.clone(), text.slice(cut, text.len() - cut)] {
                let all: Vec<u32> = (0..text.len() as u32).collect();
                let odd: Vec<u32> = all.iter().copied().filter(|row| row % 2 == 1).collect();
                prop_assert_eq!(split(&text, &all), naive(&text, &all));
                prop_assert_eq!(split(&text, &odd), naive(&text, &odd));
            }
        }
    }
}
