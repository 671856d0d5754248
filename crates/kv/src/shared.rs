//! A store that several machines share, as one server sees it. It is behind the folder:
//! blocks that are not there are asked for and fall into it, and what is new in it is sent
//! on. A program of its own reaches the store, and one thread talks to it and another
//! listens; what it brings is hostile until its keyed hash is right. Who computes waits for
//! none of them.

mod desk;
mod threads;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::block::Block;
use crate::blocks::Blocks;
use crate::error::StoreError;
use crate::key::Root;
use crate::message::{ShareMessage, ShareVerb};
use crate::namespace::Namespace;
use crate::secret::ShareSecret;

use self::desk::{Ask, Desk, Lines, Sending, SharedStats};
use self::threads::{listen, talk};

/// After so long without an answer a question is a miss.
const WAIT: Duration = Duration::from_secs(2);

/// What was not there is not asked for again for so long.
const ABSENT: Duration = Duration::from_secs(2);

/// Time to send the last blocks when a server ends.
const LAST: Duration = Duration::from_secs(5);

/// Blocks that wait to be sent; the oldest give way.
const OUTBOX: usize = 4096;

/// Questions under way.
const ASKS: usize = 16;

/// The pipes to the program that reaches a shared store.
pub struct ShareLink {
    /// What it says.
    pub input: Box<dyn Read + Send>,
    /// What it is told.
    pub output: Box<dyn Write + Send>,
    /// The store, as a person calls it.
    pub place: String,
    /// What all its servers know.
    pub secret: ShareSecret,
    /// How long an answer is waited for; [`ShareLink::new`] has what is usual.
    pub wait: Duration,
}

impl std::fmt::Debug for ShareLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShareLink")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl ShareLink {
    /// Over those pipes. Waits until the store is open.
    ///
    /// # Errors
    /// When it cannot be opened, or is of another secret.
    pub fn new(
        mut input: Box<dyn Read + Send>,
        mut output: Box<dyn Write + Send>,
        place: &str,
        secret: ShareSecret,
    ) -> Result<Self, StoreError> {
        let failed = |what: String| StoreError::Shared {
            place: place.to_owned(),
            what,
        };
        let open = ShareMessage::new(ShareVerb::Open, 0, "").with(secret.check().into());
        // Who refuses at once may have gone without reading this, and has said why.
        let asked = open.write_to(&mut output);
        let opened = ShareMessage::read_from(&mut input);
        let opened = opened.map_err(|error| failed(error.to_string()))?;
        match opened {
            Some(opened) if opened.verb == ShareVerb::Opened && opened.name.is_empty() => {
                asked.map_err(|error| failed(error.to_string()))?;
            }
            Some(refused) if refused.verb == ShareVerb::Opened => return Err(failed(refused.name)),
            _ => return Err(failed("the program that reaches it has ended".into())),
        }
        Ok(Self {
            input,
            output,
            place: place.to_owned(),
            secret,
            wait: WAIT,
        })
    }
}

/// See the module.
pub(crate) struct SharedTier {
    lines: Arc<Lines>,
    wait: Duration,
}

impl std::fmt::Debug for SharedTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedTier")
            .field("place", &self.lines.place)
            .finish_non_exhaustive()
    }
}

impl SharedTier {
    /// Blocks that come fall into `blocks`.
    pub fn new(link: ShareLink, root: Root, blocks: Weak<Mutex<Blocks>>) -> Self {
        let lines = Arc::new(Lines {
            desk: Mutex::default(),
            news: Condvar::new(),
            place: link.place,
            root,
            secret: link.secret,
        });
        let (talks, listens) = (lines.clone(), lines.clone());
        thread::spawn(move || talk(&talks, link.output));
        thread::spawn(move || listen(&listens, link.input, &blocks));
        Self {
            lines,
            wait: link.wait,
        }
    }

    pub fn stats(&self) -> SharedStats {
        self.lines.lock().stats
    }

    pub fn trouble(&self) -> Option<String> {
        self.lines.lock().trouble.take()
    }

    /// Whether something is on its way to the store, or waits for it.
    pub fn sends(&self) -> bool {
        self.lines.lock().sends()
    }

    /// A block is new in the folder: it is sent on when there is time.
    pub fn send(&self, file: PathBuf, block: &Block) {
        let mut desk = self.lines.lock();
        if block.is_tail() || desk.ended {
            return;
        }
        if desk.outbox.len() == OUTBOX {
            desk.outbox.pop_front();
        }
        let block = block.clone();
        desk.outbox.push_back(Sending { file, block });
        drop(desk);
        self.lines.news.notify_all();
    }

    /// Removes what the store has of an owner, some time soon, and what is on its way from
    /// and to it.
    pub fn forget(&self, namespace: &Namespace) {
        let tag = self.lines.root.tag(namespace);
        let owner = self.lines.secret.owner(&self.lines.root, namespace);
        let mut desk = self.lines.lock();
        desk.outbox.retain(|one| one.block.tag != tag);
        for ask in &mut desk.asks {
            ask.wanted.retain(|block| block.tag != tag);
        }
        let number = desk.number();
        let question = ShareMessage::new(ShareVerb::Forget, number, owner);
        desk.questions.push_back(question);
        drop(desk);
        self.lines.news.notify_all();
    }

    /// Whether some of these blocks, which the folder does not have, are on their way.
    /// Computing a token takes `token_s` seconds, if that is known: they are not waited for
    /// longer than that takes.
    pub fn wants(&self, missing: Vec<Block>, token_s: Option<f64>) -> bool {
        let mut desk = self.lines.lock();
        desk.look_at_the_clock(&self.lines.place, self.wait);
        let (now, Some(first)) = (Instant::now(), missing.first()) else {
            return false;
        };
        let asked = |ask: &&Ask| missing.iter().any(|block| ask.wanted.contains(block));
        if let Some(ask) = desk.asks.iter().find(asked) {
            return !ask.over;
        }
        desk.absent.retain(|_, since| now - *since < ABSENT);
        let rests = desk.away.is_some_and(|until| now < until);
        let full = desk.asks.len() >= ASKS;
        if rests || full || desk.ended || desk.absent.contains_key(&first.file_name()) {
            return false;
        }
        let tokens: usize = missing.iter().map(|block| block.tokens.len()).sum();
        let worth = token_s.map(|s| Duration::from_secs_f64((s * tokens as f64).clamp(0.0, 1e6)));
        let names = missing.iter().map(|block| self.lines.secret.name(block));
        let names = names.collect::<Vec<_>>().join("\n");
        let number = desk.number();
        let question = ShareMessage::new(ShareVerb::Get, number, "").with(names.into());
        desk.questions.push_back(question);
        desk.asks.push(Ask {
            number,
            wanted: missing.into(),
            last: now,
            worth_until: worth.map(|worth| now + worth),
            over: false,
        });
        drop(desk);
        self.lines.news.notify_all();
        true
    }
}

impl Drop for SharedTier {
    /// Sends the last blocks, if that does not take long.
    fn drop(&mut self) {
        let busy = |desk: &mut Desk| desk.sends() && !desk.ill;
        let desk = self.lines.lock();
        let waited = self.lines.news.wait_timeout_while(desk, LAST, busy);
        let mut desk = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(desk, _)| desk);
        desk.ended = true;
        drop(desk);
        self.lines.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a pipe whose reader has gone.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_refuses_before_it_is_asked_is_heard() {
        let link = |said: &[ShareMessage]| {
            let mut bytes = Vec::new();
            for message in said {
                message.write_to(&mut bytes).expect("memory");
            }
            let secret = ShareSecret::new(&[7; 64]).expect("long enough");
            let input = std::io::Cursor::new(bytes);
            let link = ShareLink::new(Box::new(input), Box::new(Gone), "there", secret);
            link.expect_err("nobody is there").to_string()
        };
        let said = |why: &str| ShareMessage::new(ShareVerb::Opened, 0, why);
        let told = link(&[said("no such place")]);
        assert!(
            told.contains("there") && told.contains("no such place"),
            "{told}"
        );
        // Who has gone though all seemed well is no store, either.
        for silent in [link(&[]), link(&[said("")])] {
            assert!(silent.contains("there"), "{silent}");
        }
    }
}
