//! Mounts and groups as real systems show them.

use super::*;
use crate::files;

const GIB: u64 = 1 << 30;

fn check(table: &'static [(&'static str, &'static str)], cpus: Option<f64>, memory: Option<u64>) {
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
fn both_versions_side_by_side_count_where_their_controllers_are() {
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
fn version_1_writes_no_limit_as_a_number() {
    check(
        &[
            ("/proc/self/cgroup", "4:memory:/\n"),
            ("/proc/self/mountinfo", "35 31 0:32 / /cg rw - cgroup cgroup rw,memory\n"),
            ("/cg/memory.limit_in_bytes", "9223372036854771712\n"),
        ],
        None,
        None,
    );
}

#[test]
fn a_limit_far_above_the_group_counts() {
    check(
        &[
            ("/proc/self/cgroup", "0::/kubepods/burstable/pod1/main\n"),
            ("/proc/self/mountinfo", "35 24 0:30 / /cg rw - cgroup2 cgroup2 rw\n"),
            ("/cg/kubepods/burstable/pod1/main/memory.max", "max\n"),
            ("/cg/kubepods/memory.max", "1073741824\n"),
            ("/cg/kubepods/cpu.max", "300000 100000\n"),
        ],
        Some(3.0),
        Some(GIB),
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
