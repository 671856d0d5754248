//! Every shape in every quantisation: its header can be parsed and agrees with the shape;
//! sizes of real models are those of their published files.

use delayline_gguf::{Header, TensorType, Value};
use delayline_synth::{
    Arch, Blueprint, Error, Quant, Shape, SizedArch, TinyArch, names, shape, size, sized_archs,
    tiny_archs, write,
};
use std::collections::HashSet;

/// Sizes of published files of the real models in GB, to within 3 %; for Gemma 3 those of the
/// text part.
#[test]
fn sizes_are_those_of_the_real_models() {
    let check = |name: &str, quant: Quant, gb: f64| {
        let got = size(&shape(name).unwrap(), quant).unwrap() as f64 / 1e9;
        assert!(
            (got / gb - 1.0).abs() < 0.03,
            "{name} {quant:?}: {got} GB, expected {gb}"
        );
    };
    check("llama-8b", Quant::Q4_0, 4.66);
    check("llama-8b", Quant::Q4KM, 4.92);
    check("llama-8b", Quant::Q8_0, 8.54);
    check("llama-8b", Quant::F16, 16.07);
    check("llama-70b", Quant::Q4_0, 39.97);
    check("llama-70b", Quant::Q4KM, 42.52);
    check("qwen3-8b", Quant::Q4KM, 5.03);
    check("qwen3-30b-a3b", Quant::Q4_0, 17.3);
    check("qwen3-30b-a3b", Quant::Q4KM, 18.56);
    check("mistral-7b", Quant::Q4_0, 4.11);
    check("mistral-7b", Quant::Q4KM, 4.37);
    check("mixtral-8x7b", Quant::Q4_0, 26.44);
    check("gemma2-9b", Quant::Q4KM, 5.76);
    check("gemma2-9b", Quant::Q8_0, 9.83);
    check("gemma3-4b", Quant::Q4KM, 2.49);
    check("gemma3-4b", Quant::Q8_0, 4.13);
    check("phi3-mini", Quant::Q4KM, 2.39);
    check("phi3-mini", Quant::F16, 7.64);
    check("smollm2-135m", Quant::Q8_0, 0.145);
    check("smollm2-135m", Quant::F16, 0.271);
}

/// Parameters of the published models as their cards and papers give them, without vision
/// and without layers that predict further tokens, and sizes of published files.
#[test]
fn sizes_are_those_of_real_models_of_the_table() {
    let check = |name: &str, quant: Quant, expected: f64| {
        let model = SizedArch::named(name).unwrap();
        let got = size(model, quant).unwrap() as f64 / 1e9;
        println!("{name} {quant:?}: {got} GB of {expected}");
        assert!(
            (got / expected - 1.0).abs() < 0.02,
            "{name} {quant:?}: {got} GB"
        );
    };
    // ggml-org/gpt-oss-20b-GGUF and gpt-oss-120b-GGUF.
    check("gpt-oss-20b", Quant::Mxfp4, 12.11);
    check("gpt-oss-120b", Quant::Mxfp4, 63.39);
    let billions = |name: &str, parameters: f64| check(name, Quant::F16, 2.0 * parameters);
    // The model card of gpt-oss (arXiv 2508.10925), table 1.
    billions("gpt-oss-20b", 20.91);
    billions("gpt-oss-120b", 116.83);
    // What llama.cpp counts in the converted models.
    billions("qwen3.5-9b", 8.95);
    billions("qwen3.5-35b-a3b", 34.66);
    // zai-org/GLM-4.5-Air: 106 billion.
    billions("glm-4.5-air", 106.0);
    // DeepSeek-V3 technical report (arXiv 2412.19437).
    billions("deepseek-v3", 671.0);
    // zai-org/GLM-5: 744 billion.
    billions("glm-5", 744.0);
    // deepseek-ai/DeepSeek-V4-Flash: 284 billion.
    billions("deepseek-v4-flash", 284.0);
    // google/gemma-3n-E4B, its text part in llama.cpp.
    billions("gemma-3n-e4b", 6.87);
    assert_eq!(sized_archs().count(), 9);
}

/// The first layers alone are as large as the table says of them.
#[test]
fn fewer_layers_are_the_first_ones() {
    for model in sized_archs() {
        let name = model.name();
        let bytes = |layers| size(model.with_layers(layers), Quant::F16).unwrap();
        let all = model.layers();
        assert_eq!(bytes(all + 1), size(model, Quant::F16).unwrap(), "{name}");
        assert!(bytes(4) < bytes(5), "{name}");
        assert_eq!(model.with_layers(4).layers(), 4);
        assert_eq!(Blueprint::named(name), Some(model.into()));
    }
}

#[test]
fn shapes_hold_together() {
    let all: Vec<&str> = names().collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    for name in all {
        let shape = shape(name).unwrap();
        assert_eq!(shape.name, name);
        assert_eq!(shape.n_heads % shape.n_kv_heads, 0, "{name}");
        // llama.cpp requires this of these two.
        if matches!(shape.arch, Arch::Qwen2 | Arch::Phi3) {
            assert_eq!(shape.n_heads * shape.head_dim, shape.n_embd, "{name}");
        }
        assert_eq!(
            shape.arch == Arch::Qwen3Moe,
            name.contains("qwen3") && shape.experts.is_some()
        );
        if let Some(experts) = shape.experts {
            assert!(experts.used < experts.count, "{name}");
        }
        for quant in Quant::ALL {
            let bytes = size(&shape, quant).unwrap();
            assert_eq!(
                bytes < 8 << 20,
                name.starts_with("tiny-"),
                "{name}: {bytes}"
            );
        }
    }
    assert_eq!(shape("gpt-5"), None);
}

/// The headers of written files of tiny models.
#[test]
fn headers_say_what_the_shape_says() {
    let dir = tempfile::tempdir().unwrap();
    for name in names().filter(|name| name.starts_with("tiny-")) {
        let shape = shape(name).unwrap();
        for quant in Quant::ALL {
            let path = dir.path().join("m.gguf");
            write(&shape, quant, 1, &path, &mut |_, _| {}).unwrap();
            let file = std::fs::read(&path).unwrap();
            let header = Header::parse(&file, file.len() as u64).unwrap();
            check_header(&shape, quant, &header);
            assert_eq!(file.len() as u64, size(&shape, quant).unwrap(), "{name}");
        }
    }
}

fn check_header(shape: &Shape, quant: Quant, header: &Header<'_>) {
    let name = shape.name;
    assert_eq!(header.architecture(), Ok(shape.arch.name()));
    assert_eq!(header.block_count(), Ok(shape.n_layers.into()));
    assert_eq!(header.context_length(), Ok(shape.context.into()));
    assert_eq!(header.embedding_length(), Ok(shape.n_embd.into()));
    assert_eq!(header.expert_count(), shape.experts.map(|e| e.count.into()));
    assert_eq!(header.vocab_len(), Some(shape.vocab.into()));
    assert!(header.get_str("tokenizer.chat_template").is_some());
    // With a real model's name, llama.cpp may change the attributes of special tokens.
    assert_eq!(header.get_str("general.name"), Some("Synthetic"));
    let eos = header.get_u64("tokenizer.ggml.eos_token_id").unwrap();
    let tokens = header.get_array("tokenizer.ggml.tokens").unwrap();
    assert_eq!(tokens.strings().nth(eos as usize), Some(&b"<|im_end|>"[..]));
    // llama.cpp reads these as 32-bit integers and as nothing else.
    for (key, value) in &header.metadata {
        let is_count = key.starts_with(shape.arch.name()) || key.ends_with("_id");
        let kind = value.kind().to_string();
        assert!(
            !is_count || kind == "u32" || kind == "f32",
            "{key}: {value:?}"
        );
    }
    assert!(matches!(
        header.get("general.file_type"),
        Some(Value::U32(_))
    ));

    assert_eq!(
        header.tensor("output.weight").is_none(),
        shape.tied,
        "{name}"
    );
    let table = header.tensor("token_embd.weight").unwrap();
    assert_eq!(table.shape(), [u64::from(shape.n_embd), shape.vocab.into()]);
    let mut end = header.data_offset;
    for tensor in &header.tensors {
        // ggml accepts no gaps.
        assert_eq!(tensor.at, end, "{name} {}", tensor.name);
        end = tensor.end().next_multiple_of(header.alignment);
        let is_matrix = tensor.n_dims > 1 && !tensor.name.contains("ffn_gate_inp");
        assert_eq!(
            tensor.ty != TensorType::F32,
            is_matrix,
            "{name} {}",
            tensor.name
        );
        if quant == Quant::F16 && is_matrix {
            assert_eq!(tensor.ty, TensorType::F16);
        }
    }
}

/// Checks the model of every architecture of the table.
#[test]
fn tiny_models_have_what_their_section_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = HashSet::new();
    for arch in tiny_archs() {
        let name = arch.name();
        assert!(names.insert(name), "{name} is there twice");
        assert_eq!(TinyArch::named(name), Some(arch));
        assert_eq!(shape(name), None, "{name} is a shape as well");
        for quant in Quant::ALL {
            let path = dir.path().join("m.gguf");
            write(arch, quant, 1, &path, &mut |_, _| {}).unwrap();
            let file = std::fs::read(&path).unwrap();
            let header = Header::parse(&file, file.len() as u64).unwrap();
            assert_eq!(header.architecture(), Ok(arch.arch()));
            assert_eq!(header.vocab_len(), Some(320), "{name}");
            assert!(header.block_count().is_ok_and(|n| n > 0), "{name}");
            let table = header.tensor("token_embd.weight").unwrap();
            assert_eq!(header.embedding_length(), Ok(table.shape()[0]), "{name}");
            assert_eq!(file.len() as u64, size(arch, quant).unwrap(), "{name}");
        }
    }
    assert!(names.len() > 100);
}

#[test]
fn a_shape_that_cannot_be() {
    let mut odd = shape("tiny-llama").unwrap();
    odd.vocab = 100;
    let message = size(&odd, Quant::Q4_0).unwrap_err().to_string();
    assert!(message.contains("100 tokens, expected 259"), "{message}");
    odd.vocab = 320;
    odd.n_embd = 0;
    assert!(matches!(size(&odd, Quant::Q4_0), Err(Error::Shape(_))));
}
