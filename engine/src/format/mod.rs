//! Text of Arrow values: CSV and JSON lines for files, Spark's tables for people.
//!
//! Files hold ISO 8601 with `Z`, the shortest doubles that read back to the same bits, decimals with
//! their scale; the console holds what Spark's `show()` prints. A value is formatted a column at a
//! time into [`cells::Cells`], the branch on its type taken once before the loop; rows are then put
//! together by copying. Nothing here does I/O or knows of epochs.

pub mod csv;
pub mod json;
pub mod show;

mod cells;
mod number;
pub mod time;

/// Microseconds since 1970-01-01T00:00:00Z as `2024-05-01T12:00:00.123Z`, cut to milliseconds.
pub fn instant_millis(us: i64) -> String {
    let mut text = Vec::new();
    time::timestamp(&mut text, us, b'T', time::Fraction::Millis);
    text.push(b'Z');
    String::from_utf8(text).expect("a timestamp is ASCII")
}

/// RFC 4648, section 4, with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    number::base64(&mut text, bytes);
    String::from_utf8(text).expect("base64 is ASCII")
}

#[cfg(test)]
mod tests;
