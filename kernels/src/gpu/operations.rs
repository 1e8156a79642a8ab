//! What a device does with floats of its own: each operation over hard values, compared with IEEE 754.
//!
//! Vulkan promises correct rounding for + − × alone, lets subnormals flush and products fuse. Our
//! shaders ask a device for no float, so nothing depends on this; it is a fact of a device that a
//! record keeps, and what would have to be right before a shader used them.

use super::device::{Buffer, Device};
use super::error::Result;
use super::probe::hard_doubles;
use super::program::dispatch;
use super::project::{ANSWER, STORAGE};

/// An operation, and at how many of its cases the device's answer is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub name: String,
    pub cases: usize,
    pub differing: usize,
}

/// Name, text over `x`, `y`, `z`, and what IEEE 754 says, for both widths.
type Case = (&'static str, &'static str, fn(f32, f32, f32) -> f32, fn(f64, f64, f64) -> f64);

const OPERATIONS: [Case; 11] = [
    ("+", "x + y", |x, y, _| x + y, |x, y, _| x + y),
    ("-", "x - y", |x, y, _| x - y, |x, y, _| x - y),
    ("*", "x * y", |x, y, _| x * y, |x, y, _| x * y),
    ("/", "x / y", |x, y, _| x / y, |x, y, _| x / y),
    ("sqrt", "sqrt(x)", |x, _, _| x.sqrt(), |x, _, _| x.sqrt()),
    ("floor", "floor(x)", |x, _, _| x.floor(), |x, _, _| x.floor()),
    ("trunc", "trunc(x)", |x, _, _| x.trunc(), |x, _, _| x.trunc()),
    ("round", "round(x)", |x, _, _| x.round_ties_even(), |x, _, _| x.round_ties_even()),
    ("abs", "abs(x)", |x, _, _| x.abs(), |x, _, _| x.abs()),
    (
        "<",
        "select(FLOAT(0u), FLOAT(1u), x < y)",
        |x, y, _| f32::from(u8::from(x < y)),
        |x, y, _| f64::from(u8::from(x < y)),
    ),
    // Fused, the product is not rounded on its way.
    ("* then +", "x * y + z", |x, y, z| x * y + z, |x, y, z| x * y + z),
];

/// All operations on f32, and on f64 where the device has them.
///
/// Errors: those of the device.
pub fn operations(index: usize) -> Result<Vec<Operation>> {
    let (device, has_doubles) = Device::open_with_doubles(index)?;
    let doubles = hard_doubles();
    let pairs = || doubles.iter().flat_map(|&x| doubles.iter().map(move |&y| (x, y)));
    let singles: Vec<[f32; 3]> =
        pairs().map(|(x, y)| (x as f32, y as f32)).map(|(x, y)| [x, y, -(x * y)]).collect();
    let words = |of: usize| singles.iter().map(|case| case[of].to_bits()).collect::<Vec<_>>();
    let found = run(&device, "f32", "u32", [words(0), words(1), words(2)], singles.len(), 1)?;
    let mut all = Vec::new();
    for (at, (name, _, of, _)) in OPERATIONS.iter().enumerate() {
        let differs = |(case, &[x, y, z]): (usize, &[f32; 3])| {
            let (found, expected) =
                (f32::from_bits(found[case * OPERATIONS.len() + at]), of(x, y, z));
            found.to_bits() != expected.to_bits() && !(found.is_nan() && expected.is_nan())
        };
        let differing = singles.iter().enumerate().filter(|&case| differs(case)).count();
        all.push(Operation { name: format!("f32 {name}"), cases: singles.len(), differing });
    }
    if !has_doubles {
        return Ok(all);
    }
    let cases: Vec<[f64; 3]> = pairs().map(|(x, y)| [x, y, -(x * y)]).collect();
    let words = |of: usize| {
        let bits = cases.iter().map(|case| case[of].to_bits());
        bits.flat_map(|bits| [bits as u32, (bits >> 32) as u32]).collect::<Vec<_>>()
    };
    let found = run(&device, "f64", "u64", [words(0), words(1), words(2)], cases.len(), 2)?;
    for (at, (name, _, _, of)) in OPERATIONS.iter().enumerate() {
        let differs = |(case, &[x, y, z]): (usize, &[f64; 3])| {
            let word = 2 * (case * OPERATIONS.len() + at);
            let bits = u64::from(found[word + 1]) << 32 | u64::from(found[word]);
            let (found, expected) = (f64::from_bits(bits), of(x, y, z));
            found.to_bits() != expected.to_bits() && !(found.is_nan() && expected.is_nan())
        };
        let differing = cases.iter().enumerate().filter(|&case| differs(case)).count();
        all.push(Operation { name: format!("f64 {name}"), cases: cases.len(), differing });
    }
    Ok(all)
}

/// Every operation at every case; `words` of a value.
fn run(
    device: &Device,
    float: &str,
    bits: &str,
    values: [Vec<u32>; 3],
    cases: usize,
    words: usize,
) -> Result<Vec<u32>> {
    let count = OPERATIONS.len();
    let stores: String = OPERATIONS
        .iter()
        .enumerate()
        .map(|(at, (_, text, ..))| {
            let text = text.replace("FLOAT", float);
            format!("  out[i * {count}u + {at}u] = bitcast<{bits}>({text});\n")
        })
        .collect();
    let shader = format!(
        "@group(0) @binding(0) var<storage, read> a: array<{float}>;\n\
         @group(0) @binding(1) var<storage, read> b: array<{float}>;\n\
         @group(0) @binding(2) var<storage, read> c: array<{float}>;\n\
         @group(0) @binding(3) var<storage, read_write> out: array<{bits}>;\n\
         @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{\n  \
         let i = id.x;\n  if (i >= {cases}u) {{ return; }}\n  \
         let x = a[i]; let y = b[i]; let z = c[i];\n{stores}}}\n"
    );
    let pipeline = device.pipeline(&shader, "main")?;
    let out_words = cases * count * words;
    let out = device.buffer(4 * out_words as u64, STORAGE)?;
    let answer = device.buffer(4 * out_words as u64, ANSWER)?;
    let mut inputs: Vec<Buffer> = Vec::new();
    for value in &values {
        let buffer = device.buffer(4 * value.len() as u64, STORAGE)?;
        device.write_queued(&buffer, value)?;
        inputs.push(buffer);
    }
    let bound = [(0, &inputs[0]), (1, &inputs[1]), (2, &inputs[2]), (3, &out)];
    let group = device.bind(&pipeline, &bound);
    let mut encoder = device.encoder();
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    dispatch(&mut pass, &pipeline, &group, cases as u32);
    drop(pass);
    encoder.copy_buffer_to_buffer(&out.raw, 0, &answer.raw, 0, 4 * out_words as u64);
    device.wait(&device.submit(encoder)?, "operations")?;
    device.read_mapped(&answer, out_words)
}
