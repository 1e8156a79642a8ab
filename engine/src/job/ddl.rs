//! The schema of a source: `ts TIMESTAMP, device STRING`, Spark's DDL with Spark's type names.

use std::collections::HashSet;
use std::ops::Range;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit};

use super::finding::{closest, quoted};
use super::unit::Fault;

/// Name, type, and the place of both in the DDL.
pub type Declared = (String, DataType, Range<usize>);

const FORM: &str = "a schema is `name TYPE, name TYPE, …`, as \"ts TIMESTAMP, device STRING\"";
const TYPES: &str = "types: STRING, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, \
                     DECIMAL(p,s), DATE, TIMESTAMP, TIMESTAMP_NTZ, BINARY";

/// Columns in order; stops at the first fault.
pub fn columns(ddl: &str) -> Result<Vec<Declared>, Fault> {
    let mut lexer = Lexer { ddl, at: 0 };
    let mut columns: Vec<Declared> = Vec::new();
    let mut names = HashSet::new();
    loop {
        let (name, at) = lexer.name()?;
        if !names.insert(name.to_lowercase()) {
            let what = format!("a second column `{name}`; names are equal in any case");
            return Err(Fault::new(at, what, "give it another name"));
        }
        lexer.skip(":");
        let (data_type, type_at) = lexer.data_type(&name)?;
        columns.push((name, data_type, at.start..type_at.end));
        lexer.suffix()?;
        if lexer.rest().is_empty() {
            return Ok(columns);
        }
        let before = lexer.at;
        if !lexer.skip(",") {
            let (token, at) = lexer.token();
            let what =
                format!("expected a comma or the end of the schema, found {}", quoted(token));
            return Err(Fault::new(at, what, FORM));
        }
        if lexer.rest().is_empty() {
            return Err(Fault::new(before..lexer.at, "a column is missing after this comma", FORM));
        }
    }
}

/// The type as Spark writes it.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "STRING".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(p, s) => format!("DECIMAL({p},{s})"),
        DataType::Date32 => "DATE".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ".into(),
        DataType::Binary => "BINARY".into(),
        other => other.to_string(),
    }
}

pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Type names with nothing in parentheses, in capitals.
fn plain_type(word: &str) -> Option<DataType> {
    Some(match word {
        "STRING" => DataType::Utf8,
        "BOOLEAN" => DataType::Boolean,
        "TINYINT" | "BYTE" => DataType::Int8,
        "SMALLINT" | "SHORT" => DataType::Int16,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" | "LONG" => DataType::Int64,
        "FLOAT" | "REAL" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "DATE" => DataType::Date32,
        "TIMESTAMP" | "TIMESTAMP_LTZ" => timestamp(),
        "TIMESTAMP_NTZ" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "BINARY" => DataType::Binary,
        _ => return None,
    })
}

/// What other systems call our types, and the fix for it.
fn foreign_type(word: &str) -> Option<String> {
    let meant = match word {
        "TEXT" | "VARCHAR" | "CHAR" | "STR" | "UTF8" | "NVARCHAR" => "STRING",
        "BOOL" => "BOOLEAN",
        "INT8" | "UINT8" => "SMALLINT",
        "INT16" | "UINT16" => "INT",
        "INT32" => "INT",
        "INT64" | "UINT32" | "HUGEINT" => "BIGINT",
        "UINT64" | "UBIGINT" => "DECIMAL(20,0)",
        "FLOAT32" | "FLOAT4" => "FLOAT",
        "FLOAT64" | "FLOAT8" | "NUMBER" => "DOUBLE",
        "DATETIME" | "TIMESTAMPTZ" | "TIMESTAMP_TZ" => "TIMESTAMP",
        "BYTES" | "BLOB" | "BYTEA" | "VARBINARY" => "BINARY",
        "ARRAY" | "MAP" | "STRUCT" | "VARIANT" | "JSON" | "LIST" => {
            return Some("nested types are not in this version: declare the text as STRING".into());
        }
        "TIME" | "INTERVAL" => {
            return Some("not in this version: declare the text as STRING".into());
        }
        _ => return None,
    };
    Some(format!("write {meant}"))
}

struct Lexer<'a> {
    ddl: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// What is left, blanks passed over.
    fn rest(&mut self) -> &'a str {
        let rest = self.ddl[self.at..].trim_start();
        self.at = self.ddl.len() - rest.len();
        rest
    }

    fn skip(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        self.at += if found { what.len() } else { 0 };
        found
    }

    /// A word of letters, digits and `_`, or one other character; empty at the end.
    fn token(&mut self) -> (&'a str, Range<usize>) {
        let rest = self.rest();
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let len = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
        let at = self.at..self.at + len;
        self.at = at.end;
        (&self.ddl[at.clone()], at)
    }

    fn name(&mut self) -> Result<(String, Range<usize>), Fault> {
        let start = {
            self.rest();
            self.at
        };
        if !self.skip("`") {
            let (token, at) = self.token();
            return match token.chars().next() {
                None => Err(Fault::new(at, "the schema ends where a column is expected", FORM)),
                Some(c) if c.is_alphanumeric() || c == '_' => Ok((token.into(), at)),
                Some('"' | '\'') => Err(Fault::new(
                    at,
                    "a column's name stands in backticks or alone",
                    "write `Sepal length` with backticks",
                )),
                Some(_) => {
                    let what = format!("expected a column's name, found {}", quoted(token));
                    Err(Fault::new(at, what, FORM))
                }
            };
        }
        let mut name = String::new();
        loop {
            let rest = &self.ddl[self.at..];
            let Some(end) = rest.find('`') else {
                let what = "the column's name is not closed";
                return Err(Fault::new(start..self.ddl.len(), what, "end it with a backtick"));
            };
            name.push_str(&rest[..end]);
            self.at += end + 1;
            if !self.ddl[self.at..].starts_with('`') {
                break;
            }
            name.push('`');
            self.at += 1;
        }
        if name.is_empty() {
            return Err(Fault::new(start..self.at, "a column has no empty name", FORM));
        }
        Ok((name, start..self.at))
    }

    fn data_type(&mut self, column: &str) -> Result<(DataType, Range<usize>), Fault> {
        let (word, at) = self.token();
        let upper = word.to_uppercase();
        if let Some(data_type) = plain_type(&upper) {
            if self.rest().starts_with('(') {
                let what = format!("{upper} takes nothing in parentheses");
                return Err(Fault::new(self.at..self.at + 1, what, format!("write {upper}")));
            }
            return Ok((data_type, at));
        }
        if matches!(upper.as_str(), "DECIMAL" | "DEC" | "NUMERIC") {
            let data_type = self.decimal()?;
            return Ok((data_type, at.start..self.at));
        }
        if word.is_empty() || word == "," {
            let what = format!("column `{column}` has no type");
            return Err(Fault::new(at, what, TYPES));
        }
        const NAMES: &[&str] = &[
            "STRING",
            "BOOLEAN",
            "TINYINT",
            "SMALLINT",
            "INT",
            "INTEGER",
            "BIGINT",
            "FLOAT",
            "DOUBLE",
            "DECIMAL",
            "DATE",
            "TIMESTAMP",
            "TIMESTAMP_NTZ",
            "BINARY",
        ];
        let fix = foreign_type(&upper)
            .or_else(|| Some(format!("did you mean {}?", closest(&upper, NAMES.iter().copied())?)))
            .unwrap_or(TYPES.into());
        Err(Fault::new(at, format!("column `{column}`: no type {}", quoted(word)), fix))
    }

    /// `(precision, scale)`, Spark's defaults: 10 and 0.
    fn decimal(&mut self) -> Result<DataType, Fault> {
        const FORM: &str = "write DECIMAL(precision, scale), as DECIMAL(18,4)";
        if !self.skip("(") {
            return Ok(DataType::Decimal128(10, 0));
        }
        let (precision, precision_at) = self.token();
        let (mut scale, mut scale_at) = ("0", precision_at.clone());
        if self.skip(",") {
            (scale, scale_at) = self.token();
        }
        let whole = precision_at.start..scale_at.end;
        let digits = |text: &str| text.parse::<u8>().ok();
        let Some(precision) =
            digits(precision).filter(|p| (1..=DECIMAL128_MAX_PRECISION).contains(p))
        else {
            return Err(Fault::new(precision_at, "a precision is a number from 1 to 38", FORM));
        };
        let Some(scale) = digits(scale).filter(|&s| s <= precision) else {
            let what = format!("a scale is a number from 0 to the precision, here {precision}");
            return Err(Fault::new(scale_at, what, FORM));
        };
        if !self.skip(")") {
            return Err(Fault::new(whole, "the parenthesis is not closed", FORM));
        }
        Ok(DataType::Decimal128(precision, scale as i8))
    }

    /// What SQL allows after a type: `COMMENT '…'` is passed over, promises are refused.
    fn suffix(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let (word, at) = self.token();
        match word.to_uppercase().as_str() {
            "COMMENT" => self.comment(at),
            "NOT" => {
                let (_, null_at) = self.token();
                Err(Fault::new(
                    at.start..null_at.end,
                    "NOT NULL is not checked in this version",
                    "leave it out; `WHERE x IS NOT NULL` drops such rows",
                ))
            }
            "DEFAULT" | "GENERATED" | "PRIMARY" | "UNIQUE" => Err(Fault::new(
                at,
                format!("{word} has no meaning for rows that arrive"),
                "leave it out; `coalesce(x, 0)` in the SQL gives a default",
            )),
            "PRECISION" if self.ddl[..at.start].trim_end().to_uppercase().ends_with("DOUBLE") => {
                Err(Fault::new(at, "the type is called DOUBLE", "write DOUBLE"))
            }
            _ => {
                self.at = start;
                Ok(())
            }
        }
    }

    fn comment(&mut self, at: Range<usize>) -> Result<(), Fault> {
        let rest = self.rest();
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        match quote.and_then(|quote| rest[1..].find(quote)) {
            Some(end) => self.at += end + 2,
            None => return Err(Fault::new(at, "a COMMENT stands in single quotes", FORM)),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "ddl_tests.rs"]
mod tests;
