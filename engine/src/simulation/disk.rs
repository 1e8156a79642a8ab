//! The disks of one process: every operation passes a gate at which something may happen.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::is_told;
use crate::seeded::{self, Bug};
use crate::storage::{LogFile, LogStorage, MemoryStorage, StagedFile, Storage, publish_by_link};

pub const EIO: i32 = 5;

/// What happens at one operation.
pub enum Act {
    /// The process ends before it.
    Die,
    /// It fails with this errno, once.
    Fail(i32),
    /// It takes this long.
    Slow(Duration),
    /// The process stands still before it, and this happens meanwhile.
    Meanwhile(Box<dyn FnOnce() + Send>),
    /// The same, and the process may fail of it.
    Against(Box<dyn FnOnce() + Send>),
}

/// Counts the operations of one process, on every disk and on the wire.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<State>>, usize);

#[derive(Default)]
struct State {
    operations: u64,
    acts: BTreeMap<u64, Act>,
    dead: bool,
    /// Something happened that a process may fail of.
    hurt: bool,
    slow: Duration,
}

impl Gate {
    /// `process`: its number, for a replay.
    pub fn new(process: usize, acts: BTreeMap<u64, Act>) -> Gate {
        Gate(Arc::new(Mutex::new(State { acts, ..State::default() })), process)
    }

    /// Passes one operation. `what` and `name` tell of it in a replay.
    pub fn pass(&self, what: &str, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if is_told() {
            let of = if state.dead { "dead" } else { "process" };
            eprintln!("{of} {}: {}: {what} {name}", self.1, state.operations);
        }
        let (at, dead) = (state.operations, state.dead);
        state.operations += 1;
        let act = state.acts.remove(&at).filter(|_| !dead);
        match act {
            None => {}
            Some(Act::Die) => state.dead = true,
            Some(Act::Slow(time)) => state.slow += time,
            Some(Act::Fail(errno)) => {
                state.hurt = true;
                return Err(io::Error::from_raw_os_error(errno));
            }
            Some(Act::Against(act)) => {
                state.hurt = true;
                drop(state);
                act();
                state = self.state();
            }
            Some(Act::Meanwhile(act)) => {
                drop(state);
                act();
                state = self.state();
            }
        }
        match state.dead {
            true => Err(io::Error::from_raw_os_error(EIO)),
            false => Ok(()),
        }
    }

    /// Orders an act for the operation after `skip` more.
    pub fn order(&self, skip: u64, act: Act) {
        let mut state = self.state();
        let at = state.operations + skip;
        state.acts.insert(at, act);
    }

    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub fn hurt(&self) {
        self.state().hurt = true;
    }

    /// It ended, or something failed: it need not have come to its end.
    pub fn may_fail(&self) -> bool {
        let state = self.state();
        state.dead || state.hurt
    }

    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Time that slow operations took since the last question.
    pub fn take_slow(&self) -> Duration {
        std::mem::take(&mut self.state().slow)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// One directory as one process sees it.
pub struct Disk {
    pub image: MemoryStorage,
    pub gate: Gate,
}

impl Storage for Disk {
    fn create(&self, name: &str) -> io::Result<Box<dyn StagedFile>> {
        self.gate.pass("create", name)?;
        let file = self.image.create(name)?;
        Ok(Box::new(OpenFile { file, gate: self.gate.clone() }))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.gate.pass("read", name)?;
        self.image.read(name)
    }

    fn publish(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        publish_by_link(self, (name, bytes), |staged, name| {
            self.gate.pass("link", name)?;
            self.image.link(staged, name)
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.gate.pass("rename", to)?;
        self.image.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.gate.pass("remove", name)?;
        self.image.remove(name)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.gate.pass("list", dir)?;
        self.image.list(dir)
    }

    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.gate.pass("create_dir_all", dir)?;
        self.image.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.gate.pass("sync_dir", dir)?;
        if seeded::is(Bug::DirectoryFsyncSkipped) {
            return Ok(());
        }
        self.image.sync_dir(dir)
    }

    fn location(&self) -> String {
        "the simulated disk".to_owned()
    }
}

impl LogStorage for Disk {
    fn create_log(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        self.gate.pass("create", name)?;
        let file = self.image.create_log(name)?;
        Ok(Box::new(OpenFile { file, gate: self.gate.clone() }))
    }
}

struct OpenFile<F: ?Sized> {
    gate: Gate,
    file: Box<F>,
}

impl<F: Write + ?Sized> Write for OpenFile<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let was_dead = self.gate.is_dead();
        if let Err(error) = self.gate.pass("write", "") {
            if !was_dead {
                // Half of it got through.
                self.file.write_all(&bytes[..bytes.len() / 2])?;
            }
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl LogFile for OpenFile<dyn LogFile> {
    fn sync(&mut self) -> io::Result<()> {
        self.gate.pass("sync", "")?;
        self.file.sync()
    }
}

impl StagedFile for OpenFile<dyn StagedFile> {
    fn sync(self: Box<Self>) -> io::Result<()> {
        self.gate.pass("sync", "")?;
        if seeded::is(Bug::FsyncSkipped) { Ok(()) } else { self.file.sync() }
    }
}
