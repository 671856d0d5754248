//! Failing reads: transient faults do not change the logits, permanent ones end the lap with
//! the error, and the text continues once the fault is gone.

mod common;

use std::path::Path;

use common::switched::{switch, switched};
use common::{Steps, alone, assert_same, options, scratch, streamed, synth};
use delayline_engine::{Class, Error, ModelFile, Options, Way};
use delayline_line::{LineError, MediumError};
use delayline_llama::LlamaEngine;
use delayline_medium::{Faults, wrapped};
use delayline_synth::Quant;

fn faulty_options() -> Options {
    Options {
        maker: Some(wrapped(switched)),
        ..options(Way::Auto)
    }
}

/// Tokens of each lap, and whether it has logits: two laps of a prompt, then single tokens.
fn laps() -> Vec<(Vec<i32>, bool)> {
    let tokens = |from: i32, n: i32| (from..from + n).map(|i| 3 + i * 37 % 300).collect();
    let prompt = [(tokens(0, 16), false), (tokens(16, 16), true)];
    prompt
        .into_iter()
        .chain((32..38).map(|i| (tokens(i, 1), true)))
        .collect()
}

/// Runs all laps, with faults from lap `from` on. A lap that fails is tried again, which has
/// to fail too, and then without faults. Returns the logits, and the lap that failed with
/// its error.
fn drive(
    engine: &mut LlamaEngine,
    from: usize,
    faults: &Faults,
) -> (Vec<Vec<f32>>, Option<(usize, Error)>) {
    let laps = laps();
    let (mut out, mut failed, mut pos) = (Vec::new(), None, 0);
    for (at, (tokens, output)) in laps.iter().enumerate() {
        let next = laps
            .get(at + 1)
            .map(|(tokens, output)| Class::of(tokens.len(), *output));
        if at == from {
            switch(faults.clone());
        }
        if let Err(error) = engine.step(tokens, pos, *output, next) {
            assert!(engine.logits().is_none(), "lap {at} failed, but has logits");
            assert!(
                failed.replace((at, error)).is_none(),
                "lap {at} failed without faults"
            );
            let again = engine.step(tokens, pos, *output, next);
            assert!(
                matches!(again, Err(Error::Line(_))),
                "lap {at} again: {again:?}"
            );
            switch(Faults::default());
            engine
                .step(tokens, pos, *output, next)
                .unwrap_or_else(|error| panic!("lap {at} at last: {error}"));
        }
        pos += tokens.len() as u32;
        assert_eq!(engine.logits().is_some(), *output, "lap {at}");
        out.extend(engine.logits().map(<[f32]>::to_vec));
    }
    // A fault that no read has met must not reach the next engine.
    switch(Faults::default());
    (out, failed)
}

fn clean(path: &Path, extra: u64) -> Vec<Vec<f32>> {
    let (logits, failed) = drive(
        &mut streamed(path, extra, &options(Way::Auto)),
        0,
        &Faults::default(),
    );
    assert!(failed.is_none());
    logits
}

const SHAPES: [(&str, Quant); 2] = [("tiny-llama", Quant::Q4_0), ("tiny-mixtral", Quant::Q4_0)];

#[test]
fn what_passes_by_is_not_seen() {
    let (_alone, dir) = (alone(), scratch());
    let kinds = [
        (
            "transient",
            Faults {
                transient: 0.4,
                in_a_row: 3,
                ..Faults::default()
            },
        ),
        (
            "short",
            Faults {
                short: 0.4,
                in_a_row: 3,
                ..Faults::default()
            },
        ),
        (
            "late",
            Faults {
                delay_polls: 7,
                reorder: true,
                ..Faults::default()
            },
        ),
        (
            "everything",
            Faults {
                transient: 0.2,
                short: 0.2,
                in_a_row: 3,
                delay_polls: 4,
                reorder: true,
                ..Faults::default()
            },
        ),
    ];
    for (shape, quant) in SHAPES {
        let path = synth(dir.path(), shape, quant);
        for extra in [0, 200 << 10] {
            let expected = clean(&path, extra);
            for (kind, faults) in &kinds {
                let label = format!("{shape} with {extra} bytes more, {kind}");
                let mut engine = streamed(&path, extra, &faulty_options());
                let (got, failed) = drive(&mut engine, 0, faults);
                assert!(failed.is_none(), "{label}: {failed:?}");
                assert_same(&label, &got, &expected);
                let counters = engine.stream().unwrap().line().counters();
                let met = [counters.retried > 0, counters.short_reads > 0];
                let meant = [faults.transient + faults.short > 0.0, faults.short > 0.0];
                assert_eq!(met, meant, "{label}: {counters:?}");
            }
        }
    }
}

/// Makes `weight` unreadable from lap `from` on, and expects the failure in one of the
/// laps `fails`, which is empty if the bytes are in memory by then.
fn check_broken(path: &Path, extra: u64, weight: &str, from: usize, fails: std::ops::Range<usize>) {
    let label = format!("{weight} from lap {from}, with {extra} bytes more");
    let file = ModelFile::open(path).unwrap();
    let w = file
        .weights()
        .iter()
        .find(|w| w.name == weight)
        .expect("a weight of the model");
    let bytes = w.offset..w.offset + w.len;
    let faults = Faults {
        broken: vec![(w.part, bytes.clone())],
        ..Faults::default()
    };
    let mut engine = streamed(path, extra, &faulty_options());
    let (got, failed) = drive(&mut engine, from, &faults);
    assert_same(&label, &got, &clean(path, extra));
    match failed {
        None => assert!(fails.is_empty(), "{label}: did not fail"),
        Some((
            lap,
            Error::Line(
                LineError::Read { offset, source, .. } | LineError::Fetch { offset, source, .. },
            ),
        )) => {
            assert!(fails.contains(&lap), "{label}: failed in lap {lap}");
            assert!(
                matches!(source, MediumError::Failed { .. }),
                "{label}: {source}"
            );
            // The failed read, of at most 4 MiB, overlaps the weight.
            assert!(
                offset < bytes.end && bytes.start < offset + (4 << 20),
                "{label}: byte {offset}"
            );
        }
        Some((lap, other)) => panic!("{label}: lap {lap}: {other}"),
    }
}

/// More than any tiny model has.
const ALL: u64 = 1 << 30;

#[test]
fn broken_bytes_end_the_lap_and_nothing_else() {
    let (_alone, dir) = (alone(), scratch());
    let dense = synth(dir.path(), "tiny-llama", Quant::Q8_0);
    // Streamed weights: the fault begins in the first lap, in one of the prompt, or in a
    // later one, whose weights may have been prefetched before.
    check_broken(&dense, 0, "blk.1.ffn_down.weight", 0, 0..1);
    check_broken(&dense, 0, "blk.1.ffn_down.weight", 1, 1..3);
    check_broken(&dense, 0, "blk.0.attn_q.weight", 3, 3..5);
    check_broken(&dense, 0, "output.weight", 4, 4..6);
    // The first lap has no logits and skips the output head, unless that shares an extent.
    check_broken(&dense, 0, "output.weight", 0, 0..2);
    // Resident weights: the fault begins in the first lap, or after all were read.
    check_broken(&dense, ALL, "blk.1.ffn_down.weight", 0, 0..1);
    check_broken(&dense, ALL, "output.weight", 0, 0..2);
    check_broken(&dense, ALL, "blk.1.ffn_down.weight", 3, 0..0);
    // Rows of the embedding are read for each token.
    check_broken(&dense, 0, "token_embd.weight", 0, 0..1);
    check_broken(&dense, ALL, "token_embd.weight", 5, 5..6);
}

#[test]
fn broken_experts_end_the_lap_and_nothing_else() {
    let (_alone, dir) = (alone(), scratch());
    for shape in ["tiny-mixtral", "tiny-qwen3moe"] {
        let path = synth(dir.path(), shape, Quant::Q8_0);
        check_broken(&path, 0, "blk.0.ffn_up_exps.weight", 0, 0..1);
        check_broken(&path, 0, "blk.1.ffn_gate_exps.weight", 1, 1..2);
        check_broken(&path, 0, "blk.1.ffn_down_exps.weight", 4, 4..5);
        check_broken(&path, ALL, "blk.0.ffn_down_exps.weight", 0, 0..1);
        check_broken(&path, ALL, "token_embd.weight", 2, 2..3);
    }
}

#[test]
fn a_medium_that_goes_ends_the_lap_and_may_come_back() {
    let (_alone, dir) = (alone(), scratch());
    for (shape, quant) in SHAPES {
        let path = synth(dir.path(), shape, quant);
        let expected = clean(&path, 0);
        for from in [0, 1, 4] {
            let gone = Faults {
                gone_after: Some(0),
                ..Faults::default()
            };
            let (got, failed) = drive(&mut streamed(&path, 0, &faulty_options()), from, &gone);
            assert_same(shape, &got, &expected);
            let (_, error) = failed.expect("without a medium there are no laps");
            let source = match &error {
                Error::Line(LineError::Read { source, .. } | LineError::Fetch { source, .. }) => {
                    source
                }
                other => panic!("{shape}: {other}"),
            };
            assert!(
                matches!(source, MediumError::Gone { .. }),
                "{shape}: {source}"
            );
        }
    }
}

#[test]
fn a_lap_that_llama_refuses_leaves_no_trace() {
    let (_alone, dir) = (alone(), scratch());
    for (shape, quant) in SHAPES {
        let path = synth(dir.path(), shape, quant);
        let mut engine = streamed(&path, 0, &options(Way::Auto));
        let full: Vec<i32> = (0..16).collect();
        for pos in (0..256).step_by(16) {
            engine
                .step(&full, pos, false, Some(Class::Quiet))
                .expect("there is room");
        }
        let error = engine
            .step(&full, 256, true, Some(Class::Single))
            .expect_err("the cache is full");
        assert!(
            error.to_string().contains("KV cache has no room"),
            "{shape}: {error}"
        );
        assert!(engine.backend_mut().context_mut().truncate(0), "{shape}");
        let (got, failed) = drive(&mut engine, 0, &Faults::default());
        assert!(failed.is_none(), "{shape}: {failed:?}");
        assert_same(shape, &got, &clean(&path, 0));
    }
}

#[test]
fn an_engine_is_dropped_with_its_reads_under_way_and_failing() {
    let (_alone, dir) = (alone(), scratch());
    for (shape, quant) in SHAPES {
        let path = synth(dir.path(), shape, quant);
        let late = Faults {
            delay_polls: 1000,
            gone_after: Some(5),
            ..Faults::default()
        };
        let mut engine = streamed(&path, 0, &faulty_options());
        switch(late);
        let error = engine
            .step(&[1, 2, 3], 0, true, Some(Class::Single))
            .expect_err("the medium is gone");
        assert!(matches!(error, Error::Line(_)), "{shape}: {error}");
        drop(engine);
        // Reads are prefetched for a lap that never runs.
        let mut engine = streamed(&path, 0, &faulty_options());
        switch(Faults {
            delay_polls: 1000,
            ..Faults::default()
        });
        engine
            .step(&[1, 2, 3], 0, true, Some(Class::Single))
            .expect("late is not lost");
        let stream = engine.stream().unwrap();
        assert_eq!(
            stream.line().ahead() > 0,
            stream.bytes_per_lap() > 0,
            "{shape}"
        );
        drop(engine);
        switch(Faults::default());
    }
}

#[test]
fn small_weights_that_cannot_be_read_end_the_opening() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q8_0);
    let file = ModelFile::open(&path).unwrap();
    let norm = file
        .weights()
        .iter()
        .find(|w| w.name == "blk.1.attn_norm.weight")
        .unwrap();
    let open = || {
        let memory = Some(8 << 30);
        delayline_llama::open(
            &path,
            &Options {
                memory,
                way: Way::Streamed,
                ..faulty_options()
            },
        )
    };
    switch(Faults {
        broken: vec![(0, norm.offset..norm.offset + 1)],
        ..Faults::default()
    });
    match open().err() {
        Some(Error::Line(LineError::Fetch { offset, .. })) => {
            assert!(offset <= norm.offset, "{offset}")
        }
        other => panic!("{other:?}"),
    }
    switch(Faults {
        transient: 0.9,
        in_a_row: 3,
        ..Faults::default()
    });
    let mut engine = open().expect("what passes by is tried again");
    assert!(engine.stream().unwrap().line().counters().retried > 0);
    switch(Faults::default());
}
