//! The whole batcher, and sessions, on a simulated decoder: whichever sequences join,
//! leave, are held or fail, each gets what it would get alone, no cell is promised twice,
//! and none starves.
//!
//! `SEED=n` sets the seed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use delayline_engine::{Class, Error};
use delayline_llama::batch::{
    Batcher, Choice, DecodedLap, GenerateRequest, JoinError, Language, SequenceEvent, SequenceId,
    SimulatedDecoder, SimulatedModel,
};
use delayline_llama::{Finish, Sampling, Session};
use delayline_medium::Rng;

const MODEL: SimulatedModel = SimulatedModel {
    slots: 1,
    cells: 64,
    rows: 4,
    vocab: 24,
    snapshots: None,
    failures: 0.0,
    spoiled: 0.0,
    lap_ns: 400,
    row_ns: 100,
    medium_ns: 1200,
    seed: 7,
};

fn between(rng: &mut Rng, from: usize, to: usize) -> usize {
    from + rng.below((to - from + 1) as u64) as usize
}

/// What a sequence gets.
#[derive(Debug, PartialEq)]
struct Answer {
    tokens: Vec<i32>,
    text: String,
    finish: Finish,
}

/// The reference answer to a request, computed as simply as possible: from the whole text
/// for each token.
fn alone(model: &SimulatedModel, request: &GenerateRequest, ctx: usize) -> Answer {
    let Choice::Sampled(sampling) = &request.choice else {
        panic!("only sampled texts are walked");
    };
    let mut language = model.language();
    let mut sampler = language.sampler(sampling, request).expect("no grammar");
    let (mut text, mut tokens, mut bytes) = (request.prompt.clone(), Vec::new(), Vec::new());
    let finish = loop {
        let logits = model.logits(&text);
        let token = language.choose(&mut sampler, &logits).expect("a token");
        tokens.push(token);
        text.push(token);
        if token == 0 {
            break Finish::End;
        }
        bytes.push(SimulatedModel::spelling(token));
        if first_stop(&whole_characters(&bytes), &request.stop).is_some() {
            break Finish::Stopped;
        }
        // The last token needs no cell.
        if tokens.len() == request.max_tokens {
            break Finish::Length;
        }
        if text.len() == ctx + 1 {
            break Finish::Full;
        }
    };
    let mut text = match finish {
        Finish::Stopped => whole_characters(&bytes),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    };
    text.truncate(first_stop(&text, &request.stop).unwrap_or(text.len()));
    Answer {
        tokens,
        text,
        finish,
    }
}

fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter_map(|stop| text.find(stop)).min()
}

/// The text without an incomplete character at its end.
fn whole_characters(bytes: &[u8]) -> String {
    let unfinished = |n: &usize| {
        let end = &bytes[bytes.len() - n..];
        matches!(std::str::from_utf8(end), Err(error) if error.valid_up_to() == 0 && error.error_len().is_none())
    };
    let rest = (1..=bytes.len().min(3)).rev().find(unfinished).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..bytes.len() - rest]).into_owned()
}

/// A sequence under way.
struct Live {
    request: GenerateRequest,
    answer: Answer,
    /// Tokens so far.
    got: usize,
    text: String,
    held: bool,
    /// Maximum number of cells that it may take.
    cells: usize,
    /// Maximum number of laps with it before its first token.
    patience: usize,
}

/// A batcher and what its sequences have to get.
struct Walk {
    model: SimulatedModel,
    batcher: Batcher<SimulatedDecoder>,
    rng: Rng,
    live: BTreeMap<SequenceId, Live>,
    /// Completed texts, which later prompts may continue.
    past: Vec<Vec<i32>>,
    /// The class that the last lap expected of the next one, if that is certain.
    hint: Option<Class>,
    answered: usize,
    /// Number of requests that had room only because they share cells.
    shared: usize,
    failed: usize,
    /// Number of laps that failed because a logit was NaN.
    spoiled: usize,
    /// Number of consecutive laps without a token for generating sequences.
    tokenless: usize,
}

impl Walk {
    fn new(model: SimulatedModel, ctx: u32, seed: u64) -> Self {
        Self {
            batcher: Batcher::new(SimulatedDecoder::new(model), Some(ctx)),
            model,
            rng: Rng::new(seed),
            live: BTreeMap::new(),
            past: Vec::new(),
            hint: None,
            answered: 0,
            shared: 0,
            failed: 0,
            spoiled: 0,
            tokenless: 0,
        }
    }

    fn pick(&mut self, n: usize) -> usize {
        self.rng.below(n as u64) as usize
    }

    fn request(&mut self) -> GenerateRequest {
        let ctx = self.batcher.ctx();
        let mut prompt = match self.pick(3) {
            // A prefix of a running sequence's prompt, which is computed only once.
            1 if !self.live.is_empty() => {
                let at = self.pick(self.live.len());
                let mut text = self
                    .live
                    .values()
                    .nth(at)
                    .expect("it lives")
                    .request
                    .prompt
                    .clone();
                let keep = self.pick(text.len() + 1);
                text.truncate(keep);
                text
            }
            0 if !self.past.is_empty() => {
                let at = self.pick(self.past.len());
                let mut text = self.past[at].clone();
                let keep = self.pick(text.len() + 1);
                text.truncate(keep);
                text
            }
            _ => Vec::new(),
        };
        let more = self.pick(ctx / 2) + 1;
        prompt.extend((0..more).map(|_| self.rng.below(self.model.vocab as u64) as i32));
        prompt.truncate(ctx - 1);
        let sampling = Sampling {
            temperature: self.pick(2) as f32,
            seed: self.rng.next_u64() as u32,
            ..Sampling::default()
        };
        let max_tokens = self.pick(ctx) + 1;
        let stops = ["€", "ab", "q", "xyz", "\u{fffd}h"];
        GenerateRequest {
            stop: (0..self.pick(3)).map(|at| stops[at].into()).collect(),
            ..GenerateRequest::new(&prompt, max_tokens, Choice::Sampled(sampling))
        }
    }

    /// Whether another request of so many cells has room. What the longest request leaves,
    /// up to a slot's share, is reserved for requests that are no larger than that.
    fn holds(&self, cells: usize) -> bool {
        let guest = match self.model.slots {
            1 => 0,
            slots => (self.model.cells / slots).min(self.model.cells - self.batcher.ctx()),
        };
        let all = self.live.values().map(|live| live.cells).chain([cells]);
        let (small, large): (Vec<usize>, Vec<usize>) = all.partition(|&one| one <= guest);
        let (small, large): (usize, usize) = (small.iter().sum(), large.iter().sum());
        let kept = if large > 0 { guest } else { 0 };
        large + small.max(kept) <= self.model.cells
    }

    fn join(&mut self) {
        let request = self.request();
        let ctx = self.batcher.ctx();
        let prompt = request.prompt.len();
        let cells = (prompt + request.max_tokens - 1).min(ctx);
        let no_slot = self.live.len() == self.model.slots;
        // Without sharing; with it, there may be room nevertheless.
        let full = no_slot || !self.holds(cells);
        match self.batcher.join(request.clone()) {
            Ok(admitted) => {
                assert!(!no_slot, "a slot was promised twice");
                self.shared += usize::from(full);
                let held = self.batcher.decoder().memory();
                let cached = &request.prompt[..admitted.cached];
                assert!(held.iter().any(|text| text == cached), "{cached:?}");
                let live = Live {
                    answer: alone(&self.model, &request, ctx),
                    request,
                    got: 0,
                    text: String::new(),
                    held: false,
                    cells,
                    patience: 0,
                };
                assert!(self.live.insert(admitted.id, live).is_none());
                let patience = self.patience() - admitted.cached;
                self.live.get_mut(&admitted.id).expect("it lives").patience = patience;
                self.hint = None;
            }
            Err(JoinError::Full(back)) => {
                assert!(full, "there was room");
                assert_eq!(back.max_tokens, request.max_tokens);
            }
            Err(JoinError::Invalid(error)) => panic!("{error}"),
        }
    }

    /// Number of laps within which each waiting sequence must get its first token: each lap
    /// has at least one token of some prompt. With snapshots, only every other lap has, and
    /// generating sequences may have to be computed again.
    fn patience(&self) -> usize {
        let waiting = self.live.values();
        let waiting = waiting.filter(|live| live.got == 0 || self.only_goes_on());
        let lacking = waiting.map(|live| live.request.prompt.len() + live.got);
        let tokens: usize = lacking.sum();
        match self.only_goes_on() {
            false => tokens,
            true => 2 * (tokens + self.live.len()),
        }
    }

    fn only_goes_on(&self) -> bool {
        self.model.snapshots.is_some()
    }

    /// Whether generating sequences may lack more than their last token.
    fn is_behind(&self) -> bool {
        self.spoiled > 0 || self.only_goes_on() && self.failed > 0
    }

    /// A request that is refused changes nothing for the others.
    fn join_in_vain(&mut self) {
        let mut request = self.request();
        match self.pick(3) {
            0 => request.prompt.clear(),
            1 => request.max_tokens = 0,
            _ => request.prompt.resize(self.batcher.ctx(), 1),
        }
        let refused = self.batcher.join(request);
        assert!(matches!(refused, Err(JoinError::Invalid(_))), "{refused:?}");
    }

    fn some(&mut self) -> Option<SequenceId> {
        let at = self.pick(self.live.len().max(1));
        self.live.keys().nth(at).copied()
    }

    fn leave(&mut self) {
        if let Some(id) = self.some() {
            self.batcher.leave(id);
            self.live.remove(&id);
            self.hint = None;
        }
    }

    fn hold(&mut self, held: bool) {
        if let Some(id) = self.some() {
            self.batcher.hold(id, held);
            self.live.get_mut(&id).expect("it lives").held = held;
            self.hint = None;
        }
    }

    fn lap(&mut self) {
        let mut events = Vec::new();
        let before = self.batcher.decoder().memory().to_vec();
        let taking_part = self.live.iter().filter(|(_, live)| !live.held);
        let taking_part: Vec<SequenceId> = taking_part.map(|(&id, _)| id).collect();
        assert_eq!(self.batcher.ready(), !taking_part.is_empty());
        let generating = taking_part.iter().copied();
        let generating: Vec<SequenceId> = generating.filter(|id| self.live[id].got > 0).collect();
        match self.batcher.lap(&mut events) {
            Ok(lap) => {
                assert_eq!(lap.generated, events.len());
                // With snapshots, a lap of prompts is followed by one of single tokens.
                let tokens = !self.only_goes_on() || lap.decoded > 0;
                if tokens && !self.is_behind() {
                    assert_eq!(lap.decoded, generating.len());
                    for id in &generating {
                        let theirs = events.iter().filter(|event| event.sequence == *id);
                        assert_eq!(theirs.count(), 1, "a generating sequence gets its token");
                    }
                    self.tokenless = 0;
                } else if generating.is_empty() {
                    self.tokenless = 0;
                } else if !self.is_behind() {
                    self.tokenless += 1;
                    assert_eq!(self.tokenless, 1, "two laps of prompts in a row");
                }
                let certain = taking_part.len() == generating.len() && !self.is_behind();
                self.check_hint(certain);
                self.wait(&taking_part, &events);
                events.drain(..).for_each(|event| self.take(event));
            }
            Err(failed) => {
                let spoiled = failed.error.to_string().contains("not finite");
                self.spoiled += usize::from(spoiled);
                self.failed += usize::from(!spoiled);
                self.hint = None;
                self.batcher.decoder().take_laps();
                assert!(events.is_empty());
                let after = self.batcher.decoder().memory().to_vec();
                if spoiled {
                    assert!(after.iter().all(Vec::is_empty), "{after:?}");
                } else if self.only_goes_on() {
                    let mut both = after.iter().zip(&before);
                    assert!(both.all(|(after, before)| {
                        before.starts_with(after) || after.starts_with(before)
                    }));
                } else {
                    // A prefix that others computed may have been shared before the lap.
                    let mut both = after.iter().zip(&before);
                    assert!(both.all(|(after, before)| after.starts_with(before)));
                }
                assert!(failed.sequences.iter().all(|id| taking_part.contains(id)));
                let all = generating.iter().all(|id| failed.sequences.contains(id));
                assert!(all || self.only_goes_on() || self.is_behind());
                assert!(matches!(failed.error, Error::Llama { .. }));
                let patience = self.patience();
                for live in self.live.values_mut() {
                    live.patience = patience;
                }
            }
        }
    }

    /// Checks that the lap was of the expected class, and remembers the next expectation if
    /// it is `certain`: while all generate.
    fn check_hint(&mut self, certain: bool) {
        for lap in self.batcher.decoder().take_laps() {
            if let Some(hint) = self.hint {
                assert_eq!(hint, lap.class);
            }
            self.hint = lap.next.filter(|_| certain);
        }
    }

    /// Checks that no sequence waits too long for its first token.
    fn wait(&mut self, taking_part: &[SequenceId], events: &[SequenceEvent]) {
        for id in taking_part {
            let live = self.live.get_mut(id).expect("it lives");
            if live.got == 0 {
                assert!(live.patience > 0, "a sequence starves");
                live.patience -= 1;
            }
        }
        let news = events
            .iter()
            .all(|event| taking_part.contains(&event.sequence));
        assert!(news, "a token for one that took no part");
    }

    fn take(&mut self, event: SequenceEvent) {
        let live = self.live.get_mut(&event.sequence).expect("it lives");
        let token = event.token.expect("a token");
        assert_eq!(token.token, live.answer.tokens[live.got]);
        live.got += 1;
        live.text.push_str(&token.text);
        assert!(live.answer.text.starts_with(&live.text), "{:?}", live.text);
        let over = live.got == live.answer.tokens.len();
        assert_eq!(token.finish, over.then_some(live.answer.finish));
        if let Some(finish) = token.finish {
            assert_eq!(live.text, live.answer.text, "{:?}", live.request);
            self.answered += 1;
            if finish != Finish::Length {
                self.hint = None;
            }
            let live = self.live.remove(&event.sequence).expect("it lives");
            let mut text = live.request.prompt;
            text.extend(live.answer.tokens);
            text.truncate(self.batcher.ctx() - 1);
            self.past.push(text);
        }
    }

    fn step(&mut self) {
        match self.pick(20) {
            0..4 => self.join(),
            4 => self.join_in_vain(),
            5 => self.leave(),
            6 => self.hold(true),
            7 => self.hold(false),
            _ => self.lap(),
        }
        let ids: Vec<SequenceId> = self.batcher.sequences().collect();
        assert_eq!(ids.len(), self.live.len());
        assert!(ids.iter().all(|id| self.live.contains_key(id)));
    }

    /// Runs until all remaining sequences have their whole answers.
    fn finish(&mut self) {
        self.batcher.decoder().set_failures(0.0, 0.0);
        let ids: Vec<SequenceId> = self.live.keys().copied().collect();
        for id in ids {
            self.batcher.hold(id, false);
            self.live.get_mut(&id).expect("it lives").held = false;
        }
        self.hint = None;
        while self.batcher.ready() {
            self.lap();
        }
        assert!(self.live.is_empty());
    }
}

#[test]
fn whatever_happens_each_gets_what_it_gets_alone() {
    let mut rng = Rng::new(delayline_testing::seed());
    let (mut answered, mut failed, mut spoiled, mut shared) = (0, 0, 0, 0);
    for _ in 0..1500 {
        let slots = between(&mut rng, 1, 6);
        let ctx = between(&mut rng, 4, 40);
        let model = SimulatedModel {
            slots,
            cells: between(&mut rng, ctx, ctx * slots + ctx),
            rows: between(&mut rng, slots, slots + 12),
            vocab: between(&mut rng, 5, 40),
            snapshots: rng.chance(0.4).then(|| 1 + rng.below(9) as u32),
            failures: rng.below(4) as f64 * 0.1,
            spoiled: rng.below(3) as f64 * 0.02,
            row_ns: rng.below(500),
            medium_ns: rng.below(4000),
            seed: rng.next_u64(),
            ..MODEL
        };
        let mut walk = Walk::new(model, ctx as u32, rng.next_u64());
        for _ in 0..400 {
            walk.step();
        }
        walk.finish();
        answered += walk.answered;
        failed += walk.failed;
        spoiled += walk.spoiled;
        shared += walk.shared;
    }
    println!(
        "{answered} answers, {failed} laps that failed, {spoiled} that were spoiled, {shared} \
         requests with room because they share"
    );
    assert!(answered > 20_000 && failed > 20_000 && spoiled > 1_000 && shared > 200);
}

/// Every sequence of `DEPTH` calls, on a small batcher of two slots.
#[test]
fn every_short_sequence_of_calls() {
    const DEPTH: u32 = 6;
    let calls: [fn(&mut Walk); 6] = [
        Walk::join,
        |walk| walk.lap(),
        |walk| {
            walk.batcher.decoder().set_failures(1.0, 0.0);
            walk.lap();
            walk.batcher.decoder().set_failures(0.0, 0.0);
        },
        Walk::leave,
        |walk| walk.hold(true),
        |walk| walk.hold(false),
    ];
    let model = SimulatedModel {
        slots: 2,
        cells: 9,
        rows: 3,
        vocab: 5,
        ..MODEL
    };
    let all = calls.len().pow(DEPTH);
    let mut answered = 0;
    for order in 0..all {
        let mut walk = Walk::new(model, 6, order as u64);
        let mut rest = order;
        for _ in 0..DEPTH {
            calls[rest % calls.len()](&mut walk);
            rest /= calls.len();
        }
        walk.finish();
        answered += walk.answered;
    }
    assert!(answered > all / 4, "{answered} answers in {all} orders");
}

/// A memory that cannot be cut is taken back to a snapshot: a text that shares a prompt with
/// one that has left continues from that prompt's end, and other sequences are unaffected.
#[test]
fn where_memory_only_goes_on_texts_go_on_from_snapshots() {
    go_on_from_snapshots(0.0);
}

/// The same where half of what seemed possible to share is not shared: it is computed.
#[test]
fn what_could_not_be_shared_is_computed() {
    go_on_from_snapshots(0.5);
}

fn go_on_from_snapshots(unshared: f64) {
    let model = SimulatedModel {
        slots: 2,
        snapshots: Some(1000),
        ..MODEL
    };
    let greedy = || {
        Choice::Sampled(Sampling {
            temperature: 0.0,
            ..Sampling::default()
        })
    };
    let mut rng = Rng::new(delayline_testing::seed());
    let mut taken_back = 0;
    for _ in 0..200 {
        let model = SimulatedModel {
            seed: rng.next_u64(),
            ..model
        };
        let mut batcher = Batcher::new(SimulatedDecoder::new(model), Some(40));
        batcher.decoder().set_unshared(unshared);
        let (mut tokens, mut events) = (BTreeMap::<_, Vec<i32>>::new(), Vec::new());
        let mut expected = Vec::new();
        // The second leaves during its answer, and the third has the same prefix.
        let shared = [4, 5, 6, 7, 8];
        let prompts = [&[1, 2, 3][..], &shared[..], &[4, 5, 6, 7, 9, 9][..]];
        for (at, prompt) in prompts.into_iter().enumerate() {
            if let Some((id, _)) = expected.get(1).filter(|_| at == 2) {
                batcher.leave(*id);
            }
            let request = GenerateRequest::new(prompt, 20, greedy());
            let answer = alone(&model, &request, 40);
            let only_slot = batcher.sequences().count() == 1;
            let admitted = batcher.join(request).expect("a slot");
            if at == 2 && only_slot && unshared == 0.0 {
                taken_back += 1;
                // The snapshot at the prompt's end has all of it but the last token.
                assert_eq!(admitted.cached, shared.len() - 1);
            }
            expected.push((admitted.id, answer.tokens));
            for _ in 0..8 {
                batcher.lap(&mut events).expect("no lap fails");
            }
        }
        while batcher.ready() {
            batcher.lap(&mut events).expect("no lap fails");
        }
        for event in events {
            let token = event.token.expect("a token").token;
            tokens.entry(event.sequence).or_default().push(token);
        }
        for at in [0, 2] {
            let (id, answer) = &expected[at];
            assert_eq!(&tokens[id], answer);
        }
    }
    assert!(taken_back > 20 || unshared > 0.0, "{taken_back} of 200");
}

/// The laps of a session: a prompt in micro-batches of which only the last has
/// logits, then one token a lap, each lap announced by the one before. That the model
/// ends its answer before `max_tokens` is not known in advance. If the last token of a prompt
/// has a lap of its own, `prompt` is one less than `lacking`.
fn laps_of(
    prompt: usize,
    lacking: usize,
    rows: usize,
    answer: usize,
    max_tokens: usize,
) -> Vec<DecodedLap> {
    let mut laps: Vec<(usize, Class)> = Vec::new();
    for from in (0..prompt).step_by(rows) {
        let n = rows.min(prompt - from);
        laps.push((n, Class::of(n, from + n == lacking)));
    }
    laps.extend((prompt < lacking).then_some((1, Class::Single)));
    laps.extend((1..answer).map(|_| (1, Class::Single)));
    let next = laps.iter().skip(1).map(|&(_, class)| Some(class));
    let next = next.chain([(answer < max_tokens).then_some(Class::Single)]);
    let lap = |(&(rows, class), next)| DecodedLap { rows, class, next };
    laps.iter().zip(next).map(lap).collect()
}

/// Conversations of several turns with random prompts: the common prefix is found in the KV
/// cache, and the caller stops at any call.
#[test]
fn a_session_is_a_sequence_alone() {
    let mut rng = Rng::new(delayline_testing::seed());
    for case in 0..2_000 {
        let model = SimulatedModel {
            rows: 1 + case % 7,
            vocab: 40,
            snapshots: (case % 3 == 0).then_some(5),
            seed: rng.next_u64(),
            ..MODEL
        };
        let mut session = Session::new(SimulatedDecoder::new(model));
        let (mut text, mut computed) = (Vec::<i32>::new(), Vec::<i32>::new());
        for _ in 0..3 {
            let keep = rng.below(text.len() as u64 + 1) as usize;
            text.truncate(if rng.chance(0.7) { text.len() } else { keep });
            let more = 1 + rng.below(12);
            text.extend((0..more).map(|_| rng.below(40) as i32));
            text.truncate(model.cells - 1);
            let max_tokens = 1 + rng.below(12) as usize;
            let sampling = Sampling {
                temperature: rng.below(2) as f32,
                seed: rng.next_u64() as u32,
                ..Sampling::default()
            };
            let choice = Choice::Sampled(sampling);
            let request = GenerateRequest::new(&text, max_tokens, choice);
            let answer = alone(&model, &request, model.cells);
            // The last token of a prompt is always computed.
            let same = computed.iter().zip(&text).take_while(|(a, b)| a == b);
            let shared = same.count().min(text.len() - 1);
            let only_goes_on = model.snapshots.is_some();
            let snapshots = session.decoder().snapshots(0).iter();
            let snapshots = snapshots.map(|&tokens| tokens as usize);
            let last = snapshots.filter(|&tokens| tokens <= shared).max();
            let cached = match only_goes_on && shared < computed.len() {
                true => last.unwrap_or(0),
                false => shared,
            };
            let mut patience = rng.below(30);
            let mut heard = String::new();
            let generated = session
                .generate(&text, max_tokens, &sampling, |piece| {
                    heard.push_str(piece);
                    patience = patience.saturating_sub(1);
                    match patience {
                        0 => ControlFlow::Break(()),
                        _ => ControlFlow::Continue(()),
                    }
                })
                .expect("no lap fails");
            let laps = session.decoder().take_laps();
            let room = max_tokens.min(model.cells + 1 - text.len());
            let lacking = text.len() - cached;
            let prompt = lacking - usize::from(only_goes_on);
            let answered = answer.tokens.len();
            let expected = laps_of(prompt, lacking, model.rows, answered, room);
            let n = generated.tokens.len();
            assert_eq!(generated.tokens, answer.tokens[..n]);
            assert_eq!(heard, generated.text);
            assert_eq!(generated.decode.count, n.saturating_sub(1) as u64);
            assert_eq!(laps, expected[..laps.len()]);
            if generated.finish != Finish::Stopped {
                let got = (&generated.text, generated.finish);
                assert_eq!(got, (&answer.text, answer.finish));
                assert_eq!(laps.len(), expected.len());
            }
            computed = session.decoder().memory()[0].clone();
            text.extend(&generated.tokens);
            assert!(text.starts_with(&computed));
        }
    }
}
