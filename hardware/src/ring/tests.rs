//! The probe on this kernel, and under a seccomp filter as containers have it.

use super::*;
use crate::limits;

fn asked() -> IoUring {
    try_out(&|path| std::fs::read_to_string(path).ok(), limits::locked_memory().soft)
}

/// Lets the calling thread see `code` for io_uring_setup, for the rest of its life.
fn forbid(code: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        // The system call's number stands first in `seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            jt: 0,
            jf: 1,
            ..statement(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                libc::SYS_io_uring_setup as u32,
            )
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | code as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the first call takes numbers only; the second reads `program` and the filter that it
    // points to, which both live for the call. The filter binds this thread alone.
    let status = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
}

#[test]
fn f27_a_container_that_forbids_it_is_told_from_a_kernel_without_it() {
    for (code, refusal) in [(libc::EPERM, Refusal::Forbidden), (libc::ENOSYS, Refusal::NotBuilt)] {
        let found = std::thread::spawn(move || {
            forbid(code);
            // As if the administrator had it switched on: the filter alone refuses.
            try_out(&|_| Some("0\n".to_owned()), None)
        });
        assert_eq!(found.join().expect("no panic"), IoUring::Refused(refusal));
    }
}

#[test]
fn here_it_works_with_registered_buffers_or_the_machine_refuses_it() {
    match asked() {
        IoUring::Works { no_fixed_buffers } => {
            // Where a ring can be made here, a page can be registered.
            assert_eq!(no_fixed_buffers, None);
        }
        // Refusals of the machine that the tests run on; anything else is a fault of the probe.
        IoUring::Refused(refusal) => {
            let known = matches!(
                refusal,
                Refusal::Disabled { .. } | Refusal::Forbidden | Refusal::NotBuilt
            );
            assert!(known, "{refusal}");
        }
    }
}

/// Tells the child process below that it is one.
const CHILD: &str = "PELTON_TEST_WITHOUT_LOCKED_MEMORY";

/// What the probe finds with so much lockable memory, in a process without an administrator's right
/// to more.
fn asked_with(soft: u64) -> IoUring {
    let hard = limits::locked_memory().hard.unwrap_or(libc::RLIM_INFINITY);
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one `rlimit`, which lives for the call.
    let status = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
    asked()
}

/// Capabilities leave with the next program, so this test starts itself twice.
#[test]
fn f32_with_too_little_lockable_memory_the_limit_is_named() {
    const NAME: &str = "ring::tests::f32_with_too_little_lockable_memory_the_limit_is_named";
    let again = |step: &str| {
        let program = std::env::current_exe().expect("the test knows its program");
        let mut child = std::process::Command::new(program);
        let out = child.args(["--exact", NAME, "--nocapture"]).env(CHILD, step).output();
        let out = out.expect("the test can be started");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        text
    };
    match std::env::var(CHILD).as_deref() {
        Err(_) if asked().works() => {
            again("give up");
        }
        // Where no process gets a ring, more cannot be learnt.
        Err(_) => {}
        Ok("give up") => {
            const CAP_IPC_LOCK: libc::c_ulong = 14;
            // SAFETY: numbers only. It fails for users who have no such capability to give up.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) };
            again("ask");
        }
        Ok(_) => {
            let none = asked_with(0).to_string();
            assert!(none.contains("(RLIMIT_MEMLOCK is 0 KiB;"), "{none}");
            // Some kernels charge the ring itself, too: the least limit that lets one work has no
            // page left for a buffer.
            let mut found = (0..64).map(|pages| asked_with(4096 * pages));
            let found = found.find(IoUring::works).expect("a ring takes less than 64 pages");
            let text = found.to_string();
            let words = "works, without registered buffers: not enough memory may be locked";
            assert!(text.starts_with(words), "{text}");
        }
    }
}
