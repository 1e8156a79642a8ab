//! Time of processors: what other programs on the machine change least.

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds of CPU of this process so far, in steps of 10 ms.
pub fn cpu_seconds() -> f64 {
    used(13)
}

/// Those of children that have ended.
pub fn children_seconds() -> f64 {
    used(15)
}

/// Two fields of /proc/self/stat, in ticks of 10 ms, counted from 0 (proc(5)).
fn used(field: usize) -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may hold blanks.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let fields = behind.split_whitespace().skip(field - 2).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
