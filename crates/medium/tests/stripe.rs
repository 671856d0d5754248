//! Several drives as one: every byte has one place, rates add up in virtual time, and
//! the drive that fails is named.

use delayline_line::{Medium, MediumError, Op, Region};
use delayline_medium::{
    Dram, Drive, Faults, Faulty, Link, Memory, Simulated, Stripe, VirtualClock, shares, stripes,
};

const ALIGN: u64 = 4096;
const UNIT: u64 = 16 * ALIGN;

#[test]
fn every_byte_lies_in_one_place() {
    for drives in 1..5 {
        for len in (0..20).chain(ALIGN * 7..ALIGN * 7 + 3) {
            let mut seen = vec![Vec::new(); drives as usize];
            for at in 0..len {
                let all: Vec<_> = stripes(5, drives, at, 1).collect();
                let [(drive, there, 1)] = all[..] else {
                    panic!("{all:?}")
                };
                assert_eq!(seen[drive].len() as u64, there, "byte {at} of {len}");
                seen[drive].push(at);
            }
            let lens: Vec<u64> = seen.iter().map(|bytes| bytes.len() as u64).collect();
            assert_eq!(lens, shares(5, drives, len));
        }
    }
}

/// Seconds for 64 MiB in reads of 16 units, 32 at a time, from `count` drives of
/// 1 GB/s.
fn seconds(count: u64) -> f64 {
    let clock = VirtualClock::new();
    let link = Link {
        rate_bytes_per_s: 1_000_000_000,
        latency_ns: 80_000,
        depth: 32,
        ..Link::default()
    };
    let total = 64 << 20;
    let drives = shares(UNIT, count, total).into_iter().map(|len| Drive {
        medium: Simulated::without_bytes(link, vec![len], clock.clone()),
        name: "one of them".into(),
    });
    let mut stripe = Stripe::new(drives.collect(), UNIT, 32);
    let mut region = Region::new(total);
    let (mut offset, mut under_way, mut done) = (0, 0, Vec::new());
    while offset < total || under_way > 0 {
        while offset < total && under_way < 32 {
            let buffer = region.lend(offset, (16 * UNIT) as u32);
            stripe.submit(Op::read(offset, 0, offset, buffer));
            offset += 16 * UNIT;
            under_way += 1;
        }
        stripe.poll(true, &mut done);
        under_way -= done.len();
        for one in done.drain(..) {
            assert_eq!(one.result, Ok((16 * UNIT) as u32));
        }
    }
    delayline_line::Clock::now_ns(&clock) as f64 * 1e-9
}

#[test]
fn rates_add_up() {
    let one = seconds(1);
    assert!((one / (67_108_864.0 / 1e9) - 1.0).abs() < 0.01, "{one}");
    for drives in [2, 3, 4, 8] {
        let gain = one / seconds(drives);
        // The last stripes are not the same number on each, and latency stays.
        assert!(
            gain > 0.94 * drives as f64 && gain <= drives as f64,
            "{drives}: {gain}"
        );
    }
}

/// One read of eight stripes over two drives, of which the second has these faults.
fn read_with(faults: Faults) -> Result<u32, MediumError> {
    let (memory, mut region) = Memory::new(8 * UNIT).unwrap();
    let drives = [Faults::default(), faults]
        .into_iter()
        .zip(["/mnt/a", "/mnt/b"]);
    let drives = drives.map(|(faults, name)| {
        let dram = Dram::new(vec![vec![7; 4 * UNIT as usize]], memory.clone(), 2);
        Drive {
            medium: Faulty::new(dram, faults, 1),
            name: name.into(),
        }
    });
    let mut stripe = Stripe::new(drives.collect(), UNIT, 1);
    let buffer = region.lend(0, (8 * UNIT) as u32);
    stripe.submit(Op::read(3, 0, 0, buffer));
    let mut done = Vec::new();
    stripe.poll(true, &mut done);
    assert_eq!(
        (done.len(), done[0].id, done[0].buffer.len()),
        (1, 3, (8 * UNIT) as u32)
    );
    done.remove(0).result
}

#[test]
fn a_drive_that_dies_is_named() {
    let gone = Faults {
        gone_after: Some(1),
        ..Faults::default()
    };
    let error = read_with(gone).unwrap_err();
    assert!(matches!(error, MediumError::Gone { .. }), "{error}");
    assert!(
        error.to_string().contains("drive 2 of 2 (/mnt/b)"),
        "{error}"
    );
    let broken = Faults {
        broken: vec![(0, UNIT..UNIT + 1)],
        ..Faults::default()
    };
    let error = read_with(broken).unwrap_err();
    assert!(
        error.to_string().contains("drive 2 of 2 (/mnt/b)"),
        "{error}"
    );
}

#[test]
fn a_short_share_cuts_the_read_there_and_not_elsewhere() {
    let short = Faults {
        short: 1.0,
        in_a_row: 1,
        ..Faults::default()
    };
    let bytes = u64::from(read_with(short).unwrap());
    // Each of the second drive's shares comes short: the first of them counts.
    assert!((UNIT..2 * UNIT).contains(&bytes), "{bytes}");
    assert_eq!(read_with(Faults::default()), Ok((8 * UNIT) as u32));
}
