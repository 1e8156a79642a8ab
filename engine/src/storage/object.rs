//! Storage in an S3-compatible bucket: checkpoints that outlive the machine.
//!
//! A put is whole or not there, and durable when it is answered, so a file needs no staging name and
//! a directory no sync. [`Storage::publish`] is a put with `If-None-Match: *`, which of two writers
//! lets one through. There is no append and no lock: a source that needs a write-ahead log keeps its
//! checkpoints on a disk, and two runs are kept apart by their fences.
//!
//! Endpoint, region and credentials come from the environment as `object_store` reads it
//! (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`,
//! instance metadata …); none of them is printed. The requests run on the calling thread.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::runtime::{Builder, Runtime};

use super::{StagedFile, Storage, check_dir, check_name};

/// The objects below a prefix of a bucket.
pub struct ObjectStorage {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    location: String,
    runtime: Runtime,
}

impl ObjectStorage {
    /// `url`: `s3://bucket/prefix`.
    ///
    /// Errors: a URL without a bucket, an environment that makes no sense; the bucket is not asked.
    pub fn open(url: &str) -> io::Result<ObjectStorage> {
        let invalid = |what| io::Error::new(ErrorKind::InvalidInput, what);
        let rest =
            url.strip_prefix("s3://").ok_or_else(|| invalid("expected s3://bucket/prefix"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(invalid("expected s3://bucket/prefix"));
        }
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .build()
            .map_err(to_io)?;
        Self::new(Arc::new(store), prefix, url)
    }

    /// Any store that knows conditional puts.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        location: &str,
    ) -> io::Result<ObjectStorage> {
        let prefix = prefix.trim_matches('/').to_owned();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let location = location.to_owned();
        Ok(ObjectStorage { inner: Arc::new(Inner { store, prefix, location, runtime }) })
    }

    /// The files of a directory below this one.
    pub fn below(&self, dir: &str) -> io::Result<ObjectStorage> {
        let Inner { store, prefix, location, .. } = &*self.inner;
        Self::new(Arc::clone(store), &format!("{prefix}/{dir}"), &format!("{location}/{dir}"))
    }
}

impl Inner {
    fn path(&self, name: &str) -> io::Result<Path> {
        check_name(name)?;
        Path::parse(self.full(name)).map_err(|e| io::Error::new(ErrorKind::InvalidInput, e))
    }

    fn full(&self, name: &str) -> String {
        match (self.prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        }
    }

    fn put_new(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let path = self.path(name)?;
        let put = self.store.put_opts(&path, PutPayload::from(bytes), PutMode::Create.into());
        self.runtime.block_on(put).map(drop).map_err(to_io)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.path(name)?;
        let read = async { self.store.get(&path).await?.bytes().await };
        self.runtime.block_on(read).map(Vec::from).map_err(to_io)
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        let path = self.path(name)?;
        match self.runtime.block_on(self.store.head(&path)) {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(to_io(error)),
        }
    }
}

impl Storage for ObjectStorage {
    fn create(&self, name: &str) -> io::Result<Box<dyn StagedFile>> {
        if self.inner.exists(name)? {
            return Err(io::Error::from(ErrorKind::AlreadyExists));
        }
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        Ok(Box::new(Object { inner, name, bytes: Vec::new() }))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.inner.read(name)
    }

    fn publish(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match self.inner.put_new(name, bytes.to_vec()) {
            // A put that was answered too late was sent again.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if self.inner.read(name)? == bytes { Ok(()) } else { Err(error) }
            }
            other => other,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.inner.path(from)?, self.inner.path(to)?);
        self.inner.runtime.block_on(self.inner.store.rename(&from, &to)).map_err(to_io)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        // S3 calls the removal of nothing a success.
        if !self.inner.exists(name)? {
            return Err(io::Error::from(ErrorKind::NotFound));
        }
        let path = self.inner.path(name)?;
        self.inner.runtime.block_on(self.inner.store.delete(&path)).map_err(to_io)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        check_dir(dir)?;
        let full = self.inner.full(dir);
        let path = Path::parse(&full).map_err(|e| io::Error::new(ErrorKind::InvalidInput, e))?;
        let prefix = (!full.is_empty()).then_some(&path);
        let found = self.inner.runtime.block_on(self.inner.store.list_with_delimiter(prefix));
        let objects = found.map_err(to_io)?.objects;
        let mut names: Vec<String> =
            objects.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        check_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        check_dir(dir)
    }

    fn location(&self) -> String {
        self.inner.location.clone()
    }
}

/// An object that is put when it is whole.
struct Object {
    inner: Arc<Inner>,
    name: String,
    bytes: Vec<u8>,
}

impl Write for Object {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StagedFile for Object {
    fn sync(self: Box<Self>) -> io::Result<()> {
        self.inner.put_new(&self.name, self.bytes)
    }
}

fn to_io(error: object_store::Error) -> io::Error {
    use object_store::Error as E;
    let kind = match &error {
        E::NotFound { .. } => ErrorKind::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } => ErrorKind::AlreadyExists,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => ErrorKind::PermissionDenied,
        E::NotSupported { .. } | E::NotImplemented { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
