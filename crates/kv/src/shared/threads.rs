//! The two threads of a shared store: one writes requests and new blocks, the other reads
//! answers, checks the keyed hash of each object, and puts its block into the folder.

use std::io::{Read, Write};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Instant;

use crate::block::{Block, decode};
use crate::blocks::Blocks;
use crate::folder;
use crate::message::{MOST, ShareMessage, ShareVerb};

use super::desk::{Ask, Lines, Sending};

/// Maximum number of blocks sent and not yet acknowledged.
const SENDING: usize = 2;

enum Job {
    Ask(ShareMessage),
    Send(Sending),
}

/// The thread that writes.
pub(super) fn talk(lines: &Lines, mut output: Box<dyn Write + Send>) {
    while let Some(job) = next(lines) {
        let message = match job {
            Job::Ask(message) => message,
            Job::Send(sending) => match object(lines, &sending) {
                Some(message) => message,
                None => {
                    let mut desk = lines.lock();
                    // `Lines::end` may have set it to 0.
                    desk.sending = desk.sending.saturating_sub(1);
                    drop(desk);
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

/// Waits for the next message to write; none at the end. Requests come before blocks, because
/// somebody waits for their answers.
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

/// The object of a block; none if its file has been removed or changed.
fn object(lines: &Lines, sending: &Sending) -> Option<ShareMessage> {
    let mut file = Vec::new();
    let from = folder::read(&sending.file).ok()?;
    from.take(MOST.into()).read_to_end(&mut file).ok()?;
    decode(&lines.root, &file).filter(|decoded| decoded.block == sending.block)?;
    let name = lines.secret.name(&sending.block);
    let object = lines.secret.seal(&name, &file);
    Some(ShareMessage::new(ShareVerb::Put, 0, name).with(object))
}

/// The thread that reads.
pub(super) fn listen(lines: &Lines, mut input: Box<dyn Read + Send>, blocks: &Weak<Mutex<Blocks>>) {
    while let Ok(Some(message)) = ShareMessage::read_from(&mut input) {
        match message.verb {
            ShareVerb::Found => match blocks.upgrade() {
                Some(blocks) => found(lines, message, &blocks),
                // The store was dropped, and another process may have the folder.
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

/// Checks an object that has arrived and keeps its block.
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
    // Blocks that were forgotten since the request are not wanted.
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
            // The blocks after it are of no use, and as long as it is there, no server stores
            // a right one.
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

/// Ends a request; the first block that did not arrive counts as absent.
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
