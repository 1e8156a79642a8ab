//! Storage on a local file system, by plain system calls so that strace can inject a fault into
//! each of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{LogFile, LogStorage, StagedFile, Storage, check_dir, check_name, publish_by_link};
use crate::failpoint;

/// The files below one directory.
#[derive(Clone, Debug)]
pub struct LocalStorage {
    root: PathBuf,
}

impl LocalStorage {
    /// Makes the directory where it is missing.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<LocalStorage> {
        let root = root.into();
        create_durably(&root)?;
        Ok(LocalStorage { root })
    }

    /// As it is: a directory that is missing is made by [`Storage::create_dir_all`].
    pub fn at(root: impl Into<PathBuf>) -> LocalStorage {
        LocalStorage { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn file(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    fn dir(&self, dir: &str) -> io::Result<PathBuf> {
        check_dir(dir)?;
        Ok(self.root.join(dir))
    }
}

impl Storage for LocalStorage {
    fn create(&self, name: &str) -> io::Result<Box<dyn StagedFile>> {
        failpoint::reach("disk");
        let file = OpenOptions::new().write(true).create_new(true).open(self.file(name)?)?;
        Ok(Box::new(LocalFile(file)))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        failpoint::reach("disk");
        fs::read(self.file(name)?)
    }

    fn publish(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // link(2) refuses a name that is taken, rename(2) does not.
        publish_by_link(self, (name, bytes), |staged, name| {
            failpoint::reach("disk");
            fs::hard_link(self.file(staged)?, self.file(name)?)
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        failpoint::reach("disk");
        fs::rename(self.file(from)?, self.file(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        failpoint::reach("disk");
        fs::remove_file(self.file(name)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.dir(dir)?)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                continue;
            }
            // A name that is not UTF-8 is none that this program wrote.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        create_durably(&self.dir(dir)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        failpoint::reach("disk");
        File::open(self.dir(dir)?)?.sync_all()
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

/// Makes a directory and its missing parents, and syncs the parent of each one made.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_durably(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    File::open(parent)?.sync_all()
}

impl LogStorage for LocalStorage {
    fn create_log(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(self.file(name)?)?;
        Ok(Box::new(LocalFile(file)))
    }
}

struct LocalFile(File);

impl Write for LocalFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        failpoint::reach("disk");
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StagedFile for LocalFile {
    fn sync(self: Box<Self>) -> io::Result<()> {
        failpoint::reach("disk");
        self.0.sync_all()
    }
}

impl LogFile for LocalFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}
