//! The contract of a medium, held by all media of this crate.

mod contract;

use contract::{ALIGN, DEPTH, Make, Model, dram, simulated};
use delayline_line::Medium;
use delayline_medium::{
    Access, Crash, Dram, Drive, Faults, Faulty, Flash, FlashOptions, IoBackend, Memory, Stripe,
    VirtualClock, shares, stripes,
};
use delayline_testing::cannot_run;
use std::sync::Arc;

/// The media under test.
const MEDIA: [(&str, Make); 17] = [
    ("flash, io_uring, direct", |model, memory, _| {
        flash(model, memory, IoBackend::Uring, Access::Direct, false)
    }),
    ("flash, io_uring, registered", |model, memory, _| {
        flash(model, memory, IoBackend::Uring, Access::Direct, true)
    }),
    ("flash, io_uring, buffered", |model, memory, _| {
        flash(model, memory, IoBackend::Uring, Access::Buffered, false)
    }),
    ("flash, threads, direct", |model, memory, _| {
        flash(model, memory, IoBackend::Threads, Access::Direct, false)
    }),
    ("flash, threads, buffered", |model, memory, _| {
        flash(model, memory, IoBackend::Threads, Access::Buffered, false)
    }),
    (
        "flash, io_uring, direct, for writing",
        |model, memory, _| written(model, memory, IoBackend::Uring, Access::Direct),
    ),
    (
        "flash, io_uring, buffered, for writing",
        |model, memory, _| written(model, memory, IoBackend::Uring, Access::Buffered),
    ),
    ("flash, threads, direct, for writing", |model, memory, _| {
        written(model, memory, IoBackend::Threads, Access::Direct)
    }),
    ("crash", |model, memory, _| {
        Box::new(Crash::new(model.bytes.clone(), memory.clone(), DEPTH, 512))
    }),
    ("crash with delays", |model, memory, _| {
        let faults = Faults {
            delay_polls: 5,
            reorder: true,
            ..Faults::default()
        };
        let crash = Crash::new(model.bytes.clone(), memory.clone(), DEPTH, 4096);
        Box::new(Faulty::new(crash, faults, 7))
    }),
    ("dram", |model, memory, _| Box::new(dram(model, memory))),
    ("faulty without faults", |model, memory, _| {
        Box::new(Faulty::new(dram(model, memory), Faults::default(), 1))
    }),
    ("faulty with delays", |model, memory, _| {
        let faults = Faults {
            delay_polls: 5,
            delay_ns: 1000,
            reorder: true,
            ..Faults::default()
        };
        let clock = VirtualClock::new();
        Box::new(Faulty::new(simulated(model, memory, &clock), faults, 2).in_time(clock))
    }),
    ("simulated", |model, memory, _| {
        Box::new(simulated(model, memory, &VirtualClock::new()))
    }),
    ("stripe of one", |model, memory, _| {
        stripe(model, memory, 1, ALIGN)
    }),
    ("stripe of three", |model, memory, _| {
        stripe(model, memory, 3, 2 * ALIGN)
    }),
    ("stripe of three with delays", |model, memory, _| {
        let faults = Faults {
            delay_polls: 5,
            reorder: true,
            ..Faults::default()
        };
        let drives = drives(model, memory, 3, ALIGN).into_iter().zip(0..);
        let shaky = drives.map(|(drive, seed)| Drive {
            medium: Faulty::new(drive.medium, faults.clone(), seed),
            name: drive.name,
        });
        Box::new(Stripe::new(shaky.collect(), ALIGN, DEPTH))
    }),
];

fn stripe(model: &Model, memory: &Arc<Memory>, count: u64, unit: u64) -> Box<dyn Medium> {
    Box::new(Stripe::new(drives(model, memory, count, unit), unit, DEPTH))
}

/// Drives that take fewer reads than the stripe does, with their shares of the model.
fn drives(model: &Model, memory: &Arc<Memory>, count: u64, unit: u64) -> Vec<Drive<Dram>> {
    let mut parts = vec![vec![Vec::new(); model.bytes.len()]; count as usize];
    for (part, bytes) in model.bytes.iter().enumerate() {
        let mut from = 0;
        for (drive, at, len) in stripes(unit, count, 0, bytes.len() as u64) {
            assert_eq!(
                parts[drive][part].len() as u64,
                at,
                "stripes follow each other"
            );
            parts[drive][part].extend(&bytes[from..from + len as usize]);
            from += len as usize;
        }
        for (drive, len) in shares(unit, count, bytes.len() as u64)
            .into_iter()
            .enumerate()
        {
            assert_eq!(parts[drive][part].len() as u64, len);
        }
    }
    let drive = |(number, parts)| Drive {
        medium: Dram::new(parts, memory.clone(), 3),
        name: format!("drive {number}"),
    };
    (0..).zip(parts).map(drive).collect()
}

fn flash(
    model: &Model,
    memory: &Arc<Memory>,
    backend: IoBackend,
    access: Access,
    register: bool,
) -> Box<dyn Medium> {
    let options = options(memory, backend, access, register);
    Box::new(Flash::open(&model.paths, memory.clone(), &options).unwrap())
}

fn written(
    model: &Model,
    memory: &Arc<Memory>,
    backend: IoBackend,
    access: Access,
) -> Box<dyn Medium> {
    let options = options(memory, backend, access, true);
    Box::new(Flash::open_for_writing(&model.paths, memory.clone(), &options).unwrap())
}

fn options(memory: &Memory, backend: IoBackend, access: Access, register: bool) -> FlashOptions {
    if backend == IoBackend::Uring && !has_uring() {
        cannot_run("io_uring is not available; threads stand in for it");
        return options(memory, IoBackend::Threads, access, false);
    }
    // Half of the memory, so that some buffers are registered and some are not.
    let register = register
        .then_some(0..memory.len() / 2 / ALIGN * ALIGN)
        .into_iter()
        .collect();
    FlashOptions {
        depth: DEPTH,
        backend,
        access,
        register,
    }
}

fn has_uring() -> bool {
    let (memory, _) = Memory::new(ALIGN).unwrap();
    let options = FlashOptions {
        backend: IoBackend::Uring,
        ..FlashOptions::default()
    };
    Flash::open(&[std::env::current_exe().unwrap()], memory, &options).is_ok()
}
