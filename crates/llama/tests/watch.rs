//! The marks that watch a lap: they cover all of its weights, and agree with the engine's
//! own figures.

mod common;

use common::{Steps, alone, options, scratch, streamed, synth};
use delayline_engine::Way;
use delayline_engine::watch::StretchKind;
use delayline_llama::LlamaEngine;
use delayline_synth::Quant;

/// Checks the marks of a lap that has just ended; returns its last place.
fn checked(engine: &mut LlamaEngine, stalled_ns: u64, read: u64, window: u64) -> u64 {
    let laps = engine.laps();
    let stream = engine.stream().expect("streamed");
    let watch = stream.watch();
    assert!(watch.now().is_none(), "no lap is under way");
    let marks = watch.last();
    assert!(marks.len() > 2, "several runs");
    assert_eq!(marks[0].place, 0);
    for pair in marks.windows(2) {
        assert!(pair[0].place <= pair[1].place);
        assert!(pair[0].at_ns <= pair[1].at_ns);
        assert!(pair[0].stall_ns <= pair[1].stall_ns);
        assert!(pair[0].bytes_read <= pair[1].bytes_read);
    }
    assert!(marks.iter().all(|mark| mark.arrived <= window));
    let end = marks.last().expect("one at least");
    assert_eq!(end.stall_ns, laps.stall_ns - stalled_ns);
    assert_eq!(end.bytes_read, laps.bytes_read - read);
    assert!(end.at_ns <= engine.last_lap_ns() && end.stall_ns <= end.at_ns);
    end.place
}

#[test]
fn marks_tell_how_far_a_lap_is_and_where_its_time_went() {
    let _alone = alone();
    let dir = scratch();
    for (shape, experts) in [("tiny-llama", false), ("tiny-mixtral", true)] {
        let path = synth(dir.path(), shape, Quant::F16);
        let mut engine = streamed(&path, 100 << 10, &options(Way::Auto));
        let (window, streams) = {
            let stream = engine.stream().expect("streamed");
            (stream.window(), stream.bytes_per_lap())
        };
        let stretches = engine.stream().expect("streamed").stretches().to_vec();
        let sum = |kind| {
            let of_kind = stretches.iter().filter(|stretch| stretch.kind == kind);
            of_kind.map(|stretch| stretch.bytes).sum::<u64>()
        };
        assert_eq!(sum(StretchKind::Streamed), streams, "{shape}");
        let stays = engine
            .stream()
            .expect("streamed")
            .residency()
            .resident_bytes;
        assert_eq!(sum(StretchKind::Resident), stays, "{shape}");
        assert_eq!(sum(StretchKind::Picked) > 0, experts, "{shape}");
        let whole: u64 = stretches.iter().map(|stretch| stretch.bytes).sum();

        assert!(engine.stream().expect("streamed").watch().last().is_empty());
        // A prompt in two laps, of which the first does not use the output head.
        let tokens: Vec<i32> = (1..=20).collect();
        let mut pos = 0;
        let mut places = Vec::new();
        for (tokens, output) in [(&tokens[..16], false), (&tokens[16..], true), (&[7], true)] {
            let before = engine.laps();
            engine.step(tokens, pos, output, None).expect("a lap");
            pos += tokens.len() as u32;
            places.push(checked(
                &mut engine,
                before.stall_ns,
                before.bytes_read,
                window,
            ));
        }
        assert!(places[0] < whole, "{shape}: without the head");
        assert_eq!(places[1..], [whole, whole], "{shape}");
    }
}
