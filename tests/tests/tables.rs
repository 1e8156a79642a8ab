//! Static tables beside a stream, and aggregates whose states are more than a number, through the
//! real program: files, exit codes, checkpoints.

use pelton_tests::output;
use pelton_tests::program::Job;

fn job(query: &str, more: &str) -> Job {
    Job::new(&format!(
        r#"name = "tables"

[source.rows]
type = "file"
path = "in/*.csv"
schema = "k STRING, v INT, t STRING"

{more}

[query]
sql = "{query}"
trigger = "available-now"

[sink.out]
type = "file"
path = "out"
format = "csv"
"#
    ))
}

const DIM: &str = r#"[table.dim]
path = "dim.csv"
schema = "k STRING, site STRING"

[table.dim.csv]
header = true"#;

#[test]
fn a_stream_is_joined_with_a_table() {
    let job = job("SELECT r.k, v, site FROM rows r LEFT JOIN dim d ON r.k = d.k", DIM);
    job.write("in/a.csv", "a,1,x\nb,2,y\n,3,z\n");
    job.write("dim.csv", "site,k\nnorth,a\nsouth,a\nwest,c\n");
    let ended = job.run().expect_code(0);
    let rows = output::rows(&job.path("out"), "k,v,site");
    assert_eq!(rows, ["a,1,north", "a,1,south", "b,2,", ",3,"], "{}", ended.stderr);
    assert_eq!(ended.fates().applied, 3);
}

#[test]
fn a_table_that_cannot_be_read_stops_the_job_before_it_starts() {
    let job = job("SELECT r.k, site FROM rows r JOIN dim d ON r.k = d.k", DIM);
    job.write("in/a.csv", "a,1,x\n");
    job.run().expect_code(69).expect_said(&["cannot read the table dim", "[table.dim]"]);
    job.write("dim.csv", "k,site\na,north,more\n");
    job.run().expect_code(1).expect_said(&["the table dim", "line 2", "expected 2 fields"]);
    assert!(!job.path("out").exists() || output::files(&job.path("out")) == 0);
}

/// What one run left in its checkpoint the next one goes on from.
#[test]
fn kept_states_survive_a_restart() {
    let query = "SELECT k, count(DISTINCT v) AS d, percentile(v, 0.5) AS m, \
                 string_agg(t, '+') AS s, max_by(t, v) AS b, skewness(v) AS w, \
                 approx_count_distinct(t) AS a FROM rows GROUP BY k";
    let checkpoint = "[checkpoint]\npath = \"state\"";
    let (first, second) = ("x,1,p\ny,5,q\nx,4,r\n", "x,4,s\nx,9,t\ny,,u\n");
    let two = job(query, checkpoint);
    let text = std::fs::read_to_string(two.path("job.toml")).unwrap();
    let text = text.replace("[query]", "[query]\nmode = \"update\"");
    let console = "[sink.out]\ntype = \"console\"\nstyle = \"json\"\n";
    two.write("job.toml", text[..text.find("[sink.out]").unwrap()].to_string() + console);
    two.write("in/a.csv", first);
    two.run().expect_code(0);
    two.write("in/b.csv", second);
    let ended = two.run().expect_code(0);
    let rows = concat!(
        r#""rows": [{"k":"x","d":3,"m":4.0,"s":"p+r+s+t","b":"t","w":0.5064077264165755,"a":4}, "#,
        r#"{"k":"y","d":1,"m":5.0,"s":"q+u","b":"q","a":2}]}"#,
    );
    assert!(ended.stdout.contains(rows), "{}", ended.stdout);
}
