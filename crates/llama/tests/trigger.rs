//! Sampling: a grammar that applies only after a trigger or after thoughts, biases, and
//! the sampling that a model's file recommends.

mod common;

use delayline_engine::ModelFile;
use delayline_llama::{Candidates, Sampler, Sampling, Thinking, TokenBias, Trigger, Vocab};

/// The text that a sampler chooses if the logits favour `text` and then an end token.
fn said(vocab: &Vocab, sampler: &mut Sampler, text: &str) -> String {
    let wants = vocab.tokenize(text, false, false).expect("tokens");
    let (mut all, mut out) = (Candidates::default(), Vec::new());
    for at in 0..wants.len() + 20 {
        // All other tokens are about equally likely.
        let mut logits: Vec<f32> = (0..vocab.tokens())
            .map(|n| (n * 7919 % 101) as f32 / 1e3)
            .collect();
        match wants.get(at) {
            Some(&token) => logits[token as usize] = 10.0,
            None => {
                let ends = (0..vocab.tokens() as i32).filter(|&token| vocab.is_end(token));
                ends.for_each(|token| logits[token as usize] = 10.0);
            }
        }
        let token = sampler.sample(&logits, &mut all).expect("a token");
        if vocab.is_end(token) {
            break;
        }
        vocab.piece(token, &mut out).expect("its bytes");
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn what_follows_a_trigger_obeys_and_nothing_else() {
    let _alone = common::alone();
    let file = ModelFile::open(&common::demo_model()).expect("the demo model");
    let vocab = Vocab::open(&file).expect("its vocabulary");
    let grammar = r#"root ::= "<call>\n{\"on\": " ("true" | "false") "}\n</call>""#;
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let trigger = |at_start, text: &str, begins: &str| Trigger {
        text: text.into(),
        at_start,
        begins: begins.into(),
    };
    let obeyed = ["true", "false"].map(|on| format!("<call>\n{{\"on\": {on}}}\n</call>"));
    for (trigger, wants, before) in [
        (
            trigger(false, "<call>", "<call>"),
            "Well, <call>\n{\"on\": 5}\n</call> and more",
            Some("Well, "),
        ),
        (trigger(false, "<call>", "<call>"), "<call>[1, 2]", Some("")),
        (
            trigger(false, "<call>", "<call>"),
            "no <cal> here {5}",
            None,
        ),
        (trigger(true, "<call>", "<call>"), "<call>5", Some("")),
        (trigger(true, "<call>", "<call>"), "not <call>5", None),
    ] {
        let mut sampler = Sampler::new(&vocab, &greedy, Some(grammar)).expect("a sampler");
        sampler.wait_for(trigger);
        let said = said(&vocab, &mut sampler, wants);
        match before {
            Some(before) => {
                let call = said
                    .strip_prefix(before)
                    .unwrap_or_else(|| panic!("{said:?}"));
                assert!(
                    obeyed.iter().any(|text| text == call),
                    "{wants:?}: {said:?}"
                );
            }
            None => assert_eq!(said, wants),
        }
    }
}

#[test]
fn what_is_thought_is_free_and_ends_with_its_budget() {
    let _alone = common::alone();
    let file = ModelFile::open(&common::demo_model()).expect("the demo model");
    let vocab = Vocab::open(&file).expect("its vocabulary");
    let grammar = r#"root ::= "<call>" ("true" | "false") "</call>""#;
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let call = Trigger {
        text: "<call>".into(),
        at_start: true,
        begins: "<call>".into(),
    };
    let says = |begun, budget, trigger: Option<&Trigger>, wants: &str| {
        let mut sampler = Sampler::new(&vocab, &greedy, Some(grammar)).expect("a sampler");
        if let Some(trigger) = trigger {
            sampler.wait_for(trigger.clone());
        }
        let (open, close) = ("<think>".into(), "</think>".into());
        let thinking = Thinking {
            open,
            close,
            begun,
            budget,
            lead: String::new(),
            end: "</think>".into(),
        };
        sampler.think(thinking).expect("tokens");
        said(&vocab, &mut sampler, wants)
    };
    let obeys = |text: &str| ["<call>true</call>", "<call>false</call>"].contains(&text);
    // A call within thoughts is free; the grammar applies to the one after them.
    let wants = "<call>5 {</think>\n<call>5";
    for trigger in [None, Some(&call)] {
        let said = says(true, None, trigger, wants);
        let answer = said.strip_prefix("<call>5 {</think>");
        let answer = answer.map(str::trim_start);
        assert!(answer.is_some_and(obeys), "{said:?}");
    }
    // Without thoughts the grammar applies from the start; what only looks like the beginning
    // of thoughts is an answer.
    assert!(obeys(&says(false, None, None, "<call>5")));
    assert!(obeys(&says(false, None, Some(&call), "<call>5")));
    assert_eq!(says(false, None, Some(&call), "<this> is"), "<this> is");
    // When the budget is used up, the end of thoughts is inserted and the answer begins.
    let said = says(true, Some(2), None, "one two three four five six");
    let (thought, answer) = said.split_once("</think>").expect("an end of thoughts");
    assert!(
        thought.len() < "one two three".len() && obeys(answer),
        "{said:?}"
    );
    let said = says(true, Some(0), None, "one two three four");
    assert!(said.strip_prefix("</think>").is_some_and(obeys), "{said:?}");
}

#[test]
fn a_bias_is_added_to_logits() {
    let _alone = common::alone();
    let file = ModelFile::open(&common::demo_model()).expect("the demo model");
    let vocab = Vocab::open(&file).expect("its vocabulary");
    let logits: Vec<f32> = (0..vocab.tokens()).map(|at| at as f32 / 1e5).collect();
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let choose = |bias: &[TokenBias]| {
        let mut sampler = Sampler::new(&vocab, &greedy, None).expect("a sampler");
        sampler.add(bias);
        sampler
            .sample(&logits, &mut Candidates::default())
            .expect("a token")
    };
    let last = vocab.tokens() as i32 - 1;
    let bias = |token, bias| TokenBias { token, bias };
    assert_eq!(choose(&[]), last);
    assert_eq!(choose(&[bias(last, -100.0)]), last - 1);
    assert_eq!(
        choose(&[bias(7, 100.0), bias(-1, 100.0), bias(i32::MAX, 100.0)]),
        7
    );
}

#[test]
fn a_models_own_sampling_is_read_where_it_can_be() {
    let _alone = common::alone();
    let dir = common::scratch();
    let path = common::synth(dir.path(), "tiny-llama", delayline_synth::Quant::Q8_0);
    let plain = std::fs::read(&path).expect("a model");
    let sampling = |numbers: &[(&str, f32)]| {
        std::fs::write(&path, delayline_testing::with_numbers(&plain, numbers)).expect("written");
        let vocab = Vocab::open(&ModelFile::open(&path).expect("a model")).expect("a vocabulary");
        Sampling::of(&vocab).expect("its sampling")
    };
    assert_eq!(sampling(&[]), Sampling::default());
    let given = [
        ("general.sampling.temp", 0.6),
        ("general.sampling.top_k", 20.0),
        ("general.sampling.top_p", 0.9),
        ("general.sampling.min_p", 0.0),
        ("general.sampling.penalty_repeat", 1.05),
    ];
    let expect = Sampling {
        temperature: 0.6,
        top_k: 20,
        top_p: 0.9,
        min_p: 0.0,
        repeat_penalty: 1.05,
        ..Sampling::default()
    };
    assert_eq!(sampling(&given), expect);
    for number in [f32::NAN, f32::INFINITY, -1.0, 1e20] {
        let given = given.map(|(key, _)| (key, number));
        assert_eq!(sampling(&given), Sampling::default(), "{number}");
    }
}
