//! How requests share the KV cache, on a simulated decoder: no request takes all of it
//! while others wait, an elastic one is not cut short while there is room, and nothing is
//! shared between owners.

use delayline_llama::batch::{
    Batcher, Choice, GenerateRequest, JoinError, Retention, SequenceEvent, SequenceId,
    SimulatedDecoder, SimulatedModel,
};
use delayline_llama::{Finish, Namespace, Sampling};
use delayline_medium::Rng;

const CTX: usize = 40;

fn model() -> SimulatedModel {
    SimulatedModel {
        slots: 1,
        cells: CTX,
        rows: 5,
        // Token 0 ends a text: with so many tokens it is rarely chosen.
        vocab: 5000,
        snapshots: None,
        failures: 0.0,
        spoiled: 0.0,
        lap_ns: 400,
        row_ns: 100,
        medium_ns: 1200,
        seed: 7,
    }
}

fn batcher(slots: usize, cells: usize) -> Batcher<SimulatedDecoder> {
    let model = SimulatedModel {
        slots,
        cells,
        rows: slots + 4,
        ..model()
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

/// Runs laps until all sequences have ended; returns the number of tokens of each, and why
/// it ended.
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
    // A large request has to wait; small ones overtake it.
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
    // It ends at the number of tokens that it asked for.
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
                // The simulated decoder checks that cells are not promised twice.
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
        // With a slot for each, both keep their tokens.
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
        // What a fresh request computed is kept for others.
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
    // A running sequence leaves nothing after that, nor does one that asks for it.
    ask(&mut batcher, mine, stays, 3);
    assert_eq!(batcher.forget(&mine).tokens, 6, "the salted one");
    finish(&mut batcher);
    assert_eq!(cached(&mut batcher, mine, Retention::Nowhere), 0);
    assert_eq!(cached(&mut batcher, mine, stays), 0);
    assert_eq!(cached(&mut batcher, mine, stays), 5);
}

/// Number of rows that were computed since the last call.
fn rows_of(batcher: &mut Batcher<SimulatedDecoder>) -> usize {
    let laps = batcher.decoder().take_laps();
    laps.iter().map(|lap| lap.rows).sum()
}

/// Eight clients whose prompts have a common prefix, and a decoder that counts rows and
/// cells.
#[test]
fn what_several_prompts_begin_with_is_computed_and_held_once() {
    const CLIENTS: usize = 8;
    let beginning: Vec<i32> = (1..=30).collect();
    let all = beginning.len() + CLIENTS * 4;
    for together in [true, false] {
        // Room for the shared prefix once, and for the rest of each prompt.
        let model = SimulatedModel {
            slots: CLIENTS,
            cells: all + CLIENTS,
            rows: CLIENTS + 4,
            ..model()
        };
        let mut batcher = Batcher::new(SimulatedDecoder::new(model), Some(CTX as u32));
        let (mut waiting, mut cached): (Vec<i32>, _) = ((0..CLIENTS as i32).collect(), 0);
        let (mut events, mut rows, mut cells) = (Vec::new(), 0, 0);
        let mut ended = 0;
        while ended < CLIENTS {
            waiting.retain(|&client| {
                let own = [100 + client, 200, 300];
                let prompt = [&beginning[..], &own[..]].concat();
                match batcher.join(request(&prompt, 2, false)) {
                    Ok(admitted) => cached = cached.max(admitted.cached),
                    Err(JoinError::Full(_)) => return true,
                    Err(JoinError::Invalid(error)) => panic!("{error}"),
                }
                false
            });
            for _ in 0..if together { 1 } else { 6 } {
                batcher.lap(&mut events).expect("a good lap");
            }
            for event in events.drain(..) {
                let token = event.token.expect("a token");
                ended += usize::from(token.finish.is_some());
                assert!(token.found == 0 || token.found == beginning.len());
            }
            rows += rows_of(&mut batcher);
            cells = cells.max(batcher.decoder().taken_cells());
        }
        assert_eq!(rows, all, "{together}: each token is computed once");
        assert!(cells <= all, "{together}: {cells} cells for {all} tokens");
        assert!(cached == beginning.len(), "who comes later finds all of it");
    }
    // Requests of different owners, and fresh ones, compute all of their own prompt.
    for fresh in [false, true] {
        let mut batcher = batcher(CLIENTS, CLIENTS * CTX);
        for client in 0..CLIENTS {
            let owner = if fresh { 0 } else { client as u8 };
            let request = GenerateRequest {
                namespace: Namespace::new(&[owner], b""),
                fresh,
                ..request(&beginning, 1, false)
            };
            batcher.join(request).expect("room");
        }
        finish(&mut batcher);
        let rows = rows_of(&mut batcher);
        assert_eq!(rows, CLIENTS * beginning.len());
    }
}

/// A sequence that computes for others may leave at any lap: another continues from there.
#[test]
fn who_waits_goes_on_where_another_has_left() {
    let beginning: Vec<i32> = (1..=30).collect();
    for laps in 0..5 {
        let mut batcher = batcher(3, 3 * CTX);
        let first = batcher.join(request(&beginning, 4, false)).expect("room");
        for last in [100, 101] {
            let prompt = [&beginning[..], &[last]].concat();
            batcher.join(request(&prompt, 2, false)).expect("room");
        }
        for _ in 0..laps {
            batcher.lap(&mut Vec::new()).expect("a good lap");
        }
        batcher.leave(first.id);
        assert_eq!(finish(&mut batcher).len(), 2);
        let rows = rows_of(&mut batcher);
        // The common prefix, two rows for each of the others, and up to one row a lap of
        // the first one's answer.
        assert!(
            (30 + 4..=30 + 4 + laps).contains(&rows),
            "{rows} rows, {laps} laps"
        );
    }
}
