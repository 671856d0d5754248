//! Headers that llama.cpp would abort or crash on, and similar ones that it accepts.

use super::check;
use delayline_gguf::{Array, Header, TensorSpec, TensorType, Value, write};

/// The result of checking a header with these keys of its architecture.
fn said(arch: &'static str, keys: &[(&str, Value<'static>)]) -> Result<(), String> {
    let mut metadata = vec![("general.architecture".into(), Value::from(arch))];
    for (key, value) in keys {
        metadata.push((format!("{arch}.{key}").into(), value.clone()));
    }
    let layout = write(&metadata, &[]).unwrap();
    check(&Header::parse(&layout.header, layout.file_len).unwrap())
}

#[test]
fn what_llama_cpp_would_abort_on_is_refused() {
    let number = Value::U32;
    let each = |used: [i32; 2]| Value::Array(Array::from_i32s(used));
    let (layers, experts, used) = ("block_count", "expert_count", "expert_used_count");
    let good: [&[_]; 6] = [
        &[],
        &[(layers, number(1))],
        &[(layers, number(512)), ("nextn_predict_layers", number(1))],
        &[(experts, number(8)), (used, number(8))],
        &[(experts, number(8)), (used, each([0, 2]))],
        &[
            (experts, number(8)),
            ("expert_group_count", number(4)),
            ("expert_group_used_count", number(2)),
        ],
    ];
    for keys in good {
        assert_eq!(said("llama", keys), Ok(()), "{keys:?}");
    }
    let bad: [(&[_], &str); 9] = [
        (
            &[(layers, number(0))],
            "block_count is 0, expected 1 to 512",
        ),
        (&[(layers, number(513))], "block_count is 513"),
        (
            &[(layers, number(2)), ("nextn_predict_layers", number(3))],
            "nextn",
        ),
        (&[(experts, number(1025))], "expert_count is 1025"),
        (
            &[(used, number(2))],
            "expert_used_count is 2, expected 0 to 0",
        ),
        (
            &[(experts, number(8)), (used, number(9))],
            "expert_used_count is 9, expected 1 to 8",
        ),
        (
            &[(experts, number(8)), (used, each([0, 0]))],
            "expert_used_count is 0",
        ),
        (
            &[(experts, number(8)), ("expert_group_count", number(8))],
            "expert_group_count is 8, expected 0 to 7",
        ),
        (
            &[
                (experts, number(8)),
                ("expert_group_count", number(3)),
                ("expert_group_used_count", number(1)),
            ],
            "equal",
        ),
    ];
    for (keys, expect) in bad {
        let message = said("llama", keys).unwrap_err();
        assert!(message.contains(expect), "{message}");
    }
    let one = [(experts, number(0)), (used, number(1))];
    assert_eq!(said("hunyuan-dense", &one), Ok(()));
}

#[test]
fn keys_hold_what_the_table_says_and_no_odd_numbers() {
    let eps = "attention.layer_norm_rms_epsilon";
    let good: [(&str, Value<'static>); 8] = [
        (eps, Value::F32(0.0)),
        (eps, Value::from("a type for llama.cpp to refuse")),
        ("rope.scaling.type", Value::from("yarn")),
        ("attention.head_count", Value::U32(65_536)),
        (
            "attention.head_count",
            Value::Array(Array::from_i32s([0, 8])),
        ),
        ("logit_scale", Value::F32(-3.0)),
        ("feed_forward_length", Value::U32(0)),
        ("attention.sliding_window_pattern", Value::U32(u32::MAX)),
    ];
    for (key, value) in good {
        assert_eq!(
            said("llama", &[(key, value.clone())]),
            Ok(()),
            "{key} {value:?}"
        );
    }
    let bad: [(&str, Value<'static>, &str); 10] = [
        (eps, Value::F32(-1.0), "expected 0 or more"),
        (eps, Value::F32(f32::NAN), "NaN, expected a finite number"),
        (
            "logit_scale",
            Value::F32(f32::INFINITY),
            "inf, expected a finite",
        ),
        (
            "swiglu_clamp_exp",
            Value::Array(Array::from_f32s([1.0, f32::NAN])),
            "finite",
        ),
        (
            "rope.scaling.type",
            Value::from("xx"),
            "is \"xx\", expected one of none, linear",
        ),
        (
            "embedding_length",
            Value::U32(0),
            "is 0, expected 1 to 16777216",
        ),
        ("embedding_length", Value::I32(-1), "is -1, expected 1"),
        (
            "attention.head_count",
            Value::U32(1 << 31),
            "2147483648, expected 0 to 65536",
        ),
        (
            "attention.head_count",
            Value::Array(Array::from_i32s([8, -8])),
            "is -8, expected 0",
        ),
        ("block_count", Value::U64(1 << 63), "expected 1 to 512"),
    ];
    for (key, value, expect) in bad {
        let message = said("llama", &[(key, value)]).unwrap_err();
        assert!(
            message.contains(expect) && message.contains(key),
            "{message}"
        );
    }
    let shared = |heads, groups| {
        let keys = [
            ("attention.head_count", Value::U32(heads)),
            (
                "attention.head_count_kv",
                Value::Array(Array::from_i32s(groups)),
            ),
        ];
        said("llama", &keys)
    };
    assert_eq!(shared(8, [8, 0]), Ok(()));
    assert!(
        shared(8, [8, 3])
            .unwrap_err()
            .contains("3 heads of keys among 8")
    );
}

#[test]
fn tensors_have_a_type_that_their_role_computes_with() {
    let said = |name: &str, ty: TensorType| {
        let layout = write(&[], &[TensorSpec::new(name, ty, &[256, 4])]).unwrap();
        check(&Header::parse(&layout.header, layout.file_len).unwrap())
    };
    let vectors = [
        "blk.0.attn_norm.weight",
        "blk.0.attn_q.bias",
        "rope_freqs.weight",
    ];
    for &ty in TensorType::ALL {
        for name in vectors {
            assert_eq!(said(name, ty).is_ok(), ty == TensorType::F32, "{name} {ty}");
        }
        // Types without a product with activations.
        let no_weights = ["i8", "i16", "i32", "i64", "f64", "q8_1", "q8_K"].contains(&ty.name());
        assert_eq!(said("blk.0.attn_q.weight", ty).is_err(), no_weights, "{ty}");
    }
    let message = said("blk.0.attn_q.weight", TensorType::I8).unwrap_err();
    assert!(
        message.contains("attn_q") && message.contains("i8"),
        "{message}"
    );
    assert_eq!(
        said("blk.0.ffn_gate_tid2eid.weight", TensorType::I32),
        Ok(())
    );
}

#[test]
fn a_vocabulary_has_different_tokens() {
    let said = |tokens: &[&str]| {
        let tokens = Array::from_strings(tokens.iter().map(|token| token.as_bytes()));
        let metadata = [("tokenizer.ggml.tokens".into(), Value::Array(tokens))];
        let layout = write(&metadata, &[]).unwrap();
        check(&Header::parse(&layout.header, layout.file_len).unwrap())
    };
    assert_eq!(said(&["a", "b", "", ""]), Ok(()));
    for (tokens, expect) in [
        (&["a", "b", "c", "b"][..], "\"b\" twice"),
        (&["a\0b", "a\0c"], "\"a\" twice"),
        (&["\u{1b}[2J", "\u{1b}[2J"], "\"\\u{1b}[2J\" twice"),
        (&[], "0 tokens"),
    ] {
        let message = said(tokens).unwrap_err();
        assert!(message.contains(expect), "{message}");
    }
}

#[test]
fn tensors_lie_in_the_order_of_the_header() {
    let tensors: Vec<TensorSpec> = ["a.weight", "b.weight", "c.weight"]
        .iter()
        .map(|name| TensorSpec::new(*name, TensorType::F32, &[5]))
        .collect();
    let metadata = [("general.architecture".into(), Value::from("llama"))];
    let layout = write(&metadata, &tensors).unwrap();
    let header = || Header::parse(&layout.header, layout.file_len).unwrap();
    assert_eq!(check(&header()), Ok(()));
    let mut swapped = header();
    let at = swapped.tensors[0].at;
    swapped.tensors[0].at = std::mem::replace(&mut swapped.tensors[1].at, at);
    assert!(check(&swapped).unwrap_err().contains("a.weight begins at"));
    let mut gap = header();
    gap.tensors[2].at += gap.alignment;
    assert!(check(&gap).unwrap_err().contains("without gaps"));
}
