//! How requests share the KV cache, on a decoder that computes nothing: no request
//! takes all of it while others wait, one that takes what it gets is not cut while
//! there is room, and nobody is told what another has asked.

use delayline_llama::batch::{
    Batcher, Choice, GenerateRequest, JoinError, Retention, SequenceEvent, SequenceId,
    SimulatedDecoder, SimulatedModel,
};
use delayline_llama::{Finish, Namespace, Sampling};
use delayline_medium::Rng;

const CTX: usize = 40;

fn batcher(slots: usize, cells: usize) -> Batcher<SimulatedDecoder> {
    let model = SimulatedModel {
        slots,
        cells,
        rows: slots + 4,
        // Token 0 ends a text: it hardly ever comes.
        vocab: 5000,
        snapshots: None,
        failures: 0.0,
        spoiled: 0.0,
        lap_ns: 400,
        row_ns: 100,
        medium_ns: 1200,
        seed: 7,
    };
    Batcher::new(SimulatedDecoder::new(model), Some(CTX as u32))
}

fn request(prompt: &[i32], max_tokens: usize, elastic: bool) -> GenerateRequest {
    let sampling = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    GenerateRequest {
        elastic,
        ..GenerateRequest::new(prompt, max_tokens, Choice::Sampled(sampling))
    }
}

/// Laps until nobody rides: the tokens of each, and why it ended.
fn finish(batcher: &mut Batcher<SimulatedDecoder>) -> Vec<(SequenceId, usize, Finish)> {
    let (mut events, mut ended) = (Vec::<SequenceEvent>::new(), Vec::new());
    let mut counts = std::collections::BTreeMap::new();
    while batcher.ready() {
        batcher.lap(&mut events).expect("a good lap");
        for event in events.drain(..) {
            let count: &mut usize = counts.entry(event.sequence).or_default();
            *count += 1;
            if let Some(finish) = event.token.expect("a token").finish {
                ended.push((event.sequence, *count, finish));
            }
        }
    }
    ended
}

#[test]
fn one_request_cannot_take_all_while_others_wait() {
    let mut batcher = batcher(4, CTX + 8);
    batcher.join(request(&[1, 2], CTX, false)).expect("room");
    batcher.lap(&mut Vec::new()).expect("a lap");
    // A large one has to wait; small ones ride beside, and past it.
    let large = batcher.join(request(&[3], CTX, false));
    assert!(matches!(large, Err(JoinError::Full(_))), "{large:?}");
    batcher
        .join_aside(request(&[4], 4, false))
        .expect("a guest's room");
    batcher
        .join_aside(request(&[5], 4, false))
        .expect("a guest's room");
    let third = batcher.join_aside(request(&[6], 1, false));
    assert!(matches!(third, Err(JoinError::Full(_))), "{third:?}");
    assert_eq!(finish(&mut batcher).len(), 3);
}

#[test]
fn an_elastic_answer_is_as_long_as_there_is_room() {
    // Alone it gets all of the context.
    let mut alone = batcher(4, 2 * CTX);
    alone
        .join(request(&[1, 2], usize::MAX, true))
        .expect("room");
    let ended = finish(&mut alone);
    assert_eq!((ended[0].1, ended[0].2), (CTX - 2 + 1, Finish::Full));
    // What it asks for is still its end.
    alone.join(request(&[3, 4], 30, true)).expect("room");
    let ended = finish(&mut alone);
    assert_eq!((ended[0].1, ended[0].2), (30, Finish::Length));
    let mut rng = Rng::new(delayline_testing::seed());
    for _ in 0..500 {
        let slots = 1 + rng.below(5) as usize;
        let cells = CTX + rng.below((CTX * slots) as u64) as usize;
        let mut batcher = batcher(slots, cells);
        let (mut asked, mut ended) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let prompt = vec![1; 1 + rng.below(CTX as u64 - 2) as usize];
            let most = 1 + rng.below(2 * CTX as u64) as usize;
            let elastic = rng.chance(0.7);
            match batcher.join(request(&prompt, most, elastic)) {
                Ok(admitted) => asked.push((admitted.id, prompt.len(), most, elastic)),
                // The simulated decoder looks that no cell is taken twice.
                Err(JoinError::Full(_)) => ended.extend(finish(&mut batcher)),
                Err(JoinError::Invalid(error)) => panic!("{error}"),
            }
        }
        ended.extend(finish(&mut batcher));
        assert_eq!(ended.len(), asked.len());
        for (id, prompt, most, elastic) in asked {
            let (_, got, why) = ended.iter().find(|end| end.0 == id).expect("it ended");
            let whole = most.min(CTX - prompt + 1);
            let least = if elastic { whole.min(1) } else { whole };
            assert!((least..=whole).contains(got), "{got} of {whole}");
            let full = *got < most;
            assert!(
                *why == Finish::End || full == (*why == Finish::Full),
                "{got} of {most}: {why:?}"
            );
        }
    }
}

#[test]
fn what_one_owner_has_left_is_not_shared_with_another() {
    for slots in 1..4 {
        let mut batcher = batcher(slots, 4 * CTX);
        let mut cached = |owner: &str, salt: &str| {
            let request = GenerateRequest {
                namespace: Namespace::new(owner.as_bytes(), salt.as_bytes()),
                ..request(&[1, 2, 3, 4, 5, 6], 1, false)
            };
            let admitted = batcher.join(request).expect("room");
            finish(&mut batcher);
            admitted.cached
        };
        assert_eq!((cached("a", ""), cached("a", "")), (0, 5));
        assert_eq!((cached("b", ""), cached("b", "")), (0, 5));
        // Where there is a slot for each, both keep what is theirs.
        assert_eq!(cached("a", ""), if slots > 1 { 5 } else { 0 });
        assert_eq!((cached("a", "salt"), cached("a", "salt")), (0, 5));
        assert_eq!(cached("b", "salt"), 0);
    }
}

#[test]
fn who_asks_for_all_of_it_has_all_of_it_computed() {
    for slots in 1..4 {
        let mut batcher = batcher(slots, 4 * CTX);
        let mut cached = |fresh: bool| {
            let request = GenerateRequest {
                fresh,
                ..request(&[1, 2, 3, 4, 5, 6], 1, false)
            };
            let admitted = batcher.join(request).expect("room");
            finish(&mut batcher);
            admitted.cached
        };
        let asked = [false, true, false, true, true].map(&mut cached);
        // What it computed is kept for others.
        assert_eq!(asked, [0, 0, 5, 0, 0]);
    }
}

#[test]
fn what_is_forgotten_on_demand_is_gone() {
    let (mine, salted) = (Namespace::new(b"me", b""), Namespace::new(b"me", b"salt"));
    let yours = Namespace::new(b"you", b"");
    let ask = |batcher: &mut Batcher<SimulatedDecoder>, namespace, retention, len| {
        let request = GenerateRequest {
            namespace,
            retention,
            ..request(&[1, 2, 3, 4, 5, 6], len, false)
        };
        batcher.join(request).expect("room")
    };
    let mut batcher = batcher(4, 4 * CTX);
    let cached = |batcher: &mut _, namespace, retention| {
        let admitted = ask(batcher, namespace, retention, 1);
        finish(batcher);
        admitted.cached
    };
    let stays = Retention::Memory;
    let all = [mine, salted, yours];
    assert_eq!(all.map(|whose| cached(&mut batcher, whose, stays)), [0; 3]);
    assert_eq!(all.map(|whose| cached(&mut batcher, whose, stays)), [5; 3]);
    let forgotten = batcher.forget(&mine);
    assert_eq!((forgotten.tokens, forgotten.blocks), (12, 0));
    assert_eq!(
        all.map(|whose| cached(&mut batcher, whose, stays)),
        [0, 0, 5]
    );
    // What is under way then leaves nothing, nor does what asks for that.
    ask(&mut batcher, mine, stays, 3);
    assert_eq!(batcher.forget(&mine).tokens, 6, "the salted one");
    finish(&mut batcher);
    assert_eq!(cached(&mut batcher, mine, Retention::Nowhere), 0);
    assert_eq!(cached(&mut batcher, mine, stays), 0);
    assert_eq!(cached(&mut batcher, mine, stays), 5);
}
