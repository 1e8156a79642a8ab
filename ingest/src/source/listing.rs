//! Which files a path names: one file, those of a directory, those that match a pattern.
//!
//! Invariant: the order is that of modification time, then name (as bytes). Names that begin with
//! `.` or `_` are left out unless the pattern spells it: they are markers and files being written
//! (as in Spark). Directories are not descended into; a pattern says so where that is meant (`**`).

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use pelton_engine::error::{Error, Result};

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;

/// What `path` of a file source stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    Directory(PathBuf),
    /// Patterns without braces, one for each alternative.
    Glob(Vec<PathBuf>),
}

/// A file as a listing finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    pub size: u64,
    pub inode: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
}

impl Found {
    pub fn of(path: PathBuf, facts: &Metadata) -> Found {
        let modified = (facts.mtime(), facts.mtime_nsec());
        Found { path, size: facts.size(), inode: facts.ino(), modified }
    }
}

impl Place {
    /// Looks at what is there.
    ///
    /// Errors: `Unavailable` where nothing is, or nothing that can be read like a file.
    pub fn of(path: &Path) -> Result<Place> {
        match fs::metadata(path) {
            Ok(facts) if facts.is_dir() => Ok(Place::Directory(path.to_owned())),
            Ok(facts) if facts.is_file() => Ok(Place::File(path.to_owned())),
            Ok(_) => Err(Error::Unavailable {
                what: format!(
                    "cannot read {}: it is neither a file nor a directory",
                    path.display()
                ),
                fix: "for a pipe, use type = \"stdin\" and redirect it".into(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_pattern(path) => {
                Ok(Place::Glob(expand_braces(&path.to_string_lossy())))
            }
            Err(error) => Err(unavailable(path, &error)),
        }
    }

    /// The files that are there now, in order.
    ///
    /// Errors: `Unavailable` where a directory cannot be listed.
    pub fn list(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        match self {
            Place::File(path) => {
                let facts = fs::metadata(path).map_err(|error| unavailable(path, &error))?;
                found.push(Found::of(path.clone(), &facts));
            }
            Place::Directory(path) => {
                for path in entries(path, |name| !is_hidden(name))? {
                    add_file(path, &mut found)?;
                }
            }
            Place::Glob(patterns) => {
                for pattern in patterns {
                    walk(pattern, &mut found)?;
                }
            }
        }
        found.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        found.dedup_by(|a, b| a.path == b.path);
        Ok(found)
    }
}

/// The error for a path that cannot be read at the start.
pub fn unavailable(path: &Path, error: &io::Error) -> Error {
    let fix = match error.kind() {
        io::ErrorKind::NotFound => {
            "correct `path` (a relative one is relative to the job file) or create it".into()
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "let the user that runs pelton read it, such as by `chmod o+r {}`",
                path.display()
            )
        }
        _ => "make it readable".into(),
    };
    Error::Unavailable { what: format!("cannot read {}: {error}", path.display()), fix }
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '[', '{'])
}

/// Adds the path if it is a file; what has vanished since it was listed is passed over.
fn add_file(path: PathBuf, found: &mut Vec<Found>) -> Result<()> {
    match fs::metadata(&path) {
        Ok(facts) if facts.is_file() => found.push(Found::of(path, &facts)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unavailable(&path, &error)),
    }
    Ok(())
}

/// Paths in a directory whose names are wanted.
fn entries(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let failed = |error: io::Error| unavailable(directory, &error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if wanted(&entry.file_name().to_string_lossy()) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// Adds the files that match a pattern, component by component.
fn walk(pattern: &Path, found: &mut Vec<Found>) -> Result<()> {
    let mut at = vec![PathBuf::new()];
    for component in pattern.components() {
        let text = component.as_os_str().to_string_lossy();
        let Component::Normal(_) = component else {
            at.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        if text == "**" {
            at = at.into_iter().map(descend).collect::<Result<Vec<_>>>()?.concat();
        } else if is_pattern(Path::new(&*text)) {
            let mut next = Vec::new();
            for directory in at.iter().filter(|path| path.is_dir()) {
                next.extend(entries(directory, |name| is_match(&text, name))?);
            }
            at = next;
        } else {
            at.iter_mut().for_each(|path| path.push(component));
            let [only] = &at[..] else { continue };
            // Before the first wildcard a missing directory is a mistake, behind it no match.
            if !only.exists() && only.components().count() < pattern.components().count() {
                fs::metadata(only).map_err(|error| unavailable(only, &error))?;
            }
        }
    }
    at.into_iter().try_for_each(|path| add_file(path, found))
}

/// A directory and all below it.
fn descend(directory: PathBuf) -> Result<Vec<PathBuf>> {
    let mut all = vec![directory];
    let mut next = 0;
    while let Some(directory) = all.get(next) {
        let below = entries(directory, |name| !is_hidden(name))?;
        all.extend(below.into_iter().filter(|path| path.is_dir() && !path.is_symlink()));
        next += 1;
    }
    Ok(all)
}

/// `a{b,c}d` as `abd` and `acd`; braces nest.
fn expand_braces(pattern: &str) -> Vec<PathBuf> {
    let mut depth = 0;
    let (mut open, mut commas) = (None, Vec::new());
    for (at, c) in pattern.char_indices() {
        match c {
            '{' => {
                open = open.or(Some(at));
                depth += 1;
            }
            ',' if depth == 1 => commas.push(at),
            '}' if depth == 1 => {
                let open = open.expect("the depth counts from it");
                let mut cuts = vec![open];
                cuts.append(&mut commas);
                cuts.push(at);
                let inner = |cut: &[usize]| &pattern[cut[0] + 1..cut[1]];
                return cuts
                    .windows(2)
                    .flat_map(|cut| {
                        let text = [&pattern[..open], inner(cut), &pattern[at + 1..]].concat();
                        expand_braces(&text)
                    })
                    .collect();
            }
            '}' if depth > 1 => depth -= 1,
            _ => {}
        }
    }
    vec![PathBuf::from(pattern)]
}

/// Whether a name matches a pattern of `*`, `?`, `[a-z]` and `[!a-z]`.
fn is_match(pattern: &str, name: &str) -> bool {
    if is_hidden(name) && !pattern.starts_with(['.', '_']) {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when a character does not match: behind the last `*`, one character later.
    let mut star = None;
    while n < name.len() {
        match one(&pattern[p..], name[n]) {
            Some(used) => (p, n) = (p + used, n + 1),
            None if pattern.get(p) == Some(&'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            None => match &mut star {
                Some((behind, from)) => {
                    *from += 1;
                    (p, n) = (*behind, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// Length of the pattern's first item if it matches the character; `*` does not.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '*' => None,
        '?' => Some(1),
        '[' => {
            let not = matches!(pattern.get(1), Some('!' | '^'));
            let first = 1 + usize::from(not);
            // A bracket right behind the opening one is a member; without an end `[` is itself.
            let end = pattern.iter().skip(first + 1).position(|&c| c == ']').map(|i| i + first + 1);
            let Some(end) = end else { return (c == '[').then_some(1) };
            let (mut at, mut inside) = (first, false);
            while at < end {
                if at + 2 < end && pattern[at + 1] == '-' {
                    inside |= (pattern[at]..=pattern[at + 2]).contains(&c);
                    at += 3;
                } else {
                    inside |= pattern[at] == c;
                    at += 1;
                }
            }
            (inside != not).then_some(end + 1)
        }
        &other => (other == c).then_some(1),
    }
}
