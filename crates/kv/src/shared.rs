//! A store that several machines share, as one server sees it. It is behind the folder:
//! blocks that are not there are asked for and fall into it, and what is new in it is sent
//! on. A program of its own reaches the store, and one thread talks to it and another
//! listens; what it brings is hostile until its keyed hash is right. Who computes waits for
//! none of them.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::block::{Block, decode};
use crate::blocks::Blocks;
use crate::error::StoreError;
use crate::key::Root;
use crate::message::{ShareMessage, ShareVerb};
use crate::namespace::Namespace;
use crate::secret::ShareSecret;

/// After so long without an answer a question is a miss.
const WAIT: Duration = Duration::from_secs(2);

/// A store that did not answer, or brought blocks more slowly than they are computed, is
/// asked nothing for so long.
const AWAY: Duration = Duration::from_secs(30);

/// What was not there is not asked for again for so long.
const ABSENT: Duration = Duration::from_secs(2);

/// Time to send the last blocks when a server ends.
const LAST: Duration = Duration::from_secs(5);

/// Blocks that wait to be sent; the oldest give way.
const OUTBOX: usize = 4096;

/// Blocks that are under way to the store.
const SENDING: usize = 2;

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
        let opened = open
            .write_to(&mut output)
            .and_then(|()| ShareMessage::read_from(&mut input))
            .map_err(|error| failed(error.to_string()))?;
        match opened {
            Some(opened) if opened.verb == ShareVerb::Opened && opened.name.is_empty() => {}
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

/// What a shared store has done for this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SharedStats {
    pub fetched: u64,
    pub fetched_bytes: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    pub rejected: u64,
    pub failed: u64,
}

/// A block on its way to the store.
struct Sending {
    file: PathBuf,
    block: Block,
}

/// Blocks that were asked for.
struct Ask {
    number: u32,
    /// Those that have not come, in their order.
    wanted: VecDeque<Block>,
    /// When the last one came.
    last: Instant,
    /// When computing them would be as soon.
    worth_until: Option<Instant>,
    /// Nobody waits for it any more; what still comes is kept.
    over: bool,
}

/// What the threads share.
#[derive(Default)]
struct Desk {
    questions: VecDeque<ShareMessage>,
    outbox: VecDeque<Sending>,
    /// Blocks that were sent and are not known to be stored.
    sending: usize,
    asks: Vec<Ask>,
    numbers: u32,
    /// Nothing is asked before.
    away: Option<Instant>,
    /// By the name of a file: what was not there a moment ago.
    absent: HashMap<String, Instant>,
    /// The other side has ended, or this one has.
    ended: bool,
    /// What went wrong, told once until something goes well again.
    trouble: Option<String>,
    ill: bool,
    stats: SharedStats,
}

impl Desk {
    fn refused(&mut self, place: &str, what: &str) {
        self.stats.failed += 1;
        if !std::mem::replace(&mut self.ill, true) {
            self.trouble = Some(format!(
                "the KV cache goes on without the shared one, {place}: {what}"
            ));
        }
    }

    /// An answer: nothing, or words of what went wrong.
    fn told(&mut self, place: &str, what: &str) {
        match what {
            "" => self.ill = false,
            what => self.refused(place, what),
        }
    }

    fn sends(&self) -> bool {
        let waits = !self.outbox.is_empty() || !self.questions.is_empty();
        !self.ended && (waits || self.sending > 0)
    }

    fn number(&mut self) -> u32 {
        self.numbers = self.numbers.wrapping_add(1);
        self.numbers
    }

    /// What takes too long is a miss.
    fn look_at_the_clock(&mut self, place: &str, wait: Duration) {
        let now = Instant::now();
        let mut hung = false;
        for ask in self.asks.iter_mut().filter(|ask| !ask.over) {
            let slow = ask.worth_until.is_some_and(|until| now > until);
            let silent = now - ask.last > wait;
            ask.over = slow || silent;
            hung |= silent;
            if ask.over {
                self.away = Some(now + AWAY);
            }
        }
        if hung {
            self.refused(place, &format!("it did not answer within {wait:?}"));
        }
    }
}

/// The desk, and where its threads wait for news.
struct Lines {
    desk: Mutex<Desk>,
    news: Condvar,
    place: String,
    root: Root,
    secret: ShareSecret,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        // Nothing panics while it is held.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There will be no more.
    fn end(&self) {
        let mut desk = self.lock();
        if !std::mem::replace(&mut desk.ended, true) {
            desk.refused(&self.place, "the program that reaches it has ended");
        }
        desk.asks.clear();
        desk.outbox.clear();
        desk.sending = 0;
        drop(desk);
        self.news.notify_all();
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

enum Job {
    Ask(ShareMessage),
    Send(Sending),
}

/// The thread that talks.
fn talk(lines: &Lines, mut output: Box<dyn Write + Send>) {
    while let Some(job) = next(lines) {
        let message = match job {
            Job::Ask(message) => message,
            Job::Send(sending) => match object(lines, &sending) {
                Some(message) => message,
                None => {
                    lines.lock().sending -= 1;
                    lines.news.notify_all();
                    continue;
                }
            },
        };
        let bytes = message.body.len() as u64;
        if message.write_to(&mut output).is_err() {
            return lines.end();
        }
        if message.verb == ShareVerb::Put {
            lines.lock().stats.sent_bytes += bytes;
        }
    }
}

/// Questions first: somebody waits for the answer.
fn next(lines: &Lines) -> Option<Job> {
    let mut desk = lines.lock();
    loop {
        if desk.ended {
            return None;
        }
        if let Some(question) = desk.questions.pop_front() {
            lines.news.notify_all();
            return Some(Job::Ask(question));
        }
        if desk.sending < SENDING
            && let Some(sending) = desk.outbox.pop_front()
        {
            desk.sending += 1;
            return Some(Job::Send(sending));
        }
        let waited = lines.news.wait(desk);
        desk = waited.unwrap_or_else(PoisonError::into_inner);
    }
}

/// The object of a block, which may have gone from the folder meanwhile.
fn object(lines: &Lines, sending: &Sending) -> Option<ShareMessage> {
    let file = fs::read(&sending.file).ok()?;
    decode(&lines.root, &file).filter(|decoded| decoded.block == sending.block)?;
    let name = lines.secret.name(&sending.block);
    let object = lines.secret.seal(&name, &file);
    Some(ShareMessage::new(ShareVerb::Put, 0, name).with(object))
}

/// The thread that listens.
fn listen(lines: &Lines, mut input: Box<dyn Read + Send>, blocks: &Weak<Mutex<Blocks>>) {
    while let Ok(Some(message)) = ShareMessage::read_from(&mut input) {
        match message.verb {
            ShareVerb::Found => match blocks.upgrade() {
                Some(blocks) => found(lines, message, &blocks),
                // The folder is another's by now.
                None => break,
            },
            ShareVerb::End => ended(lines, &message),
            ShareVerb::Stored => {
                let mut desk = lines.lock();
                desk.sending = desk.sending.saturating_sub(1);
                desk.stats.sent += u64::from(message.name.is_empty());
                desk.told(&lines.place, &message.name);
            }
            _ => {}
        }
        lines.news.notify_all();
    }
    lines.end();
}

/// A block has come, or what pretends to be one.
fn found(lines: &Lines, message: ShareMessage, blocks: &Mutex<Blocks>) {
    let mut desk = lines.lock();
    desk.stats.fetched_bytes += message.body.len() as u64;
    let Some(ask) = desk
        .asks
        .iter_mut()
        .find(|ask| ask.number == message.number)
    else {
        return;
    };
    ask.last = Instant::now();
    let named = |block: &&Block| lines.secret.name(block) == message.name;
    // Those that were forgotten meanwhile are not wanted.
    let Some(block) = ask.wanted.iter().find(named).cloned() else {
        return;
    };
    drop(desk);
    let file = lines
        .secret
        .open(&message.name, message.body)
        .filter(|file| {
            let decoded = decode(&lines.root, file);
            decoded.is_some_and(|decoded| decoded.block == block)
        });
    let mut folder = blocks.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = &file {
        folder.adopt(&block, file);
    }
    let mut desk = lines.lock();
    desk.ill = false;
    let ask = desk
        .asks
        .iter_mut()
        .find(|ask| ask.number == message.number);
    match (file, ask) {
        (Some(_), Some(ask)) if ask.wanted.contains(&block) => {
            ask.wanted.retain(|wanted| *wanted != block);
            desk.stats.fetched += 1;
        }
        (Some(_), _) => folder.remove(&block),
        (None, ask) => {
            // What lies behind it is of no use, and as long as it is there nobody puts a
            // right one in its place.
            if let Some(ask) = ask {
                ask.wanted.clear();
            }
            desk.stats.rejected += 1;
            desk.absent.insert(block.file_name(), Instant::now());
            let question = ShareMessage::new(ShareVerb::Remove, 0, message.name);
            desk.questions.push_back(question);
        }
    }
}

/// That was all that there is.
fn ended(lines: &Lines, message: &ShareMessage) {
    let mut desk = lines.lock();
    desk.told(&lines.place, &message.name);
    let mine = |ask: &Ask| ask.number == message.number;
    if let Some(at) = desk.asks.iter().position(mine) {
        let ask = desk.asks.swap_remove(at);
        if let Some(block) = ask.wanted.front() {
            desk.absent.insert(block.file_name(), Instant::now());
        }
    }
}
