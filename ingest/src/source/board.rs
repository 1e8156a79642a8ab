//! Hands the ranges of a file source to cores and settles what their guesses were worth.
//!
//! A file source is one split: its files in order of discovery, their bytes in order. Ranges are
//! dispensed from the front, so what has been handed out is one contiguous stretch. A core that gets
//! a range before its predecessors are settled works on a guess: the first row starts behind the
//! first line feed outside quotes, and no row before makes one of its rows late. Outcomes settle in
//! order; the fold of those before a range (its carry) shows whether its guess held, and if not the
//! same core reads it again with everything known.
//!
//! Invariant: the settled outcomes are those of one sequential reader, whoever read which range and
//! in whatever order they finished. This module reads no file and no clock and knows no thread.
//!
//! Units: positions are bytes of the (uncompressed) file; a generator counts rows instead, and each
//! row is a row start.

use std::collections::VecDeque;

use pelton_engine::watermark::SplitClock;

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;

/// How much of a file there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Up to this byte; it may grow.
    Known(u64),
    /// Known only once read to its end: a compressed file.
    Streamed,
}

/// A file as the board sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Start of the first row not yet read, and its line number (from 1 on).
    pub position: u64,
    pub line: u64,
    pub extent: Extent,
    /// An unterminated last row counts as whole; otherwise it waits for its end.
    pub complete: bool,
}

/// What an epoch may take in.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bytes: Option<u64>,
    /// Only with [`Mode::Sequential`], as nobody knows the rows of ranges that are being read.
    pub rows: Option<u64>,
    pub files: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ranges side by side, with guesses.
    Guessing,
    /// Every position of the extent is a row start: only lateness is a guess.
    Exact,
    /// One range at a time, on the first core: backslash escapes, comments, row limits.
    Sequential,
}

/// A work unit: the rows that start in `start .. end` of `file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub order: u64,
    pub file: usize,
    pub start: u64,
    pub end: u64,
    /// End of the file as known when the range was handed out; `None`: only its reader will know.
    pub file_end: Option<u64>,
    /// An unterminated row at `file_end` counts as whole.
    pub complete: bool,
    /// The reader stops after so many rows.
    pub rows: Option<u64>,
    /// The watermark by which its rows are late; `None`: by the rows before each.
    pub late_by: Option<i64>,
}

/// What is certain about a range before it is read; `None` is to be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The first row start at or behind the range's start.
    pub row_start: Option<u64>,
    /// As it is after all rows before.
    pub clock: Option<SplitClock>,
}

/// What reading a range found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where its first row was taken to start; `None`: no row starts in the range.
    pub row_start: Option<u64>,
    /// Start of the first row behind the last one read.
    pub next_row_start: u64,
    /// Line feeds between the two.
    pub lines: u64,
    pub rows: u64,
    /// After its rows.
    pub clock: SplitClock,
    /// The rows were judged right if the greatest event time before them is less than this.
    pub guess_holds_below: i64,
    /// The file ended before the range did (only [`Extent::Streamed`] files).
    pub at_end: bool,
}

/// What becomes of a range that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts; its first row is on this line.
    Keep { order: u64, line: u64 },
    /// Read it again with this known. `settled`: only lateness was guessed wrong, so the result
    /// counts as it comes, without another outcome.
    Again { range: Range, row_start: u64, line: u64, clock: SplitClock, settled: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dispensed {
    Work(Range, Known),
    /// A file without rows belongs to the epoch now; ask again.
    EmptyFile,
    /// Nothing to read now; all that was handed out is settled.
    Empty,
    /// The epoch is full until the next [`Board::cut`].
    Full,
    /// Others must settle first.
    Wait,
}

/// Where an epoch ended, once everything handed out before it is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Each file as it was known then: what came later belongs to later epochs.
    pub files: Vec<FileFacts>,
    pub event_time_max: Option<i64>,
    /// Nothing was left to read, and no more will come.
    pub ended: bool,
}

#[derive(Clone, Debug)]
struct File {
    facts: FileFacts,
    /// First byte not handed out.
    handed: u64,
    /// Ranges handed out and not settled.
    open: usize,
    /// Nothing more to read until its extent passes this: its last row was found unterminated there.
    waits_at: Option<u64>,
    /// The extent at which a range now settled met an unterminated row, while others are open.
    short_at: Option<u64>,
    /// Epoch in which it was last touched, counted for [`Limits::files`].
    touched: Option<u64>,
    /// An epoch has to take it even if it has no row: only with [`Limits::files`].
    owed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    range: Range,
    core: usize,
    outcome: Option<Outcome>,
}

/// The dispenser and judge of one split.
pub struct Board {
    mode: Mode,
    range_bytes: u64,
    limits: Limits,
    /// Ranges that may be handed out and not settled, over all cores.
    ahead_max: usize,
    files: Vec<File>,
    /// No file before this one is readable.
    front: usize,
    /// No file will be added, and none will grow.
    closed: bool,
    /// Ranges handed out and not settled, oldest first.
    slots: VecDeque<Slot>,
    next_order: u64,
    clock: SplitClock,
    late_by: Option<i64>,
    /// What the clock moves on to at the cut in progress.
    moves_to: Option<i64>,
    verdicts: Vec<VecDeque<Verdict>>,
    epoch: u64,
    epoch_bytes: u64,
    epoch_rows: u64,
    epoch_files: usize,
    /// The epoch is to be cut, and ranges of it are open.
    cutting: bool,
    cut: Option<Cut>,
}

impl Board {
    /// `event_time_max`: of all rows read before, by a restored job. `late_by`: the watermark by which
    /// the first epoch's rows are late, where one is for all of them.
    pub fn new(
        mode: Mode,
        range_bytes: u64,
        cores: usize,
        limits: Limits,
        (event_time_max, late_by): (Option<i64>, Option<i64>),
    ) -> Board {
        assert!(range_bytes > 0 && cores > 0, "a board needs ranges and cores");
        Board {
            mode,
            range_bytes,
            limits,
            ahead_max: 4 * cores,
            files: Vec::new(),
            front: 0,
            closed: false,
            slots: VecDeque::new(),
            next_order: 0,
            clock: SplitClock::of(event_time_max),
            late_by,
            moves_to: None,
            verdicts: vec![VecDeque::new(); cores],
            epoch: 0,
            epoch_bytes: 0,
            epoch_rows: 0,
            epoch_files: 0,
            cutting: false,
            cut: None,
        }
    }

    /// Appends a file to the split; returns its number.
    pub fn add_file(&mut self, facts: FileFacts) -> usize {
        let handed = facts.position;
        self.files.push(File {
            facts,
            handed,
            open: 0,
            waits_at: None,
            short_at: None,
            touched: None,
            owed: false,
        });
        self.files.len() - 1
    }

    /// Appends a file that no epoch has met yet: one will, even if it has no row, where an epoch is a
    /// number of files.
    pub fn add_new_file(&mut self, facts: FileFacts) -> usize {
        let number = self.add_file(facts);
        self.files[number].owed = self.limits.files.is_some();
        number
    }

    /// The file has grown to `size`, or is known to be whole.
    pub fn update_file(&mut self, file: usize, size: u64, complete: bool) {
        self.front = self.front.min(file);
        let file = &mut self.files[file];
        if file.facts.extent != Extent::Streamed {
            file.facts.extent = Extent::Known(size);
        }
        if complete && !file.facts.complete {
            file.facts.complete = true;
            if file.open == 0 {
                file.waits_at = None;
            }
        }
    }

    /// What is there is all that there will be.
    pub fn close(&mut self) {
        self.closed = true;
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next range for a core, from the front of what is unread.
    pub fn dispense(&mut self, core: usize) -> Dispensed {
        let idle = self.slots.is_empty();
        if self.cutting {
            return Dispensed::Wait;
        }
        let due = |&number: &usize| self.readable(number) || self.files[number].owed;
        let Some(number) = (self.front..self.files.len()).find(due) else {
            self.front = self.files.len();
            return if idle { Dispensed::Empty } else { Dispensed::Wait };
        };
        self.front = number;
        if self.is_full(number) {
            return Dispensed::Full;
        }
        if !self.readable(number) {
            self.touch(number);
            return Dispensed::EmptyFile;
        }
        let streamed = self.files[number].facts.extent == Extent::Streamed;
        let one_by_one = self.mode == Mode::Sequential || streamed;
        if self.slots.len() >= self.ahead_max || one_by_one && (core != 0 || !idle) {
            return Dispensed::Wait;
        }
        let range = self.take(number);
        let file = &self.files[number];
        let row_start = (file.open == 1)
            .then_some(file.facts.position)
            .or((self.mode == Mode::Exact).then_some(range.start));
        let clock = idle.then_some(self.clock);
        self.slots.push_back(Slot { range, core, outcome: None });
        Dispensed::Work(range, Known { row_start, clock })
    }

    fn readable(&self, number: usize) -> bool {
        let file = &self.files[number];
        match file.facts.extent {
            Extent::Streamed => true,
            Extent::Known(end) => file.handed < end && file.waits_at.is_none_or(|at| at < end),
        }
    }

    fn is_full(&self, number: usize) -> bool {
        let touched = self.files[number].touched == Some(self.epoch);
        self.limits.bytes.is_some_and(|max| self.epoch_bytes >= max)
            || self.limits.rows.is_some_and(|max| self.epoch_rows >= max)
            || self.limits.files.is_some_and(|max| !touched && self.epoch_files >= max)
    }

    /// Takes the next range out of a file. Ranges end at multiples of their size, so a restart
    /// inside one joins the same grid; the last of a file or an epoch ends with it.
    fn take(&mut self, number: usize) -> Range {
        let room = self.limits.bytes.map_or(u64::MAX, |max| max - self.epoch_bytes);
        let file = &mut self.files[number];
        let start = file.handed;
        let grid =
            ((start / self.range_bytes + 1) * self.range_bytes).min(start.saturating_add(room));
        let (end, file_end) = match file.facts.extent {
            Extent::Streamed => (grid, None),
            Extent::Known(end) => (grid.min(end), Some(end)),
        };
        file.handed = end;
        file.open += 1;
        file.waits_at = None;
        // A tail's successor begins where the tail's last whole row ends: not before it is settled.
        if file_end == Some(end) {
            file.waits_at = Some(u64::MAX);
        }
        let range = Range {
            order: self.next_order,
            file: number,
            start,
            end,
            file_end,
            complete: file.facts.complete,
            rows: self.limits.rows.map(|max| max - self.epoch_rows),
            late_by: self.late_by,
        };
        self.touch(number);
        self.next_order += 1;
        self.epoch_bytes += end - start;
        range
    }

    /// The file belongs to the running epoch.
    fn touch(&mut self, number: usize) {
        let file = &mut self.files[number];
        file.owed = false;
        if file.touched.replace(self.epoch) != Some(self.epoch) {
            self.epoch_files += 1;
        }
    }

    /// Takes what reading a range found; verdicts follow, for this core and others.
    pub fn submit(&mut self, order: u64, outcome: Outcome) {
        let front = self.slots.front().expect("a submitted range is open").range.order;
        let slot = &mut self.slots[(order - front) as usize];
        assert!(slot.outcome.is_none(), "range {order} was submitted twice");
        slot.outcome = Some(outcome);
        while self.settle_front() {}
    }

    /// The next verdict on a range that this core has read.
    pub fn verdict(&mut self, core: usize) -> Option<Verdict> {
        self.verdicts[core].pop_front()
    }

    /// Settles the oldest open range if its outcome is there and its start was right.
    fn settle_front(&mut self) -> bool {
        let Some(&Slot { range, core, outcome: Some(outcome) }) = self.slots.front() else {
            return false;
        };
        let order = range.order;
        let FileFacts { position, line, .. } = self.files[range.file].facts;
        let clock = self.clock;
        let start_held = match outcome.row_start {
            Some(start) => start == position,
            None => position >= range.end,
        };
        if !start_held {
            self.slots.front_mut().expect("it was just read").outcome = None;
            let row_start = position;
            let settled = false;
            self.verdicts[core].push_back(Verdict::Again {
                range,
                row_start,
                line,
                clock,
                settled,
            });
            return false;
        }
        let clock_held = clock.now.is_none_or(|before| before < outcome.guess_holds_below);
        self.verdicts[core].push_back(if clock_held {
            Verdict::Keep { order, line }
        } else {
            Verdict::Again { range, row_start: position, line, clock, settled: true }
        });
        self.close_front(outcome);
        true
    }

    /// Removes the oldest open range and adds what it found to the carry.
    fn close_front(&mut self, outcome: Outcome) {
        let range = self.slots.pop_front().expect("it was just judged").range;
        let file = &mut self.files[range.file];
        file.open -= 1;
        if outcome.row_start.is_some() {
            file.facts.position = outcome.next_row_start;
            file.facts.line += outcome.lines;
        }
        let stopped = range.rows.is_some_and(|max| outcome.rows >= max);
        if file.facts.position < range.end && !stopped {
            file.short_at = range.file_end;
        }
        if outcome.at_end {
            file.facts.extent = Extent::Known(file.facts.position);
        }
        self.clock.see(outcome.clock);
        self.epoch_rows += outcome.rows;
        if file.open == 0 {
            // Bytes behind the last whole row are handed out again, once the file has grown; at
            // once where its reader stopped for another reason.
            let unread = file.handed.saturating_sub(file.facts.position);
            self.epoch_bytes = self.epoch_bytes.saturating_sub(unread);
            file.handed = file.facts.position;
            file.waits_at = file.short_at.take().filter(|_| !file.facts.complete);
            self.front = self.front.min(range.file);
        }
        if self.slots.is_empty() {
            self.settle_cut();
        }
    }

    /// Ends the epoch behind the last range handed out; [`Board::take_cut`] tells where that was.
    /// Ranges behind it are late by `late_by`, and by a clock that is at least at `moves_to`.
    pub fn cut(&mut self, late_by: Option<i64>, moves_to: Option<i64>) {
        assert!(!self.cutting && self.cut.is_none(), "one cut at a time");
        self.cutting = true;
        self.late_by = late_by;
        self.moves_to = moves_to;
        if self.slots.is_empty() {
            self.settle_cut();
        }
    }

    fn settle_cut(&mut self) {
        if !std::mem::take(&mut self.cutting) {
            return;
        }
        self.clock.move_on(self.moves_to.take());
        self.cut = Some(Cut {
            files: self.files.iter().map(|file| file.facts).collect(),
            event_time_max: self.clock.now,
            ended: self.closed && self.is_drained(),
        });
        self.epoch += 1;
        (self.epoch_bytes, self.epoch_rows, self.epoch_files) = (0, 0, 0);
    }

    /// Where the epoch ended, once: after [`Board::cut`], when all before it is settled.
    pub fn take_cut(&mut self) -> Option<Cut> {
        self.cut.take()
    }

    fn is_drained(&self) -> bool {
        self.slots.is_empty()
            && (self.front..self.files.len()).all(|n| !self.readable(n) && !self.files[n].owed)
    }
}
