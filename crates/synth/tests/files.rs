//! Files as they are on disk: their weights, the same from the same seed, and
//! nothing left behind when writing fails.

use delayline_gguf::{Header, Tensor, TensorType, parts};
use delayline_synth::{Error, Quant, Shape, names, shape, size, write, write_split};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

fn quiet() -> impl FnMut(u64, u64) {
    |_, _| {}
}

fn file(dir: &Path, shape: &Shape, quant: Quant, seed: u64) -> Vec<u8> {
    let path = dir.join("m.gguf");
    let summary = write(shape, quant, seed, &path, &mut quiet()).unwrap();
    assert_eq!(summary.paths, std::slice::from_ref(&path));
    let bytes = fs::read(path).unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
    bytes
}

fn half(bytes: &[u8], at: usize) -> f64 {
    let bits = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    assert_ne!(exponent, 31, "infinite or not a number");
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    };
    if bits & 0x8000 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// The values of a block, by the definition of its type; their order within
/// the block does not matter here.
fn values(ty: TensorType, b: &[u8]) -> Vec<f64> {
    let nibbles = |qs: &[u8]| -> Vec<f64> {
        let both = qs.iter().flat_map(|q| [q & 15, q >> 4]);
        both.map(f64::from).collect()
    };
    // Value i of a five-bit block has its fifth bit in bit i of `high`.
    let five = |high: &[u8], qs: &[u8]| -> Vec<f64> {
        (0..32)
            .map(|i| {
                let low = if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 };
                f64::from(low | (high[i / 8] >> (i % 8) & 1) << 4)
            })
            .collect()
    };
    match ty {
        TensorType::F32 => vec![f32::from_le_bytes(b.try_into().unwrap()).into()],
        TensorType::F16 => vec![half(b, 0)],
        TensorType::Q4_0 => {
            let d = half(b, 0);
            nibbles(&b[2..]).iter().map(|q| d * (q - 8.0)).collect()
        }
        TensorType::Q5_0 => {
            let d = half(b, 0);
            five(&b[2..6], &b[6..])
                .iter()
                .map(|q| d * (q - 16.0))
                .collect()
        }
        TensorType::Q5_1 => {
            let (d, m) = (half(b, 0), half(b, 2));
            five(&b[4..8], &b[8..]).iter().map(|q| d * q + m).collect()
        }
        TensorType::Q8_0 => {
            let d = half(b, 0);
            b[2..].iter().map(|&q| d * f64::from(q as i8)).collect()
        }
        TensorType::MXFP4 => {
            let quants = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0];
            let value = |q: &f64| match *q as usize {
                q @ 0..8 => quants[q],
                q => -quants[q - 8],
            };
            let d = (f64::from(b[0]) - 128.0).exp2();
            nibbles(&b[1..]).iter().map(|q| d * value(q)).collect()
        }
        TensorType::Q4_K | TensorType::Q5_K => super_block(ty, b),
        TensorType::Q6_K => {
            let d = half(b, 208);
            (0..256)
                .map(|i| {
                    // Two stretches of 128, each of four rows of 32.
                    let (n, row, l) = (i / 128, i % 128 / 32, i % 32);
                    let low = b[n * 64 + row % 2 * 32 + l];
                    let low = if row < 2 { low & 15 } else { low >> 4 };
                    let high = b[128 + n * 32 + l] >> (2 * row) & 3;
                    let scale = b[192 + n * 8 + l / 16 + 2 * row] as i8;
                    d * f64::from(scale) * (f64::from(low | high << 4) - 32.0)
                })
                .collect()
        }
        other => panic!("{other} is in no mixture"),
    }
}

fn super_block(ty: TensorType, b: &[u8]) -> Vec<f64> {
    let (d, d_min) = (half(b, 0), half(b, 2));
    let s = &b[4..16];
    let scale_and_min = |j: usize| {
        if j < 4 {
            (s[j] & 63, s[j + 4] & 63)
        } else {
            let scale = s[j + 4] & 15 | s[j - 4] >> 6 << 4;
            (scale, s[j + 4] >> 4 | s[j] >> 6 << 4)
        }
    };
    let (high, qs) = match ty {
        TensorType::Q4_K => (None, &b[16..]),
        _ => (Some(&b[16..48]), &b[48..]),
    };
    (0..256)
        .map(|i| {
            let (group, l) = (i / 32, i % 32);
            let q = qs[group / 2 * 32 + l];
            let low = if group % 2 == 0 { q & 15 } else { q >> 4 };
            let fifth = high.map_or(0, |high| (high[l] >> group & 1) << 4);
            let (scale, min) = scale_and_min(group);
            d * f64::from(scale) * f64::from(low | fifth) - d_min * f64::from(min)
        })
        .collect()
}

fn values_of(tensor: &Tensor, file: &[u8]) -> Vec<f64> {
    let bytes = &file[tensor.at as usize..tensor.end() as usize];
    let blocks = bytes.chunks_exact(tensor.ty.block_bytes() as usize);
    blocks.flat_map(|block| values(tensor.ty, block)).collect()
}

#[test]
fn weights_are_finite_centred_and_as_wide_as_they_should_be() {
    let dir = tempfile::tempdir().unwrap();
    let mut types = HashSet::new();
    for name in names().filter(|name| name.starts_with("tiny-")) {
        for quant in Quant::ALL {
            let file = file(dir.path(), &shape(name).unwrap(), quant, 7);
            let header = Header::parse(&file, file.len() as u64).unwrap();
            for tensor in &header.tensors {
                let values = values_of(tensor, &file);
                let what = format!("{name} {quant:?} {} {}", tensor.name, tensor.ty);
                assert!(values.iter().all(|value| value.is_finite()), "{what}");
                let is_one = tensor.name.contains("norm") || tensor.name.contains("rope");
                assert_eq!(is_one, values.iter().all(|&value| value == 1.0), "{what}");
                if is_one || values.len() < 8192 {
                    continue;
                }
                types.insert(tensor.ty.name());
                let n = values.len() as f64;
                let mean = values.iter().sum::<f64>() / n;
                let square = values.iter().map(|value| value * value).sum::<f64>() / n;
                let width = square.sqrt() * (tensor.dims[0] as f64).sqrt();
                assert!((0.85..1.15).contains(&width), "{what}: {width}");
                assert!(mean.abs() < 0.1 * square.sqrt(), "{what}: {mean}");
            }
        }
    }
    let mut types: Vec<&str> = types.into_iter().collect();
    types.sort_unstable();
    let all = [
        "f16", "mxfp4", "q4_0", "q4_K", "q5_0", "q5_1", "q6_K", "q8_0",
    ];
    assert_eq!(types, all);
}

#[test]
fn five_bit_super_blocks_too() {
    // No tiny shape has them: eight experts and rows of whole super-blocks.
    let dir = tempfile::tempdir().unwrap();
    let mut shape = shape("tiny-mixtral").unwrap();
    shape.head_dim = 64;
    let file = file(dir.path(), &shape, Quant::Q4KM, 7);
    let header = Header::parse(&file, file.len() as u64).unwrap();
    let tensor = header.tensor("blk.0.attn_output.weight").unwrap();
    assert_eq!(tensor.ty, TensorType::Q5_K);
    let values = values_of(tensor, &file);
    let square = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
    assert!((0.85..1.15).contains(&(square.sqrt() * 16.0)));
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    assert!(mean.abs() < 0.1 * square.sqrt(), "{mean}");
}

#[test]
fn the_seed_decides() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tiny-llama", "tiny-qwen3moe"] {
        let shape = shape(name).unwrap();
        let one = file(dir.path(), &shape, Quant::Q4_0, 1);
        assert_eq!(one, file(dir.path(), &shape, Quant::Q4_0, 1));
        assert_ne!(one, file(dir.path(), &shape, Quant::Q4_0, 2));
        let header = Header::parse(&one, one.len() as u64).unwrap();
        let data = |tensor: &Tensor| one[tensor.at as usize..tensor.end() as usize].to_vec();
        let random: Vec<_> = header
            .tensors
            .iter()
            .filter(|t| !t.name.contains("norm"))
            .collect();
        let random: Vec<_> = random
            .into_iter()
            .filter(|t| !t.name.contains("rope"))
            .collect();
        let distinct: HashSet<Vec<u8>> = random.iter().map(|t| data(t)).collect();
        assert_eq!(distinct.len(), random.len(), "{name}");
    }
}

#[test]
fn parts_hold_the_same_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let shape = shape("tiny-qwen3").unwrap();
    let whole = file(dir.path(), &shape, Quant::Q4KM, 3);
    let whole_header = Header::parse(&whole, whole.len() as u64).unwrap();
    for count in [1, 2, 3, 7] {
        let out = dir.path().join(format!("split{count}.gguf"));
        let summary = write_split(&shape, Quant::Q4KM, 3, count, &out, &mut quiet()).unwrap();
        assert_eq!(summary.paths, parts(&summary.paths[0], count).unwrap());
        let mut expected = whole_header.tensors.iter();
        for (no, path) in (0..count).zip(&summary.paths) {
            let bytes = fs::read(path).unwrap();
            let header = Header::parse(&bytes, bytes.len() as u64).unwrap();
            let split = header.split().unwrap().unwrap();
            assert_eq!((split.no, split.count), (no, count));
            assert_eq!(split.tensors, whole_header.tensors.len() as u64);
            assert_eq!(header.architecture().is_ok(), no == 0);
            for tensor in &header.tensors {
                let other = expected.next().unwrap();
                assert_eq!((&tensor.name, tensor.ty), (&other.name, other.ty));
                let mine = &bytes[tensor.at as usize..tensor.end() as usize];
                assert_eq!(mine, &whole[other.at as usize..other.end() as usize]);
            }
        }
        assert_eq!(expected.next(), None);
    }
    for count in [0, 1000] {
        let out = dir.path().join("m.gguf");
        let result = write_split(&shape, Quant::Q4_0, 3, count, &out, &mut quiet());
        assert!(matches!(result, Err(Error::Parts { .. })), "{count}");
    }
}

#[test]
fn progress_ends_at_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let shape = shape("tiny-llama").unwrap();
    let (mut last, mut calls) = (0, 0);
    let total_expected = size(&shape, Quant::Q8_0).unwrap();
    write(
        &shape,
        Quant::Q8_0,
        1,
        &dir.path().join("m.gguf"),
        &mut |done, total| {
            assert!(done >= last && done <= total);
            assert_eq!(total, total_expected);
            (last, calls) = (done, calls + 1);
        },
    )
    .unwrap();
    assert_eq!(last, total_expected);
    assert!(calls > 10);
}

#[test]
fn nothing_is_left_of_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let left = || fs::read_dir(dir.path()).unwrap().count();
    let shape = shape("tiny-llama").unwrap();

    let out = dir.path().join("missing").join("m.gguf");
    let error = write(&shape, Quant::Q4_0, 1, &out, &mut quiet()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("missing/m.gguf cannot be written"),
        "{error}"
    );
    let error = write(&shape, Quant::Q4_0, 1, Path::new("/"), &mut quiet()).unwrap_err();
    assert!(matches!(error, Error::NoFileName { .. }));
    assert_eq!(left(), 0);

    // A panic on the way, in the second of three parts, and a target that
    // cannot be replaced.
    let out = dir.path().join("m.gguf");
    let half = size(&shape, Quant::Q4_0).unwrap() / 2;
    let panics = std::panic::catch_unwind(|| {
        let mut stop = |done, _| assert!(done < half, "stop here");
        write_split(&shape, Quant::Q4_0, 1, 3, &out, &mut stop)
    });
    assert!(panics.is_err());
    assert_eq!(left(), 0);
    fs::create_dir(&out).unwrap();
    assert!(write(&shape, Quant::Q4_0, 1, &out, &mut quiet()).is_err());
    assert_eq!(left(), 1);
}
