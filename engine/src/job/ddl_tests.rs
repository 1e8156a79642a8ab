use super::*;

/// `name TYPE, …` of what was read, or the fault as `[bytes] what = fix`.
fn check(ddl: &str, expected: &str) {
    let found = match columns(ddl) {
        Ok(columns) => {
            let show = |c: &Declared| format!("{} {}", c.0, type_name(&c.1));
            columns.iter().map(show).collect::<Vec<_>>().join(", ")
        }
        Err(fault) => format!("[{}] {} = {}", &ddl[fault.at], fault.what, fault.fix),
    };
    assert_eq!(found, expected, "{ddl}");
}

#[test]
fn every_type_has_its_spark_names() {
    check(
        "a STRING, b boolean, c TINYINT, d BYTE, e SMALLINT, f SHORT, g INT, h INTEGER, i BIGINT, j LONG",
        "a STRING, b BOOLEAN, c TINYINT, d TINYINT, e SMALLINT, f SMALLINT, g INT, h INT, i BIGINT, j BIGINT",
    );
    check(
        "a FLOAT, b REAL, c Double, d DATE, e TIMESTAMP, f TIMESTAMP_LTZ, g TIMESTAMP_NTZ, h BINARY",
        "a FLOAT, b FLOAT, c DOUBLE, d DATE, e TIMESTAMP, f TIMESTAMP, g TIMESTAMP_NTZ, h BINARY",
    );
    check(
        "a DECIMAL, b DECIMAL(5), c DECIMAL(38, 38), d NUMERIC(18,4), e DEC(1,0)",
        "a DECIMAL(10,0), b DECIMAL(5,0), c DECIMAL(38,38), d DECIMAL(18,4), e DECIMAL(1,0)",
    );
}

#[test]
fn names_may_stand_in_backticks() {
    check(
        "`Sepal length` DOUBLE, `a``b, c` INT,\n\tspecies: INT COMMENT 'kind, of', 1st INT, größe INT",
        "Sepal length DOUBLE, a`b, c INT, species INT, 1st INT, größe INT",
    );
}

#[test]
fn a_fault_names_its_place_in_the_schema_f55() {
    for (ddl, expected) in [
        ("", &*format!("[] the schema ends where a column is expected = {FORM}")),
        ("a", &format!("[] column `a` has no type = {TYPES}")),
        ("a, b INT", &format!("[,] column `a` has no type = {TYPES}")),
        ("a INT,", &format!("[,] a column is missing after this comma = {FORM}")),
        (
            "a INT b INT",
            &format!("[b] expected a comma or the end of the schema, found \"b\" = {FORM}"),
        ),
        (
            "a INT; b INT",
            &format!("[;] expected a comma or the end of the schema, found \";\" = {FORM}"),
        ),
        (
            "a INT, A STRING",
            "[A] a second column `A`; names are equal in any case = give it another name",
        ),
        ("a DUOBLE", "[DUOBLE] column `a`: no type \"DUOBLE\" = did you mean DOUBLE?"),
        ("a varchar(20)", "[varchar] column `a`: no type \"varchar\" = write STRING"),
        ("a int64", "[int64] column `a`: no type \"int64\" = write BIGINT"),
        (
            "a ARRAY<INT>",
            "[ARRAY] column `a`: no type \"ARRAY\" = nested types are not in this version: declare the text as STRING",
        ),
        ("a POINT3D", &format!("[POINT3D] column `a`: no type \"POINT3D\" = {TYPES}")),
        ("a STRING(20)", "[(] STRING takes nothing in parentheses = write STRING"),
        ("a DOUBLE PRECISION", "[PRECISION] the type is called DOUBLE = write DOUBLE"),
        (
            "a INT NOT NULL, b INT",
            "[NOT NULL] NOT NULL is not checked in this version = leave it out; `WHERE x IS NOT NULL` drops such rows",
        ),
        (
            "a DECIMAL(39,2)",
            "[39] a precision is a number from 1 to 38 = write DECIMAL(precision, scale), as DECIMAL(18,4)",
        ),
        (
            "a DECIMAL(4,5)",
            "[5] a scale is a number from 0 to the precision, here 4 = write DECIMAL(precision, scale), as DECIMAL(18,4)",
        ),
        (
            "a DECIMAL(4,2",
            "[4,2] the parenthesis is not closed = write DECIMAL(precision, scale), as DECIMAL(18,4)",
        ),
        ("`a INT", "[`a INT] the column's name is not closed = end it with a backtick"),
        (
            "\"a\" INT",
            "[\"] a column's name stands in backticks or alone = write `Sepal length` with backticks",
        ),
    ] {
        check(ddl, expected);
    }
}
