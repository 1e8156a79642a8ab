//! A full disk, directories without permission, a missing program: what the machine refuses.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use pelton_bench::oracle::{self, SENSORS_HEADER};
use pelton_tests::data::Sensors;
use pelton_tests::jobs::{self, DELAY_MS};
use pelton_tests::program::{self, Job};
use pelton_tests::tmpfs::Tmpfs;
use pelton_tests::{output, skip};

const NOBODY: u32 = 65534;

/// The job's output, or its checkpoints, lie on a disk that is nearly full: one clear line, a pause,
/// and it goes on by itself. Killed while it waits, it goes on from its last checkpoint.
///
/// `room`: KiB that are left, too few for a whole run.
fn a_full_disk_is_waited_for(test: &str, path: &str, room: usize, killed: bool) {
    let (text, _) = Sensors::new(1, 400_000).make();
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    let toml = jobs::Sensors { max_epoch_bytes: "2MiB", ..Default::default() }.toml();
    let there = format!("path = \"disk/{path}\"");
    let job = Job::new(&toml.replace(&format!("path = \"{path}\""), &there));
    job.write("data.csv", &text);
    let (disk, out) = (
        job.path("disk"),
        match path {
            "out" => job.path("disk/out"),
            _ => job.path("out"),
        },
    );
    let Some(_mounted) = Tmpfs::mount(&disk, "2m") else {
        return skip(test, "no right to mount a tmpfs");
    };
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![b'x'; (2048 - room) * 1024]).expect("the ballast fits");

    let mut running = job.start();
    running.wait_until("a word about the full disk", |running| running.stderr().contains("room"));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(running.is_running(), "it waits");
    let said = running.stderr().lines().filter(|line| line.contains("paused")).count();
    assert_eq!(said, 1, "it says so once:\n{}", running.stderr());
    if killed {
        running.kill();
        std::fs::remove_file(&ballast).expect("the ballast is ours");
        job.run().expect_code(0);
    } else {
        std::fs::remove_file(&ballast).expect("the ballast is ours");
        running.end().expect_code(0);
    }
    assert_eq!(output::rows(&out, SENSORS_HEADER), answer.lines());
}

#[test]
fn f50_a_full_disk_of_the_output_pauses_the_job_until_there_is_room() {
    let test = "f50_a_full_disk_of_the_output_pauses_the_job_until_there_is_room";
    // The result takes about 500 KiB.
    a_full_disk_is_waited_for(test, "out", 128, false);
}

#[test]
fn f50_a_full_disk_of_the_checkpoints_pauses_the_job_until_there_is_room() {
    let test = "f50_a_full_disk_of_the_checkpoints_pauses_the_job_until_there_is_room";
    // A checkpoint takes some 40 KiB.
    a_full_disk_is_waited_for(test, "state", 40, false);
}

#[test]
fn f50_killed_at_a_full_disk_the_last_checkpoint_is_valid() {
    let test = "f50_killed_at_a_full_disk_the_last_checkpoint_is_valid";
    a_full_disk_is_waited_for(test, "state", 40, true);
}

/// F49: the k-th fsync of a run fails with EIO. The process stops with exit code 74 (or waits for
/// nothing and ends well, where it was one that may fail), and the next start loses nothing.
#[test]
fn f49_an_fsync_that_fails_stops_the_job_and_loses_nothing() {
    const TEST: &str = "f49_an_fsync_that_fails_stops_the_job_and_loses_nothing";
    let injects = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1", "true"])
        .output();
    if !injects.is_ok_and(|output| output.status.success()) {
        return skip(TEST, "no strace, or no right to trace a process");
    }
    let (text, _) = Sensors::new(1, 60_000).make();
    let answer = oracle::sensors(text.as_bytes(), DELAY_MS);
    let mut stopped = 0;
    for when in [1, 2, 3, 5, 8, 13, 21] {
        let toml = jobs::Sensors { max_epoch_bytes: "1MiB", ..Default::default() }.toml();
        let job = Job::new(&toml);
        job.write("data.csv", &text);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e"]);
        strace.arg(format!("inject=fsync:error=EIO:when={when}"));
        strace.arg(program::binary()).args(["run", "job.toml"]).current_dir(job.dir());
        let ended = program::start(strace).end();
        match ended.status.code() {
            // While it opens its directories the reason is that they cannot be written.
            Some(69 | 74) => {
                stopped += 1;
                assert!(ended.stderr.contains("nput/output error"), "fsync {when}: {ended:?}");
            }
            Some(0) => {}
            _ => panic!("fsync {when}: {ended:?}"),
        }
        job.run().expect_code(0);
        let found = output::rows(&job.path("out"), SENSORS_HEADER);
        assert_eq!(found, answer.lines(), "fsync {when}");
    }
    assert!(stopped >= 5, "only {stopped} of the failures were noticed");
}

/// The job's command as a user without rights; `None` where this process cannot become one.
fn as_nobody(job: &Job, program: &Path) -> Option<Command> {
    let become_nobody = |command: &Path| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string()]);
        setpriv.args(["--clear-groups", "--"]).arg(command);
        setpriv
    };
    let tried = become_nobody(Path::new("true")).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut command = become_nobody(program);
    command.args(["run", "job.toml"]).current_dir(job.dir());
    Some(command)
}

/// Everybody may do everything with the job's directory, and run a copy of the program in it.
fn opened(job: &Job) -> std::path::PathBuf {
    let program = job.path("pelton");
    std::fs::copy(program::binary(), &program).expect("a program can be copied");
    for (path, mode) in [(job.dir().to_path_buf(), 0o777), (program.clone(), 0o755)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
    }
    program
}

#[test]
fn what_may_not_be_written_or_read_is_69() {
    const TEST: &str = "what_may_not_be_written_or_read_is_69";
    for (forbidden, mode) in [("out", 0o555), ("state", 0o555), ("data.csv", 0o000)] {
        let job = Job::new(&jobs::Sensors::default().toml());
        job.write("data.csv", "1714521600000,dev-1,north,21.5,50.0,1\n");
        let program = opened(&job);
        if forbidden != "data.csv" {
            std::fs::create_dir(job.path(forbidden)).expect("a directory can be made");
        }
        let path = job.path(forbidden);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it is ours");
        let Some(command) = as_nobody(&job, &program) else {
            return skip(TEST, "it takes root (or setpriv) to become a user without rights");
        };
        let ended = program::start(command).end();
        ended.expect_code(69).expect_said(&[forbidden, "ermission denied"]);
    }
}

/// Two jobs with one state directory would commit over each other (fault F21).
#[test]
fn a_state_directory_in_use_is_refused() {
    let toml = jobs::Sensors::default().toml().replace(
        "type = \"file\"\npath = \"data.csv\"\nformat = \"csv\"\nschema",
        "type = \"file\"\nend = false\npath = \"data.csv\"\nformat = \"csv\"\nschema",
    );
    let job = Job::new(&toml);
    job.write("data.csv", "1714521600000,dev-1,north,21.5,50.0,1\n");
    let mut first = job.start();
    first.wait_until("its first epoch", |running| running.stderr().contains("numInputRows"));
    let second = job.start().end();
    assert!([Some(69), Some(74)].contains(&second.status.code()), "{second:?}");
    second.expect_said(&["state"]);
    first.interrupt();
    first.end().expect_code(0);
}

/// F56: the state of another query is not taken for this one's.
#[test]
fn a_changed_query_with_old_state_is_refused() {
    let job = Job::new(&jobs::Sensors::default().toml());
    job.write("data.csv", "1714521600000,dev-1,north,21.5,50.0,1\n");
    job.run().expect_code(0);
    let toml = jobs::Sensors::default().toml().replace("min(humidity)", "max(humidity)");
    job.write("job.toml", toml);
    job.run().expect_code(78).expect_said(&["state"]);
}
