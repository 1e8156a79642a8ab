//! What a GPU's driver has compiled, in a file that the next run begins with.
//!
//! Invariant: a file is believed whole or not at all: its first line names the format and the hash of
//! what follows. What is damaged, absent or cannot be written costs a compilation, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use pelton_engine::pipeline::device::Pipelines;
use twox_hash::XxHash3_64;

const FORMAT: &str = "pelton-pipelines 1";
/// Drivers never forget what they have compiled: so large a file is begun anew.
const BYTES_MAX: usize = 64 << 20;

/// What is in the file, and the file for what is new; neither where there is no place for it.
pub(super) fn kept_in(path: Option<&Path>) -> Pipelines {
    let Some(path) = path.map(Path::to_owned) else { return Pipelines::default() };
    let kept = read(&path).filter(|kept| kept.len() <= BYTES_MAX);
    let keep = move |compiled: &[u8]| {
        if let Err(error) = write(&path, compiled) {
            eprintln!("pelton: the GPU's kernels are not kept in {}: {error}", path.display());
        }
    };
    Pipelines { kept, keep: Some(Box::new(keep)) }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let whole = fs::read(path).ok()?;
    let end = whole.iter().position(|&byte| byte == b'\n')?;
    let (head, body) = (&whole[..end], &whole[end + 1..]);
    (head == head_of(body).as_bytes()).then(|| body.to_owned())
}

fn write(path: &Path, compiled: &[u8]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // Several programs, and threads of one, may write at once: each its own file, and each is whole.
    let thread = format!("{:?}", std::thread::current().id());
    let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
    let unfinished: PathBuf = path.with_extension(format!("{}-{digits}", std::process::id()));
    let head = head_of(compiled);
    fs::write(&unfinished, [head.as_bytes(), b"\n", compiled].concat())?;
    fs::rename(unfinished, path)
}

fn head_of(body: &[u8]) -> String {
    format!("{FORMAT} {:016x}", XxHash3_64::oneshot(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte, changed or cut off.
    #[test]
    fn a_damaged_file_is_as_if_it_were_not_there() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let path = dir.path().join("deep/pipelines");
        let of = |path: &Path| kept_in(Some(path)).kept;
        assert_eq!(of(&path), None);
        let compiled: Vec<u8> = (0..200).collect();
        let Pipelines { keep, .. } = kept_in(Some(&path));
        keep.expect("there is a place")(&compiled);
        assert_eq!(of(&path), Some(compiled));
        let whole = fs::read(&path).expect("it is there");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).expect("it is written");
            assert_eq!(of(&path), None, "byte {at}");
            fs::write(&path, &whole[..at]).expect("it is written");
            assert_eq!(of(&path), None, "cut at {at}");
        }
        assert_eq!(fs::read_dir(dir.path().join("deep")).expect("it is there").count(), 1);
    }

    #[test]
    fn without_a_place_nothing_is_kept() {
        let Pipelines { kept, keep } = kept_in(None);
        assert!(kept.is_none() && keep.is_none());
    }
}
