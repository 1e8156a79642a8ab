//! `hash`, Spark's Murmur3 with seed 42, and `md5`.
//!
//! Values are hashed by their types' own rules, one after the other; NULL leaves the hash as it is.
//! After `Murmur3_x86_32.java` and `HashExpression`: texts are hashed four bytes at a time, and what is
//! left byte by byte, which is not what Murmur3's author does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use md5::{Digest, Md5};

use super::native::{Definition, Takes, define};
use crate::plan::types::sql_name;

const SEED: u32 = 42;

pub fn functions() -> impl Iterator<Item = Definition> {
    [
        Definition {
            variadic: true,
            ..define("hash", &[Takes::Any], 0, |_| DataType::Int32, |c, a| hash(a, c.rows))
        },
        define(
            "md5",
            &[Takes::Binary],
            0,
            |_| DataType::Utf8,
            |_, a| {
                let digest = |bytes: &[u8]| -> String {
                    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
                };
                let digests = a[0].as_binary::<i32>().iter().map(|bytes| bytes.map(digest));
                Ok(Arc::new(digests.collect::<StringArray>()))
            },
        ),
    ]
    .into_iter()
}

fn hash(args: &[ArrayRef], rows: usize) -> Result<ArrayRef, String> {
    let row = |row: usize| -> Result<i32, String> {
        let hashed = args.iter().try_fold(SEED, |seed, column| value(column, row, seed))?;
        Ok(hashed as i32)
    };
    Ok(Arc::new((0..rows).map(row).collect::<Result<Int32Array, String>>()?))
}

fn value(column: &ArrayRef, row: usize, seed: u32) -> Result<u32, String> {
    if column.is_null(row) {
        return Ok(seed);
    }
    Ok(match column.data_type() {
        DataType::Null => seed,
        DataType::Boolean => int(u32::from(column.as_boolean().value(row)), seed),
        DataType::Int8 => int(column.as_primitive::<Int8Type>().value(row) as u32, seed),
        DataType::Int16 => int(column.as_primitive::<Int16Type>().value(row) as u32, seed),
        DataType::Int32 => int(column.as_primitive::<Int32Type>().value(row) as u32, seed),
        DataType::Date32 => int(column.as_primitive::<Date32Type>().value(row) as u32, seed),
        DataType::Int64 => long(column.as_primitive::<Int64Type>().value(row), seed),
        DataType::Timestamp(_, _) => {
            long(column.as_primitive::<TimestampMicrosecondType>().value(row), seed)
        }
        // -0.0 is 0.0.
        DataType::Float32 => {
            int((column.as_primitive::<Float32Type>().value(row) + 0.0).to_bits(), seed)
        }
        DataType::Float64 => {
            long((column.as_primitive::<Float64Type>().value(row) + 0.0).to_bits() as i64, seed)
        }
        DataType::Decimal128(precision, _) => {
            let unscaled = column.as_primitive::<Decimal128Type>().value(row);
            match *precision <= 18 {
                true => long(unscaled as i64, seed),
                false => bytes(shortest(&unscaled.to_be_bytes()), seed),
            }
        }
        DataType::Utf8 => bytes(column.as_string::<i32>().value(row).as_bytes(), seed),
        DataType::Binary => bytes(column.as_binary::<i32>().value(row), seed),
        DataType::Struct(_) => {
            let fields = column.as_struct().columns().iter();
            fields.into_iter().try_fold(seed, |seed, field| value(field, row, seed))?
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).try_fold(seed, |seed, item| value(&items, item, seed))?
        }
        other => return Err(format!("hash takes no {}", sql_name(other))),
    })
}

/// As few bytes as hold the number, as Java's BigInteger has them.
fn shortest(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [first, second, ..] = bytes {
        let sign = if second & 0x80 == 0 { 0 } else { 0xFF };
        if *first != sign {
            break;
        }
        bytes = &bytes[1..];
    }
    bytes
}

fn mixed(word: u32) -> u32 {
    word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn stirred(hash: u32, word: u32) -> u32 {
    (hash ^ mixed(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finished(hash: u32, length: u32) -> u32 {
    let mut hash = hash ^ length;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn int(value: u32, seed: u32) -> u32 {
    finished(stirred(seed, value), 4)
}

fn long(value: i64, seed: u32) -> u32 {
    finished(stirred(stirred(seed, value as u32), (value >> 32) as u32), 8)
}

fn bytes(bytes: &[u8], seed: u32) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let hash = words.iter().fold(seed, |hash, word| stirred(hash, u32::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, byte| stirred(hash, *byte as i8 as u32));
    finished(hash, bytes.len() as u32)
}
