//! Serves the requests of one server to a shared store: many at a time, each with a timeout;
//! errors are returned as text.

use std::io::{Read, Write};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use delayline_kv::{ShareMessage, ShareVerb};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStoreExt, PutPayload};
use tokio::runtime::Builder;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::evict::{self, Keeper};
use crate::place::SharedPlace;

/// Maximum number of blocks fetched at a time, over all requests.
const SIDE_BY_SIDE: usize = 4;

/// Serves one server, which writes requests to `input` and reads replies from `output`,
/// until `input` ends. Everything sent before that is stored.
///
/// # Errors
/// If the system gives no thread or timer.
pub fn serve(
    place: SharedPlace,
    mut input: impl Read + Send + 'static,
    mut output: impl Write + Send + 'static,
) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Pipes block, so they are read and written by separate threads.
    let (asked, mut questions) = tokio::sync::mpsc::channel(1);
    let (answers, said) = mpsc::sync_channel::<ShareMessage>(1);
    thread::Builder::new().spawn(move || {
        while let Ok(Some(message)) = ShareMessage::read_from(&mut input) {
            if asked.blocking_send(message).is_err() {
                return;
            }
        }
    })?;
    let talks = thread::Builder::new().spawn(move || {
        while let Ok(message) = said.recv() {
            if message.write_to(&mut output).is_err() {
                return;
            }
        }
    })?;
    runtime.block_on(async {
        let desk = Arc::new(Desk {
            place,
            keeper: Mutex::default(),
            evicting: Mutex::default(),
            fetching: Arc::new(Semaphore::new(SIDE_BY_SIDE)),
            answers,
        });
        let mut tasks = JoinSet::new();
        while let Some(message) = questions.recv().await {
            while tasks.try_join_next().is_some() {}
            if message.verb == ShareVerb::Forget {
                // Requests before this one are finished first; those after it find the
                // blocks removed.
                while tasks.join_next().await.is_some() {}
                desk.clone().answer(message).await;
            } else {
                tasks.spawn(desk.clone().answer(message));
            }
        }
        while tasks.join_next().await.is_some() {}
    });
    // A blocking thread may hang in a folder on a network.
    runtime.shutdown_background();
    let _ = talks.join();
    Ok(())
}

/// A block that was fetched; it counts towards [`SIDE_BY_SIDE`] until it is sent.
struct Fetched {
    name: String,
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

struct Desk {
    place: SharedPlace,
    /// Locked for moments only, because every fetch asks it.
    keeper: Mutex<Keeper>,
    /// Locked while the store is listed.
    evicting: Mutex<()>,
    fetching: Arc<Semaphore>,
    answers: SyncSender<ShareMessage>,
}

/// The error as text; empty if there is none.
fn words<T>(result: &Result<T, Error>) -> String {
    result.as_ref().err().map(in_short).unwrap_or_default()
}

/// The text of an error in one line of about 400 characters: a store may return whole pages.
fn in_short(error: &Error) -> String {
    let mut text = error.to_string();
    if let Some((at, _)) = text.char_indices().nth(400) {
        text.truncate(at);
        text.push_str(" …");
    }
    text.replace('\n', " ")
}

impl Desk {
    async fn answer(self: Arc<Self>, message: ShareMessage) {
        let ShareMessage {
            verb,
            number,
            name,
            body,
        } = message;
        match verb {
            ShareVerb::Open => {
                let check = String::from_utf8_lossy(&body).into_owned();
                let entered = self.place.enter(&check).await;
                self.say(ShareMessage::new(
                    ShareVerb::Opened,
                    number,
                    words(&entered),
                ))
                .await;
                if entered.is_ok() {
                    self.look().await;
                }
            }
            ShareVerb::Get => {
                let names = String::from_utf8_lossy(&body).into_owned();
                let got = self.get(number, &names).await;
                self.say(ShareMessage::new(ShareVerb::End, number, words(&got)))
                    .await;
            }
            ShareVerb::Put => {
                let put = self.put(&name, body.into()).await;
                self.say(ShareMessage::new(ShareVerb::Stored, number, words(&put)))
                    .await;
            }
            ShareVerb::Remove => {
                if let Some(path) = self.place.path_of(&name) {
                    // It may be gone already; if it cannot be removed, it remains a miss.
                    let _ = self.place.within(self.place.store.delete(&path)).await;
                }
            }
            ShareVerb::Forget => {
                let forgotten = self.forget(&name).await;
                let count = *forgotten.as_ref().unwrap_or(&0) as u64;
                let end = ShareMessage::new(ShareVerb::End, number, words(&forgotten));
                self.say(end.with(count.to_le_bytes().into())).await;
            }
            // Replies.
            ShareVerb::Opened | ShareVerb::Found | ShareVerb::End | ShareVerb::Stored => {}
        }
    }

    /// Sends a reply; waits until the one before has been written.
    async fn say(&self, message: ShareMessage) {
        let answers = self.answers.clone();
        // Fails if the server has ended.
        let _ = tokio::task::spawn_blocking(move || answers.send(message)).await;
    }

    /// Sends the objects of these names, up to the first that is not there.
    async fn get(&self, number: u32, names: &str) -> Result<(), Error> {
        let names: Vec<String> = names.lines().map(str::to_owned).collect();
        let objects = stream::iter(names.into_iter().map(|name| self.object(name)));
        let mut objects = objects.buffered(SIDE_BY_SIDE);
        while let Some(object) = objects.next().await {
            let Some(Fetched { name, bytes, .. }) = object? else {
                break;
            };
            let found = ShareMessage::new(ShareVerb::Found, number, name);
            self.say(found.with(bytes.into())).await;
        }
        Ok(())
    }

    async fn object(&self, name: String) -> Result<Option<Fetched>, Error> {
        // Permits are given in order, so that each request gets its first block early.
        let Ok(permit) = self.fetching.clone().acquire_owned().await else {
            return Ok(None);
        };
        let Some(path) = self.place.path_of(&name) else {
            return Ok(None);
        };
        let get = async {
            let got = self.place.store.get(&path).await?;
            let written = got.meta.last_modified;
            Ok((written, got.bytes().await?))
        };
        match self.place.within(get).await {
            Ok((written, bytes)) => {
                // A store records when a block was written, not when it was used. So a block
                // of the older half that is used is written again.
                if self.keeper.lock().await.is_old(written.into()) {
                    let again = PutPayload::from(bytes.clone());
                    let _ = self.place.within(self.place.store.put(&path, again)).await;
                }
                Ok(Some(Fetched {
                    name,
                    bytes,
                    _permit: permit,
                }))
            }
            Err(Error::Store(object_store::Error::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let len = bytes.len() as u64;
        let (Some(path), true) = (self.place.path_of(name), len <= self.place.size) else {
            return Ok(());
        };
        let known = self.place.within(self.place.store.head(&path)).await;
        match known {
            Ok(_) => return Ok(()),
            Err(Error::Store(object_store::Error::NotFound { .. })) => {}
            Err(error) => return Err(error),
        }
        let put = self.place.store.put(&path, bytes.into());
        self.place.within(put).await?;
        let due = self.keeper.lock().await.wrote(len, self.place.size);
        if due {
            self.look().await;
        }
        Ok(())
    }

    /// Lists the store and removes what is too much, unless that is under way. If it fails,
    /// the next listing, or another server's, does it.
    async fn look(&self) {
        let Ok(_evicting) = self.evicting.try_lock() else {
            return;
        };
        self.keeper.lock().await.begin();
        if let Ok(old) = evict::evict(&self.place).await {
            self.keeper.lock().await.end(old);
        }
    }

    /// Removes all blocks of an owner; returns how many.
    async fn forget(&self, owner: &str) -> Result<usize, Error> {
        let blocks = self.place.blocks();
        let begin = format!("{owner}-");
        let list = self.place.store.list(Some(&blocks)).try_collect();
        let all: Vec<object_store::ObjectMeta> = self.place.within(list).await?;
        let mut gone = 0;
        for one in all {
            let name = one.location.filename().unwrap_or_default();
            if owner.is_empty() || !name.starts_with(&begin) {
                continue;
            }
            match self
                .place
                .within(self.place.store.delete(&one.location))
                .await
            {
                Ok(()) => gone += 1,
                Err(Error::Store(object_store::Error::NotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }
}
