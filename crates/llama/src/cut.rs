//! Where a text may be cut so that the tokens of its pieces are those of the whole,
//! and how deep llama.cpp would recurse over a piece. Both follow from the rules of
//! llama.cpp's tokenizers; `tokenize/tests.rs` checks them against each tokenizer.
//!
//! A pre-tokenizer is a list of regular expressions without look-behind. So a cut is
//! certain where no match contains the characters on both sides of it, and the search for
//! the next match begins there in any case. With merges alone, it is certain where no
//! token contains the two characters side by side.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Classes of characters next to a cut. There is no cut next to `Other`, whose classes
/// depend on the version of Unicode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Letter,
    Digit,
    Space,
    Newline,
    /// A comma or a full stop, European or Chinese.
    Stop,
    /// Other ASCII punctuation that begins no contraction and ends no tag.
    Mark,
    Other,
}

fn side(c: char) -> Side {
    match c {
        'a'..='z' | 'A'..='Z' | 'а'..='я' | 'А'..='Я' | '一'..='龥' | 'ぁ'..='ゖ' | '가'..='힣' => {
            Side::Letter
        }
        '0'..='9' => Side::Digit,
        ' ' => Side::Space,
        '\n' => Side::Newline,
        ',' | '.' | '，' | '。' => Side::Stop,
        '"' | '(' | ')' | '[' | ']' | '{' | '}' | ';' | '=' => Side::Mark,
        _ => Side::Other,
    }
}

/// Kinds of tokenizers, by where they certainly separate tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// After a letter or digit, before a space, newline or punctuation; and between a
    /// letter and a digit.
    Words,
    /// After a letter or digit, before a space, newline or stop.
    Stops,
    /// As `Words`, except between a letter and a space: letters with single spaces between
    /// them are one match.
    Phrases,
    /// After a letter or digit, before a space or newline.
    Gaps,
    /// Before each space, and before the first newline of a run.
    Spaces,
    /// Before the first newline of a run.
    Lines,
    /// Between a letter and a digit, and after a digit before any class but `Other`.
    Numbers,
    /// Between characters that no token contains side by side; with `prefix`, llama.cpp
    /// puts a space before each text.
    Pairs { prefix: bool },
    /// Nowhere.
    Nowhere,
}

impl Rule {
    fn cuts(self, before: char, after: char) -> bool {
        use Side::{Digit, Letter, Mark, Newline, Space, Stop};
        let sides = (side(before), side(after));
        match self {
            Self::Words => matches!(
                sides,
                (Letter | Digit, Space | Newline | Stop | Mark) | (Letter, Digit)
            ),
            Self::Stops => matches!(sides, (Letter | Digit, Space | Newline | Stop)),
            Self::Phrases => matches!(
                sides,
                (Letter | Digit, Newline | Stop | Mark) | (Letter, Digit) | (Digit, Space)
            ),
            Self::Gaps => matches!(sides, (Letter | Digit, Space | Newline)),
            Self::Spaces => after == ' ' || (after == '\n' && before != '\n'),
            Self::Lines => after == '\n' && before != '\n',
            Self::Numbers => matches!(
                sides,
                (Letter, Digit) | (Digit, Letter | Space | Newline | Stop | Mark)
            ),
            Self::Pairs { .. } => true,
            Self::Nowhere => false,
        }
    }
}

/// What an unlimited match may consist of, in expressions that llama.cpp leaves to
/// `std::regex`, which recurses for each character of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recursion {
    /// No such expression.
    Never,
    /// Characters of one class: letters, digits, white space, others.
    Class,
    /// As `Class`, or letters and spaces.
    Phrase,
    /// Anything but white space.
    Word,
}

/// How a text is cut for a vocabulary.
#[derive(Debug)]
pub(crate) struct Cutter {
    rule: Rule,
    recursion: Recursion,
    /// Longest run that is given to the tokenizer, in characters.
    pub(crate) max_run: usize,
    pairs: Pairs,
}

/// Maximum number of characters that one match may recurse over. At 1 KiB of stack each,
/// about twice what was measured, this limits the stack that a text can require to 4 MiB.
const MAX_RUN: usize = 4096;

/// The same for expressions that are tried again at each character of a run.
const MAX_QUADRATIC_RUN: usize = 1024;

/// Put before a piece so that the space that llama.cpp prepends does not merge with it.
pub(crate) const GUARD: char = '\n';

/// A vocabulary's tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokenizer<'a> {
    /// Merges of bytes (BPE), after the pre-tokenizer of that name.
    Bpe(&'a str),
    /// The same, but text between tags is cut into groups of a fixed number of letters.
    Dna(&'a str),
    /// Merges of characters (SentencePiece).
    Spm {
        /// Whether a space is put before each text.
        prefix: bool,
    },
    /// Pieces of words (WordPiece), each word on its own.
    Wpm,
    /// Others, which process a text as a whole, in linear time and without recursion.
    Whole,
}

impl Cutter {
    /// For a tokenizer; `texts` are those of all its tokens.
    pub(crate) fn new<'t>(
        tokenizer: Tokenizer<'_>,
        texts: impl ExactSizeIterator<Item = &'t str>,
    ) -> Self {
        let (rule, recursion, max_run) = match tokenizer {
            Tokenizer::Bpe(pre) => bpe(pre),
            Tokenizer::Dna(pre) => {
                let (_, recursion, max_run) = bpe(pre);
                (Rule::Nowhere, recursion, max_run)
            }
            Tokenizer::Spm { prefix } => (Rule::Pairs { prefix }, Recursion::Never, usize::MAX),
            Tokenizer::Wpm => (Rule::Gaps, Recursion::Never, usize::MAX),
            Tokenizer::Whole => (Rule::Nowhere, Recursion::Never, usize::MAX),
        };
        let pairs = match rule {
            Rule::Pairs { .. } => Pairs::of(texts),
            _ => Pairs::default(),
        };
        Self {
            rule,
            recursion,
            max_run,
            pairs,
        }
    }

    /// Whether llama.cpp puts a space before each text. Every piece but the first then has to
    /// be given without the space that it begins with, or else after a [`GUARD`].
    pub(crate) fn adds_space(&self) -> bool {
        self.rule == Rule::Pairs { prefix: true }
    }

    /// Whether texts are never cut.
    pub(crate) fn is_whole(&self) -> bool {
        self.rule == Rule::Nowhere
    }

    /// The offset of the first certain cut at `least` bytes or more; the text's length if
    /// there is none.
    pub(crate) fn next(&self, text: &str, least: usize) -> usize {
        if text.len() <= least || self.rule == Rule::Nowhere {
            return text.len();
        }
        let mut chars = text.char_indices().peekable();
        while let Some((_, before)) = chars.next() {
            let Some(&(cut, after)) = chars.peek() else {
                break;
            };
            if cut >= least && self.rule.cuts(before, after) && self.holds_apart(before, after) {
                // The rest may not be a single space, which would be given as an empty text.
                if !self.adds_space() || cut + 1 < text.len() {
                    return cut;
                }
            }
        }
        text.len()
    }

    /// Whether no token contains both characters side by side, and what follows can be
    /// tokenized on its own.
    fn holds_apart(&self, before: char, after: char) -> bool {
        let apart = |a, b| !self.pairs.may_hold(a, b);
        match self.rule {
            Rule::Pairs { prefix: false } => apart(before, after),
            Rule::Pairs { prefix: true } => {
                apart(before, after) && (after == ' ' || (apart(' ', GUARD) && apart(GUARD, after)))
            }
            _ => true,
        }
    }

    /// Upper bound of the number of characters in `text` that one match recurses over.
    pub(crate) fn longest_run(&self, text: &str) -> usize {
        if self.recursion == Recursion::Never {
            return 0;
        }
        let mut runs = [0_usize; 4];
        let mut longest = 0;
        for c in text.chars() {
            let is_in = self.recursion.classes(c);
            for (run, is_in) in runs.iter_mut().zip(is_in) {
                *run = if is_in { *run + 1 } else { 0 };
                longest = longest.max(*run);
            }
        }
        longest
    }
}

impl Recursion {
    /// Which runs a character may belong to: letters, digits, others, white space. A
    /// non-ASCII character other than white space may belong to any of the first three.
    fn classes(self, c: char) -> [bool; 4] {
        let white = c.is_whitespace();
        let [mut letter, mut digit, mut other] = match c {
            _ if white => [false; 3],
            c if c.is_ascii_alphabetic() => [true, false, false],
            c if c.is_ascii_digit() => [false, true, false],
            c if c.is_ascii() => [false, false, true],
            _ => [true; 3],
        };
        match self {
            Self::Word if !white => [letter, digit, other] = [true; 3],
            Self::Phrase if c == ' ' => letter = true,
            _ => {}
        }
        [letter, digit, other, white]
    }
}

/// For the pre-tokenizer of this name: where it certainly cuts, what it recurses over, and
/// the longest run that it is given.
fn bpe(pre: &str) -> (Rule, Recursion, usize) {
    let linear = |rule| (rule, Recursion::Never, usize::MAX);
    match pre {
        // Implemented in C++ by llama.cpp, without recursion.
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" | "jina-v5-nano" | "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" | "glm5"
        | "stablelm2" | "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "megrez"
        | "hunyuan" | "solar-open" | "grok-2" | "qwen35" | "laguna" | "kimi-k2" | "gpt-2"
        | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de"
        | "a.x-4.0" | "mellum" | "modern-bert" | "jina-v1-en" | "jina-v2-code" | "roberta-bpe"
        | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" | "exaone4" | "starcoder"
        | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            linear(Rule::Words)
        }
        "gemma4" | "granite-embed-multi-311m" | "sarvam-moe" => linear(Rule::Lines),
        "mmbert" => linear(Rule::Spaces),
        // Left to `std::regex`.
        "whitespace" => (Rule::Gaps, Recursion::Word, MAX_RUN),
        "poro-chat" | "bloom" | "gpt3-finnish" | "viking" => {
            (Rule::Stops, Recursion::Word, MAX_RUN)
        }
        "exaone-moe" => (Rule::Phrases, Recursion::Phrase, MAX_RUN),
        "superbpe" => (Rule::Numbers, Recursion::Class, MAX_QUADRATIC_RUN),
        "deepseek-llm" => (Rule::Words, Recursion::Class, MAX_QUADRATIC_RUN),
        ""
        | "default"
        | "jais-2"
        | "deepseek-coder"
        | "deepseek-v3"
        | "spark2_5"
        | "youtu"
        | "falcon"
        | "tekken"
        | "chameleon"
        | "gpt-4o"
        | "llama4"
        | "kanana2"
        | "talkie"
        | "granite-embed-multi-97m"
        | "tiny_aya"
        | "cohere2moe"
        | "bailingmoe"
        | "bailingmoe2"
        | "llada-moe"
        | "seed-coder"
        | "hunyuan-dense"
        | "hy_v4"
        | "joyai-llm"
        | "ufakzeka"
        | "afmoe"
        | "minimax-m2"
        | "minicpm5" => (Rule::Words, Recursion::Class, MAX_RUN),
        // Unknown to this program: no cut is certain.
        _ => (Rule::Nowhere, Recursion::Word, MAX_QUADRATIC_RUN),
    }
}

/// The pairs of characters that stand side by side in some token, as a Bloom filter: a pair
/// that is reported by mistake costs a cut and nothing else.
#[derive(Debug, Default)]
struct Pairs {
    bits: Box<[u64]>,
}

impl Pairs {
    fn of<'t>(texts: impl ExactSizeIterator<Item = &'t str>) -> Self {
        // At least eight bits per token, and at least 8 KiB.
        let words = (texts.len() / 8).next_power_of_two().max(1024);
        let mut out = Self {
            bits: vec![0; words].into(),
        };
        for text in texts {
            let mut chars = text.chars();
            let Some(mut before) = chars.next() else {
                continue;
            };
            for after in chars {
                let (word, bit) = out.place(before, after);
                out.bits[word] |= bit;
                before = after;
            }
        }
        out
    }

    fn may_hold(&self, before: char, after: char) -> bool {
        // SentencePiece writes a space as U+2581.
        let written = |c| if c == ' ' { '▁' } else { c };
        let (word, bit) = self.place(written(before), written(after));
        self.bits[word] & bit != 0
    }

    fn place(&self, before: char, after: char) -> (usize, u64) {
        let mut hasher = DefaultHasher::new();
        (before, after).hash(&mut hasher);
        let hash = hasher.finish();
        let word = (hash >> 6) as usize & (self.bits.len() - 1);
        (word, 1 << (hash & 63))
    }
}
