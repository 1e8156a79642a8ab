//! Types in Spark's DDL: `id BIGINT, tags ARRAY<STRING>`, and the type that a JSON text seems to have.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::read::{Node, Value, whole};
use crate::plan::types::{list_of, map_of, sql_name, timestamp};

/// Columns as a struct, or one type.
///
/// Errors: what is wrong with the text.
pub fn parse(ddl: &str) -> Result<DataType, String> {
    let alone = |ddl| {
        let mut reader = Reader { ddl, at: 0 };
        let data_type = reader.data_type()?;
        reader.end().map(|()| data_type)
    };
    let mut reader = Reader { ddl, at: 0 };
    let columns = reader.fields("").and_then(|fields| reader.end().map(|()| fields));
    match (alone(ddl), columns) {
        (Ok(data_type), _) => Ok(data_type),
        (_, Ok(fields)) => Ok(DataType::Struct(fields)),
        (Err(_), Err(what)) => Err(what),
    }
}

struct Reader<'a> {
    ddl: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
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

    fn expect(&mut self, what: &str) -> Result<(), String> {
        if self.skip(what) {
            return Ok(());
        }
        let rest = self.rest();
        Err(format!("the schema {:?} needs {what:?} before {rest:?}", self.ddl))
    }

    fn end(&mut self) -> Result<(), String> {
        match self.rest() {
            "" => Ok(()),
            rest => Err(format!("the schema {:?} has {rest:?} too much", self.ddl)),
        }
    }

    fn word(&mut self) -> Result<&'a str, String> {
        let rest = self.rest();
        if let Some(quoted) = rest.strip_prefix('`')
            && let Some(end) = quoted.find('`')
        {
            self.at += end + 2;
            return Ok(&quoted[..end]);
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            return Err(format!("the schema {:?} needs a name before {rest:?}", self.ddl));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    /// `name TYPE, name: TYPE NOT NULL COMMENT 'text'` up to `until`.
    fn fields(&mut self, until: &str) -> Result<Fields, String> {
        let mut fields = Vec::new();
        loop {
            let name = self.word()?;
            self.skip(":");
            fields.push(Field::new(name, self.data_type()?, true));
            let rest = self.rest();
            if rest.get(..8).is_some_and(|rest| rest.eq_ignore_ascii_case("NOT NULL")) {
                self.at += 8;
            }
            if !self.skip(",") {
                break;
            }
        }
        if !until.is_empty() {
            self.expect(until)?;
        }
        Ok(fields.into())
    }

    fn data_type(&mut self) -> Result<DataType, String> {
        let name = self.word()?;
        Ok(match name.to_ascii_uppercase().as_str() {
            "STRING" => DataType::Utf8,
            "VARCHAR" | "CHAR" => {
                self.numbers()?;
                DataType::Utf8
            }
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
            "DECIMAL" | "DEC" | "NUMERIC" => match self.numbers()?.as_slice() {
                [] => DataType::Decimal128(10, 0),
                [precision] => DataType::Decimal128(*precision, 0),
                [precision, scale, ..] => DataType::Decimal128(*precision, *scale as i8),
            },
            "ARRAY" => {
                self.expect("<")?;
                let item = self.data_type()?;
                self.expect(">")?;
                list_of(item)
            }
            "MAP" => {
                self.expect("<")?;
                let key = self.data_type()?;
                if key != DataType::Utf8 {
                    return Err("the keys of a MAP in JSON are STRING".into());
                }
                self.expect(",")?;
                let value = self.data_type()?;
                self.expect(">")?;
                map_of(key, value)
            }
            "STRUCT" => {
                self.expect("<")?;
                DataType::Struct(self.fields(">")?)
            }
            _ => return Err(format!("the schema {:?} has no type {name:?}", self.ddl)),
        })
    }

    /// `(10,2)`, or nothing.
    fn numbers(&mut self) -> Result<Vec<u8>, String> {
        let mut numbers = Vec::new();
        if !self.skip("(") {
            return Ok(numbers);
        }
        loop {
            let word = self.word()?;
            let number = word.parse::<u8>().ok().filter(|number| *number <= 38);
            numbers.push(number.ok_or_else(|| format!("{word:?} is no width of a DECIMAL"))?);
            if !self.skip(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(numbers)
    }
}

/// The type of a JSON text as `schema_of_json` writes it; `None`: it is no JSON.
pub fn schema_of(text: &str) -> Option<String> {
    let found = infer(&whole(text)?);
    Some(sql_name(&settled(found)))
}

fn infer(node: &Node) -> DataType {
    match &node.value {
        Value::Null => DataType::Null,
        Value::Bool(_) => DataType::Boolean,
        Value::Number(digits) if digits.parse::<i64>().is_ok() => DataType::Int64,
        Value::Number(digits) => match digits.strip_prefix('-').unwrap_or(digits) {
            whole if whole.bytes().all(|b| b.is_ascii_digit()) && whole.len() <= 38 => {
                DataType::Decimal128(whole.len() as u8, 0)
            }
            _ => DataType::Float64,
        },
        Value::Text(_) => DataType::Utf8,
        Value::Array(items) => {
            list_of(items.iter().map(infer).reduce(united).unwrap_or(DataType::Null))
        }
        Value::Object(fields) => {
            let fields: BTreeMap<&str, DataType> =
                fields.iter().map(|(name, value)| (name.as_str(), infer(value))).collect();
            let fields = fields.into_iter().map(|(name, t)| Field::new(name, t, true));
            DataType::Struct(fields.collect())
        }
    }
}

/// One type for two values of an array.
fn united(left: DataType, right: DataType) -> DataType {
    match (left, right) {
        (left, right) if left == right => left,
        (DataType::Null, other) | (other, DataType::Null) => other,
        (DataType::List(left), DataType::List(right)) => {
            list_of(united(left.data_type().clone(), right.data_type().clone()))
        }
        (DataType::Struct(left), DataType::Struct(right)) => {
            let mut all: BTreeMap<String, DataType> = BTreeMap::new();
            for field in left.iter().chain(right.iter()) {
                let found = field.data_type().clone();
                let both = match all.remove(field.name()) {
                    Some(known) => united(known, found),
                    None => found,
                };
                all.insert(field.name().clone(), both);
            }
            DataType::Struct(all.into_iter().map(|(name, t)| Field::new(name, t, true)).collect())
        }
        (left, right) if left.is_numeric() && right.is_numeric() => DataType::Float64,
        _ => DataType::Utf8,
    }
}

/// What is always null is a STRING.
fn settled(data_type: DataType) -> DataType {
    match data_type {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => list_of(settled(item.data_type().clone())),
        DataType::Struct(fields) => {
            let field = |field: &arrow::datatypes::FieldRef| {
                Field::new(field.name(), settled(field.data_type().clone()), true)
            };
            DataType::Struct(fields.iter().map(field).collect())
        }
        other => other,
    }
}
