//! Repacked features have the same rows, and row 0 begins a page.

use delayline_graph::{ElementType, Error, FeatureFile, RowFormat, repack_features};
use std::fs;
use std::path::Path;

fn raw(path: &Path, element: ElementType) -> FeatureFile {
    let given = RowFormat {
        shape: Some((100, 8)),
        element: Some(element),
        offset: Some(3),
    };
    FeatureFile::open(path, &given).unwrap()
}

#[test]
fn rows_and_their_type_stay_and_row_0_begins_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raw");
    for element in ElementType::ALL {
        let len = 800 * element.size() as usize;
        let bytes: Vec<u8> = (0..len + 10).map(|n| (n % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let out = dir.path().join(element.name());
        repack_features(&raw(&path, element), &out, false, &mut |_| true).unwrap();
        // NumPy does not have bfloat16, so the type is given.
        let given = RowFormat {
            element: Some(element).filter(|&element| element == ElementType::Bf16),
            ..RowFormat::default()
        };
        let written = FeatureFile::open(&out, &given).unwrap();
        let shape = (written.rows, written.columns, written.element);
        assert_eq!((shape, written.offset), ((100, 8, element), 4096));
        assert_eq!(fs::read(&out).unwrap()[4096..], bytes[3..3 + len]);
    }
}

#[test]
fn only_an_array_is_replaced_and_an_interrupted_copy_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raw");
    fs::write(&path, vec![7; 3 + 800]).unwrap();
    let from = raw(&path, ElementType::I8);
    let out = dir.path().join("x.npy");
    let repack = |out: &Path, force| repack_features(&from, out, force, &mut |_| true);
    let stopped = repack_features(&from, &out, false, &mut |_| false);
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    repack(&out, false).unwrap();
    assert!(matches!(repack(&out, false), Err(Error::Exists { .. })));
    repack(&out, true).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&out, &link).unwrap();
    fs::write(dir.path().join("notes"), "not an array").unwrap();
    for there in [
        &path,
        &link,
        &dir.path().join("notes"),
        &dir.path().to_owned(),
    ] {
        assert!(
            matches!(repack(there, true), Err(Error::Exists { .. })),
            "{there:?}"
        );
    }
    // An array does not replace itself.
    let array = FeatureFile::open(&out, &RowFormat::default()).unwrap();
    let itself = repack_features(&array, &out, true, &mut |_| true).unwrap_err();
    assert!(
        itself.to_string().contains("choose another name"),
        "{itself}"
    );
}
