//! What wgpu and naga do otherwise than one would think, pinned: an upgrade that changes it is noticed
//! here, and so is a shader of ours that walks into it. GPU.md says how each was found.

use super::*;
use crate::cpu::project::oracle_tests::{Random, grow, types};
use crate::gpu::emit::Emitter;
use crate::gpu::form::Form;
use crate::gpu::program::{dispatch, prelude};
use crate::gpu::project::{ANSWER, STORAGE};
use crate::gpu::{GpuError, Input, refusal};

const SHADERS: [(&str, &str); 13] = [
    ("words", include_str!("../../../shaders/words.wgsl")),
    ("native", include_str!("../../../shaders/native.wgsl")),
    ("portable", include_str!("../../../shaders/portable.wgsl")),
    ("float", include_str!("../../../shaders/float.wgsl")),
    ("decimal", include_str!("../../../shaders/decimal.wgsl")),
    ("far", include_str!("../../../shaders/far.wgsl")),
    ("near", include_str!("../../../shaders/near.wgsl")),
    ("sums_native", include_str!("../../../shaders/sums_native.wgsl")),
    ("sums_portable", include_str!("../../../shaders/sums_portable.wgsl")),
    ("aggregate", include_str!("../../../shaders/aggregate.wgsl")),
    ("filter", include_str!("../../../shaders/filter.wgsl")),
    ("texts", include_str!("../../../shaders/texts.wgsl")),
    ("places", include_str!("../../../shaders/places.wgsl")),
];

/// Runs `main` over so many invocations; what it left in `out`.
fn run(tier: Tier, shader: &str, invocations: u32, words: usize) -> Vec<u32> {
    let device = device(tier);
    let pipeline = device.pipeline(shader, "main").expect("it compiles");
    let bytes = 4 * words as u64;
    let out = device.buffer(bytes, STORAGE).expect("there is room");
    let answer = device.buffer(bytes, ANSWER).expect("there is room");
    let group = device.bind(&pipeline, &[(0, &out)]);
    let mut encoder = device.encoder();
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    dispatch(&mut pass, &pipeline, &group, invocations);
    drop(pass);
    encoder.copy_buffer_to_buffer(&out.raw, 0, &answer.raw, 0, bytes);
    let index = device.submit(encoder).expect("it goes");
    device.wait(&index, "a test").expect("it ends");
    device.read_mapped(&answer, words).expect("it comes back")
}

/// A shader whose first invocation runs `body`; `seven` and `minus` are numbers it cannot know.
fn one(body: &str) -> String {
    format!(
        "@group(0) @binding(0) var<storage, read_write> out: array<u32>;\n\
         @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{\n  \
         let seven = out[0] + 7u;\n  let minus = -i32(seven);\n  if (id.x != 0u) {{ return; }}\n{body}\n}}"
    )
}

#[test]
fn conversions_between_widths_keep_the_sign_of_the_source_as_we_spell_them() {
    let spelt = "let u = u64(0xfffffff9u + out[0]); out[1] = u32(u >> 32u);
                 let i = u64(i64(minus)); out[2] = u32(i >> 32u); out[3] = u32(i & 0xfffffffflu);";
    assert_eq!(run(Tier::Native, &one(spelt), 1, 4)[1..], [0, u32::MAX, -7_i32 as u32]);
    // Not as WGSL's own rules would have it: u32 to i64 and i32 to u64 in one step.
    let direct = "out[1] = u32(u64(i64(0xfffffff9u + out[0])) >> 32u);
                  out[2] = u32(u64(minus) >> 32u);";
    let found = run(Tier::Native, &one(direct), 1, 3);
    let known = [[u32::MAX, 0], [0, u32::MAX], [u32::MAX, u32::MAX], [0, 0]];
    assert!(known.contains(&[found[1], found[2]]), "{found:?}");
    for (name, text) in SHADERS {
        assert!(!text.contains("i64("), "{name}.wgsl converts to i64: spell it i64(u64(x))");
    }
}

#[test]
fn no_shader_of_ours_asks_a_device_for_a_float() {
    for (name, text) in SHADERS {
        for banned in ["f32", "f64", "fma(", "sqrt(", "exp(", "pow("] {
            assert!(!text.contains(banned), "{name}.wgsl says {banned}");
        }
    }
    let mut random = Random(3);
    let inputs: Vec<_> = types().iter().map(Form::of).collect();
    for _ in 0..300 {
        let to = random.pick(&types());
        let expr = grow(&mut random, &to, 4);
        if refusal(&expr).is_none() {
            let mut emitter = Emitter::new(&inputs);
            emitter.evaluate(&expr);
            assert!(!emitter.body.contains("f32(") && !emitter.body.contains("f64("));
        }
    }
}

#[test]
fn comparing_floats_for_being_different_misses_nan() {
    let body = "let nan = bitcast<f32>(0x7fc00000u + out[0]);
                out[1] = u32(nan == nan); out[2] = u32(nan != nan);";
    let found = run(Tier::Portable, &one(body), 1, 3);
    assert_eq!(found[1], 0);
    assert!(found[2] <= 1, "1 would be right, 0 is what was found; our shaders compare bits");
}

#[test]
fn counting_zeros_is_asked_of_words_of_32_bits_alone() {
    for (name, text) in SHADERS {
        for line in text.lines().filter(|line| line.contains("countLeadingZeros")) {
            assert!(!line.contains("64") && !line.contains("to_u64"), "{name}.wgsl: {line}");
        }
        assert!(!text.contains("firstLeadingBit"), "{name}.wgsl");
    }
    let body = "out[1] = countLeadingZeros(out[0]); out[2] = countLeadingZeros(seven);";
    assert_eq!(run(Tier::Portable, &one(body), 1, 3)[1..], [32, 29]);
}

/// Parsers nest to about 120.
#[test]
fn deep_trees_make_flat_text() {
    let inputs: Vec<_> = types().iter().map(Form::of).collect();
    let mut random = Random(11);
    for _ in 0..200 {
        let expr = grow(&mut random, &DataType::Boolean, 8);
        if refusal(&expr).is_some() {
            continue;
        }
        let mut emitter = Emitter::new(&inputs);
        emitter.evaluate(&expr);
        let (mut depth, mut deepest) = (0_i32, 0);
        for byte in emitter.body.bytes() {
            depth += i32::from(byte == b'(') - i32::from(byte == b')');
            deepest = deepest.max(depth);
        }
        assert!(deepest < 40, "{deepest} deep:\n{}", emitter.body);
    }
}

/// One dimension of a grid has at most 65,535 workgroups.
#[test]
fn more_invocations_than_one_dimension_has_all_run() {
    let shader = "@group(0) @binding(0) var<storage, read_write> out: array<atomic<u32>>;
        @compute @workgroup_size(64) fn main(
          @builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
          let i = id.y * grid.x * 64u + id.x;
          if (i < 5000000u) { atomicAdd(&out[i % 64u], 1u); }
        }";
    let counts = run(Tier::Portable, shader, 5_000_000, 64);
    assert_eq!(counts, vec![5_000_000 / 64; 64]);
}

#[test]
fn integers_wrap_and_divide_as_the_prelude_relies_on() {
    for tier in TIERS {
        let text = prelude(tier)
            + &one(
                "let big = vec2<u32>(seven, 0x80000000u);
                 let q = divide2(big, vec2<u32>(10u, 0u));
                 out[1] = q.q.x; out[2] = q.q.y; out[3] = q.r.x;
                 let m = mul2(vec2<u32>(0xffffffffu, 0xffffffffu), vec2<u32>(0xffffffffu, 0xffffffffu));
                 out[4] = m.x; out[5] = m.y; out[6] = m.z; out[7] = m.w;
                 out[8] = u32(add_int(2147483647i, i32(seven), 32u).failed);
                 out[9] = u32(div_int(bitcast<i32>(0x80000000u), minus + 6i, 32u).failed);
                 out[10] = u32(mul_long(LONG_MIN, vec2<u32>(0xffffffffu, 0xffffffffu)).failed);
                 out[11] = u32(mul_long(LONG_MIN, vec2<u32>(1u, 0u)).failed);",
            );
        let found = run(tier, &text, 1, 12);
        let big = (1_u64 << 63) + 7;
        let (q, r) = (big / 10, big % 10);
        assert_eq!(found[1..4], [q as u32, (q >> 32) as u32, r as u32], "{tier:?}");
        let m = u128::from(u64::MAX) * u128::from(u64::MAX);
        assert_eq!(found[4..8], [0, 1, 2, 3].map(|word| (m >> (32 * word)) as u32), "{tier:?}");
        assert_eq!(found[8..], [1, 1, 1, 0], "{tier:?}");
    }
}

/// Without a scope or a handler wgpu panics on an error.
#[test]
fn an_error_that_nobody_asked_for_raises_the_flag_and_no_panic() {
    let device = fresh_device(Tier::Portable);
    let buffer = device.buffer(64, STORAGE).expect("there is room");
    let mut encoder = device.encoder();
    encoder.copy_buffer_to_buffer(&buffer.raw, 0, &buffer.raw, 2, 8);
    let error = device.submit(encoder).expect_err("copies begin at multiples of 4");
    assert!(matches!(error, GpuError::Refused(_)), "{error}");
    assert!(device.check().is_err() && device.buffer(64, STORAGE).is_err());
}

/// After `destroy` creating and submitting give no error of their own.
#[test]
fn a_destroyed_device_says_so_at_the_next_call() {
    let device = fresh_device(Tier::Native);
    device.destroy();
    assert!(matches!(device.check(), Err(GpuError::Lost(_))));
    assert!(matches!(device.buffer(64, STORAGE), Err(GpuError::Lost(_))));
    assert!(matches!(device.pipeline(&one(""), "main"), Err(GpuError::Lost(_))));
}

/// Bits of a slice begin at bit 0, and short columns at whole words.
#[test]
fn slices_are_realigned() {
    use crate::gpu::upload::{pack, params_words};
    use arrow::array::{BooleanArray, Int8Array, Int16Array};
    let inputs = [Form::Bool, Form::Int(8), Form::Int(16)];
    let bools: BooleanArray = (0..100).map(|i| (i % 5 != 0).then_some(i % 3 == 0)).collect();
    let bytes: Int8Array = (0..100).map(|i| Some(i - 50)).collect();
    let shorts: Int16Array = (0..100).map(|i| Some(-i)).collect();
    let columns: [ArrayRef; 3] = [Arc::new(bools), Arc::new(bytes), Arc::new(shorts)];
    for (start, rows) in [(0, 100), (3, 7), (37, 33), (99, 1)] {
        let packed = pack(&inputs, &columns, (start, rows), 0, 7).expect("no text is too long");
        let mut words = vec![0xaaaa_aaaa_u32; packed.words];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        packed.write(|at, put| bytes[at..at + put.len()].copy_from_slice(put));
        assert_eq!(words[..2], [rows as u32, 7]);
        let base = params_words(&inputs);
        let at = |input: usize| base + words[4 + 4 * input] as usize;
        for row in 0..rows {
            let i = start + row;
            let bit = |from: usize| words[from + row / 32] >> (row % 32) & 1;
            if i % 5 != 0 {
                assert_eq!(bit(at(0)), u32::from(i % 3 == 0));
            }
            assert_eq!(bit(base + words[5] as usize), u32::from(i % 5 != 0));
            assert_eq!((words[at(1) + row / 4] >> (row % 4 * 8)) as i8, i as i8 - 50);
            assert_eq!((words[at(2) + row / 2] >> (row % 2 * 16)) as i16, -(i as i16));
        }
    }
}

/// naga 30.0 panics at it or makes no shader of it.
#[test]
fn counting_zeros_of_64_bits_makes_no_pipeline() {
    let device = fresh_device(Tier::Native);
    let body = "out[1] = u32(countLeadingZeros(u64(seven)));";
    let make = || device.pipeline(&one(body), "main").is_ok();
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(make));
    // After a panic inside of it nothing of the device is to be touched.
    let _kept = std::mem::ManuallyDrop::new(Arc::clone(&device));
    assert_ne!(made.ok(), Some(true), "it works now: words.wgsl could use it");
}

/// A float out of an integer's range, and NaN: what comes is the device's affair.
#[test]
fn casts_of_floats_to_integers_do_not_saturate_as_one_would_think() {
    let body = "let nan = bitcast<f32>(0x7fc00000u + out[0]);
                let big = bitcast<f32>(0x7f000000u + out[0]);
                out[1] = bitcast<u32>(i32(nan)); out[2] = bitcast<u32>(i32(big));
                out[3] = bitcast<u32>(i32(-big));";
    let found = run(Tier::Portable, &one(body), 1, 4);
    let (least, most) = (i32::MIN as u32, i32::MAX as u32);
    assert!([0, least].contains(&found[1]), "NaN: {found:x?}");
    assert!([least, most, most - 127].contains(&found[2]), "too large: {found:x?}");
    assert_eq!(found[3], least, "too small: {found:x?}");
}

/// Half of a workgroup may be waiting for the other: nobody but we sees to it that all of it comes. At the
/// top of a function, or in a loop of a constant number of turns, it does.
#[test]
fn a_barrier_that_not_all_lanes_reach_is_let_pass() {
    let shader = "@group(0) @binding(0) var<storage, read_write> out: array<u32>;
        var<workgroup> w: atomic<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
          if (out[0] > id.x) { atomicAdd(&w, 1u); workgroupBarrier(); }
          out[1] = atomicLoad(&w);
        }";
    assert!(device(Tier::Portable).pipeline(shader, "main").is_ok());
    for (name, text) in SHADERS {
        let mut within = "";
        for line in text.lines() {
            if line.starts_with("  ") && !line.starts_with("   ") {
                within = line;
            }
            if line.contains("workgroupBarrier") && !line.starts_with("  workgroupBarrier") {
                let turns = within.starts_with("  for (") && within.contains("< LANES;");
                let is_seen = line.starts_with("    workgroupBarrier") && turns;
                assert!(is_seen, "{name}.wgsl: not all lanes may come: {line}");
            }
        }
    }
}

#[test]
fn subgroups_are_not_to_be_enabled_by_name() {
    let shader = "enable subgroups;\n".to_owned() + &one("");
    let refused = device(Tier::Native).pipeline(&shader, "main");
    assert!(matches!(refused, Err(GpuError::Refused(_))), "{:?}", refused.err());
}

/// 128 MiB in the portable tier, whatever the device has; a budget has room for more.
#[test]
fn one_binding_holds_less_than_a_device() {
    let device = fresh_device(Tier::Portable);
    let error = device.buffer(129 << 20, STORAGE).err().expect("it is too large for a binding");
    assert!(matches!(error, GpuError::OutOfMemory { left, .. } if left == 128 << 20), "{error}");
    assert!(device.buffer(128 << 20, STORAGE).is_ok());
}

/// Building a pipeline takes more than linear time in operations that depend on each other.
#[test]
fn more_operations_than_one_shader_takes_are_refused() {
    use crate::expr::{ArithmeticOp, Expr, ExprKind};
    let long = DataType::Int64;
    let mut expr = Expr::column(0, long.clone());
    while crate::gpu::support::nodes(&expr) <= 300 {
        let one = Box::new(Expr::column(0, long.clone()));
        let kind = ExprKind::Arithmetic(ArithmeticOp::Add, Box::new(expr), one);
        expr = Expr { kind, data_type: long.clone() };
    }
    let reason = refusal(&expr).expect("301 operations");
    assert!(reason.contains("301 operations are more than one shader takes"), "{reason}");
}

/// Scopes belong to the thread that opened them: a refusal there raises no flag here.
#[test]
fn a_refused_shader_is_told_to_its_thread_and_the_device_goes_on() {
    let device = fresh_device(Tier::Portable);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let refused = device.pipeline("@compute fn main( {", "main");
                assert!(matches!(refused, Err(GpuError::Refused(_))));
                assert!(device.pipeline(&one("out[1] = seven;"), "main").is_ok());
            });
        }
    });
    assert_eq!(device.check(), Ok(()));
}

/// `%` of doubles is not C's; ours is `rem_float`, of integers.
#[test]
fn the_rest_of_doubles_is_not_asked_of_a_device() {
    for (name, text) in SHADERS {
        for line in text.lines().filter(|line| line.contains(" % ")) {
            assert!(!line.contains("lf"), "{name}.wgsl: {line}");
        }
    }
    let (a, b) = (1e300_f64, 7.0_f64);
    let types = [DataType::Float64, DataType::Float64];
    let inputs = types.map(|data_type| Input { data_type, is_ids: false }).to_vec();
    use crate::expr::{ArithmeticOp, Expr, ExprKind};
    let of = |at| Box::new(Expr::column(at, DataType::Float64));
    let kind = ExprKind::Arithmetic(ArithmeticOp::Remainder, of(0), of(1));
    let query = Query {
        inputs,
        filters: vec![],
        keys: vec![],
        window: None,
        key_fields: vec![],
        arguments: vec![Expr { kind, data_type: DataType::Float64 }],
        calls: vec![],
        offsets: None,
    };
    let columns = [a, b].map(|v| Arc::new(arrow::array::Float64Array::from(vec![v])) as ArrayRef);
    for tier in TIERS {
        let program =
            Arc::new(Program::projection(&device(tier), query.clone()).expect("it is one"));
        let mut projector = Projector::new(&program);
        let batch = projector.project(&columns, 0, 1, &mut Vec::new()).expect("it runs");
        let record = projector.records_of(&batch).expect("it comes back");
        let bits = u64::from(record[record.len() - 1]) << 32 | u64::from(record[record.len() - 2]);
        assert_eq!(f64::from_bits(bits), a % b, "{tier:?}");
    }
}
