use pelton_kernels::gpu::rates::Cost;

use super::*;

/// A core of 20 to 120 ns a row.
fn core() -> [Cost; 3] {
    [(15.0, 5.0), (20.0, 8.0), (80.0, 20.0)].map(|(row_ns, column_ns)| Cost { row_ns, column_ns })
}

/// Filter and computed columns, there and on a core.
const FILTER: Cost = Cost { row_ns: 4.0, column_ns: 1.5 };
const FILTER_CPU: Cost = Cost { row_ns: 2.0, column_ns: 6.0 };

/// A discrete GPU of round figures: 10 GB/s up, 20 µs a dispatch, a nanosecond a row.
fn discrete() -> Rates {
    let cost = |row_ns| Cost { row_ns, column_ns: row_ns / 4.0 };
    Rates {
        upload: [10e9, 8e9, 6e9],
        read_back: 10e9,
        dispatch_ns: 20_000.0,
        project: Cost { row_ns: 3.0, column_ns: 1.0 },
        fold: [cost(0.8), cost(0.4), cost(1.0)],
        drain_ns: 30.0,
        cpu: core(),
        filter: FILTER,
        filter_cpu: FILTER_CPU,
    }
}

/// A processor that plays a GPU.
fn slow() -> Rates {
    let cost = |row_ns| Cost { row_ns, column_ns: row_ns / 4.0 };
    Rates {
        upload: [3e9, 3e9, 3e9],
        read_back: 5e9,
        dispatch_ns: 60_000.0,
        project: Cost { row_ns: 90.0, column_ns: 10.0 },
        fold: [cost(400.0), cost(300.0), cost(500.0)],
        drain_ns: 200.0,
        cpu: core(),
        filter: Cost { row_ns: 300.0, column_ns: 80.0 },
        filter_cpu: FILTER_CPU,
    }
}

fn load(rows: f64, groups: f64) -> Load {
    Load { rows, groups: Some(groups), cores: 1.0, row_bytes: 32.0, columns: 2.0 }
}

fn check(found: &Found, load: Load, expected: &str) {
    assert_eq!(choose(found, &load).to_string(), expected, "{found:?} {load:?}");
}

#[test]
fn what_is_no_gpu_or_is_not_known_is_the_cpus() {
    let any = load(1e6, 1e3);
    check(&Found::None, any, "CPU: there is no GPU");
    for rates in [None, Some(discrete())] {
        check(&Found::Software(rates), any, "CPU: software Vulkan is never chosen");
    }
    let differs = Found::Differs(vec!["Divide of Int64".into(), "Less of Float32".into()]);
    check(&differs, any, "CPU: the GPU computes otherwise: Divide of Int64, Less of Float32");
    check(&Found::Unmeasured("lost".into()), any, "CPU: no rates of the GPU: lost");
}

#[test]
fn a_faster_device_is_taken_and_a_slower_one_is_not() {
    let (faster, slower) =
        ("GPU: it is faster by its measured rates", "CPU: GPU loses here by its measured rates");
    check(&Found::Measured(discrete()), load(1e6, 1e3), faster);
    check(&Found::Measured(discrete()), load(1e6, 1e5), faster);
    // Four waits an epoch are dear where it has a thousand rows.
    check(&Found::Measured(discrete()), load(1e3, 10.0), slower);
    for groups in [1.0, 1e3, 1e6] {
        check(&Found::Measured(slow()), load(1e7, groups), slower);
    }
}

/// One device serves all cores: with enough of them it is what they wait for.
#[test]
fn many_cores_beat_one_device() {
    let mut rates = discrete();
    rates.fold = rates.fold.map(|cost| Cost { row_ns: 8.0, ..cost });
    let with = |cores| choose(&Found::Measured(rates.clone()), &Load { cores, ..load(1e7, 1e3) });
    assert!(with(1.0).on_gpu);
    assert!(!with(64.0).on_gpu);
    let rate = |cores| with(cores).facts.expect("rates are known").predicted;
    assert_eq!(rate(64.0).cpu, 64.0 * rate(1.0).cpu);
    assert!(rate(64.0).gpu < 1e9 / 8.0);
}

#[test]
fn more_bytes_or_more_columns_never_make_a_device_faster() {
    let rates = discrete();
    let mut before = f64::INFINITY;
    for row_bytes in [16.0, 64.0, 256.0, 1024.0] {
        let gpu = predict(&rates, &Load { row_bytes, ..load(1e6, 1e3) }).gpu;
        assert!(gpu < before, "{row_bytes} bytes: {gpu}");
        before = gpu;
    }
    let one = predict(&rates, &Load { columns: 1.0, ..load(1e6, 1e3) });
    let nine = predict(&rates, &Load { columns: 9.0, ..load(1e6, 1e3) });
    assert!(nine.gpu < one.gpu && nine.cpu < one.cpu);
}

#[test]
fn the_crossover_is_where_the_choice_changes() {
    assert_eq!(crossover(&slow(), &load(1e6, 1.0)), Crossover::Never);
    assert_eq!(rows_crossover(&slow(), &load(1e6, 1.0)), None);
    assert_eq!(crossover(&discrete(), &load(1e6, 1.0)), Crossover::Always);
    // Bringing groups back dearly bounds them from above, a slow fold into few from below.
    let dear = Rates { drain_ns: 2_000.0, ..discrete() };
    let Crossover::UpTo(groups) = crossover(&dear, &load(1e6, 1.0)) else {
        panic!("{:?}", crossover(&dear, &load(1e6, 1.0)))
    };
    let at = |groups| choose(&Found::Measured(dear.clone()), &load(1e6, groups)).on_gpu;
    assert!(at(groups) && !at(groups * 2.0), "{groups}");
    let mut few = discrete();
    few.fold[0] = Cost { row_ns: 60.0, column_ns: 0.0 };
    let Crossover::From(groups) = crossover(&few, &load(1e6, 1.0)) else {
        panic!("{:?}", crossover(&few, &load(1e6, 1.0)))
    };
    let at = |groups| choose(&Found::Measured(few.clone()), &load(1e6, groups)).on_gpu;
    assert!(at(groups) && !at(groups / 2.0), "{groups}");
    let rows = rows_crossover(&discrete(), &load(1e6, 10.0)).expect("it wins somewhere");
    let at = |rows| choose(&Found::Measured(discrete()), &load(rows, 10.0)).on_gpu;
    assert!(at(rows) && !at(rows / 2.0), "{rows}");
}

#[test]
fn a_choice_stands_within_its_range_and_is_made_again_outside() {
    let dear = Rates { drain_ns: 2_000.0, ..discrete() };
    let mut auto = Auto::new(Found::Measured(dear), load(1e6, 1e3));
    assert!(auto.choice().on_gpu);
    // Within a factor of eight nothing is asked again, and an empty epoch says nothing.
    for (rows, groups) in [(1_000_000, 8_000), (7_999_999, 125), (0, 0)] {
        assert_eq!(auto.see(rows, groups), None, "{rows} {groups}");
    }
    let changed = auto.see(1_000_000, 500_000).expect("groups come back dearly");
    assert!(!changed.on_gpu && changed.reason == Reason::Slower);
    assert_eq!(changed.facts.expect("rates are known").load.groups, Some(5e5));
    assert_eq!(auto.see(1_000_000, 400_000), None, "this is what is assumed now");
    assert!(auto.see(1_000_000, 900).expect("few groups again").on_gpu);
    // Made again, with the same answer: nothing to tell.
    assert_eq!(auto.see(1_000_000, 10), None);
    assert!(auto.choice().on_gpu);
}

/// Rows that come back: a core on its own gains by what is computed, more cores wait for one device.
#[test]
fn rows_without_groups_are_chosen_by_what_is_computed_of_them() {
    let load = |cores, columns: f64| {
        let row_bytes = 4.0 + 8.0 * columns;
        Load { rows: 1e6, groups: None, cores, row_bytes, columns }
    };
    let choice = |cores, columns| choose(&Found::Measured(discrete()), &load(cores, columns));
    assert!(!choice(1.0, 0.0).on_gpu && choice(1.0, 3.0).on_gpu && !choice(8.0, 3.0).on_gpu);
    let Crossover::From(columns) = crossover(&discrete(), &load(1.0, 0.0)) else {
        panic!("{:?}", crossover(&discrete(), &load(1.0, 0.0)))
    };
    assert!(choice(1.0, columns).on_gpu && !choice(1.0, columns - 1.0).on_gpu, "{columns}");
    assert_eq!(crossover(&slow(), &load(1.0, 3.0)), Crossover::Never);
    // Longer batches would wait for a dispatch less often than a decoder's do.
    let waits = Rates { dispatch_ns: 500_000.0, ..discrete() };
    assert!(!choose(&Found::Measured(waits), &load(1.0, 3.0)).on_gpu);
    let wide = Load { row_bytes: 1_000.0, ..load(1.0, 3.0) };
    assert!(!choose(&Found::Measured(discrete()), &wide).on_gpu);
    let told = choice(1.0, 3.0).facts.expect("rates are known").to_string();
    let crossover = format!("crossover: GPU wins from {columns} computed columns on");
    for text in ["M rows/s, with 3 computed columns on 1 cores", &crossover] {
        assert!(told.contains(text), "no {text}:\n{told}");
    }
    assert!(!told.contains("epochs:"), "{told}");
    // However many rows an epoch has, and it has no groups.
    let mut auto = Auto::new(Found::Measured(discrete()), load(1.0, 3.0));
    for rows in [1, 1_000_000_000] {
        assert_eq!(auto.see(rows, 0), None);
    }
    assert!(auto.choice().on_gpu);
}

#[test]
fn numbers_are_told_short() {
    let told = [1.0, 999.0, 10_000.0, 1_778_279.4, 3e9].map(short);
    assert_eq!(told, ["1", "999", "10 k", "1.8 M", "3.0 G"]);
}
