//! Files as they come: each oddity gives the rows that are there, and a dead letter with its place
//! and reason for each that is not (faults F01 to F06 of RELIABILITY).

use pelton_tests::output;
use pelton_tests::program::{Ended, Job};

const HEADER: &str = "id,name,value";

fn job(csv: &str) -> Job {
    job_with("", csv)
}

/// With these keys of `[source.rows]` and of `[source.rows.csv]`.
fn job_with(source: &str, csv: &str) -> Job {
    Job::new(&format!(
        r#"name = "input"

[source.rows]
type = "file"
path = "rows.csv"
format = "csv"
schema = "id INT, name STRING, value DOUBLE"
{source}

[source.rows.csv]
{csv}

[query]
sql = "SELECT id, name, value FROM rows"

[sink.out]
type = "file"
path = "out"
format = "csv"
"#
    ))
}

/// Runs `input` with these keys of `[source.rows.csv]`: the output's lines, and texts that each
/// rejected row is told with.
fn check(input: impl AsRef<[u8]>, csv: &str, expected: &[&str], rejected: &[&[&str]]) -> Ended {
    let job = job(csv);
    job.write("rows.csv", input);
    let ended = job.run().expect_code(0);
    assert_eq!(output::rows(&job.path("out"), HEADER), expected, "{}", ended.stderr);
    let fates = ended.fates();
    assert_eq!(fates.applied, expected.len() as u64, "{fates:?}");
    assert_eq!(fates.rejected, rejected.len() as u64, "{fates:?}");
    for texts in rejected {
        let told = ended.stderr.lines().any(|line| texts.iter().all(|text| line.contains(text)));
        assert!(told, "no line tells {texts:?}:\n{}", ended.stderr);
    }
    assert_eq!(ended.stdout, "", "stdout is for rows of a console");
    ended
}

#[test]
fn an_empty_file_has_no_rows() {
    check("", "", &[], &[]);
    check("", "header = true", &[], &[]);
}

#[test]
fn a_header_alone_has_no_rows() {
    check("id,name,value\n", "header = true", &[], &[]);
    check("id,name,value", "header = true", &[], &[]);
    check("id,name,value\n", "header = \"ignore\"", &[], &[]);
}

#[test]
fn a_header_says_which_field_is_which_column() {
    check("value,id,name\n1.5,7,a\n", "header = true", &["7,a,1.5"], &[]);
}

#[test]
fn line_ends_may_be_crlf_lf_or_missing() {
    let expected = ["1,a,1.5", "2,b,2.5"];
    check("1,a,1.5\r\n2,b,2.5\r\n", "", &expected, &[]);
    check("1,a,1.5\r\n2,b,2.5", "", &expected, &[]);
    check("1,a,1.5\n2,b,2.5", "", &expected, &[]);
}

/// F04
#[test]
fn a_byte_order_mark_is_passed_over_at_the_start_only() {
    check("\u{feff}1,a,1.5\n", "", &["1,a,1.5"], &[]);
    check("\u{feff}id,name,value\n1,a,1.5\n", "header = true", &["1,a,1.5"], &[]);
    check("1,a,1.5\n\u{feff}2,b,1\n", "", &["1,a,1.5"], &[&["rows.csv", "line 2", "id"]]);
}

#[test]
fn a_wrong_type_is_told_with_line_column_expected_and_found() {
    check(
        "1,a,1.5\nx,b,2.5\n3,c,warm\n4,d,4.5\n",
        "",
        &["1,a,1.5", "4,d,4.5"],
        &[&["rows.csv", "line 2", "id", "\"x\""], &["rows.csv", "line 3", "value", "\"warm\""]],
    );
}

/// F05
#[test]
fn rows_with_too_few_or_too_many_fields_are_rejected_or_taken() {
    let input = "1,a,1.5\n2,b\n3,c,3.5,more\n4,d,4.5\n";
    check(
        input,
        "",
        &["1,a,1.5", "4,d,4.5"],
        &[&["rows.csv", "line 2", "3", "2"], &["rows.csv", "line 3", "3", "4"]],
    );
    let taken = "fewer = \"null\"\nmore = \"ignore\"";
    check(input, taken, &["1,a,1.5", "2,b,", "3,c,3.5", "4,d,4.5"], &[]);
}

/// F02
#[test]
fn an_unclosed_quote_costs_its_line_alone() {
    let expected = ["1,a,1.5", "3,c,3.5"];
    check("1,a,1.5\n2,\"b,2.5\n3,c,3.5\n", "", &expected, &[&["rows.csv", "line 2", "quote"]]);
}

/// F02
#[test]
fn an_unclosed_quote_ends_at_the_record_limit() {
    let mut input = String::from("1,a,1.5\n2,\"b,2.5\n");
    for id in 3..20_000 {
        input += &format!("{id},c,0.5\n");
    }
    let job = job_with("max_record_bytes = \"64KiB\"", "");
    job.write("rows.csv", &input);
    let ended = job.run().expect_code(0);
    let rows = output::rows(&job.path("out"), HEADER);
    assert_eq!(rows[0], "1,a,1.5");
    // One letter takes 64 KiB with it; what follows is read again.
    assert!(rows.len() > 10_000, "{} rows\n{}", rows.len(), ended.stderr);
    assert_eq!(rows.last().map(String::as_str), Some("19999,c,0.5"));
    assert!(ended.fates().rejected >= 1);
    ended.expect_said(&["line 2"]);
}

#[test]
fn quoted_fields_hold_what_would_end_others() {
    let job = job("");
    job.write("rows.csv", "1,\"a, \"\"b\"\"\nc\",1.5\n2,\"\",\n3,,3.5\n");
    let fates = job.run().expect_code(0).fates();
    assert_eq!((fates.applied, fates.rejected), (3, 0));
    // The first row's line feed is one of the output, too: four lines of text.
    let lines = output::rows(&job.path("out"), HEADER);
    assert_eq!(lines, ["1,\"a, \"\"b\"\"", "c\",1.5", "2,\"\",", "3,,3.5"]);
}

/// F03
#[test]
fn a_field_of_a_mebibyte_passes_whole() {
    let long = "x".repeat(1 << 20);
    let expected = [format!("1,{long},1.5"), "2,b,2.5".to_string()];
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    check(format!("1,{long},1.5\n2,b,2.5\n"), "", &expected, &[]);
}

/// F06
#[test]
fn numbers_at_their_limits_are_exact_or_rejected() {
    check(
        "1,nan,NaN\n2,minus zero,-0\n3,inf,Infinity\n4,least,-2147483648\n-2147483648,int,5e-324\n\
         2147483647,int,1.7976931348623157e308\n",
        "",
        &[
            "1,nan,NaN",
            "2,minus zero,-0.0",
            "3,inf,Infinity",
            "4,least,-2147483648.0",
            "-2147483648,int,5e-324",
            "2147483647,int,1.7976931348623157e+308",
        ],
        &[],
    );
    check(
        "2147483648,int,1\n1,double,1e309\n-2147483649,int,1\n",
        "",
        &[],
        &[&["line 1", "id"], &["line 2", "value", "1e309"], &["line 3", "id"]],
    );
}

/// F04
#[test]
fn binary_garbage_is_rejected_row_by_row() {
    let mut random = pelton_tests::data::Random::new(5);
    let mut bytes: Vec<u8> = (0..200_000).map(|_| random.below(256) as u8).collect();
    bytes.retain(|&byte| byte != b'"');
    bytes.push(b'\n');
    bytes.extend(b"7,after,1.5\n");
    let job = job("");
    job.write("rows.csv", &bytes);
    let ended = job.run().expect_code(0);
    assert_eq!(output::rows(&job.path("out"), HEADER), ["7,after,1.5"]);
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    let fates = ended.fates();
    assert_eq!(fates.applied, 1);
    // An empty line is no row; all others were told.
    assert!(fates.rejected > lines * 9 / 10 && fates.rejected < lines, "{fates:?} of {lines}");
}

/// F04
#[test]
fn bad_utf8_is_rejected_where_it_is_read() {
    check(b"1,a\xff,1.5\n2,b,2.5\n", "", &["2,b,2.5"], &[&["line 1", "name", "UTF-8"]]);
}

#[test]
fn on_error_fail_stops_at_the_row() {
    let job = job_with("on_error = \"fail\"", "");
    job.write("rows.csv", "1,a,1.5\n2,b,warm\n3,c,3.5\n");
    job.run().expect_code(1).expect_said(&["rows.csv", "line 2", "value", "\"warm\""]);
    assert_eq!(output::rows(&job.path("out"), HEADER), [""; 0], "the epoch was not committed");
}

#[test]
fn a_directory_is_read_in_order_of_its_files() {
    let toml = std::fs::read_to_string(job("").path("job.toml")).expect("just written");
    let job = Job::new(
        &toml
            .replace("\"rows.csv\"", "\"in/*.csv\"")
            .replace("[query]", "[query]\ntrigger = \"available-now\""),
    );
    job.write("in/a.csv", "1,a,1.5\n");
    job.write("in/b.csv", "2,b,2.5\n");
    job.write("in/other.txt", "not one of them\n");
    job.run().expect_code(0);
    assert_eq!(output::rows(&job.path("out"), HEADER), ["1,a,1.5", "2,b,2.5"]);
}
