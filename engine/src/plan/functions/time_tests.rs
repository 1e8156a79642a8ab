//! What kernels compute of dates and times is what the functions here do, to the bit, in every zone whose
//! clocks are always as far ahead of UTC; a row at which one of them stops is one at which both do.

use arrow::array::{Date32Array, Int32Array, Int64Array, TimestampMicrosecondArray};

use pelton_kernels::gpu::refusal;

use super::super::calendar;
use super::super::cast::cast_to;
use super::*;
use crate::job::spec::OutputMode;
use crate::plan::expr::Compiled;
use crate::plan::tests::job;
use crate::plan::types::sql_name;
use crate::plan::{Shape, plan, zone};

const ROWS: usize = 1_500;
const NTZ: DataType = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);

/// SplitMix64, from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// A day near one at which calendars go wrong, of our centuries, or anywhere in the calendar.
    fn day(&mut self) -> i64 {
        let ends = [-4_371_587, 2_932_896, -719_528, -719_468, 11_016, -25_508, 0];
        match self.next() % 4 {
            0 => ends[self.next() as usize % ends.len()] + self.within(-3, 3),
            1 => self.within(-4_400_000, 2_950_000),
            _ => self.within(-40_000, 60_000),
        }
    }

    fn time(&mut self) -> i64 {
        const INSTANTS: [i64; 2] = [-377_705_023_201_000_000, 253_402_207_201_000_000];
        match self.next() % 8 {
            0 => [i64::MIN, i64::MAX, i64::MIN + 1, -1][self.next() as usize % 4],
            1 => self.next() as i64,
            2 => INSTANTS[self.next() as usize % 2] + self.within(-2_000_000, 2_000_000),
            // A zone away from the calendar's ends.
            3 => {
                INSTANTS[self.next() as usize % 2] + self.within(-200_000_000_000, 200_000_000_000)
            }
            4 => self.day() * US_PER_DAY,
            _ => self.day() * US_PER_DAY + self.within(0, US_PER_DAY - 1),
        }
    }
}

/// Columns `ts`, `ntz`, `day`, `i`, `l`.
fn columns(seed: u64) -> Vec<ArrayRef> {
    let mut random = Random(seed);
    let mut some = |of: &mut dyn FnMut(&mut Random) -> i64| -> Vec<Option<i64>> {
        (0..ROWS).map(|_| Some(of(&mut random))).map(|v| v.filter(|v| v % 11 != 3)).collect()
    };
    let int = |values: Vec<Option<i64>>| values.into_iter().map(|v| v.map(|v| v as i32));
    let (ts, ntz) = (some(&mut Random::time), some(&mut Random::time));
    let days = some(&mut |random| match random.next() % 6 {
        0 => random.within(-106_751_990, 106_751_990),
        _ => random.day(),
    });
    let ints = some(&mut |random| match random.next() % 3 {
        0 => random.next() as i32 as i64,
        _ => random.within(-4_000, 4_000),
    });
    let longs = some(&mut |random| random.next() as i64 >> (random.next() % 64));
    vec![
        Arc::new(TimestampMicrosecondArray::from(ts).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(ntz)),
        Arc::new(int(days).collect::<Date32Array>()),
        Arc::new(int(ints).collect::<Int32Array>()),
        Arc::new(Int64Array::from(longs)),
    ]
}

const NAMES: [&str; 5] = ["ts", "ntz", "day", "i", "l"];

/// An expression over these columns, as a job in the zone has it.
fn compiled(zone: &str, expr: &str) -> (Compiled, Vec<usize>) {
    let sql = format!("SELECT {expr} AS out FROM input");
    let schema = "ts TIMESTAMP, ntz TIMESTAMP_NTZ, day DATE, i INT, l BIGINT";
    let mut job = job(schema, None, OutputMode::Append, &sql);
    job.timezone = zone.into();
    let mut query = plan(&job).unwrap_or_else(|findings| panic!("{expr}: {}", findings[0].what));
    query.scans.clear();
    let plan = Arc::into_inner(query.levels.remove(0).arms.remove(0).plan).expect("nobody else");
    let inputs = plan.input.iter().map(|input| input.source).collect();
    let Shape::Rows { mut columns, .. } = plan.shape else { panic!("no groups") };
    (columns.remove(0), inputs)
}

enum Argument {
    Column(usize),
    Text(&'static str),
    /// Of a column, as the binder writes it.
    Cast(usize, DataType),
}

impl Argument {
    fn sql(&self) -> String {
        match self {
            Argument::Column(at) => NAMES[*at].to_owned(),
            Argument::Text(text) => format!("'{text}'"),
            Argument::Cast(at, to) => format!("CAST({} AS {})", NAMES[*at], sql_name(to)),
        }
    }

    fn values(&self, columns: &[ArrayRef], zone: &TimeZone) -> Result<ArrayRef, String> {
        match self {
            Argument::Column(at) => Ok(Arc::clone(&columns[*at])),
            Argument::Text(text) => Ok(Arc::new(StringArray::from(vec![*text; columns[0].len()]))),
            Argument::Cast(at, to) => cast_to(&columns[*at], to, zone),
        }
    }
}

/// Every call that kernels take, by its function and its arguments.
fn calls() -> Vec<(&'static str, Vec<Argument>)> {
    use Argument::{Cast, Column, Text};
    let (ts, ntz, day, int, long) =
        (|| Column(0), || Column(1), || Column(2), || Column(3), || Column(4));
    let mut calls = Vec::new();
    let parts = ["year", "quarter", "month", "day", "dayofyear", "dayofweek", "weekday"];
    for name in parts.into_iter().chain(["weekofyear", "hour", "minute", "second"]) {
        for of in [ts(), ntz(), Cast(2, timestamp())] {
            calls.push((name, vec![of]));
        }
    }
    for name in ["dayofweek_iso", "yearofweek", "unix_date", "to_date"] {
        for of in [day(), Cast(0, DataType::Date32), Cast(1, DataType::Date32)] {
            calls.push((name, vec![of]));
        }
    }
    let units = ["microsecond", "millisecond", "SECOND", "minute", "Hour", "day", "dd"];
    let of_days = ["week", "month", "mon", "MM", "quarter", "year", "yyyy", "yy"];
    for unit in units.into_iter().chain(of_days) {
        for of in [ts(), ntz()] {
            calls.push(("date_trunc", vec![Text(unit), of]));
        }
    }
    for unit in of_days {
        calls.push(("trunc", vec![day(), Text(unit)]));
    }
    for name in ["unix_timestamp", "unix_seconds", "unix_micros", "to_timestamp"] {
        for of in [ts(), ntz()] {
            calls.push((name, vec![of]));
        }
    }
    calls.extend([
        ("last_day", vec![day()]),
        ("next_day", vec![day(), Text("MON")]),
        ("next_day", vec![Cast(0, DataType::Date32), Text("sunday")]),
        ("add_months", vec![day(), int()]),
        ("date_add", vec![day(), int()]),
        ("date_sub", vec![day(), int()]),
        ("datediff", vec![day(), Cast(0, DataType::Date32)]),
        ("datediff", vec![day(), day()]),
        ("date_from_unix_date", vec![int()]),
        ("timestamp_seconds", vec![int()]),
        ("timestamp_seconds", vec![long()]),
        ("timestamp_millis", vec![long()]),
        ("timestamp_micros", vec![long()]),
    ]);
    let units = ["MICROSECOND", "SECOND", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"];
    for unit in units {
        for time in [ts, ntz] {
            calls.push(("timestampadd", vec![Text(unit), long(), time()]));
            calls.push(("timestampadd", vec![Text(unit), Cast(3, DataType::Int64), time()]));
        }
        calls.push(("timestampdiff", vec![Text(unit), ts(), Cast(2, timestamp())]));
        calls.push(("timestampdiff", vec![Text(unit), Cast(1, timestamp()), ts()]));
    }
    calls
}

type Rows = Vec<Option<ArrayRef>>;

/// Each row's value, `None` where the function stops.
fn by_function(
    run: &dyn Fn(&[ArrayRef]) -> Result<ArrayRef, String>,
    columns: &[ArrayRef],
) -> Rows {
    let all = run(columns);
    let row = |row: usize| match &all {
        Ok(all) => Some(all.slice(row, 1)),
        Err(_) => {
            let one: Vec<ArrayRef> = columns.iter().map(|column| column.slice(row, 1)).collect();
            run(&one).ok()
        }
    };
    (0..ROWS).map(row).collect()
}

fn check(zone_name: &str, sql: &str, by_function: &Rows, columns: &[ArrayRef]) {
    let (compiled, inputs) = compiled(zone_name, sql);
    let Compiled::Kernel(kernel) = &compiled else { panic!("{zone_name}: no kernel for {sql}") };
    assert_eq!(refusal(kernel), None, "a device computes {sql}");
    let inputs: Vec<ArrayRef> = inputs.iter().map(|&at| Arc::clone(&columns[at])).collect();
    let found = compiled.evaluate(&inputs, ROWS, None);
    let mut errors = found.errors.iter().map(|(row, _)| *row as usize).peekable();
    for (row, expected) in by_function.iter().enumerate() {
        let stops = errors.next_if_eq(&row).is_some();
        let value = found.values.slice(row, 1);
        let input = || inputs.iter().map(|of| of.slice(row, 1)).collect::<Vec<_>>();
        assert_eq!(stops, expected.is_none(), "{zone_name}: {sql} of {:?} stops", input());
        if let Some(expected) = expected {
            assert_eq!(&value, expected, "{zone_name}: {sql} of {:?}", input());
        }
    }
}

const ZONES: [&str; 4] = ["UTC", "+05:45", "-11:00", "+18:00"];

#[test]
fn kernels_compute_what_the_functions_of_dates_and_times_do() {
    let definitions: Vec<Definition> = functions().chain(calendar::functions()).collect();
    for (seed, zone_name) in ZONES.into_iter().enumerate() {
        let (columns, zone) = (columns(seed as u64), zone(zone_name).expect("a zone"));
        for (name, arguments) in calls() {
            let definition = definitions.iter().find(|definition| definition.name == name);
            let definition = definition.expect("it is one of these");
            let run = |columns: &[ArrayRef]| {
                let values = arguments.iter().map(|argument| argument.values(columns, &zone));
                let values = values.collect::<Result<Vec<ArrayRef>, String>>()?;
                let types: Vec<DataType> = values.iter().map(|v| v.data_type().clone()).collect();
                let returns = (definition.returns)(&types);
                let context = Context { zone: &zone, returns: &returns, rows: columns[0].len() };
                (definition.run)(&context, &values)
            };
            let sql: Vec<String> = arguments.iter().map(Argument::sql).collect();
            let sql = format!("{name}({})", sql.join(", "));
            check(zone_name, &sql, &by_function(&run, &columns), &columns);
        }
    }
}

#[test]
fn kernels_cast_dates_and_times_as_the_functions_do() {
    for (seed, zone_name) in ZONES.into_iter().enumerate() {
        let (columns, zone) = (columns(100 + seed as u64), zone(zone_name).expect("a zone"));
        let casts = [
            (0, DataType::Date32),
            (1, DataType::Date32),
            (0, NTZ),
            (1, timestamp()),
            (2, timestamp()),
            (2, NTZ),
        ];
        for (at, to) in casts {
            let run = |columns: &[ArrayRef]| cast_to(&columns[at], &to, &zone);
            let sql = format!("CAST({} AS {})", NAMES[at], sql_name(&to));
            check(zone_name, &sql, &by_function(&run, &columns), &columns);
        }
    }
}

#[test]
fn kernels_add_intervals_as_the_function_does() {
    let intervals = [
        ("+ INTERVAL '13' MONTH", 13, 0),
        ("- INTERVAL '1' MONTH", -1, 0),
        ("+ INTERVAL '7-2' YEAR TO MONTH", 86, 0),
        ("+ INTERVAL '1' DAY", 0, US_PER_DAY),
        ("- INTERVAL '1 02' DAY TO HOUR", 0, -26 * 3_600_000_000),
        ("+ INTERVAL '36' HOUR", 0, 36 * 3_600_000_000),
    ];
    for (seed, zone_name) in ZONES.into_iter().enumerate() {
        let (columns, zone) = (columns(200 + seed as u64), zone(zone_name).expect("a zone"));
        for ((by, months, us), at) in intervals.into_iter().flat_map(|i| [(i, 0), (i, 1)]) {
            let run = |columns: &[ArrayRef]| {
                let rows = columns[0].len();
                let long = |value: i64| Arc::new(Int64Array::from(vec![value; rows])) as ArrayRef;
                let length = Arc::new(DurationMicrosecondArray::from(vec![us; rows]));
                let values = [Arc::clone(&columns[at]), long(months), length, long(1)];
                let returns = values[0].data_type().clone();
                (moving().run)(&Context { zone: &zone, returns: &returns, rows }, &values)
            };
            let sql = format!("{} {by}", NAMES[at]);
            check(zone_name, &sql, &by_function(&run, &columns), &columns);
        }
        let months_later = |columns: &[ArrayRef]| {
            let dates = columns[2].as_primitive::<Date32Type>();
            let dates = dates.try_unary::<_, Date32Type, _>(|day| {
                months_later(day, -25).ok_or_else(|| "out of the calendar".to_owned())
            });
            dates.map(|dates| Arc::new(dates) as ArrayRef)
        };
        let by_function = by_function(&months_later, &columns);
        check(zone_name, "day - INTERVAL '2-1' YEAR TO MONTH", &by_function, &columns);
    }
}

/// What Spark 4.2.0 gave, in seconds since 1970 where it is a time.
#[test]
fn times_move_by_the_calendar_of_the_zone() {
    let berlin = |expr: &str| {
        let (compiled, _) = compiled("Europe/Berlin", expr);
        let found = compiled.evaluate(&[], 1, None);
        assert_eq!(found.errors, [], "{expr}");
        found.values.as_primitive::<Int64Type>().value(0)
    };
    for (time, seconds) in [
        // The day before clocks go forward: 02:30 is not there then.
        ("'2024-03-30 02:30:00' + INTERVAL '1' DAY", 1_711_848_600),
        ("'2024-03-30 02:30:00' + INTERVAL '24' HOUR", 1_711_848_600),
        ("'2024-03-30 12:00:00' + INTERVAL '36' HOUR", 1_711_922_400),
        // 02:30 is there twice, and stays what it was.
        ("'2024-10-28 02:30:00' - INTERVAL '1' DAY", 1_729_992_600),
        ("'2024-10-26 02:30:00' + INTERVAL '1' DAY", 1_729_989_000),
        ("'2024-10-27 12:00:00' - INTERVAL '1' DAY", 1_729_936_800),
        ("'2024-01-31 12:00:00' + INTERVAL '1' MONTH", 1_709_204_400),
        ("'2024-03-15 12:00:00' + INTERVAL '1' MONTH", 1_713_175_200),
        ("'2024-11-15 00:30:00' - INTERVAL '1-1' YEAR TO MONTH", 1_697_322_600),
        ("'2024-11-27 02:30:00' - INTERVAL '1' MONTH", 1_729_992_600),
        // A length that is computed has its days, too.
        (
            "'2024-03-30 02:30:00' + \
             (TIMESTAMP '2024-03-30 12:00:00' - TIMESTAMP '2024-03-29 10:00:00')",
            1_711_855_800,
        ),
    ] {
        assert_eq!(berlin(&format!("unix_seconds(TIMESTAMP {time})")), seconds, "{time}");
    }
    for (call, expected) in [
        ("unix_seconds(timestampadd(MONTH, -1, TIMESTAMP '2024-11-27 02:30:00'))", 1_729_992_600),
        ("unix_seconds(timestampadd(DAY, -1, TIMESTAMP '2024-10-28 02:30:00'))", 1_729_992_600),
        ("unix_seconds(timestampadd(HOUR, 24, TIMESTAMP '2024-10-26 12:00:00'))", 1_730_023_200),
        ("timestampdiff(DAY, TIMESTAMP '2024-03-30 12:00:00', TIMESTAMP '2024-03-31 12:00:00')", 1),
        (
            "timestampdiff(HOUR, TIMESTAMP '2024-03-30 12:00:00', TIMESTAMP '2024-03-31 12:00:00')",
            24,
        ),
        (
            "timestampdiff(MONTH, TIMESTAMP '2024-02-29 12:00:00', TIMESTAMP '2024-03-31 11:00:00')",
            1,
        ),
        (
            "timestampdiff(MONTH, TIMESTAMP '2024-03-31 12:00:00', TIMESTAMP '2024-02-29 12:00:00')",
            -1,
        ),
        // What is left of March's first day is none: one of February's, before the 31st.
        (
            "timestampdiff(MONTH, TIMESTAMP '2000-01-31 05:30:00', TIMESTAMP '2000-03-01 04:30:00')",
            0,
        ),
        // 01:30 of the day on which 02:00 is 03:00.
        (
            "timestampdiff(SECOND, TIMESTAMP '1999-03-28 00:00:00', \
             TIMESTAMP_NTZ '1999-03-28 02:20:00')",
            12_000,
        ),
        // Half a day of the 31 that a month has, where the day has 23 hours.
        (
            "CAST(1e8 * months_between(TIMESTAMP '2024-03-31 12:00:00', DATE '2024-02-01') AS BIGINT)",
            198_252_688,
        ),
        (
            "timestampdiff(QUARTER, TIMESTAMP '2024-12-31 12:00:00', \
             TIMESTAMP '2023-01-31 12:00:00')",
            -7,
        ),
    ] {
        assert_eq!(berlin(call), expected, "{call}");
    }
}

/// Where clocks change an instant's parts are the functions'; what clocks show has none to ask for.
#[test]
fn zones_whose_clocks_change_are_left_to_the_functions() {
    for (sql, is_kernel) in [
        ("hour(ts)", false),
        ("date_trunc('day', ts)", false),
        ("CAST(ts AS DATE)", false),
        ("CAST(day AS TIMESTAMP)", false),
        ("CAST(ntz AS TIMESTAMP)", false),
        ("ts + INTERVAL '1' DAY", false),
        ("ts + INTERVAL '1' MONTH", false),
        ("timestampadd(MONTH, 1, ts)", false),
        ("timestampdiff(HOUR, ts, ts)", false),
        ("ts + INTERVAL '23' HOUR", true),
        ("ntz + INTERVAL '1' MONTH", true),
        ("hour(ntz)", true),
        ("date_trunc('day', ntz)", true),
        ("CAST(ntz AS DATE)", true),
        ("CAST(day AS TIMESTAMP_NTZ)", true),
        ("datediff(day, day)", true),
        ("unix_seconds(ts)", true),
    ] {
        let (compiled, _) = compiled("Europe/Berlin", sql);
        assert_eq!(matches!(compiled, Compiled::Kernel(_)), is_kernel, "{sql}");
    }
    // Units that are none, and those that are not constants.
    for sql in ["date_trunc('fortnight', ts)", "date_trunc(CAST(i AS STRING), ts)"] {
        assert!(matches!(compiled("UTC", sql).0, Compiled::DataFusion { .. }), "{sql}");
    }
}
