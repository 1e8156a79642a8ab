use std::io::ErrorKind;

use super::memory::Crash;
use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What every implementor promises, crashes aside.
fn check_contract(storage: &dyn Storage) {
    let write = |name: &str, bytes: &[u8]| {
        let mut file = storage.create(name).unwrap();
        file.write_all(bytes).unwrap();
        file.sync().unwrap();
    };
    assert_eq!(storage.list("").unwrap(), [""; 0]);
    write("b", b"one");
    write("a", b"two");
    assert_eq!(storage.create("a").err().unwrap().kind(), ErrorKind::AlreadyExists);
    assert_eq!(storage.read("none").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.rename("none", "a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.remove("none").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.create("x/y/c").err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(storage.list("x/y").unwrap_err().kind(), ErrorKind::NotFound);
    storage.create_dir_all("x/y").unwrap();
    storage.create_dir_all("x/y").unwrap();
    write("x/y/c", b"three");
    assert_eq!(storage.list("").unwrap(), ["a", "b"]);
    assert_eq!(storage.list("x/y").unwrap(), ["c"]);
    storage.rename("x/y/c", "a").unwrap();
    storage.sync_dir("").unwrap();
    storage.sync_dir("x/y").unwrap();
    assert_eq!(storage.read("a").unwrap(), b"three");
    assert_eq!(storage.list("x/y").unwrap(), [""; 0]);
    storage.remove("b").unwrap();
    assert_eq!(storage.list("").unwrap(), ["a"]);
    for name in ["", "/a", "a/", "../a", "a/../b", "./a", "a//b", "a\0b", ".", ".."] {
        let refused =
            |result: io::Result<()>| result.unwrap_err().kind() == ErrorKind::InvalidInput;
        assert!(refused(storage.create(name).map(drop)), "create {name:?}");
        assert!(refused(storage.read(name).map(drop)), "read {name:?}");
        assert!(refused(storage.rename(name, "q")), "rename {name:?}");
        assert!(refused(storage.rename("a", name)), "rename to {name:?}");
        assert!(refused(storage.remove(name)), "remove {name:?}");
        if !name.is_empty() {
            assert!(refused(storage.list(name).map(drop)), "list {name:?}");
            assert!(refused(storage.sync_dir(name)), "sync_dir {name:?}");
            assert!(refused(storage.create_dir_all(name)), "create_dir_all {name:?}");
        }
    }
    write_durably(storage, "x/y/d", b"four").unwrap();
    write_durably(storage, "x/y/d", b"five").unwrap();
    assert_eq!(storage.read("x/y/d").unwrap(), b"five");
    assert_eq!(storage.list("x/y").unwrap(), ["d"]);
}

#[test]
fn both_storages_keep_the_contract() {
    check_contract(&MemoryStorage::new());
    check_publish(&MemoryStorage::new());
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made/by/open");
    check_contract(&LocalStorage::open(&root).unwrap());
    check_publish(&LocalStorage::open(&root).unwrap());
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 3, "no staging name is left");
    assert_eq!(std::fs::read(root.join("x/y/d")).unwrap(), b"five");
}

#[test]
fn unsynced_bytes_and_names_do_not_survive_a_power_cut() {
    let storage = MemoryStorage::new();
    let mut synced = storage.create("synced").unwrap();
    synced.write_all(b"1").unwrap();
    synced.sync().unwrap();
    let mut named = storage.create("named").unwrap();
    named.write_all(b"2").unwrap();
    storage.sync_dir("").unwrap();
    let mut nameless = storage.create("nameless").unwrap();
    nameless.write_all(b"3").unwrap();
    nameless.sync().unwrap();
    storage.rename("synced", "renamed").unwrap();
    storage.crash(Crash::Synced);
    assert_eq!(storage.list("").unwrap(), ["named", "synced"]);
    assert_eq!(storage.read("synced").unwrap(), b"1");
    assert_eq!(storage.read("named").unwrap(), b"");
    assert!(named.write_all(b"from before").is_err(), "a dead process writes nothing");
    assert_eq!(storage.read("named").unwrap(), b"");
}

/// Simulated, seed 148375: another process synced the directory that the file had just left.
#[test]
fn a_renamed_file_is_never_without_a_name() {
    let storage = MemoryStorage::new();
    storage.create_dir_all("staged").unwrap();
    write_new(&storage, "staged/file", b"bytes").unwrap();
    storage.rename("staged/file", "file").unwrap();
    storage.sync_dir("staged").unwrap();
    storage.crash(Crash::Synced);
    assert_eq!(storage.read("file").unwrap(), b"bytes");
    assert_eq!(storage.list("staged").unwrap(), [""; 0]);
}

#[test]
fn f47_f48_a_crash_anywhere_leaves_the_old_file_or_the_new_one() {
    for left in [Crash::Synced, Crash::Names, Crash::Everything] {
        for operations in 0.. {
            let storage = MemoryStorage::new();
            write_durably(&storage, "file", b"old").unwrap();
            storage.fail_from(operations, EIO);
            let written = write_durably(&storage, "file", b"new bytes");
            storage.crash(left);
            let found = storage.read("file").unwrap();
            let whole = found == b"old" || found == b"new bytes";
            assert!(whole, "{left:?} after {operations} operations: {found:?}");
            // The next attempt takes what the crash left as no obstacle.
            let done = written.is_ok();
            assert!(!done || found == b"new bytes", "{left:?}: reported durable, but lost");
            write_durably(&storage, "file", b"again").unwrap();
            storage.crash(Crash::Synced);
            assert_eq!(storage.read("file").unwrap(), b"again");
            let mut names = storage.list("").unwrap();
            // What was being written is another process's for all that this one knows.
            names.retain(|name| !name.ends_with(".tmp"));
            assert_eq!(names, ["file"]);
            if done {
                assert_eq!(operations, 5, "create, write, sync, rename, sync_dir");
                break;
            }
        }
    }
}

#[test]
fn f49_a_file_whose_sync_failed_is_thrown_away() {
    let storage = MemoryStorage::new();
    storage.fail_once(2, EIO);
    assert!(write_durably(&storage, "file", b"bytes").is_err());
    assert_eq!(storage.list("").unwrap(), [""; 0]);
    storage.fail_once(2, EIO);
    assert!(write_new(&storage, "file", b"bytes").is_err());
    assert_eq!(storage.list("").unwrap(), [""; 0]);
}

#[test]
fn f50_a_full_disk_says_so_and_takes_bytes_again_once_there_is_room() {
    let storage = MemoryStorage::new();
    storage.set_capacity(Some(4));
    let error = write_durably(&storage, "file", b"12345").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(ENOSPC));
    assert_eq!(storage.list("").unwrap(), [""; 0]);
    storage.set_capacity(Some(5));
    write_durably(&storage, "file", b"12345").unwrap();
}

/// In memory: the door to a real server is tried end to end, in `tests/tests/bucket.rs`.
#[test]
fn objects_are_files_and_a_name_is_published_once() {
    let store = std::sync::Arc::new(object_store::memory::InMemory::new());
    let storage = ObjectStorage::new(store.clone(), "/pre/fix/", "memory").unwrap();
    assert_eq!(storage.list("").unwrap(), [""; 0]);
    write_new(&storage, "b", b"one").unwrap();
    write_new(&storage, "dir/c", b"two").unwrap();
    assert_eq!(storage.list("").unwrap(), ["b"]);
    assert_eq!(storage.list("dir").unwrap(), ["c"]);
    assert_eq!(storage.below("dir").unwrap().read("c").unwrap(), b"two");
    assert_eq!(storage.create("b").err().unwrap().kind(), ErrorKind::AlreadyExists);
    assert_eq!(storage.read("none").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.remove("none").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.rename("none", "a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.read("../a").unwrap_err().kind(), ErrorKind::InvalidInput);
    check_publish(&storage);
    storage.rename("dir/c", "a").unwrap();
    storage.remove("b").unwrap();
    assert_eq!(storage.list("").unwrap(), ["a", "published"]);
    let whole = ObjectStorage::new(store, "", "memory").unwrap();
    assert_eq!(whole.read("pre/fix/a").unwrap(), b"two");
}

fn check_publish(storage: &dyn Storage) {
    storage.publish("published", b"first").unwrap();
    storage.publish("published", b"first").unwrap();
    assert_eq!(
        storage.publish("published", b"other").unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(storage.read("published").unwrap(), b"first");
}

#[test]
fn f47_f48_a_name_is_published_once_whole_and_for_good_whatever_was_killed() {
    for left in [Crash::Synced, Crash::Names, Crash::Everything] {
        for operations in 0..12 {
            let storage = MemoryStorage::new();
            storage.fail_from(operations, EIO);
            let done = storage.publish("file", b"bytes").is_ok();
            storage.crash(left);
            let found = storage.read("file").ok();
            assert!(found.is_none() || found.as_deref() == Some(b"bytes"), "{left:?} {operations}");
            assert!(!done || found.is_some(), "{left:?} {operations}: reported durable, but lost");
            // Another process asks for the name.
            let other = storage.publish("file", b"other");
            assert_eq!(other.is_err(), found.is_some(), "{left:?} {operations}");
            storage.crash(Crash::Synced);
            let expected = if found.is_some() { b"bytes" } else { b"other" };
            if found.is_none() || other.is_ok() {
                assert_eq!(storage.read("file").unwrap(), expected);
            }
        }
    }
}
