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
mod tests {
    use super::*;
    use crate::files;

    const GIB: u64 = 1 << 30;

    fn check(
        table: &'static [(&'static str, &'static str)],
        cpus: Option<f64>,
        memory: Option<u64>,
    ) {
        let found = limits(&files(table));
        assert_eq!(found, Limits { cpus, memory_bytes: memory }, "{table:#?}");
    }

    #[test]
    fn no_groups_no_limits() {
        check(&[], None, None);
        check(&[("/proc/self/cgroup", "0::/\n"), ("/proc/self/mountinfo", "")], None, None);
    }

    #[test]
    fn a_container_with_its_own_namespace_sees_its_limits_at_the_top() {
        // docker run --cpus 1.5 --memory 2g, version 2.
        check(
            &[
                ("/proc/self/cgroup", "0::/\n"),
                (
                    "/proc/self/mountinfo",
                    "1253 1239 0:77 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
                     1262 1254 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n",
                ),
                ("/sys/fs/cgroup/cpu.max", "150000 100000\n"),
                ("/sys/fs/cgroup/memory.max", "2147483648\n"),
                ("/sys/fs/cgroup/memory.high", "max\n"),
            ],
            Some(1.5),
            Some(2 * GIB),
        );
    }

    #[test]
    fn the_least_limit_on_the_way_up_wins() {
        // systemd: a service in a slice that holds less than the service was given.
        check(
            &[
                ("/proc/self/cgroup", "0::/jobs.slice/pelton.service\n"),
                (
                    "/proc/self/mountinfo",
                    "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,memory_recursiveprot\n",
                ),
                ("/sys/fs/cgroup/jobs.slice/pelton.service/cpu.max", "max 100000\n"),
                ("/sys/fs/cgroup/jobs.slice/pelton.service/memory.max", "8589934592\n"),
                ("/sys/fs/cgroup/jobs.slice/pelton.service/memory.high", "7516192768\n"),
                ("/sys/fs/cgroup/jobs.slice/cpu.max", "400000 100000\n"),
                ("/sys/fs/cgroup/jobs.slice/memory.max", "4294967296\n"),
            ],
            Some(4.0),
            Some(4 * GIB),
        );
    }

    #[test]
    fn memory_high_is_a_limit_too() {
        check(
            &[
                ("/proc/self/cgroup", "0::/a\n"),
                ("/proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
                ("/sys/fs/cgroup/a/memory.max", "max\n"),
                ("/sys/fs/cgroup/a/memory.high", "1073741824\n"),
            ],
            None,
            Some(GIB),
        );
    }

    #[test]
    fn version_1_containers_show_their_own_group_as_the_mount() {
        // docker on version 1, no namespace: the group's path is the host's, the mount's root too.
        check(
            &[
                (
                    "/proc/self/cgroup",
                    "11:memory:/docker/5f2c\n4:cpu,cpuacct:/docker/5f2c\n1:name=systemd:/docker/5f2c\n",
                ),
                (
                    "/proc/self/mountinfo",
                    "700 699 0:31 /docker/5f2c /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
                     705 699 0:36 /docker/5f2c /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n",
                ),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
                ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
            ],
            Some(0.5),
            Some(GIB),
        );
    }

    #[test]
    fn version_1_writes_no_limit_as_a_number() {
        // Both versions mounted side by side; the controllers are those of version 1.
        check(
            &[
                ("/proc/self/cgroup", "4:memory:/api/132f\n1:cpu:/\n0::/\n"),
                (
                    "/proc/self/mountinfo",
                    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                     35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
                ),
                ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ("/sys/fs/cgroup/memory/api/132f/memory.limit_in_bytes", "9223372036854771712\n"),
                ("/sys/fs/cgroup/memory/api/memory.limit_in_bytes", "3221225472\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
            None,
            Some(3 * GIB),
        );
    }

    #[test]
    fn a_mount_of_another_part_of_the_tree_counts_from_its_top() {
        check(
            &[
                ("/proc/self/cgroup", "0::/docker/abcdef/inner\n"),
                (
                    "/proc/self/mountinfo",
                    "9 8 0:29 /docker/abc /mnt/my\\040groups rw - cgroup2 cgroup rw\n",
                ),
                ("/mnt/my groups/cpu.max", "100000 100000\n"),
                ("/mnt/my groups/def/inner/cpu.max", "1 100000\n"),
            ],
            Some(1.0),
            None,
        );
    }
}
