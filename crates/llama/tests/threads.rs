//! Changing the number of threads between runs changes no bit of the logits.

mod common;

use delayline_engine::Way;
use delayline_synth::Quant;

#[test]
fn another_number_of_threads_in_every_lap_gives_the_same_bits() {
    let _alone = common::alone();
    let dir = common::scratch();
    let path = common::synth(dir.path(), "tiny-llama", Quant::Q8_0);
    let mut engine = common::streamed(&path, 1 << 20, &common::options(Way::Streamed));
    let prompt = [1, 2, 3, 4, 5];
    let expected = common::logits(&mut engine, &prompt, 4);
    for round in 0..8 {
        for threads in [1, 3, 2, 1] {
            engine.backend_mut().context_mut().clear();
            engine
                .backend_mut()
                .context_mut()
                .use_threads(threads)
                .expect("threads");
            let label = format!("{threads} threads, round {round}");
            common::assert_same(&label, &common::logits(&mut engine, &prompt, 4), &expected);
        }
    }
}
