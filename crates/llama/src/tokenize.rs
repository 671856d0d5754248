//! Tokenizes texts by llama.cpp with limits on stack, memory and time. Special tokens are
//! found here; the text between them is given to llama.cpp in pieces, and between pieces a
//! request may be given up. Stack is limited because llama.cpp recurses over some texts.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;

use crate::cut::{Cutter, GUARD, Tokenizer};
use crate::special::{Fragment, SpecialToken, SpecialTokens};
use crate::sys;
use crate::vocab::Vocab;
use delayline_engine::Error;

/// Minimum length of a piece, so that the fixed cost of a call does not matter.
const PIECE_BYTES: usize = 4 << 10;

/// Maximum length of a piece in characters, for each of which llama.cpp takes some hundred
/// bytes of memory. A piece ends at the first certain cut after [`PIECE_BYTES`], so the
/// difference is how far apart cuts may be.
const MAX_PIECE: usize = 64 << 10;

/// The same for tokenizers that process texts as a whole.
const MAX_WHOLE: usize = 1 << 20;

/// Runs up to this length are recursed over on the caller's stack.
const SHALLOW_RUN: usize = 128;

/// Stack for each character that is recursed over, about twice what was measured, and
/// stack that a thread needs besides, in bytes.
const STACK_PER_CHARACTER: usize = 1 << 10;
const STACK: usize = 256 << 10;

/// A text to tokenize, and how.
#[derive(Clone, Copy)]
pub struct TokenizeRequest<'a> {
    /// The text.
    pub text: &'a str,
    /// Byte ranges, in order and disjoint, in which no control token is found: parts of the
    /// text that the model's template did not write.
    pub plain: &'a [Range<usize>],
    /// Whether to add the tokens that the model expects at the start and at the end.
    pub begin: bool,
    /// Whether texts such as `<|im_end|>` become their tokens.
    pub special: bool,
    /// Whether it continues another text: then no space is added before the first word, as
    /// some models expect at the start of a text.
    pub goes_on: bool,
    /// Maximum number of tokens.
    pub room: usize,
    /// Called between pieces; returns true if the tokens are no longer wanted.
    pub given_up: &'a dyn Fn() -> bool,
}

impl<'a> TokenizeRequest<'a> {
    /// For `text` with the tokens around it and with special tokens, without limits.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            plain: &[],
            begin: true,
            special: true,
            goes_on: false,
            room: usize::MAX,
            given_up: &|| false,
        }
    }
}

/// What is derived from a whole vocabulary.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) special: SpecialTokens,
    cutter: Cutter,
    /// The tokens before and after a text.
    head: Option<i32>,
    tail: Option<i32>,
    /// Ids of control tokens, ascending.
    control: Vec<i32>,
    /// The maximum number of bytes of a text that a token covers, if that is limited.
    longest: Option<usize>,
    /// Pieces end at the first certain cut at so many bytes or more.
    piece_bytes: usize,
}

impl Words {
    pub(crate) fn new(vocab: &Vocab) -> Result<Self, Error> {
        let ptr = vocab.as_ptr();
        // SAFETY: the vocabulary is live.
        let kind = unsafe { sys::llama_vocab_type(ptr) };
        if kind == sys::LLAMA_VOCAB_TYPE_NONE {
            return Err(Error::Text(
                "the model has no vocabulary, so it cannot tokenize a text".into(),
            ));
        }
        let n = vocab.tokens() as i32;
        let (special, longest) = special(vocab, n)?;
        let model = vocab.metadata(c"tokenizer.ggml.model")?;
        let pre = match model.as_str() {
            "gemma4" => "gemma4".into(),
            _ => vocab.metadata(c"tokenizer.ggml.pre")?,
        };
        if kind == sys::LLAMA_VOCAB_TYPE_BPE && pre == "whitespace" && model != "whitespace" {
            return Err(Error::Text(format!(
                "the model's file names the pre-tokenizer `whitespace` for a tokenizer of the kind \
                 `{model}`: llama.cpp ends the process at two spaces in a row"
            )));
        }
        let tokenizer = match kind {
            sys::LLAMA_VOCAB_TYPE_BPE if model == "hybriddna" => Tokenizer::Dna(&pre),
            sys::LLAMA_VOCAB_TYPE_BPE => Tokenizer::Bpe(&pre),
            sys::LLAMA_VOCAB_TYPE_SPM => Tokenizer::Spm {
                prefix: vocab.metadata(c"tokenizer.ggml.add_space_prefix")? != "false",
            },
            sys::LLAMA_VOCAB_TYPE_WPM => Tokenizer::Wpm,
            sys::LLAMA_VOCAB_TYPE_RWKV => {
                steps_on(vocab, n)?;
                Tokenizer::Whole
            }
            _ => Tokenizer::Whole,
        };
        // Other tokenizers drop or contract parts of a text.
        let covers = match kind {
            sys::LLAMA_VOCAB_TYPE_BPE => model != "whitespace" && model != "hybriddna",
            sys::LLAMA_VOCAB_TYPE_SPM
            | sys::LLAMA_VOCAB_TYPE_RWKV
            | sys::LLAMA_VOCAB_TYPE_PLAMO2 => true,
            _ => false,
        };
        let strips = special
            .iter()
            .any(|token| token.strips_left || token.strips_right);
        let (head, tail) = ends(vocab, kind);
        let texts = (0..n).map(|id| vocab.text(id).unwrap_or_default());
        let mut control: Vec<i32> = special
            .iter()
            .filter(|token| token.control)
            .map(|token| token.id)
            .collect();
        control.sort_unstable();
        Ok(Self {
            cutter: Cutter::new(tokenizer, texts),
            head,
            tail,
            control,
            longest: (covers && !strips).then_some(longest.max(1)),
            special: SpecialTokens::new(special)?,
            piece_bytes: PIECE_BYTES,
        })
    }

    fn is_control(&self, token: i32) -> bool {
        self.control.binary_search(&token).is_ok()
    }

    /// The tokens of a text.
    pub(crate) fn tokenize(
        &self,
        vocab: &Vocab,
        request: &TokenizeRequest<'_>,
    ) -> Result<Vec<i32>, Error> {
        let TokenizeRequest {
            text,
            plain,
            begin,
            special,
            goes_on,
            room,
            given_up,
        } = *request;
        let fits = |least: usize| match least > room {
            true => Err(Error::PromptOverflow { least, room }),
            false => Ok(()),
        };
        // A text that cannot fit is not processed.
        if let Some(longest) = self.longest {
            fits(text.len().div_ceil(longest))?;
        }
        let fragments = self.special.split(text, plain, special, given_up)?;
        let count = |fragment: &Fragment| match (fragment, self.longest) {
            (Fragment::Token(_), _) => 1,
            (Fragment::Text(range), Some(longest)) => range.len().div_ceil(longest),
            (Fragment::Text(_), None) => 0,
        };
        fits(fragments.iter().map(count).sum())?;
        let mut out = Vec::new();
        out.extend(self.head.filter(|_| begin));
        let mut plainly = Plainly {
            words: self,
            vocab,
            keeps_control: special && plain.is_empty(),
            spelled: HashMap::new(),
            buffer: Vec::new(),
        };
        for fragment in fragments {
            match fragment {
                Fragment::Token(id) => out.push(id),
                Fragment::Text(range) => {
                    let mut rest = &text[range];
                    let mut is_first = !goes_on;
                    while !rest.is_empty() {
                        let (piece, behind) =
                            rest.split_at(self.cutter.next(rest, self.piece_bytes));
                        plainly.piece(piece, is_first, &mut out)?;
                        fits(out.len())?;
                        if given_up() {
                            return Err(Error::GivenUp);
                        }
                        rest = behind;
                        is_first = false;
                    }
                }
            }
        }
        out.extend(self.tail.filter(|_| begin));
        fits(out.len())?;
        Ok(out)
    }
}

/// Tokenizes the texts between special tokens, piece by piece.
struct Plainly<'a> {
    words: &'a Words,
    vocab: &'a Vocab,
    /// Whether control tokens that result from merging are kept.
    keeps_control: bool,
    /// Control tokens as the tokens of their characters.
    spelled: HashMap<i32, Vec<i32>>,
    buffer: Vec<i32>,
}

impl Plainly<'_> {
    fn piece(&mut self, text: &str, is_first: bool, out: &mut Vec<i32>) -> Result<(), Error> {
        let cutter = &self.words.cutter;
        if is_first || !cutter.adds_space() {
            return self.whole(text, 0, out);
        }
        if let Some(behind) = text.strip_prefix(' ') {
            return self.whole(behind, 0, out);
        }
        self.vocab
            .tokenize_piece(GUARD.encode_utf8(&mut [0; 4]), &mut self.buffer)?;
        let guards = self.buffer.len();
        self.whole(&format!("{GUARD}{text}"), guards, out)
    }

    /// The tokens of `text` but for the first `skipped`.
    fn whole(&mut self, text: &str, skipped: usize, out: &mut Vec<i32>) -> Result<(), Error> {
        let cutter = &self.words.cutter;
        let most = match cutter.is_whole() {
            true => MAX_WHOLE,
            false => MAX_PIECE,
        };
        let run = cutter.longest_run(text);
        if run > cutter.max_run {
            return Err(unbroken(run, cutter.max_run));
        }
        if text.len() > most {
            let len = text.chars().count();
            if len > most {
                return Err(unbroken(len, most));
            }
        }
        let (vocab, buffer) = (self.vocab, &mut self.buffer);
        if run <= SHALLOW_RUN {
            vocab.tokenize_piece(text, buffer)?;
        } else {
            // On a thread whose stack is large enough for the recursion.
            std::thread::scope(|scope| {
                std::thread::Builder::new()
                    .name("tokenizer".into())
                    .stack_size(STACK + run * STACK_PER_CHARACTER)
                    .spawn_scoped(scope, || vocab.tokenize_piece(text, buffer))
                    .map_err(Error::Memory)?
                    .join()
                    .unwrap_or_else(|_| Err(Error::Defect("the tokenizer panicked".into())))
            })?;
        }
        if self.keeps_control {
            out.extend(&self.buffer[skipped..]);
            return Ok(());
        }
        for &token in &self.buffer[skipped..] {
            if !self.words.is_control(token) {
                out.push(token);
                continue;
            }
            // Plain text that merged to a control token becomes tokens of its characters.
            let spelled = self.spelled.entry(token);
            out.extend(&*spelled.or_insert_with(|| spelled_out(vocab, token)));
        }
        Ok(())
    }
}

fn unbroken(len: usize, most: usize) -> Error {
    Error::Text(format!(
        "the text has {len} characters in a row that the model's tokenizer has to process at \
         once, expected at most {most}: put spaces or line breaks between them"
    ))
}

/// The special tokens in the order in which llama.cpp looks for them, and the length
/// of the longest text of any token.
fn special(vocab: &Vocab, n: i32) -> Result<(Vec<SpecialToken>, usize), Error> {
    let (mut tokens, mut longest) = (Vec::new(), 0);
    for id in 0..n {
        let Some(text) = vocab.text(id) else {
            continue;
        };
        longest = longest.max(text.len());
        // SAFETY: the vocabulary is live.
        let attr = unsafe { sys::llama_vocab_get_attr(vocab.as_ptr(), id) }
            .map_err(|thrown| thrown.during("look up a token"))?;
        let control = attr & (sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_UNKNOWN) != 0;
        if !text.is_empty() && (control || attr & sys::LLAMA_TOKEN_ATTR_USER_DEFINED != 0) {
            tokens.push(SpecialToken {
                id,
                text: text.to_owned(),
                control,
                strips_left: attr & sys::LLAMA_TOKEN_ATTR_LSTRIP != 0,
                strips_right: attr & sys::LLAMA_TOKEN_ATTR_RSTRIP != 0,
            });
        }
    }
    let lengths: Vec<usize> = tokens.iter().map(|token| token.text.len()).collect();
    let order = sys::longest_first(&lengths);
    let tokens = order.into_iter().map(|at| tokens[at as usize].clone());
    Ok((tokens.collect(), longest))
}

/// The tokens that llama.cpp puts before and after a text.
fn ends(vocab: &Vocab, kind: u32) -> (Option<i32>, Option<i32>) {
    let ptr = vocab.as_ptr();
    // SAFETY: the vocabulary is live.
    let (bos, eos, sep, adds_bos, adds_eos) = unsafe {
        (
            sys::llama_vocab_bos(ptr),
            sys::llama_vocab_eos(ptr),
            sys::llama_vocab_sep(ptr),
            sys::llama_vocab_get_add_bos(ptr),
            sys::llama_vocab_get_add_eos(ptr),
        )
    };
    // A token that is to be added but not in the vocabulary is left out; llama.cpp would
    // abort.
    let token = |token: i32, is_added: bool| (is_added && token >= 0).then_some(token);
    match kind {
        sys::LLAMA_VOCAB_TYPE_WPM => (token(bos, true), token(sep, true)),
        sys::LLAMA_VOCAB_TYPE_RWKV | sys::LLAMA_VOCAB_TYPE_TEST => (None, None),
        _ => (token(bos, adds_bos), token(eos, adds_eos)),
    }
}

/// The tokens of each character of a token's text, or of its bytes.
fn spelled_out(vocab: &Vocab, token: i32) -> Vec<i32> {
    let n = vocab.tokens() as i32;
    let find = |text: &str| (0..n).find(|&id| vocab.text(id) == Some(text));
    let mut out = Vec::new();
    for c in vocab.text(token).unwrap_or_default().chars() {
        let mut bytes = [0; 4];
        let text = &*c.encode_utf8(&mut bytes);
        match find(text).filter(|&id| id != token) {
            Some(id) => out.push(id),
            None => out.extend(
                text.bytes()
                    .filter_map(|byte| find(&format!("<0x{byte:02X}>"))),
            ),
        }
    }
    out
}

/// Checks that a greedy tokenizer always advances: each byte with which a token begins must
/// itself be a token, or else llama.cpp loops forever.
fn steps_on(vocab: &Vocab, n: i32) -> Result<(), Error> {
    let (mut begins, mut is_token) = ([false; 256], [false; 256]);
    for text in (0..n).filter_map(|id| vocab.text(id)) {
        let bytes = unescaped(text);
        if let Some(&first) = bytes.first() {
            begins[usize::from(first)] = true;
            is_token[usize::from(first)] |= bytes.len() == 1;
        }
    }
    match (0..256).find(|&byte| begins[byte] && !is_token[byte]) {
        Some(byte) => Err(Error::Text(format!(
            "the model's vocabulary has tokens that begin with the byte {byte}, but none that is \
             that byte: no text can be tokenized with it"
        ))),
        None => Ok(()),
    }
}

/// A token's bytes, as RWKV's vocabularies escape them.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let digit = |byte: u8| match byte {
                    b'a'.. => (byte - b'a').wrapping_add(10),
                    _ => byte.wrapping_sub(b'0'),
                };
                if let (Some(high), Some(low)) = (bytes.next(), bytes.next()) {
                    out.push((digit(high) << 4).wrapping_add(digit(low)));
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}
