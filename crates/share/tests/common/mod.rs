//! Machines with a local folder and a shared store, and a store that fails or hangs.

use std::fmt;
use std::future::Future;
use std::net::Shutdown;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use bytes::Bytes;
use delayline_kv::{Namespace, Root, ShareLink, ShareSecret, Store, StoreError};
use delayline_share::SharedPlace;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tempfile::TempDir;

pub const SECRET: &[u8] = b"all servers of this store know this";

pub fn root() -> Root {
    Root::new(&[b"a model"])
}

/// A text whose first token differs from that of every other.
pub fn text(number: i32, len: usize) -> Vec<i32> {
    (0..len as i32).map(|n| number * 10_000 + n).collect()
}

/// The contents of a block that ends with these tokens.
pub fn bytes_of(owner: &[u8], tokens: &[i32]) -> Vec<u8> {
    let bytes = tokens.iter().flat_map(|token| token.to_le_bytes());
    owner.iter().copied().chain(bytes).collect()
}

/// The server's end of a connection to a store, which another thread serves.
pub fn link(place: SharedPlace, secret: &[u8]) -> std::result::Result<ShareLink, StoreError> {
    Ok(connect(place, secret)?.0)
}

type Connected = (ShareLink, UnixStream, JoinHandle<()>);

fn connect(place: SharedPlace, secret: &[u8]) -> std::result::Result<Connected, StoreError> {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let input = theirs.try_clone().expect("another handle");
    let reaches = thread::spawn(move || {
        let output = theirs.try_clone().expect("another handle");
        delayline_share::serve(place, input, output).expect("threads");
        // As when a process ends.
        let _ = theirs.shutdown(Shutdown::Both);
    });
    let cut = ours.try_clone().expect("another handle");
    let input = Box::new(ours.try_clone().expect("another handle"));
    let output = Box::new(Talking(ours));
    let link = ShareLink::new(input, output, "the shared store", ShareSecret::new(secret)?)?;
    Ok((link, cut, reaches))
}

/// Ends the stream when it is dropped, as a pipe does.
struct Talking(UnixStream);

impl std::io::Write for Talking {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

/// A machine with its store.
pub struct Machine {
    pub folder: TempDir,
    pub store: Store,
    socket: Option<UnixStream>,
    reaches: Option<JoinHandle<()>>,
}

impl Machine {
    pub fn new(place: SharedPlace) -> Self {
        Self::of(place, root(), SECRET)
    }

    pub fn of(place: SharedPlace, root: Root, secret: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(folder.path(), 1 << 30, root).expect("an empty folder");
        let (link, socket, reaches) = connect(place, secret).expect("it opens");
        store.share(link);
        Self {
            folder,
            store,
            socket: Some(socket),
            reaches: Some(reaches),
        }
    }

    pub fn at(folder: TempDir, link: ShareLink) -> Self {
        let mut store = Store::open(folder.path(), 1 << 30, root()).expect("an empty folder");
        store.share(link);
        Self {
            folder,
            store,
            socket: None,
            reaches: None,
        }
    }

    pub fn put(&mut self, owner: &[u8], tokens: &[i32]) {
        let whose = Namespace::new(owner, b"");
        for block in self.store.chain(&whose, tokens) {
            let bytes = bytes_of(owner, &tokens[..block.range().end]);
            assert!(self.store.put(&block, &bytes).expect("can be written"));
        }
    }

    pub fn put_bytes(&mut self, owner: &[u8], tokens: &[i32], bytes: &[u8]) {
        let whose = Namespace::new(owner, b"");
        for block in self.store.chain(&whose, tokens) {
            self.store.put(&block, bytes).expect("can be written");
        }
    }

    /// Number of tokens in the local folder; checks their bytes.
    pub fn found(&mut self, owner: &[u8], tokens: &[i32]) -> usize {
        let mut end = 0;
        for block in self.store.find(&Namespace::new(owner, b""), tokens) {
            let Range { start, end: until } = block.range();
            assert_eq!(start, end);
            let bytes = self.store.get(&block).expect("just found");
            assert_eq!(bytes, bytes_of(owner, &tokens[..until]));
            end = until;
        }
        end
    }

    /// Like [`Machine::found`], after fetching from the shared store.
    pub fn fetched(&mut self, owner: &[u8], tokens: &[i32]) -> usize {
        self.wait_for(owner, tokens);
        self.found(owner, tokens)
    }

    /// Like [`Machine::fetched`], without checking the bytes.
    pub fn fetched_any(&mut self, owner: &[u8], tokens: &[i32]) -> usize {
        self.wait_for(owner, tokens);
        let found = self.store.find(&Namespace::new(owner, b""), tokens);
        found.last().map_or(0, |block| block.range().end)
    }

    fn wait_for(&mut self, owner: &[u8], tokens: &[i32]) {
        let whose = Namespace::new(owner, b"");
        while self.store.fetch(&whose, tokens, None) {
            thread::yield_now();
        }
    }

    pub fn bytes(&mut self, owner: &[u8], tokens: &[i32]) -> Vec<u8> {
        let block = &self.store.chain(&Namespace::new(owner, b""), tokens)[0];
        self.store.get(block).expect("it is here")
    }

    /// Waits until what it has sent is stored or refused.
    pub fn settle(&mut self) {
        while self.store.sends() {
            thread::yield_now();
        }
    }

    /// Ends as servers do, and waits for the thread that serves the store.
    pub fn leave(self) {
        let Self {
            store,
            socket,
            reaches,
            ..
        } = self;
        drop(store);
        drop(socket);
        if let Some(reaches) = reaches {
            reaches.join().expect("it ends well");
        }
    }

    /// Ends after its connection is cut.
    pub fn die(mut self) {
        self.cut();
        self.leave();
    }

    /// Ends without waiting for the thread that serves the store.
    pub fn abandon(mut self) {
        self.reaches = None;
        self.leave();
    }

    /// Cuts the connection, as when the program that reaches the store ends.
    pub fn cut(&mut self) {
        let socket = self.socket.take().expect("not cut yet");
        socket.shutdown(Shutdown::Both).expect("it was open");
    }
}

/// Runs a future to its end.
pub fn run<T>(what: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().expect("a runtime").block_on(what)
}

/// All blocks of a store.
pub fn objects(store: &dyn ObjectStore) -> Vec<(Path, Vec<u8>)> {
    run(async {
        let all: Vec<ObjectMeta> = store.list(None).try_collect().await.expect("a list");
        let mut objects = Vec::new();
        for one in all
            .into_iter()
            .filter(|one| one.location.as_ref().contains("blocks/"))
        {
            let got = store.get(&one.location).await.expect("it is there");
            objects.push((one.location, got.bytes().await.expect("all of it").to_vec()));
        }
        objects
    })
}

pub fn store_at(store: &dyn ObjectStore, path: &Path, bytes: Vec<u8>) {
    run(store.put(path, PutPayload::from(Bytes::from(bytes)))).expect("memory");
}

/// A store that hangs or fails when it is told to.
#[derive(Debug, Default)]
pub struct Adverse {
    inner: InMemory,
    pub hangs: AtomicBool,
    /// Only listing hangs.
    pub lists_hang: AtomicBool,
    pub fails: AtomicBool,
}

impl fmt::Display for Adverse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("adverse")
    }
}

impl Adverse {
    async fn meets(&self) -> Result<()> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match self.fails.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(object_store::Error::Generic {
                store: "adverse",
                source: "the drive is gone".into(),
            }),
        }
    }
}

#[async_trait]
impl ObjectStore for Adverse {
    async fn put_opts(&self, at: &Path, all: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.meets().await?;
        self.inner.put_opts(at, all, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        self.meets().await?;
        self.inner.get_opts(at, how).await
    }

    fn delete_stream(
        &self,
        which: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(which)
    }

    fn list(&self, under: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.lists_hang.load(Ordering::SeqCst) {
            true => futures_util::stream::pending().boxed(),
            false => self.inner.list(under).boxed(),
        }
    }

    async fn list_with_delimiter(&self, under: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(under).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}
