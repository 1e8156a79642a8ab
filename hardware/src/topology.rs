//! Cores, their siblings, caches and memory nodes, as `/sys` tells them.
//!
//! Invariant: every processor that the process may use is a [`Core`], also where `/sys` is missing:
//! then each is a physical core of its own on node 0.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::ReadText;
use crate::cpu_list::parse_cpu_list;

/// A logical processor that the process may run on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Core {
    /// The kernel's number, to pin to.
    pub cpu: usize,
    /// Least processor number of the physical core: equal for SMT siblings, also for those outside
    /// the process's set.
    pub physical: usize,
    /// NUMA node.
    pub node: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// By processor number.
    pub cores: Vec<Core>,
    pub caches: Caches,
    /// Those that the kernel lists; by number.
    pub nodes: Vec<Node>,
}

/// Sizes of the least core's caches: what a batch must fit in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Caches {
    pub l1_data: Option<Cache>,
    pub l2: Option<Cache>,
    pub l3: Option<Cache>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cache {
    pub bytes: u64,
    /// Processors that share it, the machine's others included.
    pub shared_by: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    pub node: usize,
    pub cpus: Vec<usize>,
    pub memory_bytes: Option<u64>,
}

impl Topology {
    /// The topology of the processors `cpus`, a set that the process may run on.
    pub fn of(cpus: &[usize], read: ReadText<'_>) -> Topology {
        let nodes = nodes(read);
        let node_of: BTreeMap<usize, usize> =
            nodes.iter().flat_map(|node| node.cpus.iter().map(|&cpu| (cpu, node.node))).collect();
        let mut topology = Topology { nodes, ..Topology::default() };
        for &cpu in cpus {
            let siblings = list(read, &format!("{CPU}{cpu}/topology/thread_siblings_list"));
            let physical = siblings.first().copied().unwrap_or(cpu);
            let node = node_of.get(&cpu).copied().unwrap_or(0);
            topology.cores.push(Core { cpu, physical, node });
            topology.caches.keep_least(caches(cpu, read));
        }
        topology
    }

    pub fn physical_cores(&self) -> usize {
        let mut physical: Vec<_> = self.cores.iter().map(|core| core.physical).collect();
        physical.sort_unstable();
        physical.dedup();
        physical.len()
    }
}

const CPU: &str = "/sys/devices/system/cpu/cpu";
const NODE: &str = "/sys/devices/system/node";

fn list(read: ReadText<'_>, path: &str) -> Vec<usize> {
    read(path).and_then(|text| parse_cpu_list(&text).ok()).unwrap_or_default()
}

fn nodes(read: ReadText<'_>) -> Vec<Node> {
    let online = list(read, &format!("{NODE}/online"));
    let node = |node| Node {
        node,
        cpus: list(read, &format!("{NODE}/node{node}/cpulist")),
        memory_bytes: read(&format!("{NODE}/node{node}/meminfo"))
            .and_then(|text| memory_total(&text)),
    };
    online.into_iter().map(node).collect()
}

/// `MemTotal:  9267404 kB` of `/proc/meminfo`, `Node 0 MemTotal: …` of a node's.
pub fn memory_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.split_once("MemTotal:"))?.1;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

impl Caches {
    fn keep_least(&mut self, other: Caches) {
        fn least(a: Option<Cache>, b: Option<Cache>) -> Option<Cache> {
            match (a, b) {
                (Some(a), Some(b)) => Some(if b.bytes < a.bytes { b } else { a }),
                (a, b) => a.or(b),
            }
        }
        self.l1_data = least(self.l1_data.take(), other.l1_data);
        self.l2 = least(self.l2.take(), other.l2);
        self.l3 = least(self.l3.take(), other.l3);
    }
}

fn caches(cpu: usize, read: ReadText<'_>) -> Caches {
    let mut caches = Caches::default();
    // Entries are numbered without a gap: two of level 1, then one a level.
    for index in 0.. {
        let text = |name: &str| read(&format!("{CPU}{cpu}/cache/index{index}/{name}"));
        let Some(level) = text("level") else { break };
        let Some(bytes) = text("size").and_then(|size| cache_bytes(&size)) else { continue };
        let shared = text("shared_cpu_list").and_then(|text| parse_cpu_list(&text).ok());
        let cache = Some(Cache { bytes, shared_by: shared.map_or(1, |cpus| cpus.len().max(1)) });
        match (level.trim(), text("type").as_deref().map(str::trim)) {
            ("1", Some("Data" | "Unified")) => caches.l1_data = cache,
            ("2", Some("Data" | "Unified")) => caches.l2 = cache,
            ("3", Some("Data" | "Unified")) => caches.l3 = cache,
            _ => {}
        }
    }
    caches
}

/// `32K`, `1024K`, `32M`.
fn cache_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let scale = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    #[test]
    fn without_sysfs_every_processor_is_a_core() {
        let topology = Topology::of(&[2, 5], &|_| None);
        let core = |cpu| Core { cpu, physical: cpu, node: 0 };
        assert_eq!(topology.cores, [core(2), core(5)]);
        assert_eq!((topology.physical_cores(), topology.nodes.len()), (2, 0));
        assert_eq!(topology.caches, Caches::default());
    }

    #[test]
    fn siblings_nodes_and_caches_are_those_of_the_files() {
        // Two sockets of two cores with SMT; the process may use all but processor 1.
        let read = files(&[
            ("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,4\n"),
            ("/sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2,6\n"),
            ("/sys/devices/system/cpu/cpu4/topology/thread_siblings_list", "0,4\n"),
            ("/sys/devices/system/cpu/cpu5/topology/thread_siblings_list", "1,5\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index0/level", "1\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index0/type", "Data\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index0/size", "48K\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list", "0,4\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index1/level", "1\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index1/type", "Instruction\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index1/size", "32K\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index2/level", "2\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index2/type", "Unified\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index2/size", "2048K\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index3/level", "3\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index3/type", "Unified\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index3/size", "105M\n"),
            ("/sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_list", "0-1,4-5\n"),
            // A smaller core, as hybrid processors have them.
            ("/sys/devices/system/cpu/cpu2/cache/index0/level", "1\n"),
            ("/sys/devices/system/cpu/cpu2/cache/index0/type", "Data\n"),
            ("/sys/devices/system/cpu/cpu2/cache/index0/size", "32K\n"),
            ("/sys/devices/system/node/online", "0-1\n"),
            ("/sys/devices/system/node/node0/cpulist", "0-1,4-5\n"),
            ("/sys/devices/system/node/node1/cpulist", "2-3,6-7\n"),
            (
                "/sys/devices/system/node/node1/meminfo",
                "Node 1 MemTotal:       16777216 kB\nNode 1 MemFree:  9 kB\n",
            ),
        ]);
        let topology = Topology::of(&[0, 2, 4, 5], &read);
        let core = |(cpu, physical, node)| Core { cpu, physical, node };
        assert_eq!(topology.cores, [(0, 0, 0), (2, 2, 1), (4, 0, 0), (5, 1, 0)].map(core));
        assert_eq!(topology.physical_cores(), 3);
        let cache = |kib: u64, shared_by| Some(Cache { bytes: kib * 1024, shared_by });
        assert_eq!(topology.caches.l1_data, cache(32, 1));
        assert_eq!(topology.caches.l2, cache(2048, 1));
        assert_eq!(topology.caches.l3, cache(105 * 1024, 4));
        assert_eq!(topology.nodes[0].memory_bytes, None);
        assert_eq!(topology.nodes[1].memory_bytes, Some(16 << 30));
        assert_eq!(topology.nodes[1].cpus, [2, 3, 6, 7]);
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("32K\n", Some(32 << 10)),
            ("1M", Some(1 << 20)),
            ("512", Some(512)),
            ("", None),
            ("32X", None),
            ("99999999999999999G", None),
        ] {
            assert_eq!(cache_bytes(text), bytes, "{text:?}");
        }
        assert_eq!(
            memory_total("MemTotal:        9267404 kB\nMemFree: 1 kB\n"),
            Some(9_489_821_696)
        );
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
        assert_eq!(memory_total("MemTotal: many kB\n"), None);
    }
}
