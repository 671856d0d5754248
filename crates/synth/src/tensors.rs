//! The tensors of a shape, in the order in which converters write them: a
//! layer's tensors stand by their names in the original, not in order of use.

use crate::quant::{Quant, Role};
use crate::shape::{Arch, Shape};
use delayline_gguf::TensorSpec;

/// The tensors of a file, and what each is for.
pub(crate) fn tensors(shape: &Shape, quant: Quant) -> Vec<(TensorSpec, Role)> {
    let mut list = List {
        shape,
        quant,
        layer: 0,
        out: Vec::new(),
    };
    let (embd, vocab) = (u64::from(shape.n_embd), u64::from(shape.vocab));
    if shape.rope_factors {
        list.add(
            "rope_freqs.weight",
            Role::Ones,
            &[u64::from(shape.head_dim) / 2],
        );
    }
    list.add("token_embd.weight", Role::Embedding, &[embd, vocab]);
    for layer in 0..shape.n_layers {
        list.layer = layer;
        list.add_layer();
    }
    list.add("output_norm.weight", Role::Ones, &[embd]);
    if !shape.tied {
        list.add("output.weight", Role::Output, &[embd, vocab]);
    }
    list.out
}

struct List<'s> {
    shape: &'s Shape,
    quant: Quant,
    layer: u32,
    out: Vec<(TensorSpec, Role)>,
}

impl List<'_> {
    fn add(&mut self, name: &str, role: Role, dims: &[u64]) {
        let ty = self.quant.tensor_type(self.shape, role, self.layer, dims);
        self.out.push((TensorSpec::new(name, ty, dims), role));
    }

    /// Adds a tensor of the layer at hand.
    fn add_in(&mut self, name: &str, role: Role, dims: &[u64]) {
        self.add(&format!("blk.{}.{name}", self.layer), role, dims);
    }

    fn add_layer(&mut self) {
        let embd = u64::from(self.shape.n_embd);
        self.add_in("attn_norm.weight", Role::Ones, &[embd]);
        self.add_feed_forward();
        if matches!(self.shape.arch, Arch::Gemma2 | Arch::Gemma3) {
            self.add_in("post_attention_norm.weight", Role::Ones, &[embd]);
            self.add_in("post_ffw_norm.weight", Role::Ones, &[embd]);
        }
        self.add_in("ffn_norm.weight", Role::Ones, &[embd]);
        self.add_attention();
    }

    fn add_feed_forward(&mut self) {
        let (embd, ff) = (u64::from(self.shape.n_embd), u64::from(self.shape.n_ff));
        if let Some(experts) = self.shape.experts {
            let (ff, count) = (u64::from(experts.n_ff), u64::from(experts.count));
            self.add_in("ffn_down_exps.weight", Role::Down, &[ff, embd, count]);
            self.add_in("ffn_gate_exps.weight", Role::Matrix, &[embd, ff, count]);
            self.add_in("ffn_up_exps.weight", Role::Matrix, &[embd, ff, count]);
            self.add_in("ffn_gate_inp.weight", Role::Small, &[embd, count]);
            return;
        }
        self.add_in("ffn_down.weight", Role::Down, &[ff, embd]);
        if self.shape.arch == Arch::Phi3 {
            self.add_in("ffn_up.weight", Role::Matrix, &[embd, 2 * ff]);
        } else {
            self.add_in("ffn_gate.weight", Role::Matrix, &[embd, ff]);
            self.add_in("ffn_up.weight", Role::Matrix, &[embd, ff]);
        }
    }

    fn add_attention(&mut self) {
        let embd = u64::from(self.shape.n_embd);
        let (q, kv) = (self.shape.q_len(), self.shape.kv_len());
        let head = u64::from(self.shape.head_dim);
        if self.shape.arch == Arch::Phi3 {
            self.add_in("attn_output.weight", Role::AttnOut, &[q, embd]);
            // llama-quantize gives the fused tensor what it gives the values.
            self.add_in("attn_qkv.weight", Role::V, &[embd, q + 2 * kv]);
            return;
        }
        let biases = self.shape.arch == Arch::Qwen2;
        let norms = matches!(self.shape.arch, Arch::Qwen3 | Arch::Qwen3Moe | Arch::Gemma3);
        if norms {
            self.add_in("attn_k_norm.weight", Role::Ones, &[head]);
        }
        if biases {
            self.add_in("attn_k.bias", Role::Small, &[kv]);
        }
        self.add_in("attn_k.weight", Role::K, &[embd, kv]);
        self.add_in("attn_output.weight", Role::AttnOut, &[q, embd]);
        if norms {
            self.add_in("attn_q_norm.weight", Role::Ones, &[head]);
        }
        if biases {
            self.add_in("attn_q.bias", Role::Small, &[q]);
        }
        self.add_in("attn_q.weight", Role::Matrix, &[embd, q]);
        if biases {
            self.add_in("attn_v.bias", Role::Small, &[kv]);
        }
        self.add_in("attn_v.weight", Role::V, &[embd, kv]);
    }
}
