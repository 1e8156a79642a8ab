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

/// What a query makes of the dealers of Spark's page on GROUP BY, in the order that it asks for.
fn dealers(query: &str) -> Vec<String> {
    let text = format!(
        r#"name = "dealers"

[source.dealer]
type = "file"
path = "in/*.csv"
schema = "id INT, city STRING, car_model STRING, quantity INT"

[query]
sql = "{query}"
mode = "complete"
trigger = "once"

[sink.out]
type = "console"
"#
    );
    let job = Job::new(&text);
    let rows = "100,Fremont,Civic,10\n100,Fremont,Accord,15\n100,Fremont,CRV,7\n\
                200,Dublin,Civic,20\n200,Dublin,Accord,10\n200,Dublin,CRV,3\n\
                300,San Jose,Civic,5\n300,San Jose,Accord,8\n";
    job.write("in/a.csv", rows);
    let ended = job.run().expect_code(0);
    let lines = ended.stdout.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>().join(",").replace("NULL", "")
    };
    lines.map(cells).collect()
}

/// Expected rows: <https://spark.apache.org/docs/latest/sql-ref-syntax-qry-select-groupby.html>.
#[test]
fn rows_count_once_in_every_grouping_set() {
    let all = [
        ",,78",
        ",Accord,33",
        ",CRV,10",
        ",Civic,35",
        "Dublin,,33",
        "Dublin,Accord,10",
        "Dublin,CRV,3",
        "Dublin,Civic,20",
        "Fremont,,32",
        "Fremont,Accord,15",
        "Fremont,CRV,7",
        "Fremont,Civic,10",
        "San Jose,,13",
        "San Jose,Accord,8",
        "San Jose,Civic,5",
    ];
    let select = "SELECT city, car_model, sum(quantity) AS sum FROM dealer";
    let by = |group_by: &str| {
        let query = format!("{select} GROUP BY {group_by} ORDER BY city, car_model");
        dealers(&query)
    };
    assert_eq!(by("GROUPING SETS ((city, car_model), (city), (car_model), ())"), all);
    assert_eq!(by("city, car_model WITH CUBE"), all);
    assert_eq!(by("CUBE (1, 2)"), all);
    let of_cities: Vec<&str> =
        all.into_iter().filter(|row| !row.starts_with(',') || row.starts_with(",,")).collect();
    assert_eq!(by("city, car_model WITH ROLLUP"), of_cities);
    assert_eq!(by("ROLLUP (city, car_model)"), of_cities);
}

#[test]
fn a_query_asks_which_grouping_set_a_row_is_of() {
    let query = "SELECT upper(city) AS c, grouping(upper(city)) AS g, grouping_id() AS gid, \
                 sum(quantity) AS s FROM dealer WHERE car_model <> 'CRV' \
                 GROUP BY CUBE (upper(city), car_model) HAVING gid > 0 AND s > 20 \
                 ORDER BY gid, c, s";
    assert_eq!(
        dealers(query),
        ["DUBLIN,0,1,30", "FREMONT,0,1,25", ",1,2,33", ",1,2,35", ",1,3,68"],
    );
}

#[test]
fn group_by_all_and_order_by_all_take_the_items_of_select() {
    let query = "SELECT city, quantity > 8 AS many, count(*) AS n, n * 10 AS tens FROM dealer \
                 GROUP BY ALL ORDER BY ALL DESC";
    let rows = dealers(query);
    let expected = [
        "San Jose,false,2,20",
        "Fremont,true,2,20",
        "Fremont,false,1,10",
        "Dublin,true,2,20",
        "Dublin,false,1,10",
    ];
    assert_eq!(rows, expected);
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
