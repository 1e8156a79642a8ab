//! Memory of this process that no file backs, as the system counts it.

/// `RssAnon` of `/proc/self/status` in bytes; none where the system has no such file.
pub fn anonymous_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_and_its_unit_is_known() {
        let status = "Name:\tpelton\nVmRSS:\t  900 kB\nRssAnon:\t     512 kB\nRssFile:\t 3 kB\n";
        assert_eq!(parse(status), Some(512 << 10));
        assert_eq!(parse("Name:\tpelton\n"), None);
    }

    #[test]
    fn memory_that_is_written_is_counted() {
        let before = anonymous_bytes().expect("Linux has it");
        let written = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = anonymous_bytes().expect("Linux has it");
        assert!(after >= before + written.len() as u64 / 2, "{before} {after}");
    }
}
