//! The vocabulary: llama.cpp wants as many tokens as there are different texts.

use std::hash::{BuildHasher, RandomState};

use delayline_gguf::{Array, Header};

/// Far beyond any real vocabulary.
const MOST_TOKENS: u64 = 1 << 24;

/// Refuses a vocabulary on which llama.cpp would abort, or that it would do without.
pub fn check(header: &Header<'_>) -> Result<(), String> {
    if let Some("none" | "no_vocab") = header.get_str("tokenizer.ggml.model") {
        return Err("it has no vocabulary, without which there is no text".into());
    }
    // One that is missing or of another type, llama.cpp refuses.
    let Some(tokens) = header.get_array("tokenizer.ggml.tokens") else {
        return Ok(());
    };
    if !(1..=MOST_TOKENS).contains(&tokens.len()) {
        return Err(format!(
            "its vocabulary has {} tokens, expected 1 to {MOST_TOKENS}",
            tokens.len()
        ));
    }
    match twice(tokens) {
        Some(text) => Err(format!(
            "its vocabulary has the token \"{}\" twice, expected different ones",
            String::from_utf8_lossy(&text[..text.len().min(40)]).escape_debug()
        )),
        None => Ok(()),
    }
}

/// A text that two tokens have, as llama.cpp reads them: up to a zero byte, and a
/// name of its own in place of none.
fn twice<'a>(tokens: &'a Array<'_>) -> Option<&'a [u8]> {
    let texts = || {
        let cut = |text: &'a [u8]| text.split(|&byte| byte == 0).next().unwrap_or_default();
        tokens.strings().map(cut).filter(|text| !text.is_empty())
    };
    // Hashes take an eighth of a set's memory; those that agree are looked at.
    let hasher = RandomState::new();
    let mut hashes: Vec<u64> = texts().map(|text| hasher.hash_one(text)).collect();
    hashes.sort_unstable();
    let agree: Vec<u64> = hashes
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
        .collect();
    drop(hashes);
    if agree.is_empty() {
        return None;
    }
    let mut seen = std::collections::HashSet::new();
    texts()
        .filter(|text| agree.binary_search(&hasher.hash_one(text)).is_ok())
        .find(|text| !seen.insert(*text))
}
