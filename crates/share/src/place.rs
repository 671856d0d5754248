//! Where a shared store is, and its mark: an object with the version and a check of the
//! secret.

use std::fs;
use std::future::Future;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreExt, PutMode, RetryConfig};

use crate::error::Error;

/// Name of the mark.
const MARK: &str = "delayline-kv-shared";

/// The first line of the mark; the check of the secret follows.
const VERSION: &str = "version 1\n";

/// The folder of all blocks.
const BLOCKS: &str = "blocks";

/// Time for which a request to a bucket is retried.
const RETRY: Duration = Duration::from_secs(10);

/// Timeout of a request.
const LIMIT: Duration = Duration::from_secs(30);

/// Timeout of connecting.
const CONNECT: Duration = Duration::from_secs(5);

/// A store, and the size that it is kept to.
#[derive(Clone, Debug)]
pub struct SharedPlace {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Prefix of all names.
    pub(crate) prefix: Path,
    /// Maximum sum of the blocks' bytes.
    pub(crate) size: u64,
    /// Timeout of a request.
    pub(crate) limit: Duration,
}

impl SharedPlace {
    /// A folder, which is created, or `s3://BUCKET/PREFIX` with credentials, region and
    /// endpoint from the environment (`AWS_ACCESS_KEY_ID` and so on). Its blocks are kept to
    /// about `size` bytes.
    ///
    /// # Errors
    /// If `place` is neither, or the folder cannot be created.
    pub fn open(place: &str, size: u64) -> Result<Self, Error> {
        if let Some(rest) = place.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(Error::Place(place.to_owned()));
            }
            // Fails if one is installed already, which is fine.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let mut store = AmazonS3Builder::from_env();
            for (key, time) in [
                (ClientConfigKey::ConnectTimeout, CONNECT),
                (ClientConfigKey::Timeout, LIMIT),
            ] {
                let time = format!("{} s", time.as_secs());
                store = store.with_config(AmazonS3ConfigKey::Client(key), time);
            }
            let store = store
                .with_bucket_name(bucket)
                .with_retry(RetryConfig {
                    max_retries: 3,
                    retry_timeout: RETRY,
                    ..RetryConfig::default()
                })
                .build()?;
            return Ok(Self::new(Arc::new(store), prefix, size));
        }
        if place.is_empty() || place.contains("://") {
            return Err(Error::Place(place.to_owned()));
        }
        let failed = |source| Error::Folder {
            path: place.to_owned(),
            source,
        };
        fs::create_dir_all(place).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(FilePath::new(place))?;
        Ok(Self::new(Arc::new(store), "", size))
    }

    /// A store of any kind, under a prefix.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, size: u64) -> Self {
        Self {
            store,
            prefix: Path::from(prefix),
            size,
            limit: LIMIT,
        }
    }

    /// The path of the block of this name; `None` if it is not the name of a block.
    pub(crate) fn path_of(&self, name: &str) -> Option<Path> {
        let (owner, key) = name.split_once('-')?;
        let hex = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let sound = owner.len() == 16 && key.len() == 64 && hex(owner) && hex(key);
        // Many folders, because one with very many files is slow.
        sound.then(|| self.blocks().join(&key[..2]).join(name))
    }

    /// The folder of all blocks.
    pub(crate) fn blocks(&self) -> Path {
        self.prefix.clone().join(BLOCKS)
    }

    /// The result of a request, or [`Error::Silent`] after the timeout.
    pub(crate) async fn within<T>(
        &self,
        what: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.limit, what).await {
            Ok(said) => Ok(said?),
            Err(_) => Err(Error::Silent(self.limit.as_secs())),
        }
    }

    /// Checks that the place is a store with this check of the secret, or makes an empty
    /// place one.
    pub(crate) async fn enter(&self, check: &str) -> Result<(), Error> {
        let (path, mark) = (
            self.prefix.clone().join(MARK),
            format!("{VERSION}{check}\n"),
        );
        if let Some(found) = self.mark(&path).await? {
            return compare(&found, &mark);
        }
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let other = self.within(async { self.store.list(prefix).next().await.transpose() });
        if let Some(other) = other.await? {
            return Err(Error::NotOurs(other.location.to_string()));
        }
        let put = self
            .store
            .put_opts(&path, mark.clone().into(), PutMode::Create.into());
        match self.within(put).await {
            Ok(_) => Ok(()),
            // Another server has made it at the same time.
            Err(Error::Store(object_store::Error::AlreadyExists { .. })) => {
                compare(&self.mark(&path).await?.unwrap_or_default(), &mark)
            }
            Err(error) => Err(error),
        }
    }

    async fn mark(&self, path: &Path) -> Result<Option<String>, Error> {
        let get = async { self.store.get(path).await?.bytes().await };
        match self.within(get).await {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(Error::Store(object_store::Error::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn compare(found: &str, mark: &str) -> Result<(), Error> {
    match (found == mark, found.starts_with(VERSION)) {
        (true, _) => Ok(()),
        (_, true) => Err(Error::Secret),
        _ => Err(Error::Later),
    }
}
