//! Whether io_uring works here, and if it is refused, why and what to do about it.
//!
//! Invariant: "works" was seen, not inferred: a ring was set up and a file read through it (`ring`).
//! The judgement is pure, so every refusal is a test input; `PELTON_IO_URING` plays one in the real
//! program, for tests and for users who want plain reads.

use serde::{Serialize, Serializer};
use std::fmt;
use std::io;

/// Operations that the ingest loop asks of a ring; Linux 5.6 has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    ReadFixed,
    Recv,
    Accept,
    Timeout,
    AsyncCancel,
}

impl Operation {
    pub const ALL: [Operation; 6] = [
        Operation::Read,
        Operation::ReadFixed,
        Operation::Recv,
        Operation::Accept,
        Operation::Timeout,
        Operation::AsyncCancel,
    ];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Read => "READ",
            Operation::ReadFixed => "READ_FIXED",
            Operation::Recv => "RECV",
            Operation::Accept => "ACCEPT",
            Operation::Timeout => "TIMEOUT",
            Operation::AsyncCancel => "ASYNC_CANCEL",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IoUring {
    Works {
        /// Why buffers cannot be registered (READ_FIXED); plain READ works then.
        no_fixed_buffers: Option<Refusal>,
    },
    Refused(Refusal),
}

impl IoUring {
    pub fn works(&self) -> bool {
        matches!(self, IoUring::Works { .. })
    }

    pub fn has_fixed_buffers(&self) -> bool {
        matches!(self, IoUring::Works { no_fixed_buffers: None })
    }

    /// What `PELTON_IO_URING` asks for; `None`: ask the kernel.
    pub fn played(value: &str, memlock: Option<u64>) -> Option<IoUring> {
        let refused = |code| Refusal::of(Step::Setup, code, None, memlock);
        let refusal = match value {
            "" | "auto" => return None,
            "off" => Refusal::SwitchedOff,
            "eperm" => refused(libc::EPERM),
            "enosys" => refused(libc::ENOSYS),
            "enomem" => refused(libc::ENOMEM),
            "no-fixed-buffers" => {
                let refusal = Refusal::of(Step::Register, libc::ENOMEM, None, memlock);
                return Some(IoUring::Works { no_fixed_buffers: Some(refusal) });
            }
            other => Refusal::UnknownSwitch { value: other.to_owned() },
        };
        Some(IoUring::Refused(refusal))
    }
}

impl fmt::Display for IoUring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IoUring::Works { no_fixed_buffers: None } => {
                f.write_str("works, with registered buffers")
            }
            IoUring::Works { no_fixed_buffers: Some(refusal) } => {
                write!(f, "works, without registered buffers: {refusal}")
            }
            IoUring::Refused(refusal) => write!(f, "refused, plain reads instead: {refusal}"),
        }
    }
}

/// What was tried when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Setup,
    Register,
    Read,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By `kernel.io_uring_disabled`: 1 for those outside a group, 2 for all.
    Disabled {
        sysctl: u8,
    },
    /// EPERM or EACCES though the kernel has it switched on.
    Forbidden,
    NotBuilt,
    LockedMemory {
        limit_bytes: Option<u64>,
    },
    Missing {
        operations: Vec<Operation>,
    },
    /// A read through the ring gave other bytes than a plain one.
    WrongBytes,
    Failed {
        step: Step,
        code: i32,
    },
    SwitchedOff,
    UnknownSwitch {
        value: String,
    },
}

impl Refusal {
    /// Judges the error `code` of a step. `sysctl` is `kernel.io_uring_disabled`, where it exists.
    pub fn of(step: Step, code: i32, sysctl: Option<u8>, memlock: Option<u64>) -> Refusal {
        match (step, code, sysctl) {
            (Step::Setup, libc::EPERM, Some(sysctl @ 1..)) => Refusal::Disabled { sysctl },
            (_, libc::EPERM | libc::EACCES, _) => Refusal::Forbidden,
            (Step::Setup, libc::ENOSYS, _) => Refusal::NotBuilt,
            (Step::Setup | Step::Register, libc::ENOMEM, _) => {
                Refusal::LockedMemory { limit_bytes: memlock }
            }
            (step, code, _) => Refusal::Failed { step, code },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Disabled { sysctl: 1 } => f.write_str(
                "only administrators and the group kernel.io_uring_group may use it (sysctl \
                 kernel.io_uring_disabled is 1)",
            ),
            Refusal::Disabled { sysctl } => write!(
                f,
                "the administrator switched it off (sysctl kernel.io_uring_disabled is {sysctl})"
            ),
            Refusal::Forbidden => f.write_str(
                "this process is not permitted to use it (containers forbid it by default: a \
                 seccomp profile that allows io_uring_setup, _enter and _register is needed)",
            ),
            Refusal::NotBuilt => f.write_str(
                "the kernel has none, or a sandbox hides it (Linux 5.6 or later needed)",
            ),
            Refusal::LockedMemory { limit_bytes } => {
                f.write_str("not enough memory may be locked (RLIMIT_MEMLOCK is ")?;
                match limit_bytes {
                    Some(bytes) => write!(f, "{} KiB", bytes / 1024)?,
                    None => f.write_str("unlimited: the machine is out of memory")?,
                }
                f.write_str("; raise it by ulimit -l or systemd's LimitMEMLOCK=)")
            }
            Refusal::Missing { operations } => {
                let names: Vec<_> = operations.iter().map(Operation::to_string).collect();
                write!(f, "the kernel lacks {} (Linux 5.6 or later needed)", names.join(", "))
            }
            Refusal::WrongBytes => f.write_str("a read gave other bytes than a plain read"),
            Refusal::Failed { step, code } => {
                let step = match step {
                    Step::Setup => "setting up a ring",
                    Step::Register => "registering a buffer",
                    Step::Read => "reading a file",
                };
                write!(f, "{step}: {}", io::Error::from_raw_os_error(*code))
            }
            Refusal::SwitchedOff => f.write_str("switched off by PELTON_IO_URING=off"),
            Refusal::UnknownSwitch { value } => write!(
                f,
                "PELTON_IO_URING: expected auto, off, eperm, enosys, enomem or no-fixed-buffers, \
                 found {value:?}"
            ),
        }
    }
}

/// In words: who reads a report acts on the reason.
impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMLOCK: Option<u64> = Some(65_536);

    #[test]
    fn f27_every_refusal_says_who_refuses_and_what_helps() {
        use Step::{Read, Register, Setup};
        for (step, code, sysctl, words) in [
            (Setup, libc::ENOSYS, None, "the kernel has none"),
            (Setup, libc::EPERM, None, "containers forbid it by default"),
            (Setup, libc::EPERM, Some(0), "containers forbid it by default"),
            (Setup, libc::EACCES, Some(2), "this process is not permitted"),
            (Setup, libc::EPERM, Some(1), "the group kernel.io_uring_group"),
            (Setup, libc::EPERM, Some(2), "kernel.io_uring_disabled is 2"),
            (Register, libc::EPERM, Some(2), "containers forbid it by default"),
            (Setup, libc::EINVAL, None, "setting up a ring: Invalid argument (os error 22)"),
            (Read, libc::EIO, None, "reading a file: Input/output error (os error 5)"),
            (Read, libc::ENOMEM, None, "reading a file: Cannot allocate memory (os error 12)"),
        ] {
            let refusal = Refusal::of(step, code, sysctl, MEMLOCK);
            let text = IoUring::Refused(refusal).to_string();
            assert!(text.starts_with("refused, plain reads instead: "), "{text}");
            assert!(text.contains(words), "{words:?} in {text:?}");
        }
    }

    #[test]
    fn f32_too_little_lockable_memory_names_the_limit() {
        for step in [Step::Setup, Step::Register] {
            let text = Refusal::of(step, libc::ENOMEM, Some(0), MEMLOCK).to_string();
            assert!(text.contains("RLIMIT_MEMLOCK is 64 KiB; raise it by ulimit -l"), "{text}");
        }
        let text = Refusal::of(Step::Setup, libc::ENOMEM, None, None).to_string();
        assert!(text.contains("unlimited"), "{text}");
    }

    #[test]
    fn a_test_can_play_each_refusal() {
        for (value, words) in [
            ("off", "refused, plain reads instead: switched off by PELTON_IO_URING=off"),
            ("eperm", "refused, plain reads instead: this process is not permitted"),
            ("enosys", "refused, plain reads instead: the kernel has none"),
            ("enomem", "refused, plain reads instead: not enough memory may be locked"),
            ("no-fixed-buffers", "works, without registered buffers: not enough memory"),
            ("Off", "found \"Off\""),
        ] {
            let played = IoUring::played(value, MEMLOCK).expect(value);
            assert!(played.to_string().contains(words), "{words:?} in {played}");
            assert_eq!(played.works(), value == "no-fixed-buffers");
            assert!(!played.has_fixed_buffers());
        }
        assert_eq!(IoUring::played("auto", MEMLOCK), None);
        assert_eq!(IoUring::played("", MEMLOCK), None);
    }
}
