//! SIGINT and SIGTERM: the first asks for a last epoch, the second ends the process now.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Exit status of a process that a second SIGINT ended (128 + SIGINT).
const ENDED_NOW: i32 = 130;

extern "C" fn on_signal(_signal: libc::c_int) {
    if ASKED.swap(true, Ordering::SeqCst) {
        // SAFETY: _exit is async-signal-safe (signal-safety(7)) and takes any status.
        unsafe { libc::_exit(ENDED_NOW) };
    }
}

/// Takes over both signals for the rest of the process.
pub fn listen() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only swaps an atomic and calls _exit, both async-signal-safe; the
        // zeroed sigaction is a valid value whose mask is empty.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Whether a last epoch was asked for.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
