//! Limits that the process runs under: open files and locked memory. Numbers, no judgement.

use serde::Serialize;

/// `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limit {
    pub soft: Option<u64>,
    /// What the process may raise the soft limit to.
    pub hard: Option<u64>,
}

/// Bytes that may be kept from being paged out: io_uring's registered buffers count.
pub fn locked_memory() -> Limit {
    limit(libc::RLIMIT_MEMLOCK)
}

pub fn open_files() -> Limit {
    limit(libc::RLIMIT_NOFILE)
}

fn limit(resource: libc::__rlimit_resource_t) -> Limit {
    let mut values = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel writes one `rlimit` to `values`, which lives for the call. It can fail only
    // for an unknown resource or a bad address; then `values` stays without limits.
    unsafe { libc::getrlimit(resource, &raw mut values) };
    let number = |value| (value != libc::RLIM_INFINITY).then_some(value);
    Limit { soft: number(values.rlim_cur), hard: number(values.rlim_max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_proc() {
        let text = std::fs::read_to_string("/proc/self/limits").expect("Linux has it");
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("it is listed");
            let mut values = line[name.len()..].split_whitespace().map(|value| value.parse().ok());
            let mut next = || values.next().expect("two values");
            Limit { soft: next(), hard: next() }
        };
        assert_eq!(open_files(), row("Max open files"));
        assert_eq!(locked_memory(), row("Max locked memory"));
    }
}
