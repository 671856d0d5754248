//! Sequences that share laps: each gets the tokens that it gets alone, whichever others
//! join, leave or fail.

mod common;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use common::switched::{steady, switch, switched};
use common::{alone, demo_model, options, scratch, streamed, synth};
use delayline_engine::{Error, KvType, ModelFile, Options, Way};
use delayline_llama::batch::{
    Batcher, Choice, GenerateRequest, JoinError, SequenceEvent, SequenceId,
};
use delayline_llama::{Finish, Sampling, TokenBias};
use delayline_medium::{Faults, wrapped};
use delayline_synth::Quant;

const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
    seed: 0,
};

fn request(prompt: &[i32], max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        logprobs: Some(2),
        ..GenerateRequest::new(prompt, max_tokens, Choice::Sampled(GREEDY))
    }
}

/// Prompts of different lengths, one longer than a micro-batch of 16.
fn prompts() -> Vec<Vec<i32>> {
    let prompt = |seed: i32, n: i32| (0..n).map(|i| 3 + (seed + i * 37) % 300).collect();
    vec![prompt(1, 5), prompt(2, 40), prompt(3, 1), prompt(4, 17)]
}

fn many(seqs: u32) -> Options {
    Options {
        seqs: Some(seqs),
        ctx: Some(512),
        // Keeps rounding small, so that it is not mistaken for an error.
        kv: KvType::F32,
        ..options(Way::Auto)
    }
}

fn batcher(path: &Path, options: &Options) -> Batcher {
    Batcher::new(streamed(path, 200 << 10, options), Some(256))
}

/// A token, and the difference of its log probability to that of the second likeliest.
type Clear = (i32, f32);

/// The continuation of each prompt by an engine with one sequence.
fn expected(path: &Path, max_tokens: usize) -> Vec<Vec<Clear>> {
    let mut batcher = batcher(path, &many(1));
    let mut answer = |prompt: &Vec<i32>| {
        let id = join(&mut batcher, prompt, max_tokens);
        let mut heard = Heard::default();
        heard.all(&mut batcher);
        heard.tokens.remove(&id).unwrap_or_default()
    };
    prompts().iter().map(&mut answer).collect()
}

/// Asserts that tokens are the expected ones up to the first where rounding decides. Kernels
/// sum in another order for several rows, so of two almost equally likely tokens the other
/// one may be chosen, and everything differs from there.
fn assert_same(got: &[Clear], expected: &[Clear], label: &str) {
    let differs = got.iter().zip(expected).position(|(a, b)| a.0 != b.0);
    match differs {
        Some(at) => assert!(
            expected[at].1 < 0.05,
            "{label}: token {at} is {:?}, not {:?}",
            got[at],
            expected[at]
        ),
        None => assert_eq!(got.len(), expected.len(), "{label}"),
    }
}

/// Tokens by sequence, and how each ended.
#[derive(Default)]
struct Heard {
    tokens: HashMap<SequenceId, Vec<Clear>>,
    ended: HashMap<SequenceId, Finish>,
}

impl Heard {
    fn take(&mut self, events: &mut Vec<SequenceEvent>) {
        for event in events.drain(..) {
            let step = event.token.expect("a token");
            let tokens = self.tokens.entry(event.sequence).or_default();
            if let [chosen, first, second] = &step.logprobs[..] {
                assert_eq!(chosen, first, "not the likeliest");
                tokens.push((chosen.token, first.logprob - second.logprob));
            }
            if let Some(finish) = step.finish {
                assert!(self.ended.insert(event.sequence, finish).is_none());
            }
        }
    }

    fn all(&mut self, batcher: &mut Batcher) {
        let mut events = Vec::new();
        while batcher.ready() {
            batcher.lap(&mut events).expect("a lap");
            self.take(&mut events);
        }
    }
}

fn join(batcher: &mut Batcher, prompt: &[i32], max_tokens: usize) -> SequenceId {
    batcher
        .join(request(prompt, max_tokens))
        .expect("a slot")
        .id
}

const SHAPES: [(&str, Quant); 3] = [
    ("tiny-llama", Quant::F16),
    ("tiny-mixtral", Quant::F16),
    ("tiny-gemma3", Quant::F16),
];

#[test]
fn together_each_gets_the_tokens_that_it_gets_alone() {
    let (_alone, dir) = (alone(), scratch());
    for (shape, quant) in SHAPES {
        let path = synth(dir.path(), shape, quant);
        check_together(&path, shape);
    }
    check_together(&demo_model(), "the demo model");
}

fn check_together(path: &Path, label: &str) {
    let expected = expected(path, 12);
    let mut batcher = batcher(path, &many(4));
    let ids: Vec<SequenceId> = prompts()
        .iter()
        .map(|p| join(&mut batcher, p, 12))
        .collect();
    let mut heard = Heard::default();
    heard.all(&mut batcher);
    for (at, id) in ids.iter().enumerate() {
        let label = format!("{label}, prompt {at}");
        assert_same(&heard.tokens[id], &expected[at], &label);
    }
}

#[test]
fn they_join_and_leave_between_laps() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::F16);
    let (expected, prompts) = (expected(&path, 20), prompts());
    let mut batcher = batcher(&path, &many(3));
    let (mut heard, mut events) = (Heard::default(), Vec::new());
    let mut ids = Vec::new();
    // One more joins every four laps; the second is removed while it generates.
    for (at, prompt) in prompts.iter().enumerate() {
        if at == 3 {
            batcher.leave(ids[1]);
        }
        ids.push(join(&mut batcher, prompt, 20));
        for _ in 0..4 {
            batcher.lap(&mut events).expect("a lap");
            heard.take(&mut events);
        }
    }
    heard.all(&mut batcher);
    for at in [0, 2, 3] {
        let label = format!("prompt {at}");
        assert_same(&heard.tokens[&ids[at]], &expected[at], &label);
        assert!(heard.ended.contains_key(&ids[at]));
    }
    let left = heard.tokens.get(&ids[1]).cloned().unwrap_or_default();
    assert!(left.len() < 20, "{left:?}");
    assert_same(&left, &expected[1][..left.len()], "who left");
    assert_eq!(batcher.sequences().count(), 0);
}

/// A long prompt beside a generation: it is cut into pieces, and each of their
/// laps carries the generation's next token.
#[test]
fn a_long_prompt_goes_in_pieces_beside_the_others() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::F16);
    let (expected, prompts) = (expected(&path, 30), prompts());
    let mut batcher = batcher(&path, &many(2));
    // Pieces are smaller on a busier machine, but at least four tokens long: the other
    // sequence must not end before the last piece.
    let longest = [0, 2, 3].into_iter().max_by_key(|&at| expected[at].len());
    let longest = longest.expect("three of them");
    assert!(expected[longest].len() > prompts[1].len() / 4 + 1);
    let first = join(&mut batcher, &prompts[longest], 30);
    let (mut heard, mut events) = (Heard::default(), Vec::new());
    while !heard.tokens.contains_key(&first) {
        batcher.lap(&mut events).expect("the first prompt");
        heard.take(&mut events);
    }
    let second = join(&mut batcher, &prompts[1], 30);
    let mut pieces = Vec::new();
    while !heard.tokens.contains_key(&second) {
        let before = heard.tokens[&first].len();
        let lap = batcher.lap(&mut events).expect("a lap of both");
        heard.take(&mut events);
        assert_eq!(
            heard.tokens[&first].len(),
            before + 1,
            "the first was delayed"
        );
        assert_eq!(lap.sequences, 2);
        pieces.push(lap.prompt_tokens);
    }
    assert_eq!(pieces.iter().sum::<usize>(), prompts[1].len());
    assert!(
        pieces.len() > 1 && pieces.iter().all(|&n| n < 16),
        "{pieces:?}"
    );
    heard.all(&mut batcher);
    assert_same(&heard.tokens[&first], &expected[longest], "the first");
    assert_same(&heard.tokens[&second], &expected[1], "the second");
}

#[test]
fn a_held_sequence_keeps_its_slot_and_goes_on() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::F16);
    let (expected, prompts) = (expected(&path, 10), prompts());
    let mut batcher = batcher(&path, &many(2));
    let (mut heard, mut events) = (Heard::default(), Vec::new());
    let slow = join(&mut batcher, &prompts[0], 10);
    let other = join(&mut batcher, &prompts[3], 10);
    for _ in 0..3 {
        batcher.lap(&mut events).expect("a lap");
        heard.take(&mut events);
    }
    batcher.hold(slow, true);
    let before = heard.tokens[&slow].len();
    heard.all(&mut batcher);
    assert_eq!(heard.tokens[&slow].len(), before, "it was held");
    assert_same(&heard.tokens[&other], &expected[3], "the other");
    batcher.hold(slow, false);
    heard.all(&mut batcher);
    assert_same(&heard.tokens[&slow], &expected[0], "who was held");
}

#[test]
fn a_conversation_goes_on_where_it_was() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::F16);
    let prompts = prompts();
    let mut batcher = batcher(&path, &many(2));
    let mut heard = Heard::default();
    let first = join(&mut batcher, &prompts[1], 5);
    heard.all(&mut batcher);
    let mut text = prompts[1].clone();
    text.extend(heard.tokens[&first].iter().map(|(token, _)| token));
    text.extend([7, 8, 9]);
    // A refused request removes nothing from the cache.
    let refused = batcher.join(GenerateRequest {
        grammar: Some("root ::= root".into()),
        ..request(&text[..30], 5)
    });
    assert!(matches!(refused, Err(JoinError::Invalid(_))), "{refused:?}");
    // Everything but the last generated token was computed.
    let joined = batcher.join(request(&text, 5)).expect("a slot");
    assert_eq!(joined.cached, prompts[1].len() + 4);
    heard.all(&mut batcher);
    let mut fresh = self::batcher(&path, &many(2));
    let id = join(&mut fresh, &text, 5);
    let mut anew = Heard::default();
    anew.all(&mut fresh);
    assert_same(&heard.tokens[&joined.id], &anew.tokens[&id], "anew");
}

/// Slots and the KV cache are never promised twice.
#[test]
fn who_has_no_room_waits() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::F16);
    let prompts = prompts();
    let options = Options {
        ctx: Some(256),
        ..many(3)
    };
    // 768 tokens of KV cache, at most 512 a sequence.
    let mut batcher = Batcher::new(streamed(&path, 200 << 10, &options), Some(512));
    let full =
        |batcher: &mut Batcher, max_tokens| match batcher.join(request(&prompts[0], max_tokens)) {
            Err(JoinError::Full(request)) => request.prompt == prompts[0],
            Err(JoinError::Invalid(error)) => panic!("{error}"),
            Ok(_) => false,
        };
    let a = join(&mut batcher, &prompts[0], 500);
    join(&mut batcher, &prompts[3], 200);
    assert!(full(&mut batcher, 200), "no room for another 205 tokens");
    let small = join(&mut batcher, &prompts[2], 30);
    assert!(full(&mut batcher, 1), "no fourth slot");
    batcher.leave(small);
    batcher.leave(a);
    assert!(!full(&mut batcher, 200), "room again");
    for (prompt, max_tokens) in [(vec![3; 512], 1), (Vec::new(), 1), (vec![3], 0)] {
        let never = batcher.join(request(&prompt, max_tokens));
        assert!(matches!(never, Err(JoinError::Invalid(_))), "{never:?}");
    }
}

/// The answer to a request without others beside it, and how it ended.
fn text(batcher: &mut Batcher, request: GenerateRequest) -> (String, Option<Finish>) {
    let id = batcher.join(request).expect("a slot").id;
    let (mut events, mut text, mut finish) = (Vec::new(), String::new(), None);
    while batcher.ready() {
        batcher.lap(&mut events).expect("a lap");
        for event in events.drain(..) {
            assert_eq!(event.sequence, id);
            let step = event.token.expect("a token");
            text.push_str(&step.text);
            finish = step.finish;
        }
    }
    (text, finish)
}

#[test]
fn a_control_token_is_shown_where_its_text_is_asked_for() {
    let _alone = alone();
    let mut batcher = batcher(&demo_model(), &many(1));
    let control = batcher
        .vocab()
        .control_tokens(&["<|im_start|>", "hello", "<|im_end|> ", "<|none|>"])
        .expect("tokens");
    assert_eq!(control.len(), 1, "{control:?}");
    let bias = vec![TokenBias {
        token: control[0],
        bias: 1000.0,
    }];
    let mut said = |shown: &[i32]| {
        let asked = GenerateRequest {
            bias: bias.clone(),
            shown: shown.to_vec(),
            ..request(&[5, 6, 7], 2)
        };
        text(&mut batcher, asked).0
    };
    assert_eq!(said(&control), "<|im_start|><|im_start|>");
    assert_eq!(said(&[]), "");
}

#[test]
fn a_stop_text_and_a_grammar_bound_the_answer() {
    let _alone = alone();
    let mut batcher = batcher(&demo_model(), &many(2));
    let prompt = batcher
        .vocab()
        .tokenize("The colours: red, green,", true, false)
        .expect("tokens");
    let free = text(&mut batcher, request(&prompt, 16)).0;
    let at = free
        .char_indices()
        .nth(free.chars().count() / 2)
        .map_or(0, |(at, _)| at);
    let stop: String = free[at..].chars().take(3).collect();
    let expected = &free[..free.find(&stop).expect("it is in there")];
    let stopped = text(
        &mut batcher,
        GenerateRequest {
            stop: vec![stop],
            ..request(&prompt, 16)
        },
    );
    assert_eq!(stopped, (expected.to_owned(), Some(Finish::Stopped)));
    let grammar = "root ::= \" blue\" [0-9]{3}";
    let bound = text(
        &mut batcher,
        GenerateRequest {
            grammar: Some(grammar.into()),
            ..request(&prompt, 16)
        },
    );
    let digits = bound.0.strip_prefix(" blue").expect("as the grammar says");
    assert!(
        digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()),
        "{bound:?}"
    );
    assert_eq!(bound.1, Some(Finish::End));
    let nonsense = batcher.join(GenerateRequest {
        grammar: Some("root ::= nowhere".into()),
        ..request(&prompt, 1)
    });
    assert!(
        matches!(nonsense, Err(JoinError::Invalid(_))),
        "{nonsense:?}"
    );
}

/// A lap that meets a fault fails for all sequences in it, of which a held one is none;
/// afterwards all go on as if there had been no fault.
#[test]
fn a_failed_lap_leaves_its_sequences_as_they_were() {
    let (_alone, dir) = (alone(), scratch());
    for shape in ["tiny-llama", "tiny-mixtral"] {
        let path = synth(dir.path(), shape, Quant::F16);
        let (expected, prompts) = (expected(&path, 12), prompts());
        let options = Options {
            maker: Some(wrapped(switched)),
            ..many(4)
        };
        let mut batcher = batcher(&path, &options);
        let ids: Vec<SequenceId> = prompts.iter().map(|p| join(&mut batcher, p, 12)).collect();
        let (mut heard, mut events) = (Heard::default(), Vec::new());
        let broken = Faults {
            broken: vec![(0, 0..1 << 40)],
            ..Faults::default()
        };
        for turn in 0..6 {
            batcher.hold(ids[2], turn % 2 == 1);
            switch(broken.clone());
            // Prefetched bytes may suffice for another lap.
            let failed = loop {
                match batcher.lap(&mut events) {
                    Ok(_) => heard.take(&mut events),
                    Err(failed) => break failed,
                }
            };
            assert!(matches!(failed.error, Error::Line(_)), "{}", failed.error);
            assert!(events.is_empty());
            let held = turn % 2 == 1;
            assert_eq!(
                failed.sequences.contains(&ids[2]),
                !held && batcher.sequences().any(|id| id == ids[2])
            );
            switch(Faults::default());
            batcher.lap(&mut events).expect("a lap without faults");
            heard.take(&mut events);
        }
        batcher.hold(ids[2], false);
        heard.all(&mut batcher);
        steady();
        for (at, id) in ids.iter().enumerate() {
            let label = format!("{shape}, prompt {at}");
            assert_same(&heard.tokens[id], &expected[at], &label);
        }
    }
}

/// A norm that is not finite gives an error that says so, and no event for any sequence.
#[test]
fn logits_that_are_not_finite_end_the_lap() {
    let (_alone, dir) = (alone(), scratch());
    for spoiled in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let path = synth(dir.path(), "tiny-llama", Quant::F16);
        let file = ModelFile::open(&path).expect("a model");
        let norm = file
            .weights()
            .iter()
            .find(|w| w.name == "output_norm.weight");
        let at = norm.expect("it has one").offset;
        drop(file);
        let mut file = OpenOptions::new().write(true).open(&path).expect("a file");
        file.seek(SeekFrom::Start(at)).expect("it is that long");
        file.write_all(&spoiled.to_le_bytes()).expect("four bytes");
        drop(file);
        let mut batcher = batcher(&path, &many(2));
        for prompt in &prompts()[..2] {
            join(&mut batcher, prompt, 5);
        }
        let mut events = Vec::new();
        let failed = (0..8).find_map(|_| batcher.lap(&mut events).err());
        let failed = failed.expect("logits are computed within so many laps");
        let message = failed.to_string();
        assert!(message.contains("not finite"), "{message}");
        assert!(events.is_empty(), "{events:?}");
        assert!(!failed.sequences.is_empty());
    }
}
