//! The commands that look at checkpoints and at the state in them; what `check` says of a change.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use pelton_engine::checkpoint::manifest::{Kept, StateKind};
use pelton_engine::checkpoint::recovery::Lying;
use pelton_engine::checkpoint::{change, inspect, query as state_query};
use pelton_engine::error::{Error, Result};
use pelton_engine::format::instant_millis;
use pelton_engine::format::show::Table;
use pelton_engine::job::spec::{JobSpec, Place};
use pelton_engine::plan::{self, Query};
use pelton_engine::storage::{LocalStorage, ObjectStorage, Storage};
use pelton_engine::wal::{self, Checked};
use pelton_ingest::runtime::{LOG_DIRECTORY, SourceState};

use crate::cli::{Checkpoint, StateQuery};
use crate::lock::StateLock;

/// The checkpoints of a job; a directory is made where it is missing.
///
/// Errors: `StateIo`.
pub fn open(place: &Place) -> Result<Arc<dyn Storage>> {
    let (name, opened): (_, std::io::Result<Arc<dyn Storage>>) = match place {
        Place::Directory(path) => {
            let opened = LocalStorage::open(path).map(|storage| Arc::new(storage) as _);
            (path.display().to_string(), opened)
        }
        Place::Bucket(url) => {
            (url.clone(), ObjectStorage::open(url).map(|storage| Arc::new(storage) as _))
        }
    };
    opened.map_err(|source| Error::StateIo {
        what: format!("cannot open the checkpoints in {name}"),
        source,
    })
}

/// A bucket, or a directory that must be there.
///
/// Errors: `Unavailable`, `StateIo`.
pub fn existing(path: &str) -> Result<Arc<dyn Storage>> {
    let place = match path.starts_with("s3://") {
        true => Place::Bucket(path.to_owned()),
        false => Place::Directory(path.into()),
    };
    if place.directory().is_none_or(Path::is_dir) {
        return open(&place);
    }
    Err(Error::Unavailable {
        what: format!("there is no directory {path}"),
        fix: "name the [checkpoint] path of a job that ran".into(),
    })
}

pub fn checkpoint(command: &Checkpoint) -> Result<()> {
    match command {
        Checkpoint::List(args) => list(&*existing(&args.path)?),
        Checkpoint::Show(args) => {
            let kept = inspect::find(&*existing(&args.path)?, args.epoch)?;
            let text = serde_json::to_string_pretty(&kept.manifest);
            println!("{}", text.expect("a manifest is plain data"));
            Ok(())
        }
        Checkpoint::Verify(args) => verify(&*existing(&args.path)?, Path::new(&args.path)),
        Checkpoint::Drop(args) => {
            let storage = existing(&args.path)?;
            let path = Path::new(&args.path);
            let _lock = path.is_dir().then(|| StateLock::take(path)).transpose()?;
            for name in inspect::drop_epoch(&*storage, args.epoch)? {
                println!("removed {name}");
            }
            Ok(())
        }
    }
}

fn list(storage: &dyn Storage) -> Result<()> {
    println!("   epoch  watermark                    bases  deltas         bytes");
    for Lying { name, epoch, found } in inspect::manifests(storage)? {
        let Ok(Kept { manifest, .. }) = found else {
            println!("{epoch:>8}  {name} is damaged");
            continue;
        };
        let of = |kind| manifest.files.iter().filter(|file| file.kind == kind).count();
        let bytes: u64 = manifest.files.iter().map(|file| file.length).sum();
        let watermark = match manifest.watermark_us {
            None => "none".to_owned(),
            Some(i64::MAX) => "the end".to_owned(),
            Some(us) => instant_millis(us),
        };
        let ended = if manifest.ended { "the input has ended" } else { "" };
        let (bases, deltas) = (of(StateKind::Base), of(StateKind::Delta));
        let line =
            format!("{epoch:>8}  {watermark:<27}  {bases:>5}  {deltas:>6}  {bytes:>12}  {ended}");
        println!("{}", line.trim_end());
    }
    Ok(())
}

/// Reads everything, a write-ahead log included; says what is wrong, a line each, and ends with 74
/// where something is.
fn verify(storage: &dyn Storage, directory: &Path) -> Result<()> {
    let (mut faults, mut whole, mut logged) = (String::new(), 0, Vec::new());
    for Lying { name, found, .. } in inspect::manifests(storage)? {
        match found {
            Ok(kept) => {
                let at = SourceState(kept.manifest.source.clone()).log_position();
                match at {
                    Ok(at) => logged.extend(at),
                    Err(error) => _ = writeln!(faults, "{name}: {error}"),
                }
                let wrong = inspect::faults(storage, &kept.manifest);
                whole += usize::from(wrong.is_empty());
                wrong.iter().for_each(|fault| _ = writeln!(faults, "{name}: {fault}"));
            }
            Err(why) => _ = writeln!(faults, "{name}: {why}"),
        }
    }
    println!("{whole} whole checkpoints in {}", storage.location());
    let log = directory.join(LOG_DIRECTORY);
    if !logged.is_empty() || log.is_dir() {
        // Records are kept for the two newest; who was killed before the first epoch has a log alone.
        let from = logged.iter().rev().take(2).next_back().copied().unwrap_or(0);
        match wal::check(Arc::new(LocalStorage::at(&log)), from) {
            Ok(Checked { segments, records, .. }) => println!(
                "{records} whole records to go on from in {segments} segments of {}",
                log.display()
            ),
            Err(error) => _ = writeln!(faults, "{error}"),
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, faults.trim_end().to_owned());
    Err(Error::StateIo { what: "not every byte is what was written".into(), source })
}

pub fn query(args: &StateQuery) -> Result<()> {
    let storage = existing(&args.path)?;
    let kept = inspect::find(&*storage, args.epoch)?;
    let Some(sql) = &args.sql else {
        println!("{}", state_query::describe(&kept.manifest)?);
        return Ok(());
    };
    let rows = state_query::query(&*storage, &kept.manifest, sql)?;
    let zone = plan::zone("UTC").map_err(Error::failed)?;
    let mut table = Table::new(rows.num_rows(), None, zone);
    let printed = table.push(&rows);
    printed.map_err(|error| Error::failed(format!("cannot print the rows: {error}")))?;
    let mut text = String::new();
    table.print(rows.schema_ref(), &mut text);
    print!("{text}");
    Ok(())
}

/// Tells what becomes of the state of a job that changed, before it runs.
///
/// Errors: `BadJob` where it would not go on.
pub fn check_change(job: &JobSpec, query: &Query, accepts: bool) -> Result<()> {
    let place = job.checkpoint.as_ref().map(|checkpoint| &checkpoint.place);
    let Some(place) = place.filter(|place| place.directory().is_none_or(Path::is_dir)) else {
        return Ok(());
    };
    let storage = open(place)?;
    let Some(kept) = inspect::manifests(&*storage)?.into_iter().rev().find_map(|l| l.found.ok())
    else {
        return Ok(());
    };
    let changes = change::compare(&kept.manifest, query);
    let refused = changes.iter().any(|change| change.fate == change::Fate::Refused);
    if changes.is_empty() {
        return Ok(());
    }
    if accepts && !refused {
        print!("the state of another query is gone on with:\n{}", change::Shown(&changes));
        return Ok(());
    }
    Err(Error::BadJob { rendered: change::refusal(&changes, &kept.manifest, &storage.location()) })
}
