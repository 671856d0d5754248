//! The shared store behind a folder, as one server sees it: missing blocks are requested and
//! put into the folder, new ones are sent on. A separate program reaches the store; one
//! thread writes to it and another reads from it, so that whoever computes never waits for
//! I/O. What arrives is untrusted until its keyed hash is checked.

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

/// Time without an answer after which a request counts as a miss.
const WAIT: Duration = Duration::from_secs(2);

/// Time for which a missing block is not requested again.
const ABSENT: Duration = Duration::from_secs(2);

/// Maximum time to send the last blocks when a server ends.
const LAST: Duration = Duration::from_secs(5);

/// Maximum number of blocks that wait to be sent; beyond it the oldest are dropped.
const OUTBOX: usize = 4096;

/// Maximum number of requests for blocks under way.
const ASKS: usize = 16;

/// The pipes to the program that reaches a shared store.
pub struct ShareLink {
    /// From the program.
    pub input: Box<dyn Read + Send>,
    /// To the program.
    pub output: Box<dyn Write + Send>,
    /// The store's name in messages to people.
    pub place: String,
    /// The secret of the store.
    pub secret: ShareSecret,
    /// Maximum time to wait for an answer; [`ShareLink::new`] sets the default.
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
    /// Opens the store over those pipes and waits until it is open.
    ///
    /// # Errors
    /// When it cannot be opened, or has another secret.
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
        // A program that fails at once may have ended without reading this, so its answer is
        // read before the error of writing is looked at.
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

/// The shared store behind a folder; dropping it ends its threads.
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
    /// Starts the threads; blocks that arrive are put into `blocks`.
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

    /// Whether something waits to be sent, or for the answer that it is stored.
    pub fn sends(&self) -> bool {
        self.lines.lock().sends()
    }

    /// Schedules a block that is new in the folder to be sent.
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

    /// Requests the removal of an owner's objects, and drops its blocks that are on their way
    /// from or to the store.
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

    /// Requests these blocks, which the folder lacks, unless they were requested already.
    /// Returns whether to wait for them: for at most the time that computing them would take
    /// at `token_s` seconds a token, if that is known.
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
        // A time that is no number is one that is not known.
        let worth = token_s.map(|s| (s * tokens as f64).clamp(0.0, 1e6));
        let worth = worth.and_then(|s| Duration::try_from_secs_f64(s).ok());
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
    /// Waits for up to [`LAST`] until the last blocks are sent.
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

    /// Costs that were never measured may be no number, and prompts take no time without end.
    #[test]
    fn a_time_that_is_no_number_is_not_known() {
        let (input, mut program) = std::io::pipe().expect("a pipe");
        let opened = ShareMessage::new(ShareVerb::Opened, 0, "");
        opened.write_to(&mut program).expect("it is read later");
        let secret = ShareSecret::new(&[7; 64]).expect("long enough");
        let output = std::io::sink();
        let link = ShareLink::new(Box::new(input), Box::new(output), "there", secret);
        let root = Root::new(&[b"a model"]);
        let tier = SharedTier::new(link.expect("it is open"), root, Weak::new());
        let costs = [f64::NAN, f64::INFINITY, f64::MAX, -1.0];
        for (number, token_s) in (0..).zip(costs) {
            let owner = Namespace::default();
            let (tag, parent) = (root.tag(&owner), root.begin(&owner));
            let block = Block::new(&root, tag, parent, 0, &[number; 64]);
            assert!(tier.wants(vec![block], Some(token_s)), "it is asked for");
        }
        tier.lines.end();
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
        // A program that ended without a word, or that took no request, is an error as well.
        for silent in [link(&[]), link(&[said("")])] {
            assert!(silent.contains("there"), "{silent}");
        }
    }
}
