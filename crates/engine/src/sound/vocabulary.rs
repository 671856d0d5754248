//! Checks the vocabulary: llama.cpp requires that all tokens have different texts.

use std::hash::{BuildHasher, RandomState};

use delayline_gguf::{Array, Header};

/// Far beyond any real vocabulary.
const MOST_TOKENS: u64 = 1 << 24;

/// Refuses a vocabulary on which llama.cpp would abort, and models without one.
pub fn check(header: &Header<'_>) -> Result<(), String> {
    if let Some("none" | "no_vocab") = header.get_str("tokenizer.ggml.model") {
        return Err("it has no vocabulary, which text needs".into());
    }
    // llama.cpp itself refuses one that is missing or of another type.
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

/// A text that two tokens have. Like llama.cpp, reads texts up to a zero byte and ignores
/// empty ones, which llama.cpp gives different names.
fn twice<'a>(tokens: &'a Array<'_>) -> Option<&'a [u8]> {
    let texts = || {
        let cut = |text: &'a [u8]| text.split(|&byte| byte == 0).next().unwrap_or_default();
        tokens.strings().map(cut).filter(|text| !text.is_empty())
    };
    // Hashes take an eighth of a set's memory; only texts with equal hashes are compared.
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
