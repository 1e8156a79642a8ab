//! Bytes and texts: encodings, and texts as bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};

use super::native::{Definition, Takes, define};
use crate::format::base64;

fn text(_: &[DataType]) -> DataType {
    DataType::Utf8
}

fn binary(_: &[DataType]) -> DataType {
    DataType::Binary
}

pub fn functions() -> impl Iterator<Item = Definition> {
    use Takes::{Any, Binary, Text};
    [
        define("encode", &[Text, Text], 0, binary, |_, a| encode(a)),
        define("decode", &[Binary, Text], 0, text, |_, a| decode(a)),
        define("hex", &[Any], 0, text, |_, a| hex(&a[0])),
        define("unhex", &[Text], 0, binary, |_, a| {
            let texts = a[0].as_string::<i32>().iter();
            Ok(Arc::new(texts.map(|t| unhex(t?)).collect::<BinaryArray>()))
        }),
        define("base64", &[Binary], 0, text, |_, a| {
            let bytes = a[0].as_binary::<i32>().iter();
            Ok(Arc::new(bytes.map(|b| b.map(base64)).collect::<StringArray>()))
        }),
        define("unbase64", &[Text], 0, binary, |_, a| {
            let texts = a[0].as_string::<i32>().iter();
            let read = texts.map(|t| match t {
                None => Ok(None),
                Some(t) => unbase64(t).map(Some).ok_or(format!("{t:?} is not base 64")),
            });
            let read = read.collect::<Result<Vec<_>, String>>()?;
            Ok(Arc::new(read.iter().map(Option::as_deref).collect::<BinaryArray>()))
        }),
        define(
            "octet_length",
            &[Binary],
            0,
            |_| DataType::Int32,
            |_, a| {
                let bytes = a[0].as_binary::<i32>().iter();
                Ok(Arc::new(bytes.map(|b| b.map(|b| b.len() as i32)).collect::<Int32Array>()))
            },
        ),
    ]
    .into_iter()
}

#[derive(Clone, Copy)]
enum Charset {
    Utf8,
    Ascii,
    Latin1,
    Utf16 { big: bool, mark: bool },
}

fn charset(name: &str) -> Result<Charset, String> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "UTF-8" => Charset::Utf8,
        "US-ASCII" => Charset::Ascii,
        "ISO-8859-1" => Charset::Latin1,
        "UTF-16" => Charset::Utf16 { big: true, mark: true },
        "UTF-16BE" => Charset::Utf16 { big: true, mark: false },
        "UTF-16LE" => Charset::Utf16 { big: false, mark: false },
        _ => {
            return Err(format!(
                "the charset is one of US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE, UTF-16, \
                 found {name:?}"
            ));
        }
    })
}

fn encode(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let pairs = args[0].as_string::<i32>().iter().zip(args[1].as_string::<i32>().iter());
    let rows = pairs.map(|pair| {
        let (Some(text), Some(name)) = pair else { return Ok(None) };
        let narrow = |limit: u32| -> Result<Vec<u8>, String> {
            let byte = |c: char| {
                let code = u32::from(c);
                let lost = || format!("{c:?} is not a character of {name}");
                if code < limit { Ok(code as u8) } else { Err(lost()) }
            };
            text.chars().map(byte).collect()
        };
        Ok(Some(match charset(name)? {
            Charset::Utf8 => text.as_bytes().to_vec(),
            Charset::Ascii => narrow(128)?,
            Charset::Latin1 => narrow(256)?,
            Charset::Utf16 { big, mark } => {
                let units = mark.then_some(0xFEFF_u16).into_iter().chain(text.encode_utf16());
                units.flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
            }
        }))
    });
    let rows = rows.collect::<Result<Vec<_>, String>>()?;
    Ok(Arc::new(rows.iter().map(Option::as_deref).collect::<BinaryArray>()))
}

fn decode(args: &[ArrayRef]) -> Result<ArrayRef, String> {
    let pairs = args[0].as_binary::<i32>().iter().zip(args[1].as_string::<i32>().iter());
    let rows = pairs.map(|pair| {
        let (Some(bytes), Some(name)) = pair else { return Ok(None) };
        let bad = || format!("the bytes are not {name}");
        Ok(Some(match charset(name)? {
            Charset::Utf8 => String::from_utf8(bytes.to_vec()).map_err(|_| bad())?,
            Charset::Ascii if !bytes.is_ascii() => return Err(bad()),
            Charset::Ascii | Charset::Latin1 => bytes.iter().copied().map(char::from).collect(),
            Charset::Utf16 { big, .. } => {
                let (pairs, []) = bytes.as_chunks::<2>() else { return Err(bad()) };
                let unit = |&pair: &[u8; 2]| {
                    if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
                };
                let units: Vec<u16> = pairs.iter().map(unit).collect();
                let units = units.strip_prefix(&[0xFEFF]).unwrap_or(&units);
                String::from_utf16(units).map_err(|_| bad())?
            }
        }))
    });
    Ok(Arc::new(rows.collect::<Result<StringArray, String>>()?))
}

/// A number's digits in base 16, or those of the bytes.
fn hex(values: &ArrayRef) -> Result<ArrayRef, String> {
    let of_bytes = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02X}")).collect() };
    let rows: StringArray = match values.data_type() {
        DataType::Binary => values.as_binary::<i32>().iter().map(|b| b.map(of_bytes)).collect(),
        DataType::Utf8 => {
            values.as_string::<i32>().iter().map(|t| t.map(|t| of_bytes(t.as_bytes()))).collect()
        }
        _ => {
            let longs = arrow::compute::cast(values, &DataType::Int64)
                .map_err(|_| "hex takes a number, a text or bytes")?;
            let longs = longs.as_primitive::<Int64Type>().iter();
            longs.map(|v| v.map(|v| format!("{v:X}"))).collect()
        }
    };
    Ok(Arc::new(rows))
}

/// NULL where a digit is none.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let mut digits = Vec::with_capacity(text.len() + 1);
    if text.len() % 2 == 1 {
        digits.push(0);
    }
    for c in text.chars() {
        digits.push(c.to_digit(16)? as u8);
    }
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    let digits = text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=');
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::new());
    for digit in digits {
        let value = BASE64.iter().position(|known| *known == digit)?;
        (bits, held) = (bits << 6 | value as u32, held + 6);
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_base_64_and_base_16() {
        for length in 0..20u8 {
            let bytes: Vec<u8> = (0..length).map(|b| b.wrapping_mul(37)).collect();
            assert_eq!(unbase64(&base64(&bytes)), Some(bytes.clone()));
            let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(unhex(&digits), Some(bytes));
        }
        assert_eq!(base64(b"Spark SQL"), "U3BhcmsgU1FM");
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!((unhex("abc"), unhex("x1")), (Some(vec![0x0a, 0xbc]), None));
        assert_eq!(unbase64("!"), None);
    }
}
