//! How long a row is on its way under a continuous trigger. The short form is generous, as a machine
//! may be busy: it sees that rows do not wait for something else. Figures come from `pelton bench
//! events`, which asks the same of more rows.

use pelton_bench::events::latency::{Query, measure, measure_generated};
use pelton_tests::program::{Job, binary};

fn half_of_the_rows_are_out_at_once(query: Query, durable: bool) {
    let job = Job::new("");
    let found = measure(&binary(), job.dir(), query, durable, 100).expect("a row, a line");
    assert!(found.p50 < 100.0, "{query:?}, {durable}: {found:?}");
}

#[test]
fn a_row_of_a_stateless_query_leaves_within_milliseconds() {
    half_of_the_rows_are_out_at_once(Query::Stateless, false);
}

#[test]
fn a_window_is_updated_within_milliseconds() {
    half_of_the_rows_are_out_at_once(Query::Windowed, false);
}

#[test]
fn a_row_that_is_logged_and_checkpointed_leaves_soon() {
    half_of_the_rows_are_out_at_once(Query::Stateless, true);
    half_of_the_rows_are_out_at_once(Query::Windowed, true);
}

/// Rows that are generated one by one are not gathered first.
#[test]
fn a_generated_row_leaves_when_its_time_has_come() {
    for query in [Query::Stateless, Query::Windowed] {
        let job = Job::new("");
        let found = measure_generated(&binary(), job.dir(), query, false, 100, 0.0);
        let found = found.expect("a row, a line");
        assert!(found.p50 < 100.0, "{query:?}: {found:?}");
    }
}
