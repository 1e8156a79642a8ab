//! What the control groups allow: processor time and memory, versions 1 and 2, also side by side.
//!
//! Every group from the process's own up to the mount counts, and the least limit wins: a parent
//! may hold less than its child was promised. Pure: files come in through a function.

use serde::Serialize;

use crate::ReadText;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Limits {
    /// Processors' worth of time, for example 1.5.
    pub cpus: Option<f64>,
    pub memory_bytes: Option<u64>,
}

/// Reads the limits of the process that `/proc/self` is.
pub fn limits(read: ReadText<'_>) -> Limits {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let mut limits = Limits::default();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let Some(group) = groups.lines().find_map(|line| mount.group(line)) else { continue };
        for directory in mount.directories(group) {
            let text = |name: &str| read(&format!("{directory}/{name}"));
            limits.cpus = least(limits.cpus, cpus(&mount, &text));
            limits.memory_bytes = least(limits.memory_bytes, memory(&mount, &text));
        }
    }
    limits
}

fn least<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b < a { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn cpus(mount: &Mount, text: &dyn Fn(&str) -> Option<String>) -> Option<f64> {
    let (quota, period) = match mount.version {
        // `max 100000` or `150000 100000`: microseconds of each period.
        Version::Two => {
            let line = text("cpu.max")?;
            let (quota, period) = line.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        Version::One if mount.has("cpu") => (text("cpu.cfs_quota_us")?, text("cpu.cfs_period_us")?),
        Version::One => return None,
    };
    // `max` and -1 are no limit.
    let quota: u64 = quota.trim().parse().ok()?;
    let period: u64 = period.trim().parse().ok()?;
    (period > 0).then(|| quota as f64 / period as f64)
}

fn memory(mount: &Mount, text: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let bytes = |name: &str| text(name)?.trim().parse::<u64>().ok();
    match mount.version {
        // Above `memory.high` the kernel throttles and reclaims: no place to work in, either.
        Version::Two => least(bytes("memory.max"), bytes("memory.high")),
        // No limit is written as the greatest page-aligned i64.
        Version::One if mount.has("memory") => {
            bytes("memory.limit_in_bytes").filter(|&limit| limit < (i64::MAX as u64) & !0xffff)
        }
        Version::One => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where a hierarchy of groups is mounted.
#[derive(Debug)]
struct Mount {
    version: Version,
    /// The group that the mount point shows; a container's own, if it has no namespace.
    root: String,
    point: String,
    /// Version 1: the controllers of this hierarchy, among other options.
    options: Vec<String>,
}

impl Mount {
    /// `36 35 98:0 /root /mount/point rw,noatime master:1 - cgroup source rw,memory`, see proc(5).
    fn parse(line: &str) -> Option<Mount> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (unescape(mount.next()?), unescape(mount.next()?));
        let mut filesystem = filesystem.split(' ');
        let version = match filesystem.next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        let options = filesystem.nth(1).unwrap_or_default();
        Some(Mount {
            version,
            root,
            point,
            options: options.split(',').map(str::to_owned).collect(),
        })
    }

    fn has(&self, controller: &str) -> bool {
        self.options.iter().any(|option| option == controller)
    }

    /// The process's group, if a line of `/proc/self/cgroup` (`4:cpu,cpuacct:/a/b`) is for this one.
    fn group<'a>(&self, line: &'a str) -> Option<&'a str> {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match self.version {
            Version::Two => controllers.is_empty(),
            Version::One => controllers.split(',').any(|c| !c.is_empty() && self.has(c)),
        };
        ours.then_some(group)
    }

    /// Directories from the process's group up to the mount point.
    fn directories(&self, group: &str) -> Vec<String> {
        let root = self.root.trim_end_matches('/');
        let below = match group.strip_prefix(root) {
            Some(below) if below.is_empty() || below.starts_with('/') => below,
            // The mount shows another part of the tree; its top is what there is to see.
            _ => "",
        };
        let point = self.point.trim_end_matches('/');
        let mut below = below.trim_end_matches('/');
        let mut directories = vec![format!("{point}{below}")];
        while let Some((parent, _)) = below.rsplit_once('/') {
            below = parent;
            directories.push(format!("{point}{below}"));
        }
        directories
    }
}

/// Blanks and backslashes in paths stand as three octal digits.
fn unescape(path: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(path.to_owned(), |path, (octal, plain)| path.replace(octal, plain))
}

#[cfg(test)]
mod tests;
