//! The machine as this process may use it, found out once at the start.
//!
//! The thin edge: it asks the kernel and hands what comes back to the pure modules. Nothing here
//! fails: a fact that cannot be had is absent.

use serde::Serialize;
use std::fmt;

use crate::cpu_list::format_cpu_list;
use crate::limits::Limit;
use crate::placement::spread;
use crate::probe::IoUring;
use crate::simd::Simd;
use crate::topology::{Core, Topology, memory_total};
use crate::{affinity, cgroup, limits, ring};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    pub model: Option<String>,
    pub kernel: Option<String>,
    pub topology: Topology,
    pub simd: Simd,
    pub memory_total_bytes: Option<u64>,
    pub cgroup: cgroup::Limits,
    pub locked_memory: Limit,
    pub open_files: Limit,
    pub io_uring: IoUring,
}

impl Machine {
    /// Asks the kernel. Cost: some dozen small files a core, and one ring.
    pub fn discover() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let cpus = affinity::allowed().unwrap_or_else(|_| {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            (0..cpus).collect()
        });
        let locked_memory = limits::locked_memory();
        let switch = std::env::var("PELTON_IO_URING").unwrap_or_default();
        let io_uring = IoUring::played(&switch, locked_memory.soft)
            .unwrap_or_else(|| ring::try_out(&read, locked_memory.soft));
        Machine {
            model: read("/proc/cpuinfo").and_then(|text| model(&text)),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            topology: Topology::of(&cpus, &read),
            simd: Simd::discover(),
            memory_total_bytes: read("/proc/meminfo").and_then(|text| memory_total(&text)),
            cgroup: cgroup::limits(&read),
            locked_memory,
            open_files: limits::open_files(),
            io_uring,
        }
    }

    /// Memory that the process may use at most: the machine's, or what the control groups leave.
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        match (self.memory_total_bytes, self.cgroup.memory_bytes) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (total, limit) => total.or(limit),
        }
    }

    /// Default of `memory_limit`: 75 % of what there is; 1 GiB where nothing tells.
    pub fn memory_default_bytes(&self) -> u64 {
        const UNKNOWN_BYTES: u64 = 1 << 30;
        self.memory_limit_bytes().map_or(UNKNOWN_BYTES, |limit| limit / 4 * 3)
    }

    /// The cores to run on, physical ones first: those of `wanted`, or all that the process may use,
    /// but no more than the processor quota can keep busy.
    pub fn cores(&self, wanted: Option<&[usize]>) -> Result<Vec<Core>, CoresError> {
        let all = &self.topology.cores;
        let Some(wanted) = wanted else {
            let mut cores = spread(all);
            let busy = self.cgroup.cpus.map_or(usize::MAX, |cpus| cpus.ceil() as usize);
            cores.truncate(busy.max(1));
            return Ok(cores);
        };
        let find = |&cpu: &usize| all.iter().find(|core| core.cpu == cpu).cloned().ok_or(cpu);
        let (found, missing): (Vec<_>, Vec<_>) = wanted.iter().map(find).partition(Result::is_ok);
        if !missing.is_empty() || wanted.is_empty() {
            return Err(CoresError {
                missing: missing.into_iter().filter_map(Result::err).collect(),
                allowed: all.iter().map(|core| core.cpu).collect(),
            });
        }
        Ok(spread(&found.into_iter().flatten().collect::<Vec<_>>()))
    }
}

/// Cores were asked for that the process may not use, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoresError {
    pub missing: Vec<usize>,
    pub allowed: Vec<usize>,
}

impl fmt::Display for CoresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match &self.missing[..] {
            [] => "none".to_owned(),
            missing => format_cpu_list(missing),
        };
        let allowed = format_cpu_list(&self.allowed);
        write!(f, "expected processors of those this process may use ({allowed}), found {found}")
    }
}

impl std::error::Error for CoresError {}

/// `model name : AMD EPYC` on x86; other architectures have no such line.
fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::simd::Tier;
    use crate::topology::{Cache, Caches, Node};

    const GIB: u64 = 1 << 30;

    /// Four cores with two threads each on two nodes; half a node's memory, 2.5 processors.
    pub(crate) fn server() -> Machine {
        let cache = |bytes, shared_by| Some(Cache { bytes, shared_by });
        let node = |node, cpus: [usize; 4]| Node {
            node,
            cpus: cpus.to_vec(),
            memory_bytes: Some(8 * GIB),
        };
        let core = |cpu: usize| Core { cpu, physical: cpu % 4, node: cpu % 4 / 2 };
        Machine {
            model: Some("Testium 9000".to_owned()),
            kernel: Some("6.1.0".to_owned()),
            topology: Topology {
                cores: (0..8).map(core).collect(),
                caches: Caches {
                    l1_data: cache(48 << 10, 2),
                    l2: cache(2 << 20, 2),
                    l3: cache(105 << 20, 4),
                },
                nodes: vec![node(0, [0, 1, 4, 5]), node(1, [2, 3, 6, 7])],
            },
            simd: Simd { tier: Tier::Portable, extensions: vec!["sse4.2", "popcnt"] },
            memory_total_bytes: Some(16 * GIB),
            cgroup: cgroup::Limits { cpus: Some(2.5), memory_bytes: Some(4 * GIB) },
            locked_memory: Limit { soft: Some(8 << 20), hard: None },
            open_files: Limit { soft: Some(1024), hard: Some(1 << 20) },
            io_uring: IoUring::Works { no_fixed_buffers: None },
        }
    }

    #[test]
    fn memory_is_the_least_of_machine_and_group() {
        let mut machine = server();
        assert_eq!(machine.memory_limit_bytes(), Some(4 * GIB));
        assert_eq!(machine.memory_default_bytes(), 3 * GIB);
        machine.cgroup.memory_bytes = Some(64 * GIB);
        assert_eq!(machine.memory_limit_bytes(), Some(16 * GIB));
        machine.memory_total_bytes = None;
        assert_eq!(machine.memory_limit_bytes(), Some(64 * GIB));
        machine.cgroup.memory_bytes = None;
        assert_eq!((machine.memory_limit_bytes(), machine.memory_default_bytes()), (None, GIB));
    }

    #[test]
    fn cores_are_those_asked_for_or_what_the_quota_feeds() {
        let cpus = |machine: &Machine, wanted: Option<&[usize]>| {
            let cores = machine.cores(wanted);
            cores.map(|cores| cores.iter().map(|core| core.cpu).collect::<Vec<_>>())
        };
        let mut machine = server();
        assert_eq!(cpus(&machine, None), Ok(vec![0, 1, 2]));
        assert_eq!(cpus(&machine, Some(&[0, 4, 1, 5])), Ok(vec![0, 1, 4, 5]));
        machine.cgroup.cpus = Some(0.1);
        assert_eq!(cpus(&machine, None), Ok(vec![0]));
        machine.cgroup.cpus = None;
        assert_eq!(cpus(&machine, None), Ok(vec![0, 1, 2, 3, 4, 5, 6, 7]));
        for (wanted, message) in [
            (
                &[7, 8, 9, 11][..],
                "expected processors of those this process may use (0-7), found 8-9,11",
            ),
            (&[], "expected processors of those this process may use (0-7), found none"),
        ] {
            assert_eq!(cpus(&machine, Some(wanted)).expect_err("refused").to_string(), message);
        }
    }

    #[test]
    fn the_model_is_read_where_the_kernel_names_it() {
        let amd =
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(model(amd).as_deref(), Some("AMD EPYC"));
        assert_eq!(model("processor\t: 0\nBogoMIPS\t: 50.00\n"), None);
    }

    #[test]
    fn this_machine_tells_what_the_kernel_tells() {
        let machine = Machine::discover();
        let cpus: Vec<_> = machine.topology.cores.iter().map(|core| core.cpu).collect();
        assert_eq!(cpus, affinity::allowed().expect("the kernel tells"));
        assert!(machine.memory_default_bytes() > 0);
        assert!(machine.memory_limit_bytes() <= machine.memory_total_bytes);
    }
}
