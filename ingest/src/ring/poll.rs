//! Waits until one of several descriptors can be read.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Tells for each descriptor whether a read would return at once (bytes, an end or an error).
/// `None` waits without end; a signal ends the wait early, with nothing to read.
///
/// Lacks writing: sources only read.
pub fn readable(
    descriptors: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
    out: &mut Vec<bool>,
) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let timeout_ms = timeout.map_or(-1, |t| t.as_millis().min(i32::MAX as u128) as libc::c_int);
    // SAFETY: the pointer and the length are those of a live vector that nothing else refers to.
    let ready =
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout_ms) };
    out.clear();
    if ready < 0 {
        let error = io::Error::last_os_error();
        out.resize(polled.len(), false);
        return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
    }
    out.extend(polled.iter().map(|fd| fd.revents != 0));
    Ok(())
}
