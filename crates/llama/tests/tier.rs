//! Blocks of the KV cache on disk: restored blocks are those that were in memory, bit for
//! bit, and are found only with the same model, format and namespace.

mod common;

use std::path::Path;

use common::{alone, options, scratch, synth};
use delayline_engine::{KvType, Options, Way};
use delayline_llama::batch::{Batcher, Choice, GenerateRequest, Retention};
use delayline_llama::{KvCache, KvTier, Namespace, Sampling, open};
use delayline_synth::Quant;

/// What distinguishes the runs.
struct Setting<'a> {
    model: &'a Path,
    folder: &'a Path,
    kv: KvType,
    content: [u8; 32],
}

impl Setting<'_> {
    fn batcher(&self) -> Batcher {
        let options = Options {
            memory: Some(8 << 30),
            kv: self.kv,
            seqs: Some(3),
            spare: true,
            ctx: Some(512),
            ..options(Way::Streamed)
        };
        let mut engine = open(self.model, &options).expect("it is sound");
        let cache = KvCache {
            folder: self.folder.to_owned(),
            size: 64 << 20,
            content: self.content,
            read_only: false,
            write_per_day: None,
            share: None,
        };
        let tier = KvTier::open(&cache, self.model, &options).expect("a folder");
        engine.backend_mut().use_tier(tier).expect("this model can");
        Batcher::new(engine, None)
    }
}

/// Number of tokens that were found, and the answer's tokens with the bits of their log
/// probabilities.
type Answer = (usize, Vec<(i32, Vec<u32>)>);

fn ask(batcher: &mut Batcher, prompt: &[i32], namespace: Namespace) -> Answer {
    let retention = Retention::default();
    ask_and_keep(batcher, prompt, namespace, retention)
}

fn ask_and_keep(
    batcher: &mut Batcher,
    prompt: &[i32],
    namespace: Namespace,
    retention: Retention,
) -> Answer {
    let greedy = Choice::Sampled(Sampling {
        temperature: 0.0,
        ..Sampling::default()
    });
    let request = GenerateRequest {
        logprobs: Some(5),
        namespace,
        retention,
        ..GenerateRequest::new(prompt, 4, greedy)
    };
    let admitted = batcher.join(request).expect("there is room");
    let (mut events, mut out) = (Vec::new(), Vec::new());
    while batcher.ready() {
        batcher.lap(&mut events).expect("laps go well");
        for event in events.drain(..) {
            let token = event.token.expect("a token");
            let bits = token.logprobs.iter().map(|one| one.logprob.to_bits());
            out.push((token.token, bits.collect()));
        }
    }
    (admitted.cached, out)
}

fn prompt(len: i32, step: i32) -> Vec<i32> {
    (0..len).map(|n| 3 + n * step % 300).collect()
}

#[test]
fn what_comes_back_is_what_was_in_memory() {
    let (_alone, dir) = (alone(), scratch());
    let mine = Namespace::default();
    for (shape, kv) in [
        ("tiny-llama", KvType::F16),
        ("tiny-llama", KvType::Q8_0),
        ("tiny-llama", KvType::Q4_0),
        ("tiny-qwen2", KvType::F16),
        ("tiny-qwen3", KvType::F16),
        ("tiny-mixtral", KvType::F16),
        ("tiny-gemma2", KvType::F16),
        ("tiny-phi3", KvType::F16),
    ] {
        let path = synth(dir.path(), shape, Quant::Q4_0);
        let folder = dir.path().join(format!("{shape}-{kv:?}"));
        let setting = Setting {
            model: &path,
            folder: &folder,
            kv,
            content: [1; 32],
        };
        let (text, other) = (prompt(150, 37), prompt(90, 41));
        let mut first = setting.batcher();
        assert_eq!(
            ask(&mut first, &text, mine).0,
            0,
            "{shape}: nothing is known"
        );
        let kept = ask(&mut first, &text, mine);
        assert_eq!(kept.0, 149, "{shape}");
        drop(first);

        let mut second = setting.batcher();
        let found = ask(&mut second, &text, mine);
        assert_eq!(found, kept, "{shape} {kv:?}: not as the hit in memory");
        drop(second);

        // After another sequence, so in other cells.
        let mut third = setting.batcher();
        ask(&mut third, &other, mine);
        let (cached, answer) = ask(&mut third, &text, mine);
        assert_eq!(cached, 149);
        let tokens = |answer: &[(i32, Vec<u32>)]| -> Vec<i32> {
            answer.iter().map(|(token, _)| *token).collect()
        };
        assert_eq!(tokens(&answer), tokens(&kept.1), "{shape}");

        // A text that differs from it inside a block, and one that continues it.
        let mut parts = text.clone();
        parts[100] = 299;
        assert_eq!(ask(&mut third, &parts, mine).0, 100, "{shape}");
        drop(third);
        let mut longer = text.clone();
        longer.extend(kept.1[..3].iter().map(|(token, _)| *token));
        longer.extend(prompt(20, 43));
        let mut fourth = setting.batcher();
        assert_eq!(
            ask(&mut fourth, &longer, mine).0,
            153,
            "{shape}: the answer too"
        );

        // With another namespace, another model or another format nothing is found.
        for (owner, salt) in [("a key", ""), ("", "a salt"), ("a key", "a salt")] {
            let other = Namespace::new(owner.as_bytes(), salt.as_bytes());
            assert_eq!(ask(&mut fourth, &text, other).0, 0, "{owner} {salt}");
        }
        drop(fourth);
        for other in [
            Setting {
                content: [2; 32],
                ..setting
            },
            Setting {
                kv: KvType::F32,
                ..setting
            },
        ] {
            assert_eq!(ask(&mut other.batcher(), &text, mine).0, 0, "{shape}");
        }
    }
}

#[test]
fn models_whose_cache_cannot_be_kept_say_so() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-gemma3", Quant::Q4_0);
    let options = Options {
        memory: Some(8 << 30),
        spare: true,
        ..options(Way::Streamed)
    };
    let mut engine = open(&path, &options).expect("it is sound");
    let cache = KvCache {
        folder: dir.path().join("kv"),
        size: 1 << 20,
        content: [0; 32],
        read_only: false,
        write_per_day: None,
        share: None,
    };
    let tier = KvTier::open(&cache, &path, &options).expect("a folder");
    let refused = engine.backend_mut().use_tier(tier).expect_err("a window");
    assert!(
        refused.to_string().contains("leave out --kv-cache"),
        "{refused}"
    );
}

#[test]
fn what_is_to_stay_in_memory_is_not_on_disk_and_what_is_forgotten_is_nowhere() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let setting = Setting {
        model: &path,
        folder: &dir.path().join("kv"),
        kv: KvType::F16,
        content: [1; 32],
    };
    let (mine, yours) = (Namespace::default(), Namespace::new(b"a key", b""));
    let (text, other) = (prompt(150, 37), prompt(150, 41));
    let mut first = setting.batcher();
    let memory = Retention::Memory;
    assert_eq!(ask_and_keep(&mut first, &text, mine, memory).0, 0);
    assert_eq!(ask_and_keep(&mut first, &text, mine, memory).0, 149);
    ask(&mut first, &other, mine);
    ask(&mut first, &other, yours);
    drop(first);
    let mut second = setting.batcher();
    assert_eq!(ask(&mut second, &text, mine).0, 0, "it was in memory alone");
    assert_eq!(ask_and_keep(&mut second, &other, mine, memory).0, 149);
    let forgotten = second.forget(&mine);
    assert!(forgotten.tokens >= 300, "{forgotten:?}");
    assert_eq!(forgotten.blocks, 6, "two texts of two blocks and a tail");
    assert_eq!(ask_and_keep(&mut second, &other, mine, memory).0, 0);
    drop(second);
    let mut third = setting.batcher();
    let left = [(&text, mine), (&other, mine), (&other, yours)];
    let left = left.map(|(text, whose)| ask_and_keep(&mut third, text, whose, memory).0);
    assert_eq!(left, [0, 0, 149]);
}
