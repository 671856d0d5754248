//! A synthetic vocabulary of a given size for a byte-level BPE, in the form that llama.cpp
//! reads.

use crate::Error;

/// The special tokens, which follow the 256 bytes.
const SPECIAL: [&str; 3] = ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>"];

/// Id of the token that begins a text.
pub(crate) const BOS: u32 = 256;

/// Id of the token that ends an answer.
pub(crate) const EOS: u32 = 258;

const FIRST_WORD: u32 = 256 + SPECIAL.len() as u32;
const LETTERS: u32 = 26;
/// All words of two, three and four letters.
const WORDS: u32 = LETTERS.pow(2) + LETTERS.pow(3) + LETTERS.pow(4);

/// llama.cpp's numbers of types of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// A vocabulary: the bytes, the special tokens, then words.
pub(crate) struct Vocab {
    pub tokens: Vec<String>,
    pub kinds: Vec<i32>,
    /// Each merge makes a word of n letters from one of n - 1 and a letter.
    pub merges: Vec<String>,
}

impl Vocab {
    pub(crate) fn new(len: u32) -> Result<Vocab, Error> {
        let words = match len.checked_sub(FIRST_WORD) {
            Some(words) if words <= WORDS => words,
            _ => {
                return Err(Error::Vocab {
                    vocab: len,
                    least: FIRST_WORD,
                    most: FIRST_WORD + WORDS,
                });
            }
        };
        let bytes = (0..=255).map(|byte| byte_letter(byte).to_string());
        let special = SPECIAL.into_iter().map(String::from);
        let tokens = bytes.chain(special).chain((0..words).map(word)).collect();
        let kinds = (0..len).map(|id| match id {
            256..FIRST_WORD => CONTROL,
            _ => NORMAL,
        });
        let merges = (0..words).map(|index| {
            let mut merge = word(index);
            merge.insert(merge.len() - 1, ' ');
            merge
        });
        Ok(Vocab {
            tokens,
            kinds: kinds.collect(),
            merges: merges.collect(),
        })
    }
}

/// The letter that stands for a byte in a GPT-2 vocabulary: the byte itself if it is
/// printable in Latin-1, else the next letter from U+0100 on.
fn byte_letter(byte: u8) -> char {
    let is_seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if is_seen(byte) {
        return char::from(byte);
    }
    let unseen_before = (0..byte).filter(|&other| !is_seen(other)).count() as u32;
    char::from_u32(0x100 + unseen_before).expect("far below the surrogates")
}

/// The word of this index, in order of length, then of the alphabet.
fn word(mut index: u32) -> String {
    let mut letters = 2;
    while index >= LETTERS.pow(letters) {
        index -= LETTERS.pow(letters);
        letters += 1;
    }
    (0..letters)
        .rev()
        .map(|place| char::from(b'a' + (index / LETTERS.pow(place) % LETTERS) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tokens_are_distinct_and_merges_make_them() {
        for len in [FIRST_WORD, 320, 2000, 49_152, FIRST_WORD + WORDS] {
            let vocab = Vocab::new(len).unwrap();
            assert_eq!(vocab.tokens.len(), len as usize);
            assert_eq!(vocab.kinds.len(), len as usize);
            let known: HashSet<&str> = vocab.tokens.iter().map(String::as_str).collect();
            assert_eq!(known.len(), len as usize);
            for (merge, token) in vocab.merges.iter().zip(&vocab.tokens[259..]) {
                let (left, right) = merge.split_once(' ').unwrap();
                assert!(known.contains(left) && known.contains(right), "{merge}");
                assert_eq!(&format!("{left}{right}"), token);
            }
            assert_eq!(vocab.merges.len(), len as usize - 259);
        }
        assert!(Vocab::new(FIRST_WORD - 1).is_err());
        assert!(Vocab::new(FIRST_WORD + WORDS + 1).is_err());
    }

    #[test]
    fn the_order_of_words() {
        let check = |index, expect| assert_eq!(word(index), expect);
        check(0, "aa");
        check(27, "bb");
        check(675, "zz");
        check(676, "aaa");
        check(676 + 17_576, "aaaa");
        check(WORDS - 1, "zzzz");
    }

    #[test]
    fn bytes_have_the_letters_of_gpt2() {
        let check = |byte, expect| assert_eq!(byte_letter(byte), expect, "{byte}");
        check(b'a', 'a');
        check(b' ', 'Ġ');
        check(b'\n', 'Ċ');
        check(0, 'Ā');
        check(0x7f, 'ġ');
        check(0xa0, 'ł');
        check(0xad, 'Ń');
        check(0xff, 'ÿ');
    }

    #[test]
    fn ids_of_special_tokens() {
        let vocab = Vocab::new(320).unwrap();
        assert_eq!(vocab.tokens[BOS as usize], "<|begin_of_text|>");
        assert_eq!(vocab.tokens[EOS as usize], "<|im_end|>");
        assert_eq!(
            vocab.kinds[255..260],
            [NORMAL, CONTROL, CONTROL, CONTROL, NORMAL]
        );
    }
}
