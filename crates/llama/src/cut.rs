//! Where a text may be cut so that the tokens of its pieces are those of the whole,
//! and how deep llama.cpp would recurse over a piece. Both follow from the rules of
//! llama.cpp's tokenizers alone; `tests/pieces.rs` holds them against each.
//!
//! A pre-tokenizer is a list of regular expressions, and none looks back. So a cut is
//! certain where no match holds the characters on both sides of it, and what follows
//! is found by a search that begins there anyway. For merges it is certain where no
//! token holds the two characters side by side.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// What a cut may stand between. Characters beyond these are never beside one: their
/// classes depend on the version of Unicode.
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

/// The kinds of tokenizers, by where they certainly cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Behind a letter or digit, before a space, a line's end or punctuation, and
    /// between letters and digits.
    Words,
    /// The same without the last, and before stops alone.
    Stops,
    /// The same, but letters with single spaces between are one match.
    Phrases,
    /// Behind a letter or digit, before a space or a line's end.
    Gaps,
    /// Before each space, and at the beginning of line ends.
    Spaces,
    /// At the beginning of line ends.
    Lines,
    /// Between digits and what are none.
    Numbers,
    /// Between characters that stand side by side in no token; with `prefix`, llama.cpp
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

/// What one match of a regular expression that llama.cpp leaves to `std::regex` may
/// hold any number of: it recurses for each character of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recursion {
    /// No such expression.
    Never,
    /// Characters of one class: letters, digits, white space, others.
    Class,
    /// Letters and spaces, beside those of one class.
    Phrase,
    /// All but white space.
    Word,
}

/// How a text is cut for a vocabulary.
#[derive(Debug)]
pub(crate) struct Cutter {
    rule: Rule,
    recursion: Recursion,
    /// Longest run that one match may hold, in characters.
    pub(crate) max_run: usize,
    pairs: Pairs,
}

/// Characters that one recursion may go over. With 1 KiB of stack each, about twice
/// what was measured, this is the largest stack that a text can ask for.
const MAX_RUN: usize = 4096;

/// The same where an expression is tried anew at each character of a run.
const MAX_QUADRATIC_RUN: usize = 1024;

/// Keeps a space that llama.cpp puts before a text apart from it.
pub(crate) const GUARD: char = '\n';

/// What is known of a vocabulary's tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokenizer<'a> {
    /// Merges of bytes, behind the pre-tokenizer of that name.
    Bpe(&'a str),
    /// The same, but what is between tags is cut by numbers of letters.
    Dna(&'a str),
    /// Merges of characters; whether a space is put before each text.
    Spm {
        /// Whether a space is put before each text.
        prefix: bool,
    },
    /// Words of pieces, each word on its own.
    Wpm,
    /// Others, which look at a text as a whole, in linear time and without recursion.
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

    /// Whether llama.cpp puts a space before each text, so that a piece but the first
    /// has to go without the space that it begins with, or behind a [`GUARD`].
    pub(crate) fn adds_space(&self) -> bool {
        self.rule == Rule::Pairs { prefix: true }
    }

    /// Whether tokens are looked for in the text as a whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.rule == Rule::Nowhere
    }

    /// The first certain cut behind the first `least` bytes of `text`; its end, if
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
                // A single space at the very end would be nothing without it.
                if !self.adds_space() || cut + 1 < text.len() {
                    return cut;
                }
            }
        }
        text.len()
    }

    /// Whether no token holds both, and what follows can be given on its own.
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

    /// The longest run of characters in `text` that one match may hold, where that
    /// takes stack; else 0.
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
    /// In which runs a character may be: of letters, digits, others, white space. What
    /// is not ASCII may be in any but the last.
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

/// Where the pre-tokenizer of this name certainly cuts, and over what it recurses.
fn bpe(pre: &str) -> (Rule, Recursion, usize) {
    let linear = |rule| (rule, Recursion::Never, usize::MAX);
    match pre {
        // Written out in C++.
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
        // One that this program does not know: nothing is certain.
        _ => (Rule::Nowhere, Recursion::Word, MAX_QUADRATIC_RUN),
    }
}

/// Which characters stand side by side in some token. It may hold more pairs than
/// there are, which costs cuts, but none less.
#[derive(Debug, Default)]
struct Pairs {
    bits: Box<[u64]>,
}

impl Pairs {
    fn of<'t>(texts: impl ExactSizeIterator<Item = &'t str>) -> Self {
        // Some eight bits a token, and 8 KiB at least: most pairs are in many tokens.
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
        // In tokens a space is written as this.
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
