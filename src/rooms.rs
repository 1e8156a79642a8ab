//! Room on a disk for state that memory does not hold: below the checkpoint's directory, or in the
//! machine's temporary one. It is made when something is spilled; nothing in it outlives a process.

use std::path::PathBuf;
use std::sync::Arc;

use pelton_engine::job::spec::JobSpec;
use pelton_engine::state::spill::Room;
use pelton_engine::storage::LocalStorage;

/// The state's groups may hold this part of the memory limit: what of them is merged, written and
/// read back at a moment takes as much again, and so do the cores and the rows that leave.
const STATE_SHARE: u64 = 4;
/// And a base that is put together beside the epochs this one.
const BASE_SHARE: u64 = 16;
/// And what the running epoch's checkpoint needs, which is taken apart to be written, this one.
const DELTA_SHARE: u64 = 16;

pub struct Rooms {
    pub state: Room,
    pub base: Room,
    /// Bytes of the running epoch's delta that memory may hold.
    pub delta: usize,
    /// Removed at the end.
    path: PathBuf,
}

impl Rooms {
    pub fn of(job: &JobSpec) -> Rooms {
        let checkpoint = job.checkpoint.as_ref();
        let path = match checkpoint.and_then(|checkpoint| checkpoint.place.directory()) {
            Some(directory) => directory.join("spill"),
            None => std::env::temp_dir().join(format!("pelton-spill-{}", std::process::id())),
        };
        let limit = job.memory_limit.unwrap_or(u64::MAX);
        let room = |name: &str, share: u64| Room {
            storage: Arc::new(LocalStorage::at(path.join(name))),
            bytes: limit / share,
        };
        Rooms {
            state: room("state", STATE_SHARE),
            base: room("base", BASE_SHARE),
            delta: usize::try_from(limit / DELTA_SHARE).unwrap_or(usize::MAX),
            path,
        }
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        // It may never have been made; what stays is removed at the next start.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
