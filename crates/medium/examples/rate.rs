//! Prints the read rates of a drive: `rate FILE-OR-DIRECTORY`. A table over read
//! length and depth, then io_uring against threads, by turns.

use delayline_line::{Buffer, Medium, Op};
use delayline_medium::{Access, Flash, FlashOptions, IoBackend, Memory};
use std::collections::BTreeMap;
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
    let mut ways = [
        (IoBackend::Uring, Access::Direct, false),
        (IoBackend::Uring, Access::Direct, true),
        (IoBackend::Threads, Access::Direct, false),
        (IoBackend::Uring, Access::Buffered, false),
        (IoBackend::Threads, Access::Buffered, false),
    ];
    // By turns and each as often in every place: a drive shared with others
    // changes its pace within seconds.
    let mut rates = BTreeMap::<String, Vec<f64>>::new();
    for _ in 0..2 * ways.len() {
        for (backend, access, register) in ways {
            let (name, rate) = sequential(path, backend, access, register)?;
            rates.entry(name).or_default().push(rate / 1e9);
        }
        ways.rotate_left(1);
    }
    println!("{:>9} {:>6}", "mean GB/s", "best");
    for (name, rates) in rates {
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        let best = rates.iter().copied().fold(0.0, f64::max);
        println!("{mean:>9.2} {best:>6.2}  {name}");
    }
    Ok(())
}

/// Reads half a gibibyte in order, 4 MiB at a time: how, and bytes per second.
fn sequential(
    path: &Path,
    backend: IoBackend,
    access: Access,
    register: bool,
) -> Result<(String, f64), Box<dyn Error>> {
    const LEN: u64 = 4 << 20;
    const DEPTH: u64 = 32;
    let (memory, mut region) = Memory::new(DEPTH * LEN)?;
    memory.populate(0..memory.len())?;
    let register = register.then_some(0..memory.len()).into_iter().collect();
    let options = FlashOptions {
        depth: DEPTH as usize,
        backend,
        access,
        register,
    };
    let mut flash = Flash::open(&[path], memory, &options)?;
    let total = flash.lengths()[0].min(512 << 20) / LEN;
    let (mut sent, mut got, mut done) = (0, 0, Vec::new());
    let mut free: Vec<Buffer> = (0..DEPTH)
        .map(|index| region.lend(index * LEN, LEN as u32))
        .collect();
    while got < total {
        while sent < total
            && let Some(buffer) = free.pop()
        {
            flash.submit(Op::read(sent, 0, sent * LEN, buffer));
            sent += 1;
        }
        flash.poll(true, &mut done);
        for completion in done.drain(..) {
            completion.result?;
            free.push(completion.buffer);
            got += 1;
        }
    }
    Ok((flash.to_string(), flash.stats().rate_bytes_per_s()))
}
