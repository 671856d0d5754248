//! The engine's thread with a tiny model, without sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use delayline_engine::Options;
use delayline_llama::Sampling;
use delayline_llama::batch::{Batcher, Choice, GenerateRequest};
use delayline_synth::Quant;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::EngineThread;
use crate::shared::{QueuedRequest, Shared, Update};

fn job(tokens: usize, room: usize) -> (QueuedRequest, mpsc::Receiver<Update>) {
    let (reply, updates) = mpsc::channel(room);
    let choice = Choice::Sampled(Sampling::default());
    let request = GenerateRequest::new(&[5, 6, 7], tokens, choice);
    let job = QueuedRequest {
        request,
        reply,
        asked: Instant::now(),
    };
    (job, updates)
}

fn tiny_model() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tiny.gguf");
    let shape = delayline_synth::shape("tiny-llama").expect("a known shape");
    delayline_synth::write(&shape, Quant::F16, 1, &path, &mut |_, _| {}).expect("a model");
    (dir, path)
}

/// Two slots that share 256 cells.
fn batcher(model: &Path) -> Batcher {
    let options = Options {
        seqs: Some(2),
        ctx: Some(256),
        memory: Some(4 << 30),
        ..Options::default()
    };
    let engine = delayline_llama::open(model, &options).expect("it opens");
    Batcher::new(engine, None)
}

/// Counts the tokens until the end of an answer.
fn tokens(updates: &mut mpsc::Receiver<Update>) -> usize {
    let mut tokens = 0;
    while let Some(update) = updates.blocking_recv() {
        match update {
            Update::Token(_) => tokens += 1,
            Update::Joined { .. } => {}
            Update::Failed(error) => panic!("{}", error.message),
        }
    }
    tokens
}

/// A request for which there is no room though nobody is answered is refused: it would wait for
/// ever, and the thread with it, without a rest.
#[test]
fn what_can_never_have_room_is_refused() {
    let (_dir, path) = tiny_model();
    let shared = Arc::new(Shared::new(8));
    let (reply, mut updates) = mpsc::channel(8);
    let (other, _) = job(100, 8);
    shared
        .queue
        .push(vec![QueuedRequest { reply, ..other }])
        .expect("room");
    shared.drain();
    let mut batcher = batcher(&path);
    // Somebody who is answered by no one has all of the room and never leaves.
    let choice = Choice::Sampled(Sampling::default());
    let all = GenerateRequest::new(&[5, 6, 7], 1000, choice);
    let held = batcher.join(all).expect("room");
    batcher.hold(held.id, true);
    let (_flush, flushes) = mpsc::channel(1);
    EngineThread::new(batcher, shared, flushes, None).run();
    let told = updates.blocking_recv().expect("an answer");
    let Update::Failed(error) = told else {
        panic!("{told:?}");
    };
    assert!(
        error.message.contains("no room in the KV cache"),
        "{}",
        error.message
    );
}

/// A client that does not read delays no other, and gets its whole answer later; one that has
/// gone frees its slot; after draining the thread ends.
#[test]
fn slow_readers_wait_for_themselves_alone() {
    let (_dir, path) = tiny_model();
    let shared = Arc::new(Shared::new(8));
    let engine = std::thread::spawn({
        let shared = shared.clone();
        move || {
            let (_flush, flushes) = mpsc::channel(1);
            EngineThread::new(batcher(&path), shared, flushes, None).run();
        }
    });
    let (slow, mut slow_updates) = job(40, 1);
    let (other, mut other_updates) = job(40, 64);
    let (gone, gone_updates) = job(200, 64);
    shared.queue.push(vec![slow]).expect("room");
    shared.queue.push(vec![other]).expect("room");
    let others = tokens(&mut other_updates);
    assert!(others > 1);
    while shared.metrics.held.get() == 0 {
        std::thread::yield_now();
    }
    shared.queue.push(vec![gone]).expect("room");
    drop(gone_updates);
    let generated = shared.metrics.generated_tokens.get();
    assert!(generated < 80 + 40, "{generated}");
    assert!(tokens(&mut slow_updates) > 1);
    shared.drain();
    engine.join().expect("no panic");
    assert_eq!(shared.metrics.riding.get(), 0);
}
