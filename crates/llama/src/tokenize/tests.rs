//! Compares the tokens of texts in pieces with llama.cpp's own of the whole text, for every
//! tokenizer that llama.cpp knows. `SEED=n` sets the seed.

use std::borrow::Cow;

use delayline_gguf::{Array, Value, write};
use delayline_medium::Rng;

use super::*;
use crate::empty;

/// All pre-tokenizers, by the names that llama.cpp knows.
const PRES: &[&str] = &[
    "default",
    "minicpm5",
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "spark2_5",
    "youtu",
    "falcon",
    "mpt",
    "starcoder",
    "gpt-2",
    "phi-2",
    "jina-es",
    "jina-de",
    "gigachat",
    "jina-v2-es",
    "jina-v2-de",
    "a.x-4.0",
    "mellum",
    "modern-bert",
    "jais-2",
    "gemma4",
    "granite-embed-multi-311m",
    "mmbert",
    "sarvam-moe",
    "jina-v1-en",
    "jina-v2-code",
    "roberta-bpe",
    "whitespace",
    "refact",
    "command-r",
    "qwen2",
    "deepseek-r1-qwen",
    "kormo",
    "f2llmv2",
    "qwen35",
    "stablelm2",
    "olmo",
    "dbrx",
    "smaug-bpe",
    "poro-chat",
    "chatglm-bpe",
    "glm4",
    "glm5",
    "viking",
    "jais",
    "tekken",
    "smollm",
    "codeshell",
    "bloom",
    "gpt3-finnish",
    "exaone",
    "exaone4",
    "exaone-moe",
    "chameleon",
    "minerva-7b",
    "megrez",
    "gpt-4o",
    "llama4",
    "kanana2",
    "talkie",
    "granite-embed-multi-97m",
    "tiny_aya",
    "cohere2moe",
    "superbpe",
    "trillion",
    "granite-docling",
    "bailingmoe",
    "bailingmoe2",
    "llada-moe",
    "seed-coder",
    "hunyuan",
    "hunyuan-dense",
    "hy_v4",
    "joyai-llm",
    "kimi-k2",
    "ufakzeka",
    "grok-2",
    "afmoe",
    "laguna",
    "minimax-m2",
    "solar-open",
    "mellum2",
];

/// Characters of every class that some pre-tokenizer distinguishes.
const CHARACTERS: &[char] = &[
    'a', 'b', 'z', 'A', 'S', 's', 't', '0', '1', '9', ' ', ' ', ' ', '\n', '\n', '\r', '\t', ',',
    '.', '\'', '!', '/', '<', '|', '>', '_', '$', '+', '(', 'é', 'я', '一', '漢', 'ぁ', '가', '，',
    '。', '「', '…', '٣', '²', '\u{301}', '\u{a0}', '\u{3000}', '🙂', '\u{0}', 'ª', '\u{200d}',
    '"', '[', ';', '=',
];

struct Texts(Rng);

impl Texts {
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A text of runs of all classes.
    fn text(&mut self) -> String {
        let mut out = String::new();
        for _ in 0..self.below(40) + 1 {
            let (a, b) = (*self.of(CHARACTERS), *self.of(CHARACTERS));
            for _ in 0..self.below(7) {
                out.push(if self.below(3) > 0 { a } else { b });
            }
        }
        out
    }
}

fn texts() -> Texts {
    Texts(Rng::new(delayline_testing::seed()))
}

/// How GPT-2 writes a byte.
fn byte_letter(byte: u8) -> char {
    let is_seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match is_seen(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|&other| !is_seen(other)).count() as u32;
            char::from_u32(0x100 + before).expect("far below the surrogates")
        }
    }
}

/// The kind of a vocabulary.
#[derive(Clone, Copy, Debug)]
struct Kind<'a> {
    model: &'a str,
    pre: &'a str,
    prefix: bool,
}

/// Texts and types of special tokens. Some contain each other, overlap, or are equally long.
const SPECIAL: &[(&str, i32)] = &[
    ("<s>", 3),
    ("</s>", 3),
    ("<unk>", 2),
    ("<|endoftext|>", 3),
    ("<mask>", 3),
    ("<|im_end|>", 3),
    ("<|im_start|>", 3),
    ("<|im", 4),
    ("|>a", 3),
    ("end|", 4),
    ("\n\n\n", 4),
    ("\n\n", 4),
    ("  ", 4),
    ("ab", 3),
    ("ba", 4),
    ("aba", 3),
    ("<a>", 3),
    ("a><", 4),
    ("[MASK]", 3),
];

/// A vocabulary in which every pair of characters and some triples are tokens, so that a
/// wrong cut gives other tokens.
fn vocab(kind: Kind<'_>, name: &str) -> Vocab {
    let raw = matches!(
        kind.model,
        "llama" | "t5" | "bert" | "plamo2" | "rwkv" | "gemma4" | "whitespace"
    ) || matches!(
        kind.pre,
        "gemma4" | "granite-embed-multi-311m" | "mmbert" | "sarvam-moe" | "whitespace"
    );
    let written = |text: &str| -> String {
        match raw {
            true if kind.model == "rwkv" => text
                .replace('\n', "\\n")
                .replace('\t', "\\t")
                .replace('\r', "\\r"),
            true => text.replace(' ', "▁"),
            false => text.bytes().map(byte_letter).collect(),
        }
    };
    let mut tokens: Vec<(String, i32)> = SPECIAL
        .iter()
        .map(|&(text, ty)| (text.into(), ty))
        .collect();
    let mut merges = Vec::new();
    match raw {
        true if kind.model == "rwkv" => {
            tokens.extend((0..=255_u8).map(|byte| (format!("\\x{byte:02x}"), 1)));
        }
        // Type 6 (byte) in a BPE vocabulary would make llama.cpp abort.
        true => {
            let ty = if matches!(kind.model, "llama" | "t5" | "plamo2") {
                6
            } else {
                1
            };
            tokens.extend((0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), ty)));
        }
        false => tokens.extend((0..=255_u8).map(|byte| (byte_letter(byte).into(), 1))),
    }
    let mut known: std::collections::HashSet<String> = tokens.iter().map(|t| t.0.clone()).collect();
    let mut add = |tokens: &mut Vec<(String, i32)>, text: String| {
        if known.insert(text.clone()) {
            tokens.push((text, 1));
        }
    };
    let chars: Vec<char> = CHARACTERS.iter().copied().filter(|&c| c != '\0').collect();
    let one = |c: char| written(c.encode_utf8(&mut [0; 4]));
    for &c in &chars {
        if kind.model == "rwkv" && c.is_ascii() {
            continue;
        }
        let text = one(c);
        let letters: Vec<char> = text.chars().collect();
        for n in 2..=letters.len() {
            let whole: String = letters[..n].iter().collect();
            merges.push(format!(
                "{} {}",
                letters[..n - 1].iter().collect::<String>(),
                letters[n - 1]
            ));
            add(&mut tokens, whole);
        }
        add(&mut tokens, text);
    }
    for (at, &a) in chars.iter().enumerate() {
        for (to, &b) in chars.iter().enumerate() {
            // Some pairs must not be tokens, or nothing could be cut.
            if kind.model == "llama" && ((at * 7 + to) % 3 > 0 || (b == ' ' && at % 2 == 0)) {
                continue;
            }
            merges.push(format!("{} {}", one(a), one(b)));
            add(&mut tokens, one(a) + &one(b));
            let c = chars[(at * 5 + to * 3) % chars.len()];
            merges.push(format!("{}{} {}", one(a), one(b), one(c)));
            add(&mut tokens, one(a) + &one(b) + &one(c));
        }
    }
    let n = tokens.len();
    let scores: Vec<f32> = (0..n).map(|at| -((at * 7919 % 1009) as f32)).collect();
    let types = tokens.iter().map(|t| t.1).collect::<Vec<_>>();
    let texts = tokens.into_iter().map(|t| t.0).collect::<Vec<_>>();
    let metadata: Vec<(Cow<'static, str>, Value<'_>)> = vec![
        ("general.architecture".into(), "llama".into()),
        ("general.name".into(), Value::from(name)),
        ("tokenizer.ggml.model".into(), Value::from(kind.model)),
        ("tokenizer.ggml.pre".into(), Value::from(kind.pre)),
        (
            "tokenizer.ggml.tokens".into(),
            Value::Array(Array::from_strings(texts)),
        ),
        (
            "tokenizer.ggml.token_type".into(),
            Value::Array(Array::from_i32s(types)),
        ),
        (
            "tokenizer.ggml.scores".into(),
            Value::Array(Array::from_f32s(scores)),
        ),
        (
            "tokenizer.ggml.merges".into(),
            Value::Array(Array::from_strings(merges)),
        ),
        ("tokenizer.ggml.bos_token_id".into(), Value::U32(0)),
        ("tokenizer.ggml.eos_token_id".into(), Value::U32(1)),
        ("tokenizer.ggml.unknown_token_id".into(), Value::U32(2)),
        ("tokenizer.ggml.seperator_token_id".into(), Value::U32(1)),
        (
            "tokenizer.ggml.add_space_prefix".into(),
            Value::Bool(kind.prefix),
        ),
    ];
    let file = write(&metadata, &[]).expect("a header").header;
    Vocab::new(&empty::vocabulary(&file).unwrap_or_else(|error| panic!("{kind:?}: {error}")))
}

/// llama.cpp's tokens of the whole text.
fn oracle(vocab: &Vocab, text: &str, begin: bool, special: bool) -> Vec<i32> {
    let mut tokens = vec![0; text.len() + 16];
    // SAFETY: pointers and lengths belong together.
    let n = unsafe {
        sys::llama_tokenize(
            vocab.as_ptr(),
            text.as_ptr().cast(),
            text.len() as i32,
            tokens.as_mut_ptr(),
            tokens.len() as i32,
            begin,
            special,
        )
    };
    tokens.truncate(n.expect("no exception") as usize);
    tokens
}

fn kinds() -> impl Iterator<Item = Kind<'static>> {
    let bpe = PRES
        .iter()
        .filter(|pre| **pre != "whitespace")
        .map(|pre| Kind {
            model: "gpt2",
            pre,
            prefix: false,
        });
    let more = [
        ("llama", "default", true),
        ("llama", "default", false),
        ("t5", "default", true),
        ("t5", "default", false),
        ("bert", "default", false),
        ("rwkv", "default", false),
        ("plamo2", "default", false),
        ("gemma4", "", false),
        ("whitespace", "whitespace", false),
        ("hybriddna", "qwen2", false),
        ("test", "default", false),
    ];
    bpe.chain(
        more.into_iter()
            .map(|(model, pre, prefix)| Kind { model, pre, prefix }),
    )
}

/// With a cut wherever one is certain, the tokens are those of the whole.
#[test]
fn pieces_have_the_tokens_of_the_whole() {
    let mut texts = texts();
    let mut cuts = 0;
    for kind in kinds() {
        let vocab = vocab(kind, "test");
        let mut words = Words::new(&vocab).unwrap();
        words.piece_bytes = 1;
        for _ in 0..60 {
            let text = texts.text();
            let (begin, special) = (texts.below(2) > 0, texts.below(2) > 0);
            let request = TokenizeRequest {
                begin,
                special,
                ..TokenizeRequest::new(&text)
            };
            let expected = oracle(&vocab, &text, begin, special);
            let got = words.tokenize(&vocab, &request);
            if !special && words.control.iter().any(|id| expected.contains(id)) {
                // Plain text that merges to a control token is the only intended difference.
                let got = got.unwrap();
                let (head, tail) = (words.head, words.tail);
                let body = |t: &i32| Some(*t) != head && Some(*t) != tail;
                assert!(
                    !got.iter().filter(|t| body(t)).any(|&t| words.is_control(t)),
                    "{kind:?} {text:?}"
                );
                continue;
            }
            assert_eq!(
                got.unwrap(),
                expected,
                "{kind:?} {begin} {special} {text:?}"
            );
            let mut rest = text.as_str();
            while !rest.is_empty() {
                rest = &rest[words.cutter.next(rest, 1)..];
                cuts += usize::from(!rest.is_empty());
            }
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 4000, "{cuts}");
}

/// Long prose is never refused, whatever the lengths of its words.
#[test]
fn long_prose_is_taken_whatever_its_length() {
    let mut texts = texts();
    for kind in kinds() {
        let vocab = vocab(kind, "test");
        let mut text = String::new();
        let length = 20_000 + texts.below(8000);
        while text.len() < length {
            for _ in 0..1 + texts.below(9) {
                text.push(*texts.of(&['e', 't', 'o', 'n']));
            }
            let end = texts.of(&[" ", " ", " ", ", ", ". "]);
            text.push_str(end);
        }
        let got = vocab.tokenize(&text, true, false);
        assert!(got.is_ok(), "{kind:?}: {length} bytes, {got:?}");
    }
}

/// With overlapping texts of equal length, texts within texts, and white space that is
/// dropped.
#[test]
fn special_tokens_are_where_llama_cpp_finds_them() {
    let mut texts = texts();
    let parts: Vec<&str> = SPECIAL
        .iter()
        .map(|s| s.0)
        .chain([" ", "\n", "\t", "a", "b", "<", "im_", ">", "x y"])
        .collect();
    for (pre, name) in [
        ("gpt-2", "test"),
        ("gpt-2", "phi-3"),
        ("mmbert", "test"),
        ("gpt-2", "modern-bert"),
    ] {
        let vocab = vocab(
            Kind {
                model: "gpt2",
                pre,
                prefix: false,
            },
            name,
        );
        for _ in 0..1000 {
            let text: String = (0..texts.below(14)).map(|_| *texts.of(&parts)).collect();
            let special = texts.below(4) > 0;
            let got = vocab.tokenize(&text, true, special).unwrap();
            let expected = oracle(&vocab, &text, true, special);
            let words = vocab.words().unwrap();
            // Plain text that merges to a control token is an intended difference.
            let merged = |t: &[i32]| {
                let body = &t[usize::from(words.head.is_some())..];
                !special && body.iter().any(|&t| words.is_control(t))
            };
            assert!(
                got == expected || merged(&expected),
                "{pre} {name} {special} {text:?}\n{got:?}\n{expected:?}"
            );
        }
    }
}

/// Texts on which llama.cpp would overflow its stack are tokenized or refused.
#[test]
fn long_runs_of_one_class_end_nothing() {
    let mut answered = 0;
    for kind in kinds() {
        let vocab = vocab(kind, "test");
        for c in ['a', 'A', '1', '!', ' ', '\n', '漢', 'é', '\u{301}', '🙂'] {
            for n in [8000, 20_000] {
                let text = format!("x{}x", c.to_string().repeat(n));
                match vocab.tokenize(&text, true, true) {
                    Ok(tokens) => {
                        assert!(!tokens.is_empty());
                        answered += 1;
                    }
                    Err(Error::Text(words)) => assert!(words.contains("in a row"), "{words}"),
                    Err(error) => panic!("{kind:?} {c:?} {n}: {error}"),
                }
            }
        }
    }
    println!("{answered} answered");
    assert!(answered > 500, "{answered}");
}

#[test]
fn what_has_no_room_is_not_tokenized() {
    let vocab = vocab(
        Kind {
            model: "gpt2",
            pre: "gpt-2",
            prefix: false,
        },
        "test",
    );
    let text = "ab 1, ".repeat(5000);
    let n = vocab.tokenize(&text, true, true).unwrap().len();
    let with = |room, given_up: &dyn Fn() -> bool| {
        vocab.tokens_of(&TokenizeRequest {
            room,
            given_up,
            ..TokenizeRequest::new(&text)
        })
    };
    assert_eq!(with(n, &|| false).unwrap().len(), n);
    for room in [0, 1, n / 2, n - 1] {
        match with(room, &|| false) {
            Err(Error::PromptOverflow { least, .. }) => assert!(least > room && least <= n),
            other => panic!("{room}: {other:?}"),
        }
    }
    assert!(matches!(with(n, &|| true), Err(Error::GivenUp)));
}

/// No control token is found in plain ranges, nor across their borders.
#[test]
fn plain_ranges_hold_no_control_tokens() {
    let mut texts = texts();
    for (model, pre) in [
        ("gpt2", "gpt-2"),
        ("llama", "default"),
        ("gpt2", "llama-bpe"),
    ] {
        let vocab = vocab(
            Kind {
                model,
                pre,
                prefix: true,
            },
            "test",
        );
        let words = vocab.words().unwrap();
        let parts: Vec<&str> = SPECIAL
            .iter()
            .map(|s| s.0)
            .chain(["<|im_", "end|>", " ", "x"])
            .collect();
        for _ in 0..1000 {
            let (mut text, mut plain, mut written) = (String::new(), Vec::new(), 0);
            for _ in 0..texts.below(8) {
                let part = *texts.of(&parts);
                if texts.below(2) > 0 {
                    plain.push(text.len()..text.len() + part.len());
                    text.push_str(part);
                } else {
                    // The template's own, separated by spaces.
                    text.push_str(" <s> ");
                    written += 1;
                }
            }
            let request = TokenizeRequest {
                plain: &plain,
                begin: false,
                ..TokenizeRequest::new(&text)
            };
            let tokens = vocab.tokens_of(&request).unwrap();
            let control = tokens.iter().filter(|&&t| words.is_control(t)).count();
            let all_plain = plain.is_empty();
            assert!(
                control == written || all_plain,
                "{model} {text:?} {plain:?} {tokens:?}"
            );
        }
    }
}
