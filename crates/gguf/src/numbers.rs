//! The numbers in a tensor's blocks, for plain floating-point types and for types whose
//! blocks are a scale, perhaps an offset, and an integer for each number.

use crate::TensorType;
use thiserror::Error;

/// A type whose blocks cannot be turned into numbers here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "tensors of type {ty} are not turned into numbers: expected f32, f16, bf16, q4_0, q4_1, q5_0, q5_1 or q8_0; convert the model to one of these"
)]
pub struct NoNumbers {
    /// The type.
    pub ty: TensorType,
}

impl TensorType {
    /// Calls `put` with the numbers of whole blocks in order, as ggml converts them to
    /// `f32`. Bytes after the last whole block are ignored.
    ///
    /// # Errors
    /// [`NoNumbers`] for types that are not known here, also if there are no blocks.
    pub fn numbers(self, blocks: &[u8], mut put: impl FnMut(f32)) -> Result<(), NoNumbers> {
        let each = |block: &[u8]| match self {
            Self::F32 => put(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
            Self::F16 => put(half(block, 0)),
            Self::BF16 => put(f32::from_bits(u32::from(word(block, 0)) << 16)),
            // The lower halves of the bytes come first, then the upper ones.
            Self::Q4_0 => nibbles(&block[2..], 0, |q| put((q - 8.0) * half(block, 0))),
            Self::Q4_1 => nibbles(&block[4..], 0, |q| {
                put(q * half(block, 0) + half(block, 2));
            }),
            Self::Q5_0 => nibbles(&block[6..], fifth(block, 2), |q| {
                put((q - 16.0) * half(block, 0));
            }),
            Self::Q5_1 => nibbles(&block[8..], fifth(block, 4), |q| {
                put(q * half(block, 0) + half(block, 2));
            }),
            Self::Q8_0 => {
                for &byte in &block[2..] {
                    put(f32::from(byte as i8) * half(block, 0));
                }
            }
            _ => unreachable!("refused below"),
        };
        match self {
            Self::F32
            | Self::F16
            | Self::BF16
            | Self::Q4_0
            | Self::Q4_1
            | Self::Q5_0
            | Self::Q5_1
            | Self::Q8_0 => blocks
                .chunks_exact(self.block_bytes() as usize)
                .for_each(each),
            ty => return Err(NoNumbers { ty }),
        }
        Ok(())
    }
}

/// 32 numbers of four bits each, with a fifth bit of each in `fifths`, lowest first.
fn nibbles(bytes: &[u8], fifths: u32, mut put: impl FnMut(f32)) {
    for (shift, from) in [(0, 0), (4, 16)] {
        for (index, byte) in bytes.iter().enumerate() {
            let fifth = (fifths >> (from + index) & 1) as u8;
            put(f32::from(byte >> shift & 15 | fifth << 4));
        }
    }
}

fn fifth(block: &[u8], at: usize) -> u32 {
    u32::from(word(block, at)) | u32::from(word(block, at + 2)) << 16
}

fn word(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// A 16-bit IEEE 754 number.
fn half(block: &[u8], at: usize) -> f32 {
    let bits = word(block, at);
    let (exponent, fraction) = (bits >> 10 & 31, u32::from(bits & 0x3ff));
    let value = match exponent {
        // Subnormal: steps of 2^-24.
        0 => fraction as f32 / 16_777_216.0,
        31 => f32::from_bits(0x7f80_0000 | fraction << 13),
        _ => f32::from_bits((u32::from(exponent) + 112) << 23 | fraction << 13),
    };
    if bits >> 15 == 1 { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(ty: TensorType, bytes: &[u8]) -> Vec<f32> {
        let mut found = Vec::new();
        ty.numbers(bytes, |number| found.push(number)).unwrap();
        found
    }

    /// All exponents, with fractions of zero, a half and all ones, against computed values.
    #[test]
    fn halves_are_what_their_bits_say() {
        for exponent in 0..31u16 {
            for (fraction, part) in [(0, 0.0), (0x200, 0.5), (0x3ff, 1023.0 / 1024.0)] {
                let expected: f64 = match exponent {
                    0 => f64::exp2(-14.0) * part,
                    _ => f64::exp2(f64::from(exponent) - 15.0) * (1.0 + part),
                };
                for (sign, factor) in [(0, 1.0), (0x8000, -1.0)] {
                    let bits = (sign | exponent << 10 | fraction).to_le_bytes();
                    let got = numbers(TensorType::F16, &bits)[0];
                    assert_eq!(f64::from(got), factor * expected);
                    assert_eq!(got.is_sign_negative(), sign != 0);
                }
            }
        }
        assert_eq!(numbers(TensorType::F16, &[0, 0x7c]), [f32::INFINITY]);
        assert!(numbers(TensorType::F16, &[1, 0x7c])[0].is_nan());
        assert_eq!(numbers(TensorType::BF16, &[0xc0, 0x3f]), [1.5]);
        assert_eq!(numbers(TensorType::F32, &(-2.5f32).to_le_bytes()), [-2.5]);
    }

    #[test]
    fn blocks_are_scales_and_integers() {
        const ONE_AND_A_HALF: [u8; 2] = [0, 0x3e];
        const MINUS_TWO: [u8; 2] = [0, 0xc0];
        // Byte i has i in its lower half and 15 - i in its upper.
        let bytes: Vec<u8> = (0..16).map(|i: u8| i | (15 - i) << 4).collect();
        let integers: Vec<f32> = (0..16)
            .chain((0..16).rev())
            .map(|i: u8| f32::from(i))
            .collect();
        let block = |parts: &[&[u8]]| parts.concat();
        let with = |f: &dyn Fn(usize, f32) -> f32| -> Vec<f32> {
            integers.iter().enumerate().map(|(i, &q)| f(i, q)).collect()
        };
        assert_eq!(
            numbers(TensorType::Q4_0, &block(&[&ONE_AND_A_HALF, &bytes])),
            with(&|_, q| 1.5 * (q - 8.0))
        );
        assert_eq!(
            numbers(
                TensorType::Q4_1,
                &block(&[&ONE_AND_A_HALF, &MINUS_TWO, &bytes])
            ),
            with(&|_, q| 1.5 * q - 2.0)
        );
        // The fifth bit of every third number.
        let fifths = (0..32).step_by(3).map(|i| 1u32 << i).sum::<u32>();
        let sixteen = |i: usize| if i.is_multiple_of(3) { 16.0 } else { 0.0 };
        let bits = fifths.to_le_bytes();
        assert_eq!(
            numbers(TensorType::Q5_0, &block(&[&ONE_AND_A_HALF, &bits, &bytes])),
            with(&|i, q| 1.5 * (q + sixteen(i) - 16.0))
        );
        assert_eq!(
            numbers(
                TensorType::Q5_1,
                &block(&[&ONE_AND_A_HALF, &MINUS_TWO, &bits, &bytes])
            ),
            with(&|i, q| 1.5 * (q + sixteen(i)) - 2.0)
        );
        let signed: Vec<u8> = (0..32).map(|i: u8| i.wrapping_sub(16)).collect();
        let expected: Vec<f32> = (-16..16).map(|i: i8| -2.0 * f32::from(i)).collect();
        assert_eq!(
            numbers(TensorType::Q8_0, &block(&[&MINUS_TWO, &signed])),
            expected
        );
    }

    #[test]
    fn every_type_gives_its_numbers_or_says_that_it_does_not() {
        for &ty in TensorType::ALL {
            let (mut count, block) = (0, vec![0; 3 * ty.block_bytes() as usize]);
            match ty.numbers(&block, |_| count += 1) {
                Ok(()) => assert_eq!(count, 3 * ty.block_len(), "{ty}"),
                Err(error) => {
                    assert_eq!((error.ty, count), (ty, 0));
                    assert!(error.to_string().contains(ty.name()));
                }
            }
        }
    }
}
