//! Interprets a part's header: its place in a split model, its weights, the model's facts.

use delayline_gguf::{Header, Value};

use super::{Facts, Part, Weight};
use crate::error::Error;
use crate::sound;

pub(super) fn check_part(part: &Part, no: usize, count: u16) -> Result<Vec<Weight>, Error> {
    let unsound = |source| Error::Header {
        path: part.path.clone(),
        source,
    };
    let header = Header::parse(&part.header, part.len).map_err(unsound)?;
    let split = header.split().map_err(unsound)?;
    if split.is_none_or(|s| usize::from(s.no) != no || s.count != count) {
        return Err(Error::Split {
            path: part.path.clone(),
            message: format!(
                "its name says that it is part {} of {count}, but its header does not",
                no + 1
            ),
        });
    }
    sound::check_tensors(&header).map_err(|message| Error::Open {
        path: part.path.clone(),
        message,
    })?;
    Ok(weights_of(&header, no as u16))
}

pub(super) fn weights_of(header: &Header<'_>, part: u16) -> Vec<Weight> {
    let tensors = header.tensors.iter();
    tensors
        .map(|t| Weight {
            name: t.name.clone(),
            part,
            offset: t.at,
            len: t.len,
            dims: t.shape().to_vec(),
            kind: t.ty.name(),
        })
        .collect()
}

pub(super) fn facts_of(header: &Header<'_>) -> Result<Facts, Error> {
    let architecture = header
        .get_str("general.architecture")
        .unwrap_or_default()
        .to_owned();
    let key = |suffix: &str| header.get(&format!("{architecture}.{suffix}"));
    let number = |suffix: &str| key(suffix).and_then(Value::as_u64);
    let layers = number("block_count").unwrap_or(0);
    let heads = number("attention.head_count").unwrap_or(1).max(1);
    let head = number("embedding_length").unwrap_or(0) / heads;
    let key_len = number("attention.key_length").unwrap_or(head);
    let value_len = number("attention.value_length").unwrap_or(head);
    let kv_heads: u64 = match key("attention.head_count_kv") {
        Some(value) => match value.as_u64() {
            Some(n) => layers.saturating_mul(n),
            None => value.as_array().map_or(0, |heads| {
                heads
                    .scalars()
                    .filter_map(|v| v.as_u64())
                    .fold(0, u64::saturating_add)
            }),
        },
        None => layers.saturating_mul(heads),
    };
    Ok(Facts {
        name: header.get_str("general.name").map(str::to_owned),
        layers,
        context: number("context_length").unwrap_or(4096),
        embedding: number("embedding_length").unwrap_or(0),
        feed_forward: number("feed_forward_length").unwrap_or(0),
        kv_values: kv_heads.saturating_mul(key_len.saturating_add(value_len)),
        vocab: header.vocab_len().unwrap_or(0),
        experts: number("expert_count").unwrap_or(0),
        experts_used: number("expert_used_count").unwrap_or(0),
        architecture,
    })
}
