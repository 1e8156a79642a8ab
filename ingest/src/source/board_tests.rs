//! The board against a reader who goes through everything once, in order.

use proptest::prelude::*;

use super::*;

/// A row: its place, and whether the running greatest event time made it late.
type Row = (usize, u64, u64, bool);

/// Rows hold their event time in the first two bytes; it is late when the greatest one before it is
/// `DELAY` or more ahead.
const DELAY: i64 = 20;

fn time_of(row: &[u8]) -> Option<i64> {
    std::str::from_utf8(row.get(..2)?).ok()?.parse().ok()
}

/// End of the row that starts at `at` (one past its line feed), if it ends before `end`.
fn row_end(bytes: &[u8], at: usize, end: usize) -> Option<usize> {
    let mut quoted = false;
    for (offset, &byte) in bytes[at..end].iter().enumerate() {
        quoted ^= byte == b'"';
        if byte == b'\n' && !quoted {
            return Some(at + offset + 1);
        }
    }
    None
}

/// What one core makes of a range, given what is known of it.
fn read(bytes: &[u8], range: &Range, known: Known) -> (Vec<Row>, Outcome) {
    let end = range.file_end.map_or(bytes.len(), |end| end as usize);
    let (mut rows, mut greatest, mut holds_below) = (Vec::new(), None, i64::MAX);
    let carry = known.clock.and_then(|clock| clock.now);
    let guess = || row_end(bytes, range.start as usize - 1, range.end as usize).map(|at| at as u64);
    let row_start = known.row_start.or_else(guess);
    let first = row_start.unwrap_or(range.end);
    let (mut at, mut lines) = (first, 0);
    while at < range.end.min(end as u64) && range.rows.is_none_or(|max| (rows.len() as u64) < max) {
        let next = match row_end(bytes, at as usize, end) {
            Some(next) => next,
            None if range.complete => end,
            None => break,
        };
        let row = &bytes[at as usize..next];
        let time = time_of(row);
        let late = time.is_some_and(|time| {
            greatest.max(carry).is_some_and(|greatest: i64| time <= greatest - DELAY)
        });
        if let (Some(time), false, None) = (time, late, known.clock) {
            holds_below = holds_below.min(time + DELAY);
        }
        rows.push((range.file, at, lines, late));
        greatest = greatest.max(time);
        lines += row.iter().filter(|&&b| b == b'\n').count() as u64;
        at = next as u64;
    }
    let outcome = Outcome {
        row_start,
        next_row_start: at,
        lines,
        rows: rows.len() as u64,
        clock: SplitClock::of(greatest),
        guess_holds_below: holds_below,
        at_end: range.file_end.is_none() && at == end as u64,
    };
    (rows, outcome)
}

/// A range that a core has read and that is not settled.
struct Held {
    core: usize,
    range: Range,
    rows: Vec<Row>,
}

/// Cores that take, finish and repair ranges in the order that `choose` says.
struct Cores<'a> {
    files: &'a [Vec<u8>],
    board: Board,
    reading: Vec<Option<(Range, Known)>>,
    held: Vec<Held>,
    kept: Vec<(u64, Vec<Row>)>,
    repairs: usize,
}

impl Cores<'_> {
    fn step(&mut self, core: usize) -> Dispensed {
        let dispensed = match self.reading[core].take() {
            Some((range, known)) => {
                let (rows, outcome) = read(&self.files[range.file], &range, known);
                self.held.push(Held { core, range, rows });
                self.board.submit(range.order, outcome);
                Dispensed::Wait
            }
            None => self.board.dispense(core),
        };
        if let Dispensed::Work(range, known) = dispensed {
            self.reading[core] = Some((range, known));
        }
        // A repair settles ranges of other cores, too.
        while let Some((core, verdict)) =
            (0..self.reading.len()).find_map(|core| Some((core, self.board.verdict(core)?)))
        {
            self.obey(core, verdict);
        }
        dispensed
    }

    fn obey(&mut self, core: usize, verdict: Verdict) {
        let order = match verdict {
            Verdict::Keep { order, .. } => order,
            Verdict::Again { range, .. } => range.order,
        };
        let at = self.held.iter().position(|held| held.range.order == order).unwrap();
        let held = self.held.swap_remove(at);
        assert_eq!(held.core, core, "a verdict reaches the core that read the range");
        match verdict {
            Verdict::Keep { line, .. } => self.keep(order, held.rows, line),
            Verdict::Again { range, row_start, line, clock, settled } => {
                self.repairs += 1;
                let known = Known { row_start: Some(row_start), clock: Some(clock) };
                let (rows, outcome) = read(&self.files[range.file], &range, known);
                if settled {
                    return self.keep(order, rows, line);
                }
                self.held.push(Held { core, range, rows });
                self.board.submit(order, outcome);
            }
        }
    }

    fn keep(&mut self, order: u64, mut rows: Vec<Row>, line: u64) {
        rows.iter_mut().for_each(|row| row.2 += line);
        self.kept.push((order, rows));
    }

    fn busy(&self) -> bool {
        self.reading.iter().any(Option::is_some) || !self.held.is_empty()
    }
}

/// One reader, everything known.
fn sequential(files: &[Vec<u8>]) -> Vec<Row> {
    let (mut rows, mut greatest) = (Vec::new(), None);
    for (file, bytes) in files.iter().enumerate() {
        let whole = Range {
            order: 0,
            file,
            start: 0,
            end: bytes.len() as u64,
            file_end: Some(bytes.len() as u64),
            complete: true,
            rows: None,
            late_by: None,
        };
        let known = Known { row_start: Some(0), clock: Some(SplitClock::of(greatest)) };
        let (found, outcome) = read(bytes, &whole, known);
        rows.extend(found.into_iter().map(|(f, at, line, late)| (f, at, line + 1, late)));
        greatest = greatest.max(outcome.clock.now);
    }
    rows
}

fn fresh(position: u64, line: u64, extent: Extent, complete: bool) -> FileFacts {
    FileFacts { position, line, extent, complete }
}

const UNLIMITED: Limits = Limits { bytes: None, rows: None, files: None };

/// What a test does beside reading: the files grow, epochs end, the job is killed.
#[derive(Clone, Copy, Debug)]
struct Disturb {
    cores: usize,
    range_bytes: u64,
    mode: Mode,
    streamed: bool,
    growing: bool,
    limits: Limits,
    restart: bool,
}

/// Drives cores by `choices` until all is read; returns the kept rows in order and the repairs.
fn drive(files: &[Vec<u8>], disturb: Disturb, choices: &[u8]) -> (Vec<Row>, usize) {
    let Disturb { cores, range_bytes, mode, limits, .. } = disturb;
    let size = |file: usize, part: usize| (files[file].len() * part.min(4) / 4) as u64;
    let board = |cut: Option<&Cut>, part: usize| {
        let event_time_max = cut.and_then(|cut| cut.event_time_max);
        let mut board = Board::new(mode, range_bytes, cores, limits, (event_time_max, None));
        for file in 0..files.len() {
            let (position, line) =
                cut.map_or((0, 1), |cut| (cut.files[file].position, cut.files[file].line));
            let extent = match disturb.streamed {
                true => cut.map_or(Extent::Streamed, |cut| cut.files[file].extent),
                false => Extent::Known(size(file, part)),
            };
            board.add_file(fresh(position, line, extent, part >= 4));
        }
        if part >= 4 {
            board.close();
        }
        board
    };
    let mut part = if disturb.growing { 0 } else { 4 };
    let mut all = Cores {
        files,
        board: board(None, part),
        reading: vec![None; cores],
        held: Vec::new(),
        kept: Vec::new(),
        repairs: 0,
    };
    let (mut rows, mut choices) = (Vec::new(), choices.iter().cycle().copied());
    for round in 0..200_000 {
        let choice = choices.next().unwrap() as usize + round / 64;
        let dispensed = all.step(choice % cores);
        if part < 4 && choice.is_multiple_of(5) {
            part += 1;
            (0..files.len()).for_each(|f| all.board.update_file(f, size(f, part), part == 4));
            if part == 4 {
                all.board.close();
            }
        }
        let full = dispensed == Dispensed::Full;
        let cutting = all.board.cutting || all.board.cut.is_some();
        if !cutting && (full || choice.is_multiple_of(23) || all.board.is_drained() && part == 4) {
            all.board.cut(None, None);
        }
        if let Some(cut) = all.board.take_cut() {
            assert!(!all.busy(), "an epoch ends when all of it is settled");
            assert!(disturb.growing || cut.ended == all.board.is_drained());
            all.kept.sort_by_key(|(order, _)| *order);
            rows.extend(all.kept.drain(..).flat_map(|(_, rows)| rows));
            if cut.ended {
                return (rows, all.repairs);
            }
            if disturb.restart {
                all.board = board(Some(&cut), part);
            }
        }
    }
    panic!("the cores came to a halt");
}

/// Text with rows, quoted line feeds, empty lines and sometimes no line feed at its end.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let row = prop_oneof![
        4 => (10u8..99).prop_map(|t| format!("{t},ab")),
        2 => (10u8..99, 0usize..9).prop_map(|(t, n)| format!("{t},\"{}\"", "x\n".repeat(n))),
        1 => Just(String::new()),
        1 => (10u8..99, 20usize..60).prop_map(|(t, n)| format!("{t},\"{}", "\"\n".repeat(n) + "\"")),
    ];
    (prop::collection::vec(row, 0..30), any::<bool>()).prop_map(|(rows, ends)| {
        let mut text = rows.join("\n");
        if ends && !text.is_empty() {
            text.push('\n');
        }
        text.into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cores_in_any_order_read_what_one_reader_reads(
        files in prop::collection::vec(file(), 1..4),
        cores in 1usize..5,
        range_bytes in 1u64..40,
        growing in any::<bool>(),
        restart in any::<bool>(),
        bytes in prop::option::of(1u64..100),
        choices in prop::collection::vec(any::<u8>(), 20..60),
    ) {
        let limits = Limits { bytes, ..UNLIMITED };
        let disturb = Disturb {
            cores, range_bytes, growing, restart, limits, mode: Mode::Guessing, streamed: false,
        };
        let (mut found, mut expected) = (drive(&files, disturb, &choices).0, sequential(&files));
        if growing && files.len() > 1 {
            // The split's order is then that in which the bytes came to be known.
            found.sort();
            found.iter_mut().chain(&mut expected).for_each(|row| row.3 = false);
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn one_by_one_the_rows_of_an_epoch_are_counted_exactly(
        files in prop::collection::vec(file(), 1..4),
        cores in 1usize..3,
        range_bytes in 1u64..40,
        streamed in any::<bool>(),
        restart in any::<bool>(),
        rows in prop::option::of(1u64..5),
        files_max in prop::option::of(1usize..3),
        choices in prop::collection::vec(any::<u8>(), 20..60),
    ) {
        let limits = Limits { bytes: None, rows, files: files_max };
        let disturb = Disturb {
            cores, range_bytes, streamed, restart, limits, mode: Mode::Sequential, growing: false,
        };
        let (found, repairs) = drive(&files, disturb, &choices);
        prop_assert_eq!(found, sequential(&files));
        prop_assert_eq!(repairs, 0, "nothing was guessed");
    }
}

#[test]
fn a_quoted_line_feed_at_a_range_boundary_is_repaired() {
    // The second range begins inside quotes: its guess takes `b` for a row.
    let files = [b"11,\"aaaa\nb\nc\"\n12,d\n".to_vec()];
    let disturb = Disturb {
        cores: 2,
        range_bytes: 10,
        mode: Mode::Guessing,
        streamed: false,
        growing: false,
        limits: UNLIMITED,
        restart: false,
    };
    let (rows, repairs) = drive(&files, disturb, &[2, 1]);
    assert_eq!(rows, [(0, 0, 1, false), (0, 14, 4, false)]);
    assert_eq!(repairs, 1);
}

#[test]
fn a_range_whose_rows_are_late_is_read_again_without_holding_up_others() {
    let mut board = Board::new(Mode::Guessing, 10, 2, UNLIMITED, (None, None));
    board.add_file(fresh(0, 1, Extent::Known(30), true));
    let ranges = [0, 1, 0].map(|core| work(&mut board, core));
    let found = |range: &Range, time, holds| Outcome {
        row_start: Some(range.start),
        next_row_start: range.end,
        lines: 1,
        rows: 1,
        clock: SplitClock::of(Some(time)),
        guess_holds_below: holds,
        at_end: false,
    };
    board.submit(2, found(&ranges[2], 200, 210));
    board.submit(1, found(&ranges[1], 50, 60));
    assert_eq!((board.verdict(0), board.verdict(1)), (None, None));
    board.submit(0, found(&ranges[0], 100, i64::MAX));
    assert_eq!(board.verdict(0), Some(Verdict::Keep { order: 0, line: 1 }));
    assert_eq!(
        board.verdict(1),
        Some(Verdict::Again {
            range: ranges[1],
            row_start: 10,
            line: 2,
            clock: SplitClock::of(Some(100)),
            settled: true,
        })
    );
    assert_eq!(board.verdict(0), Some(Verdict::Keep { order: 2, line: 3 }));
}

#[test]
fn a_clock_that_others_moved_on_keeps_what_its_own_rows_came_to() {
    let mut board = Board::new(Mode::Exact, 10, 1, UNLIMITED, (Some(5), None));
    board.add_file(fresh(0, 1, Extent::Known(20), true));
    let mut clocks = Vec::new();
    for (time, moves_to) in [(40, Some(90)), (70, None)] {
        let Dispensed::Work(range, known) = board.dispense(0) else { panic!("there is a range") };
        let mut clock = known.clock.expect("nothing before it is open");
        clocks.push((clock.now, clock.own));
        clock.see(SplitClock::of(Some(time)));
        board.submit(range.order, Outcome { clock, ..read_to(&range, range.end) });
        board.cut(None, moves_to);
        assert_eq!(board.take_cut().unwrap().event_time_max, Some(90));
    }
    assert_eq!(clocks, [(Some(5), Some(5)), (Some(90), Some(40))]);
}

#[test]
fn an_epoch_takes_no_more_than_its_bytes_and_files() {
    let limits = Limits { bytes: Some(25), rows: None, files: Some(2) };
    let mut board = Board::new(Mode::Exact, 10, 1, limits, (None, None));
    for _ in 0..3 {
        board.add_file(fresh(0, 1, Extent::Known(12), true));
    }
    let mut taken = Vec::new();
    for _ in 0..20 {
        match board.dispense(0) {
            Dispensed::Work(range, known) => {
                taken.push((range.file, range.start, range.end));
                board.submit(
                    range.order,
                    Outcome {
                        row_start: known.row_start,
                        next_row_start: range.end,
                        lines: 0,
                        rows: range.end - range.start,
                        clock: SplitClock::default(),
                        guess_holds_below: i64::MAX,
                        at_end: false,
                    },
                );
            }
            Dispensed::Full => {
                taken.push((9, 9, 9));
                board.cut(None, None);
                board.take_cut().unwrap();
            }
            other => {
                assert_eq!(other, Dispensed::Empty);
                break;
            }
        }
    }
    assert_eq!(
        taken,
        [(0, 0, 10), (0, 10, 12), (1, 0, 10), (1, 10, 12), (9, 9, 9), (2, 0, 10), (2, 10, 12)]
    );
}

fn work(board: &mut Board, core: usize) -> Range {
    match board.dispense(core) {
        Dispensed::Work(range, _) => range,
        other => panic!("expected a range, got {other:?}"),
    }
}

/// A range whose rows of ten bytes each were all read up to `next`.
fn read_to(range: &Range, next: u64) -> Outcome {
    Outcome {
        row_start: Some(range.start),
        next_row_start: next,
        lines: (next - range.start) / 10,
        rows: (next - range.start) / 10,
        clock: SplitClock::default(),
        guess_holds_below: i64::MAX,
        at_end: false,
    }
}

#[test]
fn an_unterminated_row_waits_until_its_file_grows_or_is_whole() {
    let mut board = Board::new(Mode::Guessing, 100, 1, UNLIMITED, (None, None));
    board.add_file(fresh(0, 1, Extent::Known(25), false));
    let range = work(&mut board, 0);
    board.update_file(0, 27, false);
    board.submit(range.order, read_to(&range, 20));
    let range = work(&mut board, 0);
    assert_eq!((range.start, range.end), (20, 27), "it grew while it was read");
    board.submit(range.order, read_to(&range, 20));
    assert_eq!(board.dispense(0), Dispensed::Empty);
    board.update_file(0, 27, true);
    let range = work(&mut board, 0);
    assert_eq!((range.start, range.end, range.complete), (20, 27, true));
    board.submit(range.order, read_to(&range, 27));
    assert_eq!(board.dispense(0), Dispensed::Empty);

    board.add_file(fresh(0, 1, Extent::Known(25), false));
    let range = work(&mut board, 0);
    board.update_file(1, 25, true);
    board.submit(range.order, read_to(&range, 20));
    assert!(work(&mut board, 0).complete, "it became whole while it was read");
}

#[test]
fn nothing_is_handed_out_while_an_epoch_is_being_cut() {
    let mut board = Board::new(Mode::Guessing, 10, 2, UNLIMITED, (Some(7), None));
    board.add_file(fresh(0, 1, Extent::Known(100), true));
    let range = work(&mut board, 0);
    board.cut(None, None);
    assert_eq!((board.dispense(1), board.take_cut()), (Dispensed::Wait, None));
    board.submit(range.order, read_to(&range, 10));
    let files = vec![fresh(10, 2, Extent::Known(100), true)];
    let cut = Cut { files, event_time_max: Some(7), ended: false };
    assert_eq!(board.take_cut(), Some(cut));
    assert_eq!(work(&mut board, 1).start, 10);
}

#[test]
fn where_an_epoch_is_a_number_of_files_one_without_rows_is_an_epoch_too() {
    let facts =
        |end| FileFacts { position: 0, line: 1, extent: Extent::Known(end), complete: true };
    let limits = Limits { files: Some(1), ..UNLIMITED };
    let mut board = Board::new(Mode::Exact, 10, 1, limits, (None, Some(5)));
    // Known from an earlier run: it had its epoch.
    board.add_file(facts(0));
    board.add_new_file(facts(0));
    board.add_new_file(facts(4));
    assert_eq!(board.dispense(0), Dispensed::EmptyFile);
    assert_eq!(board.dispense(0), Dispensed::Full);
    board.cut(Some(7), None);
    assert!(!board.take_cut().unwrap().ended);
    assert_eq!(work(&mut board, 0).late_by, Some(7));
    // Nobody counts files: an empty one is nothing.
    let mut board = Board::new(Mode::Exact, 10, 1, UNLIMITED, (None, None));
    board.add_new_file(facts(0));
    assert_eq!(board.dispense(0), Dispensed::Empty);
}

#[test]
fn a_cut_moves_a_clock_that_is_behind_and_none_back() {
    let mut board = Board::new(Mode::Exact, 10, 1, UNLIMITED, (Some(5), None));
    let mut clock = |to| {
        board.cut(None, to);
        board.take_cut().expect("nothing is open").event_time_max
    };
    assert_eq!(clock(Some(9)), Some(9));
    assert_eq!(clock(Some(7)), Some(9));
    assert_eq!(clock(None), Some(9));
}
