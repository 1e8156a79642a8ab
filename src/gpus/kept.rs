//! What was found out about a device, kept for the next time in the user's cache directory.
//!
//! Invariant: a file is believed whole or not at all: its first line names the format and the hash of
//! the second, which names the device, its driver, the tier and this program's version. What is
//! damaged, older or of another driver is as if it were not there, and is written anew.

use std::fs;
use std::path::{Path, PathBuf};

use pelton_kernels::gpu::rates::{Cost, Rates};
use pelton_kernels::gpu::{Adapter, Tier};
use serde_json::{Value, json};
use twox_hash::XxHash3_64;

/// Another number where rates mean something else, or other operations are asked for.
const FORMAT: &str = "pelton-gpu 4";

/// What is kept of a device in one tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Operations at which it is not to be trusted.
    pub differing: Vec<String>,
    pub rates: Option<Rates>,
}

pub fn read(adapter: &Adapter, tier: Option<Tier>) -> Option<Kept> {
    read_in(&directory()?, adapter, tier)
}

/// Keeps it where there is a place; without one it is found out again.
pub fn write(adapter: &Adapter, tier: Option<Tier>, kept: &Kept) {
    let Some(directory) = directory() else { return };
    if let Err(error) = write_in(&directory, adapter, tier, kept) {
        eprintln!("pelton: the GPU's rates are not kept in {}: {error}", directory.display());
    }
}

/// Where what the device's driver has compiled is kept, by `ingest`.
pub fn pipelines(adapter: &Adapter, tier: Option<Tier>) -> Option<PathBuf> {
    Some(named(&directory()?, "pipelines", adapter, tier))
}

/// `XDG_CACHE_HOME`, else `.cache` at home.
fn directory() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("pelton"))
}

/// Text that is equal for what may share rates.
fn identity(adapter: &Adapter, tier: Option<Tier>) -> Value {
    let tier = tier.or(adapter.tier.as_ref().ok().copied());
    json!([adapter.name, adapter.driver, tier.map(Tier::name), env!("CARGO_PKG_VERSION")])
}

fn path(directory: &Path, adapter: &Adapter, tier: Option<Tier>) -> PathBuf {
    named(directory, "gpu", adapter, tier)
}

fn named(directory: &Path, what: &str, adapter: &Adapter, tier: Option<Tier>) -> PathBuf {
    let hash = XxHash3_64::oneshot(identity(adapter, tier).to_string().as_bytes());
    directory.join(format!("{what}-{hash:016x}"))
}

fn read_in(directory: &Path, adapter: &Adapter, tier: Option<Tier>) -> Option<Kept> {
    let text = fs::read_to_string(path(directory, adapter, tier)).ok()?;
    let (head, body) = text.split_once('\n')?;
    let body = body.strip_suffix('\n')?;
    if head != head_of(body) {
        return None;
    }
    let body: Value = serde_json::from_str(body).ok()?;
    if body["device"] != identity(adapter, tier) {
        return None;
    }
    let differing = body["differing"].as_array()?.iter();
    let differing =
        differing.map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    let rates = match &body["rates"] {
        Value::Null => None,
        rates => Some(rates_of(rates)?),
    };
    Some(Kept { differing, rates })
}

fn write_in(
    directory: &Path,
    adapter: &Adapter,
    tier: Option<Tier>,
    kept: &Kept,
) -> std::io::Result<()> {
    let body = json!({
        "device": identity(adapter, tier),
        "differing": kept.differing,
        "rates": kept.rates.as_ref().map_or(Value::Null, rates_json),
    })
    .to_string();
    fs::create_dir_all(directory)?;
    let path = path(directory, adapter, tier);
    // Two programs may write at once: each its own file, and either's is whole.
    let unfinished = path.with_extension(std::process::id().to_string());
    fs::write(&unfinished, format!("{}\n{body}\n", head_of(&body)))?;
    fs::rename(unfinished, path)
}

fn head_of(body: &str) -> String {
    format!("{FORMAT} {:016x}", XxHash3_64::oneshot(body.as_bytes()))
}

pub fn rates_json(rates: &Rates) -> Value {
    let cost = |cost: &Cost| json!([cost.row_ns, cost.column_ns]);
    let costs = |costs: &[Cost; 3]| costs.iter().map(cost).collect::<Value>();
    json!({
        "upload_bytes_per_s": rates.upload,
        "read_back_bytes_per_s": rates.read_back,
        "dispatch_ns": rates.dispatch_ns,
        "project_ns": cost(&rates.project),
        "fold_ns": costs(&rates.fold),
        "drain_group_ns": rates.drain_ns,
        "cpu_ns": costs(&rates.cpu),
        "filter_ns": cost(&rates.filter),
        "filter_cpu_ns": cost(&rates.filter_cpu),
    })
}

fn rates_of(json: &Value) -> Option<Rates> {
    fn number(value: &Value) -> Option<f64> {
        value.as_f64().filter(|number| number.is_finite() && *number >= 0.0)
    }
    fn three<T>(value: &Value, of: impl Fn(&Value) -> Option<T>) -> Option<[T; 3]> {
        let values: Vec<T> = value.as_array()?.iter().map(of).collect::<Option<_>>()?;
        values.try_into().ok()
    }
    let cost =
        |value: &Value| Some(Cost { row_ns: number(&value[0])?, column_ns: number(&value[1])? });
    Some(Rates {
        upload: three(&json["upload_bytes_per_s"], number)?,
        read_back: number(&json["read_back_bytes_per_s"])?,
        dispatch_ns: number(&json["dispatch_ns"])?,
        project: cost(&json["project_ns"])?,
        fold: three(&json["fold_ns"], cost)?,
        drain_ns: number(&json["drain_group_ns"])?,
        cpu: three(&json["cpu_ns"], cost)?,
        filter: cost(&json["filter_ns"])?,
        filter_cpu: cost(&json["filter_cpu_ns"])?,
    })
}

#[cfg(test)]
mod tests {
    use pelton_kernels::gpu::Kind;

    use super::*;

    fn adapter(driver: &str) -> Adapter {
        Adapter {
            index: 0,
            name: "a GPU".into(),
            driver: driver.into(),
            kind: Kind::Discrete,
            tier: Ok(Tier::Native),
            buffer_bytes_max: 1 << 30,
            binding_bytes_max: 1 << 30,
            workgroup_bytes_max: 1 << 15,
        }
    }

    fn kept() -> Kept {
        let cost = |row_ns| Cost { row_ns, column_ns: row_ns / 4.0 };
        let rates = Rates {
            upload: [1.25e10, 2e9, 3e9],
            read_back: 7.7e9,
            dispatch_ns: 20_123.4,
            project: cost(1.1),
            fold: [cost(0.1), cost(0.7), cost(2.3)],
            drain_ns: 31.4,
            cpu: [cost(20.0), cost(30.0), cost(123.456_789)],
            filter: cost(4.5),
            filter_cpu: cost(6.75),
        };
        Kept { differing: vec![], rates: Some(rates) }
    }

    /// A directory of this test's own.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let name = format!("pelton-{name}-{}", std::process::id());
            Scratch(std::env::temp_dir().join(name))
        }

        fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it was made and is no one else's");
        }
    }

    #[test]
    fn what_is_kept_comes_back_and_only_for_its_device() {
        let dir = Scratch::new("kept");
        let (one, other) = (adapter("1.0"), adapter("1.1"));
        assert_eq!(read_in(dir.path(), &one, None), None);
        write_in(dir.path(), &one, None, &kept()).expect("it is written");
        assert_eq!(read_in(dir.path(), &one, None), Some(kept()));
        assert_eq!(read_in(dir.path(), &one, Some(Tier::Native)), Some(kept()), "its own tier");
        assert_eq!(read_in(dir.path(), &one, Some(Tier::Portable)), None);
        assert_eq!(read_in(dir.path(), &other, None), None, "of another driver");
        let differs = Kept { differing: vec!["Add of Int64".into()], rates: None };
        write_in(dir.path(), &one, None, &differs).expect("it is written over");
        assert_eq!(read_in(dir.path(), &one, None), Some(differs));
    }

    /// Every byte, changed or cut off.
    #[test]
    fn a_damaged_file_is_as_if_it_were_not_there() {
        let dir = Scratch::new("damaged");
        let adapter = adapter("1.0");
        write_in(dir.path(), &adapter, None, &kept()).expect("it is written");
        let path = path(dir.path(), &adapter, None);
        let whole = fs::read(&path).expect("it is there");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).expect("it is written");
            assert_eq!(read_in(dir.path(), &adapter, None), None, "byte {at}");
            fs::write(&path, &whole[..at]).expect("it is written");
            assert_eq!(read_in(dir.path(), &adapter, None), None, "cut at {at}");
        }
        let newer = format!("{FORMAT}0");
        let whole = String::from_utf8(whole).expect("text");
        fs::write(&path, whole.replacen(FORMAT, &newer, 1)).expect("it is written");
        assert_eq!(read_in(dir.path(), &adapter, None), None, "of another format");
    }
}
