//! Which type each tensor has in a quantised file: the mixtures of
//! llama-quantize, as far as they concern the shapes here.

use crate::shape::{Arch, Shape};
use delayline_gguf::TensorType;

/// How a file is quantised.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quant {
    F16,
    Q8_0,
    Q4_0,
    Q4KM,
    /// The experts in four bits with a power of two as scale, as gpt-oss is published; all
    /// else in eight.
    Mxfp4,
}

/// What a tensor is for, as far as its type depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Norms and rotary factors: ones, never quantised.
    Ones,
    /// Biases and the choice of experts: random, never quantised.
    Small,
    /// Rates at which a state fades: below zero, never quantised.
    Decay,
    Embedding,
    Output,
    K,
    V,
    AttnOut,
    Down,
    /// Any other matrix.
    Matrix,
}

impl Quant {
    /// All of them.
    pub const ALL: [Quant; 5] = [
        Quant::F16,
        Quant::Q8_0,
        Quant::Q4_0,
        Quant::Q4KM,
        Quant::Mxfp4,
    ];

    /// Its name, such as `q4_k_m`.
    pub fn name(self) -> &'static str {
        match self {
            Quant::F16 => "f16",
            Quant::Q8_0 => "q8_0",
            Quant::Q4_0 => "q4_0",
            Quant::Q4KM => "q4_k_m",
            Quant::Mxfp4 => "mxfp4",
        }
    }

    /// The one of this name, whatever its case.
    pub fn from_name(name: &str) -> Option<Quant> {
        let mut all = Quant::ALL.into_iter();
        all.find(|quant| quant.name().eq_ignore_ascii_case(name))
    }

    /// llama.cpp's number for it (`general.file_type`).
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Quant::F16 => 1,
            Quant::Q4_0 => 2,
            Quant::Q8_0 => 7,
            Quant::Q4KM => 15,
            Quant::Mxfp4 => 38,
        }
    }

    /// The type of a tensor with rows of `row` values in layer `layer`.
    pub(crate) fn tensor_type(
        self,
        shape: &Shape,
        role: Role,
        layer: u32,
        dims: &[u64],
    ) -> TensorType {
        let (row, is_expert) = (dims[0], dims.len() == 3);
        if matches!(role, Role::Ones | Role::Small | Role::Decay) {
            return TensorType::F32;
        }
        let wanted = match self {
            Quant::F16 => TensorType::F16,
            Quant::Mxfp4 if is_expert => TensorType::MXFP4,
            Quant::Q8_0 | Quant::Mxfp4 => TensorType::Q8_0,
            Quant::Q4_0 | Quant::Q4KM => self.four_bit_type(shape, role, layer),
        };
        fall_back(wanted, row)
    }

    fn four_bit_type(self, shape: &Shape, role: Role, layer: u32) -> TensorType {
        let is_k_m = self == Quant::Q4KM;
        let base = if is_k_m {
            TensorType::Q4_K
        } else {
            TensorType::Q4_0
        };
        let eight_experts = shape.has_eight_experts();
        match role {
            Role::Output => TensorType::Q6_K,
            Role::Embedding if shape.tied => TensorType::Q6_K,
            Role::K | Role::V if eight_experts => TensorType::Q8_0,
            Role::V | Role::Down if is_k_m && gets_more_bits(layer, shape.n_layers) => {
                TensorType::Q6_K
            }
            Role::V if is_k_m && is_llama_70b(shape) => TensorType::Q5_K,
            Role::AttnOut if is_k_m && eight_experts => TensorType::Q5_K,
            _ => base,
        }
    }
}

/// The layers whose values matter most: the first and the last eighth, and
/// every third between.
fn gets_more_bits(layer: u32, n_layers: u32) -> bool {
    let eighth = n_layers / 8;
    layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2
}

fn is_llama_70b(shape: &Shape) -> bool {
    shape.arch == Arch::Llama && shape.n_layers == 80 && shape.n_heads != shape.n_kv_heads
}

/// What llama-quantize takes instead where a row is no whole number of blocks.
pub(crate) fn fall_back(wanted: TensorType, row: u64) -> TensorType {
    if row.is_multiple_of(wanted.block_len()) {
        return wanted;
    }
    let smaller = match wanted {
        TensorType::Q4_K => TensorType::Q5_0,
        TensorType::Q5_K => TensorType::Q5_1,
        TensorType::Q6_K => TensorType::Q8_0,
        _ => TensorType::F16,
    };
    if row.is_multiple_of(smaller.block_len()) {
        smaller
    } else {
        TensorType::F16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_a_mixture() {
        let check = |name: &str, quant: Quant, role: Role, layer: u32, row: u64, expect| {
            let shape = crate::shape(name).unwrap();
            let got = quant.tensor_type(&shape, role, layer, &[row]);
            assert_eq!(got, expect, "{name} {quant:?} {role:?} {layer} {row}");
        };
        use TensorType::*;
        check("llama-8b", Quant::Q4_0, Role::Ones, 0, 4096, F32);
        check("llama-8b", Quant::Q4_0, Role::Embedding, 0, 4096, Q4_0);
        check("llama-8b", Quant::Q4_0, Role::Output, 0, 4096, Q6_K);
        check("llama-8b", Quant::Q4_0, Role::Down, 0, 14336, Q4_0);
        check("gemma2-9b", Quant::Q4_0, Role::Embedding, 0, 3584, Q6_K);
        check("smollm2-135m", Quant::Q4_0, Role::Embedding, 0, 576, Q8_0);
        check("smollm2-135m", Quant::Q4KM, Role::Matrix, 0, 576, Q5_0);
        check("smollm2-135m", Quant::Q4KM, Role::Down, 0, 1536, Q6_K);
        check("mixtral-8x7b", Quant::Q4_0, Role::K, 9, 4096, Q8_0);
        check("mixtral-8x7b", Quant::Q4KM, Role::AttnOut, 9, 4096, Q5_K);
        check("llama-70b", Quant::Q4KM, Role::V, 10, 8192, Q5_K);
        check("llama-70b", Quant::Q4KM, Role::V, 12, 8192, Q6_K);
        check("llama-8b", Quant::Q8_0, Role::Output, 0, 4096, Q8_0);
        check("llama-8b", Quant::F16, Role::Output, 0, 4096, F16);
        check("llama-8b", Quant::Q4_0, Role::Matrix, 0, 33, F16);
        for (layer, more) in [
            (0, true),
            (3, true),
            (4, false),
            (5, false),
            (6, true),
            (27, true),
        ] {
            let expect = if more { Q6_K } else { Q4_K };
            check("llama-8b", Quant::Q4KM, Role::Down, layer, 14336, expect);
        }
        check("llama-8b", Quant::Q4KM, Role::Down, 31, 14336, Q6_K);
    }

    #[test]
    fn names_are_found_again() {
        for quant in Quant::ALL {
            assert_eq!(Quant::from_name(&quant.name().to_uppercase()), Some(quant));
        }
        assert_eq!(Quant::from_name("q3_k"), None);
    }
}
