//! What `pelton hardware` prints: one line a fact, for people; and all of it as JSON.

use std::fmt::Write;

use crate::cpu_list::format_cpu_list;
use crate::limits::Limit;
use crate::machine::Machine;
use crate::topology::Cache;

/// Two columns, aligned: the fact's name, and the fact.
pub fn report(machine: &Machine) -> String {
    let unknown = || "unknown".to_owned();
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |name: &str, text: String| lines.push((name.to_owned(), text));
    line("processor", machine.model.clone().unwrap_or_else(unknown));
    line("kernel", machine.kernel.as_ref().map_or_else(unknown, |name| format!("Linux {name}")));
    line("cores", cores(machine));
    for node in &machine.topology.nodes {
        let memory = node.memory_bytes.map_or_else(unknown, bytes);
        let cpus = format_cpu_list(&node.cpus);
        line(&format!("node {}", node.node), format!("processors {cpus}, {memory} memory"));
    }
    let caches = &machine.topology.caches;
    line("L1 data", cache(caches.l1_data.as_ref()));
    line("L2", cache(caches.l2.as_ref()));
    line("L3", cache(caches.l3.as_ref()));
    let extensions = machine.simd.extensions.join(" ");
    line(
        "SIMD tier",
        match extensions.is_empty() {
            true => machine.simd.tier.to_string(),
            false => format!("{} ({extensions})", machine.simd.tier),
        },
    );
    line("memory", machine.memory_total_bytes.map_or_else(unknown, bytes));
    line(
        "group's memory",
        machine.cgroup.memory_bytes.map_or_else(|| "no limit".to_owned(), bytes),
    );
    line(
        "group's processors",
        match machine.cgroup.cpus {
            Some(cpus) => format!("time of {cpus}"),
            None => "no limit".to_owned(),
        },
    );
    let default = bytes(machine.memory_default_bytes());
    line("memory_limit", format!("{default} unless the job says otherwise (75 %)"));
    line("open files", limit(machine.open_files, |n| n.to_string()));
    line("locked memory", limit(machine.locked_memory, bytes));
    line("io_uring", machine.io_uring.to_string());

    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, fact) in lines {
        writeln!(text, "{name:width$}  {fact}").expect("a String takes all text");
    }
    text
}

/// All facts, and what follows from them.
pub fn report_json(machine: &Machine) -> String {
    let mut json = serde_json::to_value(machine).expect("facts are plain data");
    json["memory_limit_default_bytes"] = machine.memory_default_bytes().into();
    let mut text = serde_json::to_string_pretty(&json).expect("a value is JSON");
    text.push('\n');
    text
}

fn cores(machine: &Machine) -> String {
    let cores = &machine.topology.cores;
    let cpus: Vec<_> = cores.iter().map(|core| core.cpu).collect();
    let physical = machine.topology.physical_cores();
    let list = format_cpu_list(&cpus);
    match physical == cpus.len() {
        true => format!("{physical} (processors {list})"),
        false => format!("{physical}, {} threads (processors {list})", cpus.len()),
    }
}

fn cache(cache: Option<&Cache>) -> String {
    match cache {
        None => "unknown".to_owned(),
        Some(Cache { bytes: size, shared_by: 1 }) => bytes(*size),
        Some(Cache { bytes: size, shared_by }) => {
            format!("{}, shared by {shared_by} processors", bytes(*size))
        }
    }
}

fn limit(limit: Limit, show: impl Fn(u64) -> String) -> String {
    let show = |value: Option<u64>| value.map_or_else(|| "no limit".to_owned(), &show);
    match limit.soft == limit.hard {
        true => show(limit.soft),
        false => format!("{} (may be raised to {})", show(limit.soft), show(limit.hard)),
    }
}

/// In the greatest unit that leaves at least 1, with a decimal place where it is not whole.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && count >> (10 * (unit + 2)) > 0 {
        unit += 1;
    }
    let scale = 1_u64 << (10 * (unit + 1));
    match count.is_multiple_of(scale) {
        true => format!("{} {}", count / scale, UNITS[unit]),
        false => format!("{:.1} {}", count as f64 / scale as f64, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::server;
    use crate::probe::{IoUring, Refusal};

    #[test]
    fn people_get_one_aligned_line_a_fact() {
        let expected = "\
processor           Testium 9000
kernel              Linux 6.1.0
cores               4, 8 threads (processors 0-7)
node 0              processors 0-1,4-5, 8 GiB memory
node 1              processors 2-3,6-7, 8 GiB memory
L1 data             48 KiB, shared by 2 processors
L2                  2 MiB, shared by 2 processors
L3                  105 MiB, shared by 4 processors
SIMD tier           portable (sse4.2 popcnt)
memory              16 GiB
group's memory      4 GiB
group's processors  time of 2.5
memory_limit        3 GiB unless the job says otherwise (75 %)
open files          1024 (may be raised to 1048576)
locked memory       8 MiB (may be raised to no limit)
io_uring            works, with registered buffers
";
        assert_eq!(report(&server()), expected);
    }

    #[test]
    fn what_is_not_known_is_said_to_be() {
        let mut machine = server();
        machine.model = None;
        machine.topology = Default::default();
        machine.cgroup = Default::default();
        machine.io_uring = IoUring::Refused(Refusal::NotBuilt);
        let text = report(&machine);
        for line in [
            "processor           unknown\n",
            "L2                  unknown\n",
            "group's processors  no limit\n",
            "io_uring            refused, plain reads instead: the kernel has none",
        ] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
    }

    #[test]
    fn programs_get_json() {
        let mut machine = server();
        machine.io_uring = IoUring::Refused(Refusal::SwitchedOff);
        let json: serde_json::Value =
            serde_json::from_str(&report_json(&machine)).expect("it is JSON");
        assert_eq!(json["topology"]["cores"][5]["physical"], 1);
        assert_eq!(json["topology"]["caches"]["l2"]["bytes"], 2 << 20);
        assert_eq!(json["cgroup"]["cpus"], 2.5);
        assert_eq!(json["simd"]["tier"], "portable");
        assert_eq!(json["io_uring"]["refused"], "switched off by PELTON_IO_URING=off");
        assert_eq!(json["memory_limit_default_bytes"], 3_u64 << 30);
        machine.io_uring = IoUring::Works { no_fixed_buffers: None };
        let json: serde_json::Value =
            serde_json::from_str(&report_json(&machine)).expect("it is JSON");
        assert!(json["io_uring"]["works"].is_object());
    }

    #[test]
    fn sizes_are_short_and_true() {
        for (count, text) in [
            (0, "0 KiB"),
            (512, "0.5 KiB"),
            (1 << 10, "1 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1 MiB"),
            ((1 << 20) - 1024, "1023 KiB"),
            (9_489_821_696, "8.8 GiB"),
            (3 << 40, "3 TiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }
}
