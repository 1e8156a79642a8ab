//! The kernel's notation for sets of processors, `0-3,8`, as users write it in `cores`, too.

use std::fmt;

/// Above any kernel's limit (8,192 on x86-64): a longer list is a slip of the keyboard.
const CPU_MAX: usize = 65_535;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuListError {
    NotANumber { part: String },
    Backwards { part: String },
    TooGreat { part: String },
}

impl fmt::Display for CpuListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CpuListError::NotANumber { part } => {
                write!(f, "expected processor numbers such as \"0-3,8\", found {part:?}")
            }
            CpuListError::Backwards { part } => {
                write!(f, "expected a range from the lower to the higher number, found {part:?}")
            }
            CpuListError::TooGreat { part } => {
                write!(f, "expected processor numbers up to {CPU_MAX}, found {part:?}")
            }
        }
    }
}

impl std::error::Error for CpuListError {}

/// The numbers of `0-3,8`, ascending, each once; none for blank text.
pub fn parse_cpu_list(text: &str) -> Result<Vec<usize>, CpuListError> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').map(str::trim) {
        if part.is_empty() && text.trim().is_empty() {
            break;
        }
        let number = |digits: &str| {
            let digits = digits.trim();
            let part = part.to_owned();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(CpuListError::NotANumber { part });
            }
            let cpu = digits.parse().ok().filter(|&cpu: &usize| cpu <= CPU_MAX);
            cpu.ok_or(CpuListError::TooGreat { part })
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(CpuListError::Backwards { part: part.to_owned() });
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

/// The shortest text that [`parse_cpu_list`] reads as these ascending numbers.
pub fn format_cpu_list(cpus: &[usize]) -> String {
    let mut parts = Vec::new();
    for range in cpus.chunk_by(|a, b| a + 1 == *b) {
        parts.push(match range {
            [one] => one.to_string(),
            range => format!("{}-{}", range[0], range[range.len() - 1]),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        let cases: [(&str, &[usize], &str); 8] = [
            ("0", &[0], "0"),
            ("0-3\n", &[0, 1, 2, 3], "0-3"),
            ("0-3,8", &[0, 1, 2, 3, 8], "0-3,8"),
            (" 1 - 2 , 5 ", &[1, 2, 5], "1-2,5"),
            ("8,0-1,1-2", &[0, 1, 2, 8], "0-2,8"),
            ("3-3", &[3], "3"),
            ("", &[], ""),
            ("\n", &[], ""),
        ];
        for (text, cpus, written) in cases {
            assert_eq!(parse_cpu_list(text).as_deref(), Ok(cpus), "{text:?}");
            assert_eq!(format_cpu_list(cpus), written);
        }
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_part_at_fault() {
        for (text, message) in [
            ("0-3,x", "expected processor numbers such as \"0-3,8\", found \"x\""),
            ("0,,1", "expected processor numbers such as \"0-3,8\", found \"\""),
            ("-1", "expected processor numbers such as \"0-3,8\", found \"-1\""),
            ("0-", "expected processor numbers such as \"0-3,8\", found \"0-\""),
            ("+1", "expected processor numbers such as \"0-3,8\", found \"+1\""),
            ("0-1-2", "expected processor numbers such as \"0-3,8\", found \"0-1-2\""),
            ("3-0", "expected a range from the lower to the higher number, found \"3-0\""),
            (
                "0-99999999999999999999",
                "expected processor numbers up to 65535, found \"0-99999999999999999999\"",
            ),
            ("65536", "expected processor numbers up to 65535, found \"65536\""),
        ] {
            let error = parse_cpu_list(text).expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }
}
