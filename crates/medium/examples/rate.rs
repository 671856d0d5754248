//! Prints the read rates of a drive: `rate FILE-OR-DIRECTORY`. A table over read
//! length and depth, then io_uring against threads, by turns.

use delayline_line::{Medium, Read, Slot};
use delayline_medium::{Access, Backend, Flash, Memory, Options};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("usage: rate FILE-OR-DIRECTORY")?;
    let path = Path::new(&path);
    let lens = [128 << 10, 1 << 20, 2 << 20, 4 << 20];
    let rows = delayline_medium::read_rates(
        path,
        1 << 30,
        &lens,
        &[1, 8, 32],
        Duration::from_millis(300),
    )?;
    println!("{:>9} {:>6} {:>9}", "read KiB", "depth", "GB/s");
    for row in rows {
        let rate = row.rate_bytes_per_s / 1e9;
        println!("{:>9} {:>6} {rate:>9.2}", row.read_len >> 10, row.depth);
    }
    if path.is_dir() {
        return Ok(());
    }
    println!("{:?}", delayline_medium::findings(path)?);
    let rate = delayline_medium::device_rate(&[path], Duration::from_secs(2))?;
    println!("device rate {:.2} GB/s", rate / 1e9);
    for _ in 0..5 {
        for (backend, access, register) in [
            (Backend::Uring, Access::Direct, false),
            (Backend::Uring, Access::Direct, true),
            (Backend::Threads, Access::Direct, false),
            (Backend::Uring, Access::Buffered, false),
            (Backend::Threads, Access::Buffered, false),
        ] {
            sequential(path, backend, access, register)?;
        }
    }
    Ok(())
}

/// Reads a gibibyte in order, 4 MiB at a time, and prints the rate and its cost.
fn sequential(
    path: &Path,
    backend: Backend,
    access: Access,
    register: bool,
) -> Result<(), Box<dyn Error>> {
    const LEN: u64 = 4 << 20;
    const DEPTH: u64 = 32;
    let memory = Memory::new(DEPTH * LEN)?;
    memory.populate(0..memory.len())?;
    let register = register.then_some(0..memory.len()).into_iter().collect();
    let options = Options {
        depth: DEPTH as usize,
        backend,
        access,
        register,
    };
    let mut flash = Flash::open(&[path], memory, &options)?;
    let total = flash.lengths()[0].min(1 << 30) / LEN;
    let (mut sent, mut got, mut done) = (0, 0, Vec::new());
    let mut free: Vec<Slot> = (0..DEPTH)
        .map(|index| Slot::claim(index * LEN, LEN as u32))
        .collect();
    while got < total {
        while sent < total
            && let Some(slot) = free.pop()
        {
            flash.submit(Read {
                id: sent,
                part: 0,
                offset: sent * LEN,
                slot,
            });
            sent += 1;
        }
        flash.poll(true, &mut done);
        for completion in done.drain(..) {
            completion.result?;
            free.push(completion.slot);
            got += 1;
        }
    }
    println!(
        "{:.2} GB/s  {flash}",
        flash.traffic().rate_bytes_per_s() / 1e9
    );
    Ok(())
}
