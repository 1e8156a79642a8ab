//! The real program, started, signalled and waited for.
//!
//! Invariant: every child is waited for or killed, and none is waited for without an end.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pelton_bench::oracle::Fates;

/// Longest time that a run in a test may take; the slowest take a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest time that a program may need to notice the end of what it started.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// The program under test.
///
/// Panics when it is not there: an end-to-end test without its program must not pass.
pub fn binary() -> PathBuf {
    let path = match std::env::var_os("PELTON_BIN") {
        Some(path) => PathBuf::from(path),
        // target/release/deps/<this test> → target/release/pelton
        None => std::env::current_exe()
            .expect("a test program knows where it is")
            .ancestors()
            .nth(2)
            .expect("cargo puts tests into <profile>/deps")
            .join("pelton"),
    };
    assert!(path.is_file(), "{} is not there: build it, or start tests/run", path.display());
    path
}

/// A directory of its own with a job file `job.toml` in it; gone at the end.
pub struct Job {
    dir: tempfile::TempDir,
}

impl Job {
    pub fn new(toml: &str) -> Job {
        let job = Job { dir: tempfile::tempdir().expect("a temporary directory can be made") };
        job.write("job.toml", toml);
        job
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        let parent = path.parent().expect("a file in a directory");
        std::fs::create_dir_all(parent).expect("a directory can be made");
        std::fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// The job, to its end.
    pub fn run(&self) -> Ended {
        self.start().end()
    }

    /// The job, with its progress on stderr.
    pub fn start(&self) -> Running {
        self.start_with(&["run", "job.toml", "--progress", "json"])
    }

    pub fn start_with(&self, args: &[&str]) -> Running {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.dir());
        start(command)
    }
}

/// SIGKILL to a process that the caller knows to be its own and not waited for yet.
pub fn kill_process(id: i32) {
    // SAFETY: kill takes two integers. Where the process has just ended nothing happens.
    unsafe { libc::kill(id, libc::SIGKILL) };
}

/// `pelton ARGS`, to its end.
pub fn pelton(args: &[&str]) -> Ended {
    let mut command = Command::new(binary());
    command.args(args);
    start(command).end()
}

/// Starts a command with no standard input; what it prints is collected as it comes.
pub fn start(command: Command) -> Running {
    started(command, Stdio::null())
}

/// As [`start`], with a pipe as its standard input.
pub fn start_fed(command: Command) -> (Running, ChildStdin) {
    let mut running = started(command, Stdio::piped());
    let stdin = running.child.stdin.take().expect("piped");
    (running, stdin)
}

fn started(mut command: Command, stdin: Stdio) -> Running {
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = collect::<ChildStdout>(child.stdout.take().expect("piped"));
    let stderr = collect::<ChildStderr>(child.stderr.take().expect("piped"));
    Running { child, stdout, stderr }
}

/// Bytes that a thread reads from a pipe until its end.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

fn collect<R: Read + Send + 'static>(mut pipe: R) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&bytes);
    let thread = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            into.lock().expect("no reader panics").extend_from_slice(&buffer[..read]);
        }
    });
    Collected { bytes, thread: Some(thread) }
}

impl Collected {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no reader panics")).into_owned()
    }

    fn finish(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reader does not panic");
        }
        self.text()
    }
}

/// A program at work. Dropped, it is killed.
pub struct Running {
    child: Child,
    stdout: Collected,
    stderr: Collected,
}

impl Running {
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until `holds`; says what was printed when it does not come true or the program ended.
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&Running) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            let ended = self.child.try_wait().expect("a child can be asked");
            // What it printed last may come true after its end.
            if ended.is_some()
                && !{
                    std::thread::sleep(Duration::from_millis(100));
                    holds(self)
                }
            {
                panic!("ended ({ended:?}) before {what}\n{}", self.printed());
            }
            assert!(began.elapsed() < PATIENCE, "no end of waiting for {what}\n{}", self.printed());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn printed(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr())
    }

    /// Bytes that `/proc` names for the program under `key`, `VmHWM:` or `RssAnon:`; none once it ended.
    pub fn memory(&self, key: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib << 10)
    }

    /// As [`Running::end`], and the most memory it has held.
    pub fn end_watched(mut self) -> (Ended, u64) {
        let began = Instant::now();
        let mut peak = 0;
        while self.is_running() {
            peak = self.memory("VmHWM:").unwrap_or(0).max(peak);
            assert!(began.elapsed() < PATIENCE, "no end\n{}", self.printed());
            std::thread::sleep(Duration::from_millis(2));
        }
        (self.end(), peak)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Peak of its resident memory in bytes; nothing once it has ended.
    pub fn memory_peak(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib << 10)
    }

    /// What it has worked so far, in steps of 10 ms; nothing once it has ended.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        // The name may hold anything but ends with the last bracket; fields 14 and 15 are ticks.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 =
            fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(ticks * 10))
    }

    /// Sends a signal; nothing where the program has ended.
    pub fn signal(&mut self, signal: i32) {
        if !self.is_running() {
            return;
        }
        let pid = i32::try_from(self.child.id()).expect("a process id is an i32");
        // SAFETY: kill takes two integers; the child was not waited for when asked just now, and only
        // this value waits for it, so its process id is still its own.
        let done = unsafe { libc::kill(pid, signal) };
        assert_eq!(done, 0, "kill: {}", std::io::Error::last_os_error());
    }

    /// SIGKILL to the program, or to what it started in its place: strace(1), killed, would let that
    /// go on. What it started may be a trial of its own, so this is repeated until it ends.
    pub fn kill_all(&mut self) {
        let began = Instant::now();
        while self.is_running() {
            let id = self.child.id();
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            let children = children.unwrap_or_default();
            for child in children.split_whitespace() {
                let child: i32 = child.parse().expect("the kernel writes process ids");
                // SAFETY: kill takes two integers. A child that has ended just now keeps its id until
                // its parent, which was running when asked, has waited for it.
                unsafe { libc::kill(child, libc::SIGKILL) };
            }
            if children.trim().is_empty() || began.elapsed() > KILL_PATIENCE {
                self.signal(libc::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ctrl-C.
    pub fn interrupt(&mut self) {
        self.signal(libc::SIGINT);
    }

    /// SIGKILL, to its end.
    pub fn kill(mut self) -> Ended {
        self.signal(libc::SIGKILL);
        self.end()
    }

    /// Waits for the program's own end; panics when it takes longer than any test should.
    pub fn end(self) -> Ended {
        self.end_within(PATIENCE)
    }

    /// As [`Running::end`], with a patience of the test's own.
    pub fn end_within(mut self, patience: Duration) -> Ended {
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child can be asked") {
                Some(status) => break status,
                None if began.elapsed() > patience => panic!("no end\n{}", self.printed()),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        Ended { status, stdout: self.stdout.finish(), stderr: self.stderr.finish() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended: there is nothing to kill.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A program's end and all that it printed.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Panics unless it ended with this exit code.
    pub fn expect_code(self, code: i32) -> Ended {
        assert_eq!(
            self.status.code(),
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(libc::SIGKILL)
    }

    /// Panics unless stderr holds each of these texts; messages are a promise to the user.
    pub fn expect_said(self, texts: &[&str]) -> Ended {
        for text in texts {
            assert!(self.stderr.contains(text), "stderr does not say {text:?}:\n{}", self.stderr);
        }
        self
    }

    /// The fates of all rows of all epochs, which close in each of them (SEMANTICS 9).
    pub fn fates(&self) -> Fates {
        let mut all = Fates::default();
        for epoch in self.progress() {
            let count = |name: &str| {
                epoch["counters"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {epoch}"))
            };
            let [rows_in, applied, filtered, late, rejected] =
                ["rowsIn", "applied", "filtered", "late", "rejected"].map(count);
            assert_eq!(rows_in, applied + filtered + late + rejected, "open counters in {epoch}");
            all.rows_in += rows_in;
            all.applied += applied;
            all.filtered += filtered;
            all.late += late;
            all.rejected += rejected;
        }
        all
    }

    /// The progress objects that `--progress json` wrote, an epoch each.
    pub fn progress(&self) -> Vec<serde_json::Value> {
        self.stderr
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }
}
