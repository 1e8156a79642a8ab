//! Programs under measurement: started, timed, and asked for the memory they took.
//!
//! The kernel counts the memory of the process that starts another, at its peak, into the other's own
//! peak. So whoever measures must stay small until the last run is over.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::error::Error;

pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// From its start to its end.
    pub seconds: f64,
    /// Of all its threads, in user and system mode.
    pub cpu_seconds: f64,
    pub peak_rss_bytes: u64,
}

/// Runs a command to its end, with no standard input.
pub fn run(command: &mut Command) -> Result<Finished, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error| Error::io(format!("cannot run {name}"), error);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn().map_err(failed)?;
    let mut stderr = child.stderr.take().expect("piped above");
    let errors = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut stdout = Vec::new();
    child.stdout.take().expect("piped above").read_to_end(&mut stdout).map_err(failed)?;
    let stderr = errors.join().expect("reading does not panic").map_err(failed)?;
    let (status, cpu_seconds, peak_rss_bytes) = wait(child).map_err(failed)?;
    Ok(Finished {
        status,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds,
        peak_rss_bytes,
    })
}

/// Waits for a child and takes what the kernel counted for it.
fn wait(child: Child) -> io::Result<(ExitStatus, f64, u64)> {
    let pid = i32::try_from(child.id()).expect("a process id is an i32");
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live locals of the types that wait4 fills. `child` is owned
        // here and not waited for before, so `pid` is still its own.
        if unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) } == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: rusage is plain integers: zeroes are a value of it, and wait4 has filled it.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    // Linux counts in KiB.
    Ok((ExitStatus::from_raw(status), cpu_seconds, usage.ru_maxrss.unsigned_abs() * 1024))
}

/// Runs a job with the program in `dir`, and sees that it read all `rows`.
pub fn pelton(program: &Path, job: &str, dir: &Path, rows: u64) -> Result<Finished, Error> {
    let file = dir.join("job.toml");
    std::fs::write(&file, job)
        .map_err(|error| Error::io(format!("cannot write {}", file.display()), error))?;
    let finished = run(Command::new(program).arg("run").arg(&file).args(["--progress", "json"]))?;
    let last = |lines: usize| {
        let all: Vec<&str> =
            finished.stderr.lines().filter(|line| !line.starts_with('{')).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    };
    if !finished.status.success() {
        return Err(Error::Wrong(format!("the job ended with {}:\n{}", finished.status, last(20))));
    }
    let progress = finished.stderr.lines().filter(|line| line.starts_with('{'));
    let read: u64 = progress
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["numInputRows"].as_u64())
        .sum();
    if read != rows {
        return Err(Error::Wrong(format!("the job read {read} rows of {rows}:\n{}", last(20))));
    }
    Ok(finished)
}

/// The logical CPUs that this process may run on.
pub fn allowed_cpus() -> Result<Vec<usize>, Error> {
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path)
        .map_err(|error| Error::io(format!("cannot read {path}"), error))?;
    status
        .lines()
        .find_map(|line| parse_cpus(line.strip_prefix("Cpus_allowed_list:")?.trim()))
        .ok_or_else(|| Error::Unavailable(format!("{path} does not list the allowed CPUs")))
}

/// `0-2,5` → 0, 1, 2, 5.
fn parse_cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_end_output_and_memory_are_seen() {
        let ended = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
        assert!(ended.peak_rss_bytes > 100_000 && ended.seconds > 0.0);
    }

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(parse_cpus("0"), Some(vec![0]));
        assert_eq!(parse_cpus("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(parse_cpus("0-"), None);
    }
}
