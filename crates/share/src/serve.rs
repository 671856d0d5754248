//! What a server asks of a shared store, done: many questions at a time, each within its
//! own, and what goes wrong told in words.

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
use crate::evict::Keeper;
use crate::place::SharedPlace;

/// Blocks that are fetched side by side, of all questions.
const SIDE_BY_SIDE: usize = 4;

/// Serves one server, which speaks over `input` and hears over `output`, until it has
/// ended; what it has sent is stored then.
///
/// # Errors
/// When the system gives no thread or no timer.
pub fn serve(
    place: SharedPlace,
    mut input: impl Read + Send + 'static,
    mut output: impl Write + Send + 'static,
) -> Result<(), Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // What is read or written waits for the other side, in threads of its own.
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
            fetching: Arc::new(Semaphore::new(SIDE_BY_SIDE)),
            answers,
        });
        let mut tasks = JoinSet::new();
        while let Some(message) = questions.recv().await {
            while tasks.try_join_next().is_some() {}
            if message.verb == ShareVerb::Forget {
                // What was sent before is stored first, and what is asked later is gone.
                while tasks.join_next().await.is_some() {}
                desk.clone().answer(message).await;
            } else {
                tasks.spawn(desk.clone().answer(message));
            }
        }
        while tasks.join_next().await.is_some() {}
    });
    // A folder on a network that hangs holds the thread that asked it.
    runtime.shutdown_background();
    let _ = talks.join();
    Ok(())
}

/// A block that was fetched, and its place among those side by side until it is told.
struct Fetched {
    name: String,
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

struct Desk {
    place: SharedPlace,
    keeper: Mutex<Keeper>,
    fetching: Arc<Semaphore>,
    answers: SyncSender<ShareMessage>,
}

/// What went wrong, for a message; nothing where nothing did.
fn words<T>(result: &Result<T, Error>) -> String {
    result.as_ref().err().map(in_short).unwrap_or_default()
}

/// Errors of a store may bring whole pages.
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
                    // One that has gone meanwhile is as well; one that stays stays a miss.
                    let _ = self.place.within(self.place.store.delete(&path)).await;
                }
            }
            ShareVerb::Forget => {
                let forgotten = self.forget(&name).await;
                let count = *forgotten.as_ref().unwrap_or(&0) as u64;
                let end = ShareMessage::new(ShareVerb::End, number, words(&forgotten));
                self.say(end.with(count.to_le_bytes().into())).await;
            }
            // What it says itself.
            ShareVerb::Opened | ShareVerb::Found | ShareVerb::End | ShareVerb::Stored => {}
        }
    }

    /// Waits until the server has taken what was said before.
    async fn say(&self, message: ShareMessage) {
        let answers = self.answers.clone();
        // Who has ended hears nothing.
        let _ = tokio::task::spawn_blocking(move || answers.send(message)).await;
    }

    /// The objects of these names, up to the first that is not there.
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
        // Places are had in turn, so that the first of each question is never the last.
        let Ok(place) = self.fetching.clone().acquire_owned().await else {
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
                // A store knows when something was written, not when it was used: what is
                // used in its older half is written anew.
                if self.keeper.lock().await.is_old(written.into()) {
                    let again = PutPayload::from(bytes.clone());
                    let _ = self.place.within(self.place.store.put(&path, again)).await;
                }
                Ok(Some(Fetched {
                    name,
                    bytes,
                    _place: place,
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

    /// One look at a time; what it cannot do the next one, or another server's, does.
    async fn look(&self) {
        if let Ok(mut keeper) = self.keeper.try_lock() {
            let _ = keeper.look(&self.place).await;
        }
    }

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
