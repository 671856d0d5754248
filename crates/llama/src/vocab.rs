//! A model's vocabulary: tokens to text by llama.cpp, text to tokens by `tokenize`, and
//! the metadata about texts. Also assembles bytes of tokens to whole characters.

use std::ffi::{CStr, c_char};
use std::sync::{Arc, OnceLock};

use crate::empty::{self, Model};
use crate::sys;
use crate::tokenize::{TokenizeRequest, Words};
use delayline_engine::{Error, Load, ModelFile};

/// A model's vocabulary.
#[derive(Clone, Debug)]
pub struct Vocab {
    model: Arc<Model>,
    words: Arc<OnceLock<Words>>,
}

impl Vocab {
    /// The vocabulary of `model`.
    pub fn new(model: &Arc<Model>) -> Self {
        Self {
            model: model.clone(),
            words: Arc::default(),
        }
    }

    /// The vocabulary of the model in `file`, of which only the header is read.
    ///
    /// # Errors
    /// When llama.cpp refuses the model.
    pub fn open(file: &ModelFile) -> Result<Self, Error> {
        Ok(Self::new(&empty::load(file, Load::Empty)?))
    }

    /// For llama.cpp's functions; valid as long as `self`.
    pub fn as_ptr(&self) -> *const sys::llama_vocab {
        // SAFETY: the model is live and owns its vocabulary.
        unsafe { sys::llama_model_get_vocab(self.model.as_ptr()) }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        // SAFETY: the vocabulary is live.
        let n = unsafe { sys::llama_vocab_n_tokens(self.as_ptr()) };
        usize::try_from(n).unwrap_or(0)
    }

    /// The tokens of `text`. With `special`, texts such as `<|im_end|>` become their tokens;
    /// with `begin`, the tokens that the model expects at the start and end are added.
    ///
    /// # Errors
    /// When the text cannot be tokenized safely.
    pub fn tokenize(&self, text: &str, begin: bool, special: bool) -> Result<Vec<i32>, Error> {
        self.tokens_of(&TokenizeRequest {
            begin,
            special,
            ..TokenizeRequest::new(text)
        })
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// When there are more than the request allows, when it was given up, and when the text
    /// cannot be tokenized safely.
    pub fn tokens_of(&self, request: &TokenizeRequest<'_>) -> Result<Vec<i32>, Error> {
        self.words()?.tokenize(self, request)
    }

    /// What is derived from the whole vocabulary, on first use.
    pub(crate) fn words(&self) -> Result<&Words, Error> {
        if let Some(words) = self.words.get() {
            return Ok(words);
        }
        let words = Words::new(self)?;
        Ok(self.words.get_or_init(|| words))
    }

    /// Puts the tokens of a piece of text without special tokens into `tokens`.
    pub(crate) fn tokenize_piece(&self, text: &str, tokens: &mut Vec<i32>) -> Result<(), Error> {
        let what = "tokenize the prompt";
        let len = i32::try_from(text.len())
            .map_err(|_| Error::Text("the prompt is longer than 2 GiB".into()))?;
        // Enough unless tokens are less than a byte each.
        tokens.clear();
        tokens.resize(text.len() + 8, 0);
        let call = |out: &mut [i32]| {
            // SAFETY: pointers and lengths belong together; the text need not
            // end with a zero byte.
            unsafe {
                sys::llama_tokenize(
                    self.as_ptr(),
                    text.as_ptr().cast::<c_char>(),
                    len,
                    out.as_mut_ptr(),
                    out.len() as i32,
                    false,
                    false,
                )
            }
            .map_err(|thrown| thrown.during(what))
        };
        let mut n = call(tokens)?;
        if n < 0 && n != i32::MIN {
            tokens.resize(n.unsigned_abs() as usize, 0);
            n = call(tokens)?;
        }
        let n = usize::try_from(n).map_err(|_| Error::Llama {
            what,
            message: "it returned no number of tokens".into(),
        })?;
        tokens.truncate(n);
        Ok(())
    }

    /// The text of a token as the vocabulary writes it; `None` if it is not UTF-8.
    pub(crate) fn text(&self, token: i32) -> Option<&str> {
        // SAFETY: the vocabulary is live; its texts live as long and end with a zero byte.
        unsafe {
            let text = sys::llama_vocab_get_text(self.as_ptr(), token).ok()?;
            (!text.is_null()).then(|| CStr::from_ptr(text).to_str().ok())?
        }
    }

    /// A value of the model's metadata as text, cut to 63 bytes; empty if it is missing.
    pub(crate) fn metadata(&self, key: &CStr) -> Result<String, Error> {
        let mut value = [0_u8; 64];
        // SAFETY: pointer and length belong together; the key ends with a zero byte.
        unsafe {
            sys::llama_model_meta_val_str(
                self.model.as_ptr(),
                key.as_ptr(),
                value.as_mut_ptr().cast::<c_char>(),
                value.len(),
            )
        }
        .map_err(|thrown| thrown.during("look up the metadata"))?;
        let text = CStr::from_bytes_until_nul(&value).unwrap_or_default();
        Ok(text.to_string_lossy().into_owned())
    }

    /// Appends the bytes of a token, which may be part of a character, to `out`. A control
    /// token has none.
    ///
    /// # Errors
    /// When the vocabulary has no such token.
    pub fn piece(&self, token: i32, out: &mut Vec<u8>) -> Result<(), Error> {
        self.spell(token, false, out)
    }

    /// A printable name for any token: its text, also of a control token, or else its number.
    ///
    /// # Errors
    /// As [`Vocab::piece`].
    pub fn name(&self, token: i32) -> Result<String, Error> {
        let mut bytes = Vec::new();
        self.spell(token, true, &mut bytes)?;
        Ok(match bytes.is_empty() {
            true => format!("<token {token}>"),
            false => String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// The tokens of those texts that are each one control token.
    ///
    /// # Errors
    /// As [`Vocab::tokenize`] and [`Vocab::piece`].
    pub fn control_tokens(&self, texts: &[&str]) -> Result<Vec<i32>, Error> {
        let mut found = Vec::new();
        for text in texts {
            if let [token] = self.tokenize(text, false, true)?[..] {
                let mut shown = Vec::new();
                self.piece(token, &mut shown)?;
                if shown.is_empty() && self.name(token)? == *text {
                    found.push(token);
                }
            }
        }
        Ok(found)
    }

    fn spell(&self, token: i32, special: bool, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut buffer = [0_u8; 256];
        let call = |buffer: &mut [u8]| {
            // SAFETY: pointer and length belong together.
            unsafe {
                sys::llama_token_to_piece(
                    self.as_ptr(),
                    token,
                    buffer.as_mut_ptr().cast::<c_char>(),
                    buffer.len() as i32,
                    0,
                    special,
                )
            }
            .map_err(|thrown| thrown.during("spell a token"))
        };
        let n = call(&mut buffer)?;
        if n >= 0 {
            out.extend_from_slice(&buffer[..n as usize]);
        } else {
            let mut long = vec![0; n.unsigned_abs() as usize];
            let n = call(&mut long)?.max(0) as usize;
            out.extend_from_slice(&long[..n]);
        }
        Ok(())
    }

    /// Whether the token ends a generation.
    pub fn is_end(&self, token: i32) -> bool {
        // SAFETY: the vocabulary is live; any number is allowed.
        unsafe { sys::llama_vocab_is_eog(self.as_ptr(), token) }
    }

    /// The text of the token that begins (BOS) or ends (EOS) a text; empty if there is none.
    ///
    /// # Errors
    /// When the vocabulary names a token that it does not have.
    pub fn special_text(&self, begin: bool) -> Result<String, Error> {
        // SAFETY: the vocabulary is live; the text is checked for null.
        unsafe {
            let vocab = self.as_ptr();
            let token = if begin {
                sys::llama_vocab_bos(vocab)
            } else {
                sys::llama_vocab_eos(vocab)
            };
            if token < 0 {
                return Ok(String::new());
            }
            let text = sys::llama_vocab_get_text(vocab, token)
                .map_err(|thrown| thrown.during("spell a token"))?;
            if text.is_null() {
                return Ok(String::new());
            }
            Ok(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    /// The source of the model's chat template, if it has one that is not blank.
    ///
    /// # Errors
    /// When llama.cpp runs out of memory.
    pub fn chat_template(&self) -> Result<Option<String>, Error> {
        // SAFETY: the model is live; the text is checked for null.
        unsafe {
            let text = sys::llama_model_chat_template(self.model.as_ptr(), std::ptr::null())
                .map_err(|thrown| thrown.during("find the chat template"))?;
            let text = (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy());
            Ok(text.filter(|text| !text.trim().is_empty()).map(Into::into))
        }
    }
}

/// Turns bytes of tokens into text as soon as characters are complete.
#[derive(Debug, Default)]
pub struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// Where to append a token's bytes.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Takes the complete text; invalid bytes become U+FFFD.
    pub fn text(&mut self) -> String {
        let mut out = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(text) => {
                    out.push_str(text);
                    self.pending.clear();
                    return out;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    out.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
                    let Some(bad) = error.error_len() else {
                        self.pending.drain(..valid);
                        return out;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.pending.drain(..valid + bad);
                }
            }
        }
    }

    /// Takes the rest at the end of a generation.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::Utf8;

    #[test]
    fn characters_wait_for_their_last_byte() {
        let euro = "a€b".as_bytes();
        let mut utf8 = Utf8::default();
        let mut out = Vec::new();
        for byte in euro {
            utf8.bytes().push(*byte);
            out.push(utf8.text());
        }
        assert_eq!(out, ["a", "", "", "€", "b"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let mut utf8 = Utf8::default();
        utf8.bytes().extend([b'x', 0xff, b'y', 0xe2]);
        assert_eq!(utf8.text(), "x\u{fffd}y");
        assert_eq!(utf8.finish(), "\u{fffd}");
    }
}
