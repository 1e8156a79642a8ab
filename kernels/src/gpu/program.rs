//! The shaders of a query, compiled for a device.
//!
//! Invariant: equal queries give equal text, so a driver's cache can know it. `project.wgsl` is all
//! generated; of `aggregate.wgsl` only the fold of a row into its group is.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array, new_null_array};

use super::adapter::Tier;
use super::aggregate::{Selected, Table};
use super::device::{Buffer, Device};
use super::emit::{Emitter, and, not};
use super::error::{GpuError, Result};
use super::filter::Filtering;
use super::form::Form;
use super::near;
use super::project::Projector;
use super::query::{Input, Query, Records};
use super::states::States;
use crate::cpu::aggregate::layout::Layout;
use crate::cpu::column::Class;
use crate::expr::Expr;

/// Rows of a workgroup.
pub(super) const LANES: u32 = 64;

const WORDS: &str = include_str!("../../shaders/words.wgsl");
const NATIVE: &str = include_str!("../../shaders/native.wgsl");
const PORTABLE: &str = include_str!("../../shaders/portable.wgsl");
const FLOAT: &str = include_str!("../../shaders/float.wgsl");
const DECIMAL: &str = include_str!("../../shaders/decimal.wgsl");
const CALENDAR: &str = include_str!("../../shaders/calendar.wgsl");
const FAR: &str = include_str!("../../shaders/far.wgsl");
const NEAR: &str = include_str!("../../shaders/near.wgsl");
const SUMS_NATIVE: &str = include_str!("../../shaders/sums_native.wgsl");
const SUMS_PORTABLE: &str = include_str!("../../shaders/sums_portable.wgsl");
const AGGREGATE: &str = include_str!("../../shaders/aggregate.wgsl");
const TEXTS: &str = include_str!("../../shaders/texts.wgsl");
const PLACES: &str = include_str!("../../shaders/places.wgsl");

/// A query's pipelines; cores share one.
pub struct Program {
    pub(super) device: Arc<Device>,
    pub(super) query: Query,
    /// How the query's inputs go up.
    pub(super) inputs: Vec<Form>,
    pub(super) records: Records,
    pub(super) states: States,
    pub(super) project: wgpu::ComputePipeline,
    /// None where rows are only projected, or filtered.
    folding: Option<Folding>,
    /// None where rows are folded into groups, or only projected.
    filtering: Option<Filtering>,
}

/// The pipelines of `aggregate.wgsl`.
pub(super) struct Folding {
    pub find: wgpu::ComputePipeline,
    pub update: wgpu::ComputePipeline,
    /// None where a workgroup has no room for the states of some groups.
    pub update_near: Option<wgpu::ComputePipeline>,
    /// None where no least or greatest value is asked for.
    pub persist: Option<wgpu::ComputePipeline>,
    pub rehash: wgpu::ComputePipeline,
}

impl Program {
    /// Compiles a query.
    ///
    /// Errors: `Refused` with the first node that has no kernel, or with the driver's reason.
    pub fn new(device: &Arc<Device>, query: Query) -> Result<Program> {
        let mut program = Program::projection(device, query)?;
        let Program { query, records, states, .. } = &program;
        let shader = aggregate_shader(query, records, states, (device.tier(), FAR));
        let persist = states.extreme_words > 0;
        let near = || {
            let shader = aggregate_shader(query, records, states, (device.tier(), NEAR));
            device.pipeline(&shader, "update_near")
        };
        program.folding = Some(Folding {
            find: device.pipeline(&shader, "find")?,
            update: device.pipeline(&shader, "update")?,
            update_near: (near::groups_max(states.units) > 0).then(near).transpose()?,
            persist: persist.then(|| device.pipeline(&shader, "persist")).transpose()?,
            rehash: device.pipeline(&shader, "rehash")?,
        });
        Ok(program)
    }

    /// Compiles a query whose rows are not aggregated.
    ///
    /// Errors: as [`Program::new`].
    pub fn projection(device: &Arc<Device>, query: Query) -> Result<Program> {
        if let Some(refusal) = query.refusals().first() {
            return Err(GpuError::Refused(format!("{}: {}", refusal.node, refusal.reason)));
        }
        let records = Records::of(&query);
        let states = States::new(&Layout::new(&query.calls));
        let project =
            device.pipeline(&project_shader(&query, &records, device.tier()), "project")?;
        let (device, inputs) = (Arc::clone(device), query.input_forms());
        Ok(Program {
            device,
            query,
            inputs,
            records,
            states,
            project,
            folding: None,
            filtering: None,
        })
    }

    /// Compiles a query without groups: of its rows those that pass come back.
    ///
    /// Errors: as [`Program::new`].
    pub fn rows(device: &Arc<Device>, query: Query) -> Result<Program> {
        for argument in &query.arguments {
            if let Some(reason) = super::refusal(argument) {
                return Err(GpuError::Refused(format!("column: {reason}")));
            }
        }
        let filtering = Some(Filtering::new(device)?);
        Ok(Program { filtering, ..Program::projection(device, query)? })
    }

    /// Runs every pipeline once over a row that counts nowhere, so that no batch waits for what a driver
    /// compiles only then.
    ///
    /// Errors: those of the device.
    pub fn warm(self: &Arc<Self>) -> Result<()> {
        let null = |input: &Input| match input.is_ids {
            true => Arc::new(UInt32Array::from(vec![0])) as ArrayRef,
            false => new_null_array(&input.data_type, 1),
        };
        let columns: Vec<_> = self.query.inputs.iter().map(null).collect();
        let (mut projector, mut table) = (Projector::new(self), Table::new(self));
        if self.filtering.is_some() {
            return projector.filter(&columns, 0, 1, &mut Vec::new()).map(|_| ());
        }
        let batch = projector.project(&columns, 0, 1, &mut Vec::new())?;
        let batch = Arc::new(batch);
        for groups_seen in [0, 1] {
            table.groups_seen = groups_seen;
            let none = Selected { batch: Arc::clone(&batch), rows: vec![0], back_us: 0 };
            table.aggregate(vec![none], &mut projector)?;
            table.settle(&mut projector)?;
        }
        table.grow(0)
    }

    /// Panics for a program that only projects.
    pub(super) fn folding(&self) -> &Folding {
        self.folding.as_ref().expect("a table is made for a program that aggregates")
    }

    /// Panics for a program that has groups, or only projects.
    pub(super) fn filtering(&self) -> &Filtering {
        self.filtering.as_ref().expect("rows are filtered by a program of rows")
    }

    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub fn query(&self) -> &Query {
        &self.query
    }
}

/// Runs a pipeline over so many invocations.
pub(super) fn dispatch(
    pass: &mut wgpu::ComputePass<'_>,
    pipeline: &wgpu::ComputePipeline,
    group: &wgpu::BindGroup,
    invocations: u32,
) {
    // At most 65,535 workgroups in one dimension.
    let groups = invocations.div_ceil(LANES).max(1);
    let rows = groups.div_ceil(65_535);
    pass.set_pipeline(pipeline);
    pass.set_bind_group(0, group, &[]);
    pass.dispatch_workgroups(groups.div_ceil(rows), rows, 1);
}

/// What every shader has in front.
pub(super) fn prelude(tier: Tier) -> String {
    let divide = if tier == Tier::Native { NATIVE } else { PORTABLE };
    [WORDS, divide, FLOAT, DECIMAL].concat()
}

/// `project`: each row's fate, key and arguments.
///
/// The first word of the answer is the batch's number. A fate's lowest two bits are the number of the filter that dropped the row, 0 for none; above them
/// stands the number of the expression at which it stopped, filters, keys and arguments counted from
/// 1 on, 0 for none.
fn project_shader(query: &Query, records: &Records, tier: Tier) -> String {
    let inputs = query.input_forms();
    let mut emitter = Emitter::new(&inputs);
    emitter.body.push_str("  var fate = 0u;\n");
    let mut number = 0;
    for (place, filter) in query.filters.iter().enumerate() {
        number += 1;
        let value = emitter.evaluate(filter);
        let (drops, stage) = (not(&and(&value.ok, &value.v)), place + 1);
        let stops = format!("select({stage}u, {}u, {})", stage | number << 2, value.failed);
        writeln!(emitter.body, "  if (fate == 0u && {drops}) {{ fate = {stops}; }}")
            .expect("a String takes all text");
    }
    let mut stores = String::new();
    let mut store = |at: usize, value: &str| {
        writeln!(stores, "  records[record + {at}u] = {value};").expect("a String takes all text");
    };
    for (expressions, slots, mask_at) in
        [(&query.keys, &records.keys, 0), (&query.arguments, &records.arguments, records.key_words)]
    {
        let mut mask = vec!["0u".to_owned()];
        for (place, (expr, slot)) in expressions.iter().zip(slots).enumerate() {
            number += 1;
            let value = emitter.evaluate(expr);
            let is_key = mask_at == 0;
            let words = match is_key {
                true => slot.form.as_key(&value.v),
                false => slot.form.as_argument(&value.v),
            };
            for (word, text) in words.iter().enumerate() {
                store(slot.at + word, &format!("select(0u, {text}, {})", value.ok));
            }
            mask.push(format!("(u32({}) << {place}u)", value.ok));
            let (failed, stop) = (&value.failed, number << 2);
            if failed != "false" {
                writeln!(emitter.body, "  if (fate == 0u && {failed}) {{ fate = {stop}u; }}")
                    .expect("a String takes all text");
            }
        }
        store(mask_at, &mask.join(" | "));
    }
    if let (Some(column), Some(at)) = (query.offsets, records.offset) {
        let offset =
            emitter.evaluate(&Expr::column(column, query.inputs[column].data_type.clone()));
        store(at, &offset.v);
    }
    let columns = query.inputs.len().max(1);
    let calendar = if emitter.asks_calendar { CALENDAR } else { "" };
    let (words, body) = (records.words, emitter.body);
    format!(
        "{}\n{calendar}\
         struct Params {{ rows: u32, batch: u32, b: u32, c: u32, columns: array<vec4<u32>, {columns}> }}\n\
         @group(0) @binding(0) var<uniform> params: Params;\n\
         @group(0) @binding(1) var<storage, read> input: array<u32>;\n\
         @group(0) @binding(2) var<storage, read_write> records: array<u32>;\n\
         @group(0) @binding(3) var<storage, read_write> fates: array<u32>;\n\
         fn is_valid(at: u32, row: u32) -> bool {{\n  \
         return at == 0xffffffffu || ((input[at + (row >> 5u)] >> (row & 31u)) & 1u) != 0u;\n}}\n\
         @compute @workgroup_size({LANES})\n\
         fn project(@builtin(global_invocation_id) id: vec3<u32>) {{\n  let row = id.x;\n  \
         if (row >= params.rows) {{ return; }}\n  let first = input[params.columns[0].x];\n{body}  \
         let record = row * {words}u;\n{stores}  fates[row + 1u] = fate;\n  \
         if (row == 0u) {{ fates[0] = params.batch; }}\n}}\n",
        prelude(tier)
    )
}

/// `words`: where the words of states lie.
fn aggregate_shader(
    query: &Query,
    records: &Records,
    states: &States,
    (tier, words): (Tier, &str),
) -> String {
    let classes: Vec<_> = query.arguments.iter().map(|e| Class::of(&e.data_type)).collect();
    let sums = if tier == Tier::Native { SUMS_NATIVE } else { SUMS_PORTABLE };
    let (keys, record, exact) = (records.key_words, records.words, states.exact.len().max(1));
    // The key's first word says which columns are there, so 0 is no column's.
    let window = query.window.map_or(0, |key| records.keys[key].at);
    let texts = if states.texts > 0 { TEXTS } else { "" };
    let places =
        records.offset.map_or(String::new(), |at| format!("const OFFSET_AT = {at}u;\n{PLACES}"));
    format!(
        "{}\n{sums}\n{words}\n{AGGREGATE}\n{texts}{places}\
         const NEAR_UNITS = {}u;\nconst WINDOW_AT = {window}u;\nconst KEY_WORDS = {keys}u;\nconst RECORD_WORDS = {record}u;\nconst SUM_COUNT = {exact}u;\n\
         const EXTREME_WORDS = {}u;\n{}",
        prelude(tier),
        near::UNITS,
        states.extreme_words,
        states.shader(records, &classes, words == NEAR)
    )
}

/// The buffers of a table in the order of their bindings, `params` and `records` first.
pub(super) struct TableBuffers<'a> {
    pub params: &'a Buffer,
    pub records: &'a Buffer,
    pub places: &'a Buffer,
    pub bits: &'a Buffer,
    pub slots: &'a Buffer,
    pub keys: &'a Buffer,
    pub sums: &'a Buffer,
    pub extremes: &'a Buffer,
    pub control: &'a Buffer,
}

impl TableBuffers<'_> {
    /// Binds those that a pipeline uses.
    pub fn bind(
        &self,
        device: &Device,
        pipeline: &wgpu::ComputePipeline,
        used: &[u32],
    ) -> wgpu::BindGroup {
        let all = [
            self.params,
            self.records,
            self.places,
            self.bits,
            self.slots,
            self.keys,
            self.sums,
            self.extremes,
            self.control,
        ];
        let used = used.iter().map(|&binding| (binding, all[binding as usize]));
        device.bind(pipeline, &used.collect::<Vec<_>>())
    }
}
