//! The table of ggml's tensor types: number, name and block size.

macro_rules! tensor_types {
    ($($variant:ident = $id:literal, $name:literal, $block:literal, $bytes:literal;)*) => {
        /// A ggml tensor type. A row is a whole number of blocks; a block is
        /// [`TensorType::block_len`] values in [`TensorType::block_bytes`] bytes.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum TensorType {
            $($variant),*
        }

        impl TensorType {
            /// All types of the format that still exist.
            pub const ALL: &'static [TensorType] = &[$(TensorType::$variant),*];

            /// The type's number in the file.
            pub const fn id(self) -> u32 {
                match self { $(TensorType::$variant => $id),* }
            }

            /// ggml's name, such as `q4_K`.
            pub const fn name(self) -> &'static str {
                match self { $(TensorType::$variant => $name),* }
            }

            /// Values in a block.
            pub const fn block_len(self) -> u64 {
                match self { $(TensorType::$variant => $block),* }
            }

            /// Bytes in a block.
            pub const fn block_bytes(self) -> u64 {
                match self { $(TensorType::$variant => $bytes),* }
            }
        }
    };
}

// The numbers between these belonged to types that ggml has removed.
tensor_types! {
    F32 = 0, "f32", 1, 4;
    F16 = 1, "f16", 1, 2;
    Q4_0 = 2, "q4_0", 32, 18;
    Q4_1 = 3, "q4_1", 32, 20;
    Q5_0 = 6, "q5_0", 32, 22;
    Q5_1 = 7, "q5_1", 32, 24;
    Q8_0 = 8, "q8_0", 32, 34;
    Q8_1 = 9, "q8_1", 32, 36;
    Q2_K = 10, "q2_K", 256, 84;
    Q3_K = 11, "q3_K", 256, 110;
    Q4_K = 12, "q4_K", 256, 144;
    Q5_K = 13, "q5_K", 256, 176;
    Q6_K = 14, "q6_K", 256, 210;
    Q8_K = 15, "q8_K", 256, 292;
    IQ2_XXS = 16, "iq2_xxs", 256, 66;
    IQ2_XS = 17, "iq2_xs", 256, 74;
    IQ3_XXS = 18, "iq3_xxs", 256, 98;
    IQ1_S = 19, "iq1_s", 256, 50;
    IQ4_NL = 20, "iq4_nl", 32, 18;
    IQ3_S = 21, "iq3_s", 256, 110;
    IQ2_S = 22, "iq2_s", 256, 82;
    IQ4_XS = 23, "iq4_xs", 256, 136;
    I8 = 24, "i8", 1, 1;
    I16 = 25, "i16", 1, 2;
    I32 = 26, "i32", 1, 4;
    I64 = 27, "i64", 1, 8;
    F64 = 28, "f64", 1, 8;
    IQ1_M = 29, "iq1_m", 256, 56;
    BF16 = 30, "bf16", 1, 2;
    TQ1_0 = 34, "tq1_0", 256, 54;
    TQ2_0 = 35, "tq2_0", 256, 66;
    MXFP4 = 39, "mxfp4", 32, 17;
    NVFP4 = 40, "nvfp4", 64, 36;
    Q1_0 = 41, "q1_0", 128, 18;
    Q2_0 = 42, "q2_0", 64, 18;
}

impl TensorType {
    /// The type with this number in the file, if ggml has one.
    pub fn from_id(id: u32) -> Option<TensorType> {
        Self::ALL.iter().copied().find(|ty| ty.id() == id)
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distinct_and_found_again() {
        for &ty in TensorType::ALL {
            assert_eq!(TensorType::from_id(ty.id()), Some(ty));
        }
        for removed in [4, 5, 31, 32, 33, 36, 37, 38, 43, u32::MAX] {
            assert_eq!(TensorType::from_id(removed), None, "{removed}");
        }
    }

    /// Bits per value as published in tables of quantisations, independent of the block
    /// sizes above.
    #[test]
    fn bits_per_value_are_the_known_ones() {
        let known = [
            (TensorType::Q4_0, 4.5),
            (TensorType::Q4_1, 5.0),
            (TensorType::Q5_0, 5.5),
            (TensorType::Q5_1, 6.0),
            (TensorType::Q8_0, 8.5),
            (TensorType::Q2_K, 2.625),
            (TensorType::Q3_K, 3.4375),
            (TensorType::Q4_K, 4.5),
            (TensorType::Q5_K, 5.5),
            (TensorType::Q6_K, 6.5625),
            (TensorType::IQ2_XXS, 2.0625),
            (TensorType::IQ2_XS, 2.3125),
            (TensorType::IQ2_S, 2.5625),
            (TensorType::IQ3_XXS, 3.0625),
            (TensorType::IQ3_S, 3.4375),
            (TensorType::IQ1_S, 1.5625),
            (TensorType::IQ1_M, 1.75),
            (TensorType::IQ4_NL, 4.5),
            (TensorType::IQ4_XS, 4.25),
            (TensorType::TQ1_0, 1.6875),
            (TensorType::TQ2_0, 2.0625),
            (TensorType::MXFP4, 4.25),
            (TensorType::NVFP4, 4.5),
        ];
        for (ty, bits) in known {
            let got = ty.block_bytes() as f64 * 8.0 / ty.block_len() as f64;
            assert_eq!(got, bits, "{ty}");
        }
    }
}
