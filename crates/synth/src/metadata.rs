//! The metadata of a model: the keys that llama.cpp reads for its architecture,
//! and the vocabulary.

use crate::Error;
use crate::quant::Quant;
use crate::shape::{Arch, Blueprint, Shape};
use crate::vocab::{BOS, EOS, Vocab};
use delayline_gguf::{Array, Value};
use std::borrow::Cow;

pub(crate) type Metadata = Vec<(Cow<'static, str>, Value<'static>)>;

/// ChatML, the format of many real models.
const CHAT_TEMPLATE: &str = "{% for m in messages %}\
    {{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// ggml's version of the layouts of blocks.
const QUANTIZATION_VERSION: u32 = 2;

/// All metadata of a file that is not split.
pub(crate) fn metadata(model: &Blueprint, quant: Quant) -> Result<Metadata, Error> {
    let (name, arch, (keys, vocab)) = match model {
        Blueprint::Shape(shape) | Blueprint::Routed(shape) => (
            shape.name,
            shape.arch.name(),
            (architecture(shape), shape.vocab),
        ),
        Blueprint::Arch(arch) => (arch.name(), arch.arch(), arch.table().keys()),
        Blueprint::Sized(arch) => (arch.name(), arch.arch(), arch.table().keys()),
    };
    let mut out = general(name, arch, quant);
    out.extend(keys);
    out.extend(tokenizer(vocab)?);
    Ok(out)
}

fn general(name: &str, arch: &'static str, quant: Quant) -> Metadata {
    let description = format!("Random weights in the shape of {name}");
    vec![
        ("general.architecture".into(), arch.into()),
        ("general.type".into(), "model".into()),
        // Not the shape's name: llama.cpp changes the attributes of special tokens of a
        // model with the name Phi-3.
        ("general.name".into(), "Synthetic".into()),
        ("general.description".into(), description.into()),
        ("general.file_type".into(), Value::U32(quant.file_type())),
        (
            "general.quantization_version".into(),
            Value::U32(QUANTIZATION_VERSION),
        ),
    ]
}

fn architecture(shape: &Shape) -> Metadata {
    let mut keys = vec![
        ("block_count", Value::U32(shape.n_layers)),
        ("context_length", Value::U32(shape.context)),
        ("embedding_length", Value::U32(shape.n_embd)),
        ("feed_forward_length", Value::U32(shape.n_ff)),
        ("attention.head_count", Value::U32(shape.n_heads)),
        ("attention.head_count_kv", Value::U32(shape.n_kv_heads)),
        ("attention.key_length", Value::U32(shape.head_dim)),
        ("attention.value_length", Value::U32(shape.head_dim)),
        (
            "attention.layer_norm_rms_epsilon",
            Value::F32(shape.rms_eps),
        ),
        ("rope.dimension_count", Value::U32(shape.head_dim)),
        ("rope.freq_base", Value::F32(shape.rope_freq_base)),
        ("vocab_size", Value::U32(shape.vocab)),
    ];
    if let Some(window) = shape.window {
        keys.push(("attention.sliding_window", Value::U32(window)));
    }
    if let Some(experts) = shape.experts {
        keys.push(("expert_count", Value::U32(experts.count)));
        keys.push(("expert_used_count", Value::U32(experts.used)));
    }
    match shape.arch {
        Arch::Gemma2 => {
            keys.push(("attn_logit_softcapping", Value::F32(50.0)));
            keys.push(("final_logit_softcapping", Value::F32(30.0)));
        }
        Arch::Qwen3Moe => {
            let n_ff = shape.experts.map_or(0, |experts| experts.n_ff);
            keys.push(("expert_feed_forward_length", Value::U32(n_ff)));
        }
        _ => {}
    }
    let prefix = shape.arch.name();
    let keys = keys.into_iter();
    keys.map(|(key, value)| (format!("{prefix}.{key}").into(), value))
        .collect()
}

fn tokenizer(vocab: u32) -> Result<Metadata, Error> {
    let Vocab {
        tokens,
        kinds,
        merges,
    } = Vocab::new(vocab)?;
    Ok(vec![
        ("tokenizer.ggml.model".into(), "gpt2".into()),
        ("tokenizer.ggml.pre".into(), "gpt-2".into()),
        (
            "tokenizer.ggml.tokens".into(),
            Value::Array(Array::from_strings(tokens)),
        ),
        (
            "tokenizer.ggml.token_type".into(),
            Value::Array(Array::from_i32s(kinds)),
        ),
        (
            "tokenizer.ggml.merges".into(),
            Value::Array(Array::from_strings(merges)),
        ),
        ("tokenizer.ggml.bos_token_id".into(), Value::U32(BOS)),
        ("tokenizer.ggml.eos_token_id".into(), Value::U32(EOS)),
        ("tokenizer.ggml.add_bos_token".into(), Value::Bool(true)),
        ("tokenizer.ggml.add_eos_token".into(), Value::Bool(false)),
        ("tokenizer.chat_template".into(), CHAT_TEMPLATE.into()),
    ])
}
