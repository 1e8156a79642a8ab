//! Paths of the job: relative to the job file, and not to be led out of what is written there.
//!
//! The roots of a job are its file's directory and the paths written in it. What a path gets later,
//! from a variable in its middle or from a wildcard, may not climb out of them with `..`.

use std::path::{Component, Path, PathBuf};

use super::reader::{Reader, Section};
use super::tree::Text;
use super::unit::Fault;

/// The value of `key` as an absolute path.
pub fn path(r: &mut Reader, section: &Section, key: &str, fix: &str) -> Option<PathBuf> {
    let text = r.required(section, key, fix)?;
    match check(text) {
        Ok(()) => Some(r.dir.join(&text.value)),
        Err(fault) => {
            r.inside(text, fault);
            None
        }
    }
}

fn check(text: &Text) -> Result<(), Fault> {
    let path = text.value.as_str();
    if let Some((scheme, rest)) = path.split_once("://") {
        return Err(match scheme {
            "file" => Fault::all(path, "a path is no URL", format!("write {rest:?}")),
            "s3" | "gs" | "az" | "hdfs" => Fault::all(
                path,
                format!("{scheme}:// is not in this version"),
                "copy the files to a local directory",
            ),
            _ => Fault::all(path, "a path is no URL", "name a local file or directory"),
        });
    }
    if let Some(nul) = path.find('\0') {
        return Err(Fault::new(nul..nul + 1, "a path holds no NUL character", "remove it"));
    }
    if path == "~" || path.starts_with("~/") {
        let fix = format!("write \"${{HOME}}{}\"", &path[1..]);
        return Err(Fault::new(0..1, "`~` is resolved by shells only", fix));
    }
    climbs(text)
}

/// F55: a path that leaves its root.
fn climbs(text: &Text) -> Result<(), Fault> {
    let path = text.value.as_str();
    let up = |part: &str| Path::new(part).components().any(|c| c == Component::ParentDir);
    let inner = text.from_env.iter().find(|part| part.start > 0 && up(&path[(*part).clone()]));
    if let Some(part) = inner {
        return Err(Fault::new(
            part.clone(),
            format!("the variable leads out of {:?}", &path[..part.start]),
            "let the variable hold no `..`, or let it hold the whole path",
        ));
    }
    if let Some(wildcard) = path.find(['*', '?', '[']) {
        let tail = path[wildcard..].find('/').map_or("", |slash| &path[wildcard + slash..]);
        if up(tail) {
            return Err(Fault::new(
                wildcard..path.len(),
                "`..` after a wildcard leads out of the directory before it",
                "write the directory itself before the wildcard",
            ));
        }
    }
    Ok(())
}

/// The directory that a source reads from: of a pattern the part before the first wildcard.
pub fn listed(path: &Path) -> PathBuf {
    let wild = |c: &Component| c.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    normal(&path.components().take_while(|c| !wild(c)).collect::<PathBuf>())
}

/// Without `.` and `..`, by the text alone.
pub fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => _ = out.pop(),
            other => out.push(other),
        }
    }
    out
}
