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

/// Gives up locked memory for the rest of the process's life, an administrator's right to it, too.
fn give_up_locked_memory() {
    const CAP_IPC_LOCK: libc::c_ulong = 14;
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: numbers only, but for one `rlimit` that lives for the call. The first call fails
    // without administrator's rights; then there is no capability to give up.
    let status = unsafe {
        libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none)
    };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
}

/// Capabilities leave with the next program, so this test starts itself twice.
#[test]
fn f32_without_lockable_memory_the_limit_is_named() {
    const NAME: &str = "ring::tests::f32_without_lockable_memory_the_limit_is_named";
    let again = |step: &str| {
        let program = std::env::current_exe().expect("the test knows its program");
        let mut child = std::process::Command::new(program);
        let out = child.args(["--exact", NAME, "--nocapture"]).env(CHILD, step).output();
        let out = out.expect("the test can be started");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("messages are UTF-8")
    };
    match std::env::var(CHILD).as_deref() {
        Err(_) => {
            let found = again("give up");
            let normal = asked();
            if normal.works() {
                // Some kernels charge only the buffers to the limit, others the ring, too.
                let words = "not enough memory may be locked (RLIMIT_MEMLOCK is 0 KiB";
                assert!(found.contains(words), "{found}");
            } else {
                assert!(found.contains(&normal.to_string()), "{found}");
            }
        }
        Ok("give up") => {
            give_up_locked_memory();
            println!("{}", again("ask"));
        }
        Ok(_) => println!("{}", asked()),
    }
}
