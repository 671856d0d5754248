//! Random weights, quantised: blocks of every type used here whose values look
//! like a trained layer's, zero on average and 1/√row wide, so that activations
//! neither vanish nor grow; and values that are given, laid in these types. What the weights
//! are for is not known here.

use delayline_gguf::TensorType;

/// Maximum number of bytes that are generated for one type and row length; they repeat
/// beyond that.
const POOL_BYTES: u64 = 16 << 20;

/// Random blocks, read as a ring. Their number is prime, so that rows of a matrix, experts
/// of a layer and tensors of equal size start at different blocks, and differ.
pub(crate) struct Pool {
    bytes: Vec<u8>,
    block_bytes: usize,
    taken: u64,
}

impl Pool {
    /// Blocks of type `ty` for rows of `row` values: about `wanted` bytes, but not much more
    /// than [`POOL_BYTES`].
    pub(crate) fn new(ty: TensorType, row: u64, wanted: u64, seed: u64) -> Pool {
        let blocks = prime_from(wanted.min(POOL_BYTES) / ty.block_bytes());
        let mut random = Random::new(seed ^ (u64::from(ty.id()) << 40) ^ (row << 8));
        let mut bytes = vec![0; (blocks * ty.block_bytes()) as usize];
        fill(ty, (row as f32).sqrt().recip(), &mut random, &mut bytes);
        Pool {
            bytes,
            block_bytes: ty.block_bytes() as usize,
            taken: 0,
        }
    }

    /// The bytes of the next tensor, `len` in all, in pieces.
    pub(crate) fn take(&mut self, len: u64) -> impl Iterator<Item = &[u8]> {
        let blocks = (self.bytes.len() / self.block_bytes) as u64;
        // Steps of the golden ratio spread any number of starts evenly.
        let step = ((blocks as f64 * 0.618) as u64).max(1);
        let mut at = (self.taken % blocks * step % blocks) as usize * self.block_bytes;
        let mut left = len;
        self.taken += 1;
        let bytes = &self.bytes[..];
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            if at == bytes.len() {
                at = 0;
            }
            let piece = left.min((bytes.len() - at) as u64) as usize;
            let start = at;
            at += piece;
            left -= piece as u64;
            Some(&bytes[start..at])
        })
    }
}

/// Fills `bytes` with blocks whose values have mean 0 and standard deviation `width`.
///
/// Uniform quants of b bits have the standard deviation 2^b/√12, which the scale brings to
/// `width`. Types whose quants are not symmetric about zero get scales of either sign, or a
/// minimum that shifts their middle to zero.
fn fill(ty: TensorType, width: f32, random: &mut Random, bytes: &mut [u8]) {
    random.fill(bytes);
    let blocks = bytes.chunks_exact_mut(ty.block_bytes() as usize);
    let uniform = |levels: f32| width * 12f32.sqrt() / levels;
    // Root mean square of the random six-bit scales of a super-block.
    const SIX_BITS_RMS: f32 = 36.37;
    match ty {
        TensorType::F32 => blocks.for_each(|block| {
            let value = random.signed() * width * 3f32.sqrt();
            block.copy_from_slice(&value.to_le_bytes());
        }),
        TensorType::F16 => blocks.for_each(|block| {
            put_f16(block, 0, random.signed() * width * 3f32.sqrt());
        }),
        TensorType::Q4_0 => blocks.for_each(|block| {
            put_f16(block, 0, random.sign() * uniform(16.0));
        }),
        TensorType::Q5_0 => blocks.for_each(|block| {
            put_f16(block, 0, random.sign() * uniform(32.0));
        }),
        TensorType::Q5_1 => blocks.for_each(|block| {
            let scale = random.sign() * uniform(32.0);
            put_f16(block, 0, scale);
            put_f16(block, 2, -15.5 * scale);
        }),
        TensorType::Q8_0 => blocks.for_each(|block| {
            put_f16(block, 0, random.sign() * uniform(256.0));
        }),
        TensorType::Q4_K => blocks.for_each(|block| {
            let scale = random.sign() * uniform(16.0) / SIX_BITS_RMS;
            put_super_scales(block, scale, 7.5);
        }),
        TensorType::Q5_K => blocks.for_each(|block| {
            let scale = random.sign() * uniform(32.0) / SIX_BITS_RMS;
            put_super_scales(block, scale, 15.5);
        }),
        TensorType::MXFP4 => blocks.for_each(|block| {
            // Of two powers of two, so that the mean square is right. The root mean square
            // of the quants is 5.852, and the exponent counts from 2^-128.
            let scale = width / 5.852;
            let floor = scale.log2().floor();
            let above = (scale / floor.exp2()).powi(2);
            let up = u8::from(random.unit() < (above - 1.0) / 3.0);
            block[0] = (floor + 128.0) as u8 + up;
        }),
        TensorType::Q6_K => blocks.for_each(|block| {
            // Scales from 8 to 15 of either sign, with root mean square 11.73. Larger ones
            // would make the half-precision factor subnormal.
            for scale in &mut block[192..208] {
                let magnitude = 8 | (*scale & 7) as i8;
                let signed = if *scale & 8 == 0 {
                    magnitude
                } else {
                    -magnitude
                };
                *scale = signed.to_le_bytes()[0];
            }
            put_f16(block, 208, uniform(64.0) / 11.73);
        }),
        other => unreachable!("no mixture has {other}"),
    }
}

/// Sets the scales of a Q4_K or Q5_K block: each group's minimum gets the same six bits as
/// its scale, and a factor that shifts the middle of its quants to zero.
fn put_super_scales(block: &mut [u8], scale: f32, middle: f32) {
    put_f16(block, 0, scale);
    put_f16(block, 2, middle * scale);
    // Bytes 4 to 7 hold scales 0 to 3 and the high bits of scales 4 to 7; bytes 8 to 11 the
    // same of the minima; bytes 12 to 15 the low four bits of scales and minima 4 to 7.
    block.copy_within(4..8, 8);
    for both in &mut block[12..16] {
        *both = (*both & 15) * 17;
    }
}

/// Appends values that are given in steps of `step`: whole ones from -7 to 7 that any
/// type holds, from -31 to 31 where there are six bits, any where there are 16.
pub(crate) fn put_steps(ty: TensorType, step: f32, values: &[f32], out: &mut Vec<u8>) {
    let mut put = |value: f32| out.extend_from_slice(&f16_bits(value).to_le_bytes());
    match ty {
        TensorType::F32 => {
            for value in values {
                out.extend_from_slice(&(value * step).to_le_bytes());
            }
            return;
        }
        TensorType::F16 => {
            values.iter().for_each(|value| put(value * step));
            return;
        }
        _ => {}
    }
    for values in values.chunks_exact(ty.block_len() as usize) {
        let at = out.len();
        out.resize(at + ty.block_bytes() as usize, 0);
        let block = &mut out[at..];
        let above = |middle: f32| move |at: usize| (values[at] + middle) as u8;
        match ty {
            TensorType::Q8_0 => {
                put_f16(block, 0, step);
                for (byte, value) in block[2..].iter_mut().zip(values) {
                    *byte = (*value as i8).to_le_bytes()[0];
                }
            }
            TensorType::Q4_0 => {
                put_f16(block, 0, step);
                put_nibbles(&mut block[2..], 16, above(8.0));
            }
            TensorType::Q5_0 => {
                put_f16(block, 0, step);
                put_fifth_bits(&mut block[2..6], above(16.0));
                put_nibbles(&mut block[6..], 16, above(16.0));
            }
            TensorType::Q5_1 => {
                put_f16(block, 0, step);
                put_f16(block, 2, -16.0 * step);
                put_fifth_bits(&mut block[4..8], above(16.0));
                put_nibbles(&mut block[8..], 16, above(16.0));
            }
            TensorType::Q4_K => {
                put_even_scales(block, step, step);
                put_nibbles(&mut block[16..], 32, above(8.0));
            }
            TensorType::Q5_K => {
                put_even_scales(block, step, 2.0 * step);
                for at in 0..256 {
                    block[16 + at % 32] |= above(16.0)(at) >> 4 << (at / 32);
                }
                put_nibbles(&mut block[48..], 32, above(16.0));
            }
            TensorType::Q6_K => {
                put_f16(block, 208, step);
                block[192..208].fill(1);
                for at in 0..256 {
                    let (half, group, q) = (at / 128, at % 128 / 32, above(32.0)(at));
                    let low = half * 64 + group % 2 * 32 + at % 32;
                    block[low] |= (q & 15) << (group / 2 * 4);
                    block[128 + half * 32 + at % 32] |= q >> 4 << (group * 2);
                }
            }
            other => unreachable!("no row is laid in {other}"),
        }
    }
}

/// Four bits of each value: a group of `half` in the low halves of bytes, the next in the
/// high ones.
fn put_nibbles(bytes: &mut [u8], half: usize, value: impl Fn(usize) -> u8) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        let first = at / half * 2 * half + at % half;
        *byte = value(first) & 15 | value(first + half) << 4;
    }
}

fn put_fifth_bits(bytes: &mut [u8], value: impl Fn(usize) -> u8) {
    for at in 0..32 {
        bytes[at / 8] |= value(at) >> 4 << (at % 8);
    }
}

/// The scales of a Q4_K or Q5_K block whose groups all have the scale `step` and eight
/// times `eighth` below zero.
fn put_even_scales(block: &mut [u8], step: f32, eighth: f32) {
    put_f16(block, 0, step);
    put_f16(block, 2, eighth);
    block[4..8].fill(1);
    block[8..12].fill(8);
    block[12..16].fill(1 | 8 << 4);
}

fn put_f16(block: &mut [u8], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16_bits(value).to_le_bytes());
}

/// The half-precision number nearest to `value`, which must be within its range.
fn f16_bits(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = value.abs();
    debug_assert!(magnitude < 65504.0, "{value} is out of range");
    // Below the normal range the bits count steps of 2^-24; if rounding exceeds the
    // largest subnormal number, the result is the first normal one.
    let bits = if magnitude < 2f32.powi(-14) {
        (magnitude * 2f32.powi(24)).round_ties_even() as u16
    } else {
        let wide = magnitude.to_bits();
        let even = wide >> 13 & 1;
        (((wide + 0xfff + even) >> 13) - (112 << 10)) as u16
    };
    sign | bits
}

/// The smallest prime that is at least `n`.
fn prime_from(n: u64) -> u64 {
    let is_prime = |n: u64| {
        (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
    };
    (n.max(2)..)
        .find(|&n| is_prime(n))
        .expect("primes do not end")
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014): eight random bytes at a time from a counter.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        Random(random.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    /// 1 or -1.
    fn sign(&mut self) -> f32 {
        if self.next() >> 63 == 0 { 1.0 } else { -1.0 }
    }

    /// Uniform from 0 to 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Uniform from -1 to 1.
    fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes by the definition of the format.
    fn f16_value(bits: u16) -> f32 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
        let magnitude = match exponent {
            0 => fraction * 2f32.powi(-24),
            _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
        };
        if bits & 0x8000 == 0 {
            magnitude
        } else {
            -magnitude
        }
    }

    #[test]
    fn every_half_is_its_own_neighbour() {
        for bits in (0..0x7bffu16).flat_map(|bits| [bits, bits | 0x8000]) {
            let value = f16_value(bits);
            assert_eq!(f16_bits(value), bits, "{value}");
            // Nudges of less than half a step do not change it.
            let nudged = value * (1.0 + f32::EPSILON);
            assert_eq!(f16_bits(nudged), bits, "{value}");
        }
    }

    #[test]
    fn primes() {
        let mut sieve = [true; 1000];
        for d in 2..1000 {
            (2 * d..1000).step_by(d).for_each(|n| sieve[n] = false);
        }
        for n in 0..990 {
            let next = (n.max(2)..).find(|&n| sieve[n]).unwrap();
            assert_eq!(prime_from(n as u64), next as u64);
        }
    }

    #[test]
    fn no_two_tensors_or_rows_are_equal() {
        let mut pool = Pool::new(TensorType::Q4_0, 64, 4000, 1);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..50 {
            let tensor: Vec<u8> = pool.take(36 * 50).flatten().copied().collect();
            assert_eq!(tensor.len(), 36 * 50);
            assert!(seen.insert(tensor));
        }
        // Larger than the pool: the ring turns, and its rows still differ.
        let tensor: Vec<u8> = pool.take(36 * 200).flatten().copied().collect();
        let rows: std::collections::HashSet<&[u8]> = tensor.chunks_exact(36).collect();
        assert_eq!(rows.len(), 200);
    }
}
