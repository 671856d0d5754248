//! Feature files, valid and hostile: what NumPy writes is read as NumPy reads it, and
//! everything else is refused with a message.

use delayline_graph::{ElementType, Error, FeatureFile, NpyHeader, RowFormat};
use delayline_medium::Rng;
use std::path::PathBuf;

fn npy(version: u8, text: &str) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((text.len() as u16).to_le_bytes()),
        _ => bytes.extend((text.len() as u32).to_le_bytes()),
    }
    bytes.extend(text.bytes());
    bytes
}

fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}   \n")
}

#[test]
fn headers_are_read_as_numpy_writes_them() {
    use ElementType::{Bf16, F16, F32, F64, I8, U8};
    let cases = [
        ("<f4", F32),
        ("=f4", F32),
        ("<f8", F64),
        ("<f2", F16),
        ("|i1", I8),
        ("|u1", U8),
        ("bfloat16", Bf16),
    ];
    for version in 1..=3 {
        for (descr, element) in cases {
            let bytes = npy(version, &header(descr, "False", "(7, 12)"));
            let found = NpyHeader::parse(&bytes, None).unwrap();
            let expect = NpyHeader {
                element,
                shape: vec![7, 12],
                data_at: bytes.len() as u64,
            };
            assert_eq!(found, expect);
        }
    }
    let untyped = npy(1, &header("|V2", "False", "(7, 12)"));
    let found = NpyHeader::parse(&untyped, Some(Bf16)).unwrap();
    assert_eq!(found.element, Bf16);
    // Entries in any order, double quotes, long integers of Python 2.
    let odd = "{\"shape\":(7L,) ,\"descr\":\"<f4\",\"fortran_order\":False}";
    assert_eq!(NpyHeader::parse(&npy(1, odd), None).unwrap().shape, [7]);
    let none = header("<f4", "False", "()");
    assert!(
        NpyHeader::parse(&npy(1, &none), None)
            .unwrap()
            .shape
            .is_empty()
    );
}

#[test]
fn what_is_not_an_array_of_rows_is_refused_with_a_message() {
    let cases: [(Vec<u8>, &str); 17] = [
        (b"PK\x03\x04rest".to_vec(), "this is a .npz archive"),
        (b"raw".to_vec(), "not a .npy file; give shape and dtype"),
        (Vec::new(), "not a .npy file"),
        (b"\x93NUMPY".to_vec(), "cut short"),
        (b"\x93NUMPY\x01\x00\x76".to_vec(), "cut short"),
        (
            npy(1, &header("<f4", "False", "(1, 2)"))[..40].to_vec(),
            "cut short",
        ),
        (npy(9, ""), "version 9"),
        (npy(2, &" ".repeat(70_000)), "expected at most 64 KiB"),
        (
            npy(1, &header(">f4", "False", "(1, 2)")),
            "big-endian (>f4)",
        ),
        (npy(1, &header("<f4", "True", "(1, 2)")), "Fortran order"),
        (
            npy(1, &header("|O", "False", "(1, 2)")),
            "\"|O\" cannot be read",
        ),
        (
            npy(1, &header("|V2", "False", "(1, 2)")),
            "give dtype=\"bfloat16\"",
        ),
        (
            npy(1, &header("<f4", "False", "(1, -2)")),
            "cannot understand",
        ),
        (
            npy(1, &header("<f4", "None", "(1, 2)")),
            "cannot understand",
        ),
        (
            npy(1, &header("<f4", "False", "(99999999999999999999, 2)")),
            "cannot understand",
        ),
        (
            npy(1, "{'descr': '<f4', 'shape': (1, 2)}"),
            "cannot understand",
        ),
        (
            npy(1, "__import__('os').system('true')"),
            "cannot understand",
        ),
    ];
    for (bytes, expect) in cases {
        let words = NpyHeader::parse(&bytes, None).unwrap_err();
        assert!(words.contains(expect), "{words:?} instead of {expect:?}");
    }
}

#[test]
fn no_header_makes_it_panic() {
    let mut rng = Rng::new(delayline_testing::seed());
    let good = npy(1, &header("<f4", "False", "(7, 12)"));
    for _ in 0..100_000 {
        let mut bytes = good.clone();
        for _ in 0..rng.below(4) + 1 {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(3) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes[at] = b"{}():,'\"0L<"[rng.below(11) as usize],
                _ => bytes.truncate(at.max(1)),
            }
        }
        _ = NpyHeader::parse(&bytes, None);
    }
}

struct Written(tempfile::TempDir, PathBuf);

fn written(bytes: &[u8]) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    std::fs::write(&path, bytes).unwrap();
    Written(dir, path)
}

fn words(bytes: &[u8], given: &RowFormat) -> String {
    let file = written(bytes);
    let refused = FeatureFile::open(&file.1, given).unwrap_err().to_string();
    assert!(refused.contains("x: "), "the file is named: {refused}");
    drop(file.0);
    refused
}

#[test]
fn shape_and_bytes_have_to_agree() {
    let with_rows = |shape: &str, bytes: usize| {
        let mut file = npy(1, &header("<f4", "False", shape));
        file.extend(vec![0; bytes]);
        file
    };
    let none = RowFormat::default();
    let good = written(&with_rows("(3, 5)", 60));
    let file = FeatureFile::open(&good.1, &none).unwrap();
    assert_eq!(
        (file.rows, file.row_len(), file.bytes_of(2).end),
        (3, 20, file.len())
    );
    let short = words(&with_rows("(3, 5)", 59), &none);
    assert!(
        short.contains("3 rows of 20 bytes") && short.contains("cut short"),
        "{short}"
    );
    let cases = [
        ("(3,)", "[3], expected two dimensions"),
        ("(3, 5, 1)", "expected two dimensions"),
        ("(0, 5)", "0 rows of 5 elements"),
        ("(3, 0)", "3 rows of 0 elements"),
        ("(5000000000, 1)", "5000000000 rows"),
        ("(4294967294, 16777216)", "have another shape"),
    ];
    for (shape, expect) in cases {
        let words = words(&with_rows(shape, 60), &none);
        assert!(
            words.contains(expect.trim_start_matches("have ")),
            "{words}"
        );
    }
    let other = RowFormat {
        shape: Some((5, 3)),
        ..none
    };
    let other = words(&with_rows("(3, 5)", 60), &other);
    assert!(
        other.contains("(3, 5), but float32 of the shape (5, 3) is asked for"),
        "{other}"
    );
}

#[test]
fn raw_rows_have_the_format_that_is_given() {
    let raw = |shape, offset| RowFormat {
        shape,
        element: Some(ElementType::F16),
        offset,
    };
    let good = written(&[0; 70]);
    let file = FeatureFile::open(&good.1, &raw(Some((6, 5)), Some(10))).unwrap();
    assert_eq!((file.offset, file.bytes_of(5)), (10, 60..70));
    assert!(FeatureFile::open(&good.1, &raw(Some((7, 5)), None)).is_ok());
    let long = words(&[0; 70], &raw(Some((7, 5)), Some(1)));
    assert!(
        long.contains("need 71 bytes, but the file has 70"),
        "{long}"
    );
    let unsaid = words(&[0; 70], &raw(None, None));
    assert!(unsaid.contains("give shape and dtype"), "{unsaid}");
    let far = words(&[0; 70], &raw(Some((6, 5)), Some(u64::MAX)));
    assert!(far.contains("the file has 70"), "{far}");
    let nowhere = FeatureFile::open(&good.0.path().join("y"), &RowFormat::default());
    assert!(matches!(nowhere, Err(Error::Open { .. })));
    let folder = FeatureFile::open(good.0.path(), &RowFormat::default());
    assert!(matches!(folder, Err(Error::Open { .. })));
    assert!(ElementType::from_name("torch.bfloat16").is_ok());
    assert!(
        ElementType::from_name("int64")
            .unwrap_err()
            .contains("expected one of")
    );
}
