//! Storage in memory with a live and a durable image: crashes and faults as test inputs.
//!
//! Invariant: the durable image holds exactly what the contract of [`Storage`] promises and nothing
//! more: bytes by [`StagedFile::sync`], names by [`Storage::sync_dir`]. A real disk may keep more;
//! [`Crash`] says how much. One clone is another handle to the same files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    LogFile, LogStorage, StagedFile, Storage, check_dir, check_name, directory, publish_by_link,
};

/// What is left after [`MemoryStorage::crash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// What was synced and nothing else: a power cut at its worst.
    Synced,
    /// All names, but only the bytes that were synced: a rename that overtook its data.
    Names,
    /// Everything: the process was killed, the machine went on.
    Everything,
    /// Of what was not synced, what this seed picks: a name is the old or the new one, a file has
    /// any part of its new bytes, perhaps as zeros. A renamed file keeps one of its names.
    Torn(u64),
}

#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<u64, Content>,
    next_file: u64,
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    dirs: BTreeSet<String>,
    /// Counts crashes: a handle from before one writes nowhere.
    life: u64,
    operations: u64,
    fault: Option<Fault>,
    /// Bytes that all files together may hold.
    capacity: Option<usize>,
}

#[derive(Debug, Default)]
struct Content {
    live: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    from: u64,
    until: u64,
    errno: i32,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl MemoryStorage {
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    /// Operations so far: each call of [`Storage`], each write and sync of a file, failed ones too.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// The operation after `skip` more fails with this errno, once; it has no effect, but a failed
    /// write has written half its bytes.
    pub fn fail_once(&self, skip: u64, errno: i32) {
        let mut disk = self.disk();
        let from = disk.operations + skip;
        disk.fault = Some(Fault { from, until: from + 1, errno });
    }

    /// From the operation after `skip` more on all fail, until [`MemoryStorage::repair`] or
    /// [`MemoryStorage::crash`]: the last thing that a killed process did was operation `skip`.
    pub fn fail_from(&self, skip: u64, errno: i32) {
        let mut disk = self.disk();
        let from = disk.operations + skip;
        disk.fault = Some(Fault { from, until: u64::MAX, errno });
    }

    pub fn repair(&self) {
        self.disk().fault = None;
    }

    /// Bytes that all files may hold; a write beyond fails with ENOSPC. `None`: no limit.
    pub fn set_capacity(&self, capacity: Option<usize>) {
        self.disk().capacity = capacity;
    }

    /// Leaves room for so many more bytes than all files hold now.
    pub fn set_room(&self, room: usize) {
        let mut disk = self.disk();
        disk.capacity = Some(disk.held() + room);
    }

    /// The machine or the process ends and comes back with this much of its files.
    pub fn crash(&self, left: Crash) {
        let mut disk = self.disk();
        disk.life += 1;
        disk.fault = None;
        if left == Crash::Everything {
            return;
        }
        match left {
            Crash::Torn(seed) => return disk.tear(&mut Pick(seed)),
            Crash::Synced => disk.live = disk.durable.clone(),
            _ => disk.durable = disk.live.clone(),
        }
        let kept: BTreeSet<u64> = disk.live.values().copied().collect();
        disk.files.retain(|file, _| kept.contains(file));
        for content in disk.files.values_mut() {
            content.live.clone_from(&content.synced);
        }
    }

    /// Flips one bit of a file, in both images.
    pub fn flip_bit(&self, name: &str, byte: usize, bit: u8) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.find(name)?;
        let content = disk.files.get_mut(&file).expect("a name leads to a file");
        for image in [&mut content.live, &mut content.synced] {
            if let Some(byte) = image.get_mut(byte) {
                *byte ^= 1 << bit;
            }
        }
        Ok(())
    }

    fn make(&self, name: &str) -> io::Result<MemoryFile> {
        check_name(name)?;
        let mut disk = self.disk();
        disk.operate()?;
        disk.check_parent(name)?;
        if disk.live.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let file = disk.next_file;
        disk.next_file += 1;
        disk.files.insert(file, Content::default());
        disk.live.insert(name.to_owned(), file);
        Ok(MemoryFile { disk: Arc::clone(&self.disk), file, life: disk.life })
    }

    /// Gives a file a second name. Errors: `AlreadyExists`.
    pub(crate) fn link(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(to)?;
        let mut disk = self.disk();
        disk.operate()?;
        let file = disk.find(from)?;
        if disk.live.contains_key(to) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        disk.live.insert(to.to_owned(), file);
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder of this lock panics")
    }
}

impl Disk {
    /// Counts one operation and fails it where a fault was ordered.
    fn operate(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some(fault) if (fault.from..fault.until).contains(&number) => {
                Err(io::Error::from_raw_os_error(fault.errno))
            }
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        self.live.get(name).copied().ok_or_else(|| missing(name))
    }

    fn check_parent(&self, name: &str) -> io::Result<()> {
        let dir = directory(name);
        if dir.is_empty() || self.dirs.contains(dir) { Ok(()) } else { Err(missing(dir)) }
    }

    /// Keeps a part of what was not synced.
    fn tear(&mut self, pick: &mut Pick) {
        let Disk { live, durable, files, .. } = self;
        let names: BTreeSet<String> = live.keys().chain(durable.keys()).cloned().collect();
        let mut left = BTreeMap::new();
        for name in &names {
            let image = if pick.below(2) == 0 { &*live } else { &*durable };
            if let Some(file) = image.get(name) {
                left.insert(name.clone(), *file);
            }
        }
        // A rename is one step of the journal: the file is under its old or its new name.
        for (name, file) in live.iter() {
            let was_durable = durable.values().any(|other| other == file);
            if was_durable && !left.values().any(|other| other == file) {
                left.insert(name.clone(), *file);
            }
        }
        *live = left;
        let kept: BTreeSet<u64> = live.values().copied().collect();
        files.retain(|file, _| kept.contains(file));
        for Content { live, synced } in files.values_mut() {
            let whole = live.len();
            let cut =
                synced.len() + pick.below(whole.saturating_sub(synced.len()) as u64 + 1) as usize;
            live.truncate(cut.min(whole));
            if pick.below(4) == 0 {
                live.resize(whole, 0);
            }
            synced.clone_from(live);
        }
        *durable = live.clone();
    }

    fn held(&self) -> usize {
        self.live.values().map(|file| self.files[file].live.len()).sum()
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Pick(u64);

impl Pick {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name:?} does not exist"))
}

impl Storage for MemoryStorage {
    fn create(&self, name: &str) -> io::Result<Box<dyn StagedFile>> {
        Ok(Box::new(self.make(name)?))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        check_name(name)?;
        let mut disk = self.disk();
        disk.operate()?;
        let file = disk.find(name)?;
        Ok(disk.files[&file].live.clone())
    }

    fn publish(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        publish_by_link(self, (name, bytes), |staged, name| self.link(staged, name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut disk = self.disk();
        disk.operate()?;
        disk.check_parent(to)?;
        let file = disk.find(from)?;
        disk.live.remove(from);
        disk.live.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let mut disk = self.disk();
        disk.operate()?;
        disk.find(name)?;
        disk.live.remove(name);
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        check_dir(dir)?;
        let mut disk = self.disk();
        disk.operate()?;
        if !dir.is_empty() && !disk.dirs.contains(dir) {
            return Err(missing(dir));
        }
        let names = disk.live.keys().filter(|name| directory(name) == dir);
        Ok(names.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect())
    }

    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        check_dir(dir)?;
        let mut disk = self.disk();
        disk.operate()?;
        let mut dir = dir;
        while !dir.is_empty() {
            disk.dirs.insert(dir.to_owned());
            dir = directory(dir);
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        check_dir(dir)?;
        let mut disk = self.disk();
        disk.operate()?;
        let Disk { live, durable, .. } = &mut *disk;
        let is_here = |name: &str| directory(name) == dir;
        let gone = durable.iter().filter(|(name, _)| is_here(name) && !live.contains_key(*name));
        let gone: BTreeSet<u64> = gone.map(|(_, file)| *file).collect();
        durable.retain(|name, _| !is_here(name));
        // A rename is one entry of a file system's journal: with the old name gone the new one is there.
        let renamed = live.iter().filter(|(_, file)| gone.contains(file));
        durable.extend(renamed.map(|(name, file)| (name.clone(), *file)));
        let names = live.iter().filter(|(name, _)| directory(name) == dir);
        durable.extend(names.map(|(name, file)| (name.clone(), *file)));
        Ok(())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    file: u64,
    life: u64,
}

impl MemoryFile {
    /// Runs one operation on the file's content; a handle from before a crash fails.
    fn operate<T>(
        &self,
        action: impl FnOnce(&mut Disk, u64, io::Result<()>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut disk = self.disk.lock().expect("no holder of this lock panics");
        let allowed = disk.operate();
        if disk.life != self.life || !disk.files.contains_key(&self.file) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        action(&mut disk, self.file, allowed)
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.operate(|disk, file, allowed| {
            let room =
                disk.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(disk.held()));
            let content = disk.files.get_mut(&file).expect("checked by operate");
            if let Err(error) = allowed {
                content.live.extend_from_slice(&bytes[..bytes.len() / 2]);
                return Err(error);
            }
            if room == 0 && !bytes.is_empty() {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            let written = bytes.len().min(room);
            content.live.extend_from_slice(&bytes[..written]);
            Ok(written)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogStorage for MemoryStorage {
    fn create_log(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(self.make(name)?))
    }
}

impl StagedFile for MemoryFile {
    fn sync(self: Box<Self>) -> io::Result<()> {
        self.make_durable()
    }
}

impl LogFile for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        self.make_durable()
    }
}

impl MemoryFile {
    fn make_durable(&self) -> io::Result<()> {
        self.operate(|disk, file, allowed| {
            allowed?;
            let content = disk.files.get_mut(&file).expect("checked by operate");
            content.synced.clone_from(&content.live);
            Ok(())
        })
    }
}
