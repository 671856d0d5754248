//! Random requests to every kind of model, in one batcher that reuses what it can: prompts
//! are prefixes and continuations of others, and requests are cancelled. Each answer's log
//! probabilities are those of a batcher that reuses nothing.
//!
//! `SEED=n` sets the seed, `SHAPE=name` tests only that model.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{alone, options, scratch, streamed, synth};
use delayline_engine::{KvType, Options, Way};
use delayline_llama::batch::{Batcher, Choice, GenerateRequest, JoinError, SequenceId};
use delayline_llama::{KvCache, KvTier};
use delayline_medium::Rng;
use delayline_synth::{Quant, TinyArch, tiny_archs};

/// Largest difference of two log probabilities that may be caused by rounding.
const ROUNDING: f32 = 0.05;

/// Cells of the KV cache; texts are of up to half as many tokens.
const CELLS: u32 = 512;

const REQUESTS: usize = 40;

/// Models with recurrent states.
const HYBRIDS: [&str; 9] = [
    "tiny-qwen35",
    "tiny-qwen35moe",
    "tiny-qwen3next",
    "tiny-falcon-h1",
    "tiny-granitehybrid",
    "tiny-lfm2",
    "tiny-nemotron_h",
    "tiny-kimi-linear",
    "tiny-mamba2",
];

/// A model whose memory can be cut only at some lengths.
const FORGETS: &str = "tiny-deepseek4";

/// Number of other models of the table that are tested in a run.
const OTHERS: usize = 4;

/// A request, and the log probabilities of its answer's tokens.
#[derive(Clone)]
struct Asked {
    prompt: Vec<i32>,
    answer: Vec<i32>,
    logprobs: Vec<f32>,
}

struct Walk {
    batcher: Batcher,
    /// Number of tokens that were found on disk.
    restored: u64,
    rng: Rng,
    live: BTreeMap<SequenceId, Asked>,
    done: Vec<Asked>,
    cached: usize,
}

impl Walk {
    fn token(&mut self) -> i32 {
        3 + self.rng.below(300) as i32
    }

    fn text(&mut self, len: u64) -> Vec<i32> {
        (0..1 + self.rng.below(len)).map(|_| self.token()).collect()
    }

    fn request(&mut self) -> Asked {
        let mut prompt = Vec::new();
        if !self.live.is_empty() && self.rng.chance(0.4) {
            // A prefix of a running one's prompt.
            let at = self.rng.below(self.live.len() as u64) as usize;
            let other = self.live.values().nth(at).expect("it lives");
            prompt.clone_from(&other.prompt);
            let keep = self.rng.below(prompt.len() as u64 + 1) as usize;
            prompt.truncate(keep);
        } else if !self.done.is_empty() && self.rng.chance(0.7) {
            // A continuation of an earlier text, or of a prefix of it.
            let at = self.rng.below(self.done.len() as u64) as usize;
            prompt.clone_from(&self.done[at].prompt);
            prompt.extend(&self.done[at].answer);
            if self.rng.chance(0.7) {
                let keep = self.rng.below(prompt.len() as u64) as usize;
                prompt.truncate(keep);
            }
        }
        let more = if self.rng.chance(0.5) { 8 } else { 150 };
        prompt.extend(self.text(more));
        prompt.truncate(CELLS as usize / 2 - 8);
        Asked {
            prompt,
            answer: self.text(8),
            logprobs: Vec::new(),
        }
    }

    /// Joins a request; false if there is no room for it now.
    fn join(&mut self, asked: Asked) -> bool {
        self.join_as(asked, false)
    }

    /// As [`Walk::join`]; `fresh` computes all of its prompt.
    fn join_as(&mut self, asked: Asked, fresh: bool) -> bool {
        let choice = Choice::Given(asked.answer.clone());
        let request = GenerateRequest {
            logprobs: Some(0),
            fresh,
            ..GenerateRequest::new(&asked.prompt, asked.answer.len(), choice)
        };
        match self.batcher.join(request) {
            Ok(admitted) => {
                self.live.insert(admitted.id, asked);
                true
            }
            Err(JoinError::Full(_)) => false,
            Err(JoinError::Invalid(error)) => panic!("{error}"),
        }
    }

    fn lap(&mut self) {
        let mut events = Vec::new();
        self.batcher.lap(&mut events).expect("a lap");
        for event in events {
            let token = event.token.expect("a token");
            let asked = self.live.get_mut(&event.sequence).expect("it lives");
            if asked.logprobs.is_empty() {
                self.cached += token.found;
            }
            asked.logprobs.push(token.logprobs[0].logprob);
            if token.finish.is_some() {
                let asked = self.live.remove(&event.sequence).expect("it lives");
                self.done.push(asked);
            }
        }
    }

    fn finish(&mut self) {
        while self.batcher.ready() {
            self.lap();
        }
    }

    fn step(&mut self) {
        match self.rng.below(12) {
            0..3 => {
                let asked = self.request();
                self.join(asked);
            }
            3 => {
                let at = self.rng.below(self.live.len().max(1) as u64) as usize;
                if let Some(&id) = self.live.keys().nth(at) {
                    self.batcher.leave(id);
                    self.live.remove(&id);
                }
            }
            _ => self.lap(),
        }
    }
}

/// The result of a walk.
struct Walked {
    /// By answer: the largest difference of a log probability to the same computed alone.
    distances: Vec<f32>,
    /// Number of tokens that the last prompt found in the cache.
    cached: usize,
    /// Number of tokens that were found on disk in the whole walk.
    restored: u64,
    /// Whether the model is a mixture of experts.
    experts: bool,
}

fn walk(path: &Path, seed: u64) -> Walked {
    let options = Options {
        seqs: Some(3),
        // Two threads would wait for each other on a busy machine.
        threads: Some(1),
        ctx: Some(CELLS / 2),
        // Keeps rounding small, so that it is not mistaken for an error.
        kv: KvType::F32,
        spare: true,
        ..options(Way::Auto)
    };
    let folder = tempfile::tempdir().expect("a folder");
    let batcher = || {
        let mut engine = streamed(path, 1 << 20, &options);
        let cache = KvCache {
            folder: folder.path().to_owned(),
            size: 64 << 20,
            content: [0; 32],
            read_only: false,
            write_per_day: None,
            share: None,
        };
        let tier = KvTier::open(&cache, path, &options).expect("a folder");
        // Some models cannot have one.
        let kept = engine.backend_mut().use_tier(tier).is_ok();
        (Batcher::new(engine, Some(CELLS / 2)), kept)
    };
    let (first, on_disk) = batcher();
    let mut walk = Walk {
        batcher: first,
        restored: 0,
        rng: Rng::new(seed),
        live: BTreeMap::new(),
        done: Vec::new(),
        cached: 0,
    };
    // Halfway the program is restarted.
    while walk.done.len() < REQUESTS / 2 {
        walk.step();
    }
    walk.finish();
    let Walk {
        batcher: past,
        rng,
        done,
        ..
    } = walk;
    drop(past);
    let mut walk = Walk {
        batcher: batcher().0,
        restored: 0,
        rng,
        live: BTreeMap::new(),
        done,
        cached: 0,
    };
    while walk.done.len() < REQUESTS {
        walk.step();
    }
    walk.finish();
    let tier = walk.batcher.decoder().backend_mut().tier();
    walk.restored = tier.map_or(0, |tier| tier.stats().flash_tokens);
    let experts = walk.batcher.decoder().file().facts().experts > 0;
    assert!(walk.restored > 0 || !on_disk, "nothing was found on disk");
    // With snapshots alone, the walk may find nothing in the cache; this prompt certainly does.
    let long = |walk: &mut Walk, prompt: Vec<i32>| {
        let answer = walk.text(8);
        let logprobs = Vec::new();
        assert!(
            walk.join(Asked {
                prompt,
                answer,
                logprobs
            }),
            "there is nobody else"
        );
        walk.finish();
    };
    let mut prompt: Vec<i32> = (0..100).map(|_| walk.token()).collect();
    long(&mut walk, prompt.clone());
    prompt.extend(walk.text(8));
    walk.cached = 0;
    long(&mut walk, prompt);
    let (kept, cached) = (std::mem::take(&mut walk.done), walk.cached);
    let mut distances = Vec::new();
    for asked in kept {
        walk.batcher.forget_left();
        let anew = Asked {
            logprobs: Vec::new(),
            ..asked.clone()
        };
        assert!(walk.join_as(anew, true), "there is nobody else");
        walk.finish();
        let anew = walk.done.pop().expect("it was answered");
        assert_eq!(asked.logprobs.len(), anew.logprobs.len());
        let both = asked.logprobs.iter().zip(&anew.logprobs);
        distances.push(both.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max));
    }
    Walked {
        distances,
        cached,
        restored: walk.restored,
        experts,
    }
}

#[test]
fn what_is_kept_changes_no_answer() {
    let (_alone, dir) = (alone(), scratch());
    let seed = delayline_testing::seed();
    let tiny = delayline_synth::names().filter(|name| name.starts_with("tiny-"));
    let mut shapes: Vec<&str> = tiny.chain(HYBRIDS).collect();
    let others: Vec<&str> = tiny_archs().map(TinyArch::name).collect();
    if let Ok(only) = std::env::var("SHAPE") {
        shapes.extend(others);
        shapes.retain(|shape| *shape == only);
        shapes.dedup();
        assert!(
            !shapes.is_empty(),
            "SHAPE={only}: there is none of that name"
        );
    } else {
        // Some random others in each run.
        let mut rng = Rng::new(seed);
        let pick = |_| others[rng.below(others.len() as u64) as usize];
        shapes.extend((0..OTHERS).map(pick));
    }
    for shape in shapes {
        let path = synth(dir.path(), shape, Quant::F16);
        let walked = walk(&path, seed);
        let largest = walked.distances.iter().copied().fold(0.0, f32::max);
        println!(
            "{shape}: {largest:.1e} apart, {} tokens kept, {} from disk",
            walked.cached, walked.restored
        );
        // If two experts are almost equally good, rounding may lead to another choice.
        let far = walked.distances.iter().filter(|&&far| far > ROUNDING);
        let rare = if walked.experts { REQUESTS / 5 } else { 0 };
        assert!(
            far.count() <= rare,
            "{shape}: an answer is {largest} apart from the same computed alone"
        );
        let sure = shape != FORGETS;
        assert!(walked.cached > 0 || !sure, "{shape}: nothing was kept");
        std::fs::remove_file(path).expect("it was there");
    }
}
