//! Filter and projection without groups: the rows that pass come back, with what was computed of them.
//! Twin of `cpu::filter`.
//!
//! Invariant: rows come back in their order, and the same ones as on the CPU. What comes back is in
//! proportion to what passes: 16 bytes a batch, a row's number and its values, and a word and the fate of
//! each row that neither passes nor is dropped by the first filter. Row numbers have to ascend, the rows
//! of all fates to be those sent, and the answer to carry the batch's number.

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use super::device::{Buffer, Device};
use super::error::{GpuError, Result};
use super::faults::Fault;
use super::form::Form;
use super::program::Program;
use super::project::{ANSWER, Fate, ROWS_MAX, STAGING, STORAGE, UNIFORM};
use super::query::Slot;
use crate::cpu::column::{narrow_decimals, narrow_floats, narrow_ints};
use crate::expr::Expr;

/// Rows of a workgroup, as in the shader.
const LANES: usize = 256;
const HEAD_WORDS: usize = 4;
/// Workgroups whose counts one workgroup adds up; rows that half a word counts.
const _: () = assert!(ROWS_MAX / LANES <= LANES && ROWS_MAX < 1 << 16);

/// What is left of a batch.
pub struct Passed {
    /// Numbers in the batch, ascending, of the rows that no filter dropped.
    pub rows: Vec<u32>,
    /// One an argument of the query, a value for each of `rows`.
    pub columns: Vec<ArrayRef>,
}

/// The pipelines of `filter.wgsl`.
pub(super) struct Filtering {
    count: wgpu::ComputePipeline,
    scan: wgpu::ComputePipeline,
    scatter: wgpu::ComputePipeline,
}

/// The buffers of one core's compactions.
pub(super) struct Room {
    rows: usize,
    params: Buffer,
    staging: Buffer,
    blocks: Buffer,
    passed: Buffer,
    answer: Buffer,
    /// Words that the last batch's answer had: what the next one's is taken for.
    words: usize,
}

/// A batch on its way: what its projection wrote, and the commands so far.
pub(super) struct Sent<'a> {
    pub encoder: wgpu::CommandEncoder,
    pub records: &'a Buffer,
    pub fates: &'a Buffer,
    pub rows: usize,
    pub number: u32,
}

/// Words that come back of a row that passes: its number, what is there, its arguments.
fn row_words(program: &Program) -> usize {
    1 + program.records.words - program.records.key_words
}

impl Filtering {
    pub fn new(device: &Device) -> Result<Filtering> {
        let shader = include_str!("../../shaders/filter.wgsl");
        Ok(Filtering {
            count: device.pipeline(shader, "count")?,
            scan: device.pipeline(shader, "scan")?,
            scatter: device.pipeline(shader, "scatter")?,
        })
    }
}

impl Room {
    /// Keeps the room that there is, if so many rows fit.
    pub fn with(room: Option<Room>, program: &Program, rows: usize) -> Result<Room> {
        if let Some(room) = room.filter(|room| room.rows >= rows) {
            return Ok(room);
        }
        let (device, rows) = (&program.device, rows.next_power_of_two());
        let bytes = 4 * (HEAD_WORDS + rows * (row_words(program) + 2)) as u64;
        Ok(Room {
            rows,
            params: device.buffer(16, UNIFORM)?,
            staging: device.buffer(16, STAGING)?,
            blocks: device.buffer(8 * rows.div_ceil(LANES) as u64, STORAGE)?,
            passed: device.buffer(bytes, STORAGE)?,
            answer: device.buffer(bytes, ANSWER)?,
            words: HEAD_WORDS,
        })
    }

    /// Compacts the rows of a batch, waits for them, and appends a fate for each of its rows to `fates`.
    ///
    /// Cost: one answer as long as the last batch's, and another where this one's is longer.
    pub fn compact(
        &mut self,
        program: &Program,
        sent: Sent<'_>,
        fates: &mut Vec<Fate>,
    ) -> Result<Passed> {
        let (rows, number) = (sent.rows, sent.number);
        let mut answer = self.ask(program, sent)?;
        let [of, mut kept, told, silent] = [0, 1, 2, 3].map(|at| answer[at] as usize);
        if of != number as usize || kept > rows || told > rows {
            let what = format!("{kept} and {told} rows of batch {of} for {rows} of {number}");
            return Err(GpuError::Untrusted(what));
        }
        let kept_words = kept * row_words(program);
        let words = HEAD_WORDS + kept_words + 2 * told;
        if words > answer.len() {
            let again = self.read(program, program.device.encoder(), words)?;
            if again[..HEAD_WORDS] != answer[..HEAD_WORDS] {
                let what = "it gives two answers to one question";
                return Err(GpuError::Untrusted(what.to_owned()));
            }
            answer = again;
        }
        self.words = words;
        if program.device.faults.fires(Fault::BitFlip) {
            // In the first value: another number would be noticed.
            answer[HEAD_WORDS + 2] ^= 1;
        }
        if told > 0 && program.device.faults.fires(Fault::Fate) {
            // What it stopped at: another filter would be noticed.
            answer[HEAD_WORDS + kept_words + 1] ^= 4;
        }
        if kept > 0 && program.device.faults.fires(Fault::Row) {
            kept -= 1;
            answer.drain(HEAD_WORDS..HEAD_WORDS + row_words(program));
        }
        let (passed, rest) = answer[HEAD_WORDS..].split_at(kept * row_words(program));
        let passed = || passed.chunks_exact(row_words(program));
        let others = &rest[..2 * told];
        let dropped = others.iter().skip(1).step_by(2).filter(|fate| **fate & 3 != 0).count();
        if kept + dropped + silent != rows {
            let what = format!("{kept} rows pass and {} do not, of {rows}", dropped + silent);
            return Err(GpuError::Untrusted(what));
        }
        take_fates(rows, passed(), others, fates)?;
        let arguments = program.records.arguments.iter().zip(&program.query.arguments);
        let key_words = program.records.key_words;
        let column = |(place, argument)| argument_column(place, argument, key_words, passed);
        let columns = arguments.enumerate().map(column).collect();
        Ok(Passed { rows: passed().map(|row| row[0]).collect(), columns })
    }

    /// Sends the dispatches, and reads as much as the last answer had.
    fn ask(&mut self, program: &Program, sent: Sent<'_>) -> Result<Vec<u32>> {
        let (device, records) = (&program.device, &program.records);
        let Sent { mut encoder, records: of_rows, fates, rows, .. } = sent;
        let words = [rows as u32, records.words as u32, records.key_words as u32, 0];
        device.write_mapped(&self.staging, &words)?;
        encoder.copy_buffer_to_buffer(&self.staging.raw, 0, &self.params.raw, 0, 16);
        let all = [&self.params, fates, of_rows, &self.blocks, &self.passed];
        let filtering = program.filtering();
        let groups = rows.div_ceil(LANES) as u32;
        let steps: [(_, &[u32], _); 3] = [
            (&filtering.count, &[0, 1, 3], groups),
            (&filtering.scan, &[0, 1, 3, 4], 1),
            (&filtering.scatter, &[0, 1, 2, 3, 4], groups),
        ];
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (pipeline, used, groups) in steps {
            let used: Vec<_> = used.iter().map(|&at| (at, all[at as usize])).collect();
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &device.bind(pipeline, &used), &[]);
            pass.dispatch_workgroups(groups, 1, 1);
        }
        drop(pass);
        let most = HEAD_WORDS + rows * (row_words(program) + 2);
        self.read(program, encoder, self.words.min(most))
    }

    fn read(
        &self,
        program: &Program,
        mut encoder: wgpu::CommandEncoder,
        words: usize,
    ) -> Result<Vec<u32>> {
        let device = &program.device;
        let bytes = 4 * words as u64;
        encoder.copy_buffer_to_buffer(&self.passed.raw, 0, &self.answer.raw, 0, bytes);
        let index = device.submit(encoder)?;
        device.wait(&index, "filter")?;
        device.read_mapped(&self.answer, words)
    }
}

/// The fate of every row, from those that passed and those that are told of.
fn take_fates<'a>(
    rows: usize,
    passed: impl Iterator<Item = &'a [u32]>,
    told: &[u32],
    fates: &mut Vec<Fate>,
) -> Result<()> {
    let first = fates.len();
    fates.resize(first + rows, Fate::DROPPED_FIRST);
    let mut set = |next: &mut u32, row: u32, fate: Fate| {
        if row < *next || row as usize >= rows {
            return Err(GpuError::Untrusted(format!("row {row} of {rows} behind {next} others")));
        }
        *next = row + 1;
        fates[first + row as usize] = fate;
        Ok(())
    };
    let mut next = 0;
    for row in passed {
        set(&mut next, row[0], Fate::PASSES)?;
    }
    let mut next = 0;
    for [row, fate] in told.as_chunks::<2>().0 {
        set(&mut next, *row, Fate::of_device(*fate))?;
    }
    Ok(())
}

/// The values of an argument, from the words of the rows that passed.
fn argument_column<'a, I: Iterator<Item = &'a [u32]>>(
    place: usize,
    (slot, expr): (&Slot, &Expr),
    key_words: usize,
    rows: impl Fn() -> I,
) -> ArrayRef {
    let nulls = NullBuffer::from_iter(rows().map(|row| row[1] >> place & 1 == 1));
    let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
    // The row's number stands where the key did.
    let at = 1 + slot.at - key_words;
    let long = |row: &[u32]| u64::from(row[at + 1]) << 32 | u64::from(row[at]);
    let data_type: &DataType = &expr.data_type;
    match slot.form {
        Form::Bool | Form::Int(_) | Form::Long => {
            narrow_ints(data_type, rows().map(|row| long(row) as i64).collect(), nulls)
        }
        Form::Single | Form::Double => {
            narrow_floats(data_type, rows().map(|row| f64::from_bits(long(row))).collect(), nulls)
        }
        Form::Wide => {
            let word = |row: &[u32], i: usize| u128::from(row[at + i]) << (32 * i);
            let wide = |row: &[u32]| (0..4).fold(0, |sum, i| sum | word(row, i)) as i128;
            narrow_decimals(data_type, rows().map(wide).collect(), nulls)
        }
        Form::Id | Form::Text | Form::Opaque => {
            unreachable!("a program of rows is refused arguments that are not computed with")
        }
    }
}
