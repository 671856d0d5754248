//! Bounds what a hostile header can make the parser allocate. The only test of its
//! program, because the allocator counts for the whole program.

mod raw;

use cap::Cap;
use delayline_gguf::Header;
use raw::{ARRAY, Raw, STR, array, entry, tensor};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Maximum bytes allocated in all, growth of vectors included, for each byte of the
/// header.
const PER_BYTE: usize = 24;

#[test]
fn allocation_is_in_proportion_to_the_input() {
    let check = |what: &str, change: &dyn Fn(&mut Raw)| {
        let mut raw = Raw::valid();
        change(&mut raw);
        let bytes = raw.bytes();
        for file_len in [bytes.len() as u64, 1 << 45] {
            let before = ALLOCATOR.total_allocated();
            let _ = std::hint::black_box(Header::parse(&bytes, file_len));
            let spent = ALLOCATOR.total_allocated() - before;
            assert!(
                spent <= PER_BYTE * bytes.len(),
                "{what}: {spent} of {}",
                bytes.len()
            );
        }
    };
    check("valid", &|_| {});
    check("entries that are not there", &|r| {
        r.n_entries = Some(1 << 40)
    });
    check("tensors that are not there", &|r| {
        r.n_tensors = Some(1 << 40)
    });
    for kind in [0, STR] {
        check("an array that is not there", &|r| {
            r.entries
                .push(entry(b"k", ARRAY, &array(kind, 1 << 40, &[])));
        });
    }
    check("an array of empty strings", &|r| {
        r.entries
            .push(entry(b"k", ARRAY, &array(STR, 20_000, &[0; 160_000])));
    });
    check("many small entries", &|r| {
        let key = |i: u32| format!("{i:x}").into_bytes();
        r.entries
            .extend((0..20_000).map(|i| entry(&key(i), 0, &[1])));
    });
    check("many small tensors", &|r| {
        let name = |i: u32| format!("{i:x}").into_bytes();
        r.tensors = (0..20_000)
            .map(|i| tensor(&name(i), &[], 24, u64::from(i) * 32))
            .collect();
        r.data = 20_000 * 32;
    });
}
