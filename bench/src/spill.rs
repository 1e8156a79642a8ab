//! Does `memory_limit` hold where the state is many times as much?
//!
//! Every group once and every hundredth twice, over a file, with a limit that neither the state nor the
//! answer fits; all groups leave at the end, sorted. They are compared with the rows' rule, and the peak
//! of the process's memory with the limit: more is a failure, not a figure.

use std::io::Write;

use serde_json::json;

use crate::data::Scratch;
use crate::error::Error;
use crate::groups::Groups;
use crate::{Options, child, record};

const SQL: &str = "SELECT k, count(*) AS n, sum(v) AS s FROM rows GROUP BY k";
/// A gibibyte for 10^8 groups, and no less than a program with two cores needs for itself.
const LIMIT_BYTES_A_GROUP: f64 = (1u64 << 30) as f64 / 1e8;
const LIMIT_MIN: u64 = 96 << 20;

/// Answers it, writes the figures to `out` and, where asked for, a record.
///
/// Errors: `Usage` for fewer than 100 rows; `Wrong` for an answer that is not right and for memory above
/// the limit; `Io`; those of the program.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<(), Error> {
    if options.rows < 100 {
        return Err(Error::Usage("at least 100 rows".into()));
    }
    let groups = 10u64.pow(options.rows.ilog10());
    // The rows behind the first `groups` are those of the first hundredth again.
    let data = Groups { rows: groups + groups / 100, groups };
    let file = data.file(&options.dir)?;
    let limit = ((groups as f64 * LIMIT_BYTES_A_GROUP) as u64).max(LIMIT_MIN);
    let scratch = Scratch::new(&options.dir)?;
    let dir = scratch.empty("spill")?;
    let mib = limit >> 20;
    let job = Groups::job(&file, true, SQL, &format!("memory_limit = \"{mib}MiB\"\n"))
        + "mode = \"append\"\n\n[sink.out]\ntype = \"file\"\npath = \"out\"\nformat = \"csv\"\n\n\
           [checkpoint]\npath = \"state\"\n";
    let ended = child::pelton(&options.program, &job, &dir, data.rows)?;
    data.check(&dir.join("out"), groups)?;
    if ended.peak_rss_bytes > limit {
        let peak = ended.peak_rss_bytes >> 20;
        return Err(Error::Wrong(format!("{peak} MiB at the peak, the limit is {mib} MiB")));
    }
    let figures = json!({
        "question": "does memory_limit hold where the state is many times as much?",
        "groups": groups, "rows": data.rows, "memory_limit_bytes": limit,
        "peak_rss_bytes": ended.peak_rss_bytes, "seconds": ended.seconds,
        "cpu_seconds": ended.cpu_seconds, "rows_per_second": data.rows as f64 / ended.seconds,
    });
    let text = serde_json::to_string_pretty(&figures).expect("figures are plain data");
    writeln!(out, "{text}").map_err(|error| Error::io("cannot print the figures", error))?;
    let Some(into) = &options.record else { return Ok(()) };
    let path = record::keep("spill", figures, into)?;
    eprintln!("recorded in {}", path.display());
    Ok(())
}
