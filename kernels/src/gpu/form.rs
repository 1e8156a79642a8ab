//! How values of a data type lie on a device: as an input column, in a shader, in a row's record.

use arrow::datatypes::{DataType, TimeUnit};

/// The type that a value has in a shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `bool`.
    Bool,
    /// `i32`: integers of so many bits, dates.
    Int(u32),
    /// `vec2<u32>`: integers of 64 bits, timestamps.
    Long,
    /// `u32`: the bits of a float.
    Single,
    /// `vec2<u32>`: the bits of a double.
    Double,
    /// `vec4<u32>`: the unscaled value of a decimal.
    Wide,
    /// `u32`: the id of a text, 0 for NULL.
    Id,
    /// `vec2<u32>`: where a text's words begin behind the batch's records, and its length in bytes. A
    /// word holds four bytes, the first one highest, so that words are in the order of bytes.
    Text,
    /// Not there: only whether it is NULL can be asked.
    Opaque,
}

impl Form {
    pub fn of(data_type: &DataType) -> Form {
        match data_type {
            DataType::Boolean => Form::Bool,
            DataType::Int8 => Form::Int(8),
            DataType::Int16 => Form::Int(16),
            DataType::Int32 | DataType::Date32 => Form::Int(32),
            DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _) => Form::Long,
            DataType::Float32 => Form::Single,
            DataType::Float64 => Form::Double,
            DataType::Decimal128(1..=38, 0..=38) => Form::Wide,
            _ => Form::Opaque,
        }
    }

    /// Words that it takes in a group's key.
    pub fn key_words(self) -> usize {
        match self {
            Form::Bool | Form::Int(_) | Form::Id => 1,
            Form::Long | Form::Single | Form::Double => 2,
            Form::Wide => 4,
            Form::Text | Form::Opaque => 0,
        }
    }

    /// Words that it takes as an argument of an aggregate: integers have 64 bits there, floats too.
    pub fn argument_words(self) -> usize {
        match self {
            Form::Wide => 4,
            Form::Id | Form::Opaque => 0,
            _ => 2,
        }
    }

    /// A value as the words of a key, equal for values that are equal as keys.
    pub fn as_key(self, v: &str) -> Vec<String> {
        match self {
            Form::Bool => vec![format!("u32({v})")],
            Form::Int(_) => vec![format!("bitcast<u32>({v})")],
            Form::Id => vec![v.to_owned()],
            Form::Long => parts(v, 2),
            Form::Single => parts(&format!("float_key(float_of_single({v}))"), 2),
            Form::Double => parts(&format!("float_key({v})"), 2),
            Form::Wide => parts(v, 4),
            Form::Text | Form::Opaque => Vec::new(),
        }
    }

    /// A value as the words of an argument.
    pub fn as_argument(self, v: &str) -> Vec<String> {
        match self {
            Form::Bool => vec![format!("u32({v})"), "0u".to_owned()],
            Form::Int(_) => parts(&format!("long_of({v})"), 2),
            Form::Long | Form::Double | Form::Text => parts(v, 2),
            Form::Single => parts(&format!("widened({v})"), 2),
            Form::Wide => parts(v, 4),
            Form::Id | Form::Opaque => Vec::new(),
        }
    }
}

fn parts(v: &str, words: usize) -> Vec<String> {
    ["x", "y", "z", "w"][..words].iter().map(|part| format!("{v}.{part}")).collect()
}

/// 64 bits as a literal.
pub(super) fn long_literal(value: u64) -> String {
    format!("vec2<u32>({:#x}u, {:#x}u)", value as u32, (value >> 32) as u32)
}

/// 128 bits as a literal.
pub(super) fn wide_literal(value: i128) -> String {
    let word = |place: u32| (value >> (32 * place)) as u32;
    format!("vec4<u32>({:#x}u, {:#x}u, {:#x}u, {:#x}u)", word(0), word(1), word(2), word(3))
}
