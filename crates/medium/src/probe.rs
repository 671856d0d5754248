//! Measures what a drive can do and what the system allows. It knows files and rates,
//! not models; it writes only to files of its own.

use crate::direct::{self, DirectIo};
use crate::{Access, Flash, FlashOptions, HUGE, Memory, OpenError, ProbeError, Rng, parts};
use delayline_line::{Buffer, Completion, Medium, Op};
use delayline_plan::ALIGN;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One measured rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadRate {
    /// Bytes of each read.
    pub read_len: u32,
    /// Reads at once.
    pub depth: usize,
    /// Bytes per second that arrived.
    pub rate_bytes_per_s: f64,
}

/// A measured rate of reads and writes in turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixedRate {
    /// Of 100 operations how many were writes.
    pub written_percent: u32,
    /// Bytes per second, read and written together, until all of them were on the drive.
    pub rate_bytes_per_s: f64,
}

/// Length and depth of operations at which a drive gives all it has.
const BEST: (u32, usize) = (4 << 20, 32);

/// The operations with which a drive is measured.
#[derive(Clone, Copy)]
struct Load {
    op_len: u32,
    depth: usize,
    written_percent: u32,
}

impl Load {
    fn reads(op_len: u32, depth: usize) -> Self {
        Self {
            op_len,
            depth,
            written_percent: 0,
        }
    }
}

/// Measures every combination of read length (bytes, multiples of [`ALIGN`])
/// and depth at random places of a file, each for `each`. Given a directory,
/// it measures a file of `scratch_len` bytes there, which is written for this
/// and removed.
///
/// # Errors
/// [`ProbeError`]: the file cannot be read, written, or is shorter than a read.
pub fn read_rates(
    path: &Path,
    scratch_len: u64,
    read_lens: &[u32],
    depths: &[usize],
    each: Duration,
) -> Result<Vec<ReadRate>, ProbeError> {
    let scratch = if path.is_dir() {
        Some(ScratchFile::write(path, scratch_len)?)
    } else {
        None
    };
    let path = scratch.as_ref().map_or(path, ScratchFile::path);
    let mut rates = Vec::new();
    for &depth in depths {
        for &read_len in read_lens {
            let rate_bytes_per_s = measure(&[path], Load::reads(read_len, depth), each, 1)?;
            rates.push(ReadRate {
                read_len,
                depth,
                rate_bytes_per_s,
            });
        }
    }
    Ok(rates)
}

/// Measures writes and mixtures of reads and writes of 4 MiB, 32 at once, at random
/// places of a scratch file, each for `each` and until a sync has ended.
///
/// # Errors
/// As [`read_rates`]; an operation of the drive that failed.
pub fn mixed_rates(
    scratch: &ScratchFile,
    written_percents: &[u32],
    each: Duration,
) -> Result<Vec<MixedRate>, ProbeError> {
    let rate = |&written_percent: &u32| {
        let (op_len, depth) = BEST;
        let load = Load {
            op_len,
            depth,
            written_percent,
        };
        Ok(MixedRate {
            written_percent,
            rate_bytes_per_s: measure(&[scratch.path()], load, each, 1)?,
        })
    };
    written_percents.iter().map(rate).collect()
}

/// The device rate in bytes per second: reads of 4 MiB, 32 at once, at random
/// places of the files, for `budget`. The best quarter of that time counts, because
/// others may use the drive too.
///
/// # Errors
/// As [`read_rates`].
pub fn device_rate<P: AsRef<Path>>(files: &[P], budget: Duration) -> Result<f64, ProbeError> {
    device_rate_within(files, budget, u64::MAX)
}

/// As [`device_rate`] in at most `memory` bytes, but at least 1 MiB: with fewer reads
/// at once, and with shorter ones if that leaves fewer than eight.
///
/// # Errors
/// As [`read_rates`].
pub fn device_rate_within<P: AsRef<Path>>(
    files: &[P],
    budget: Duration,
    memory: u64,
) -> Result<f64, ProbeError> {
    let read_len = if memory < 8 * u64::from(BEST.0) {
        1 << 20
    } else {
        BEST.0
    };
    let depth = (memory / u64::from(read_len)).clamp(1, BEST.1 as u64);
    measure(files, Load::reads(read_len, depth as usize), budget, 4)
}

/// The best of `slices` rates in succession, over `budget` together.
fn measure<P: AsRef<Path>>(
    files: &[P],
    load: Load,
    budget: Duration,
    slices: u32,
) -> Result<f64, ProbeError> {
    let Load { op_len, depth, .. } = load;
    let need = u64::from(op_len);
    let writes = load.written_percent > 0;
    let (memory, mut region) = Memory::new(need * depth as u64)?;
    let whole = 0..memory.len();
    memory.populate(whole.clone())?;
    if writes {
        // Some drives write zeros at no cost.
        let mut noise = vec![0; op_len as usize];
        Rng::new(need).fill(&mut noise);
        for index in 0..depth as u64 {
            memory.copy_in(index * need, &noise);
        }
    }
    let options = FlashOptions {
        depth,
        register: vec![whole],
        ..FlashOptions::default()
    };
    let mut flash = match writes {
        true => Flash::open_for_writing(files, memory, &options)?,
        false => Flash::open(files, memory, &options)?,
    };
    flash.drop_caches();
    let lengths = flash.lengths();
    let places: Vec<u64> = lengths.iter().map(|len| len / need).collect();
    let all: u64 = places.iter().sum();
    if all == 0 {
        return Err(ProbeError::TooSmall {
            have: lengths.iter().sum(),
            need,
        });
    }
    let mut rng = Rng::new(need);
    let mut chooser = Chooser {
        op_len,
        places,
        all,
        written_percent: load.written_percent,
        due: 0,
    };
    let mut free: Vec<Buffer> = (0..depth as u64)
        .map(|index| region.lend(index * need, op_len))
        .collect();
    let moved = |flash: &Flash| {
        let stats = flash.stats();
        stats.reads.bytes + stats.writes.bytes
    };
    let mut done = Vec::new();
    let mut best: f64 = 0.0;
    for _ in 0..slices.max(1) {
        let (start, before) = (Instant::now(), moved(&flash));
        // At least one full queue, however short the time.
        let mut count = 0;
        while count < depth || start.elapsed() < budget / slices.max(1) {
            for buffer in free.drain(..) {
                flash.submit(chooser.random(&mut rng, buffer));
            }
            count += wait(&mut flash, &mut done, &mut free)?;
        }
        if writes {
            while free.len() < depth {
                wait(&mut flash, &mut done, &mut free)?;
            }
            flash.submit(Op::sync(0, 0));
            flash.poll(true, &mut done);
            for completion in done.drain(..) {
                completion.result?;
            }
        }
        let bytes = moved(&flash) - before;
        best = best.max(bytes as f64 / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Waits for operations; returns how many have ended.
fn wait(
    flash: &mut Flash,
    done: &mut Vec<Completion>,
    free: &mut Vec<Buffer>,
) -> Result<usize, ProbeError> {
    flash.poll(true, done);
    let count = done.len();
    for Completion { buffer, result, .. } in done.drain(..) {
        result?;
        free.push(buffer);
    }
    Ok(count)
}

/// Chooses random operations.
struct Chooser {
    op_len: u32,
    /// Operations that fit in each part, and in all.
    places: Vec<u64>,
    all: u64,
    written_percent: u32,
    /// Percent of the next write that has come due.
    due: u32,
}

impl Chooser {
    fn random(&mut self, rng: &mut Rng, buffer: Buffer) -> Op {
        let mut place = rng.below(self.all);
        let mut part = 0;
        while place >= self.places[part] {
            place -= self.places[part];
            part += 1;
        }
        let offset = place * u64::from(self.op_len);
        self.due += self.written_percent;
        if self.due >= 100 {
            self.due -= 100;
            return Op::write(buffer.at(), part as u16, offset, buffer);
        }
        Op::read(buffer.at(), part as u16, offset, buffer)
    }
}

/// A file without a name to measure in, gone with this value however the process ends.
pub struct ScratchFile {
    /// Its name in `/proc`, which it has while it is open.
    path: PathBuf,
    _file: File,
}

impl ScratchFile {
    /// Writes `len` bytes, rounded up to whole pieces of 2 MiB, that no drive can
    /// compress.
    ///
    /// # Errors
    /// [`ProbeError::File`] when it cannot be created or written.
    pub fn write(dir: &Path, len: u64) -> Result<Self, ProbeError> {
        const PIECE: usize = HUGE as usize;
        let path = dir.join(format!(".delayline-probe-{}", std::process::id()));
        let failed = |what| {
            let path = path.clone();
            move |source| ProbeError::File { path, what, source }
        };
        let mut open = File::options();
        open.read(true).write(true).create_new(true).mode(0o600);
        let file = open
            .open(&path)
            .map_err(failed("cannot create a file to measure"))?;
        std::fs::remove_file(&path)
            .map_err(failed("cannot remove the name of a file to measure"))?;
        let _ = direct::set_direct(&file, true);
        // A page more than the piece leaves room to start at a page's border,
        // as direct I/O asks.
        let mut room = vec![0u8; PIECE + ALIGN as usize];
        let start = room.as_ptr().align_offset(ALIGN as usize);
        let piece = &mut room[start..start + PIECE];
        let mut rng = Rng::new(len);
        rng.fill(piece);
        let mut offset = 0;
        while offset < len {
            rng.fill(&mut piece[..4096]);
            if let Err(error) = file.write_all_at(piece, offset) {
                // Some file systems refuse direct I/O only at the first write.
                if error.raw_os_error() != Some(libc::EINVAL) {
                    return Err(failed("cannot write a file to measure")(error));
                }
                let off = direct::set_direct(&file, false);
                off.and_then(|()| file.write_all_at(piece, offset))
                    .map_err(failed("cannot write a file to measure"))?;
            }
            offset += PIECE as u64;
        }
        file.sync_all()
            .map_err(failed("cannot write a file to measure"))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Self { path, _file: file })
    }

    /// A path to it while it is open.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What the system allows for reading one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Whether io_uring may be used, else the system's reason.
    pub io_uring: Result<(), String>,
    /// Whether direct I/O on the file bypasses the page cache.
    pub direct_io: DirectIo,
    /// How much memory may be locked, in bytes; `None` for no limit.
    pub locked_memory_bytes: Option<u64>,
    /// Name of the file system, or its magic number in hexadecimal.
    pub file_system: String,
}

/// Examines `path`, a file.
///
/// # Errors
/// [`ProbeError`] when it cannot be opened or its file system cannot be asked.
pub fn findings(path: &Path) -> Result<Findings, ProbeError> {
    let mut events = Vec::new();
    let mut file = parts::open(path, false)?;
    let part = parts::ready(path.to_owned(), &mut file, Access::Buffered, &mut events)?;
    let (memory, _) = Memory::new(ALIGN)?;
    let options = FlashOptions {
        depth: 1,
        backend: crate::IoBackend::Uring,
        ..FlashOptions::default()
    };
    let io_uring = match Flash::open(&[path], memory, &options) {
        Ok(_) => Ok(()),
        Err(OpenError::NoUring { source }) => Err(source.to_string()),
        Err(error) => return Err(error.into()),
    };
    let failed = |source| ProbeError::File {
        path: path.to_owned(),
        what: "cannot ask its file system",
        source,
    };
    Ok(Findings {
        io_uring,
        direct_io: direct::examine(&file, part.len),
        locked_memory_bytes: locked_memory().map_err(failed)?,
        file_system: file_system(&file).map_err(failed)?,
    })
}

fn locked_memory() -> io::Result<Option<u64>> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel fills the struct, which lives on this stack.
    match unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } {
        0 => Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn file_system(file: &File) -> io::Result<String> {
    // SAFETY: all zeros is a value of this plain C struct.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct, which lives on this stack.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The type's width differs between systems; magic numbers have 32 bits.
    Ok(file_system_name(stat.f_type as u32))
}

fn file_system_name(magic: u32) -> String {
    let known = FILE_SYSTEMS.iter().find(|(number, _)| *number == magic);
    known.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned())
}

/// Magic numbers from `statfs(2)` and the kernel's `linux/magic.h`.
const FILE_SYSTEMS: [(u32, &str); 18] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlayfs"),
    (0x6573_5546, "fuse"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x2011_bab0, "exfat"),
    (0x4d44, "vfat"),
    (0x7366_746e, "ntfs3"),
    (0x7371_7368, "squashfs"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_line::Verb;

    #[test]
    fn file_systems_have_names() {
        for (magic, name) in [(0xef53, "ext4"), (0xff53_4d42, "cifs"), (0x1234, "0x1234")] {
            assert_eq!(file_system_name(magic), name);
        }
    }

    #[test]
    fn random_places_are_all_and_only_the_whole_ones() {
        let mut chooser = Chooser {
            op_len: 10,
            places: vec![2, 0, 3],
            all: 5,
            written_percent: 0,
            due: 0,
        };
        let mut rng = Rng::new(1);
        let mut seen: Vec<(u16, u64)> = (0..200)
            .map(|_| chooser.random(&mut rng, Buffer::empty()))
            .map(|op| (op.part, op.offset))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [(0, 0), (0, 10), (2, 0), (2, 10), (2, 20)]);
    }

    #[test]
    fn of_a_hundred_operations_so_many_are_writes() {
        let mut rng = Rng::new(1);
        for written_percent in [0, 43, 50, 100] {
            let mut chooser = Chooser {
                op_len: 10,
                places: vec![3],
                all: 3,
                written_percent,
                due: 0,
            };
            let ops = (0..100).map(|_| chooser.random(&mut rng, Buffer::empty()));
            let writes = ops.filter(|op| op.verb == Verb::Write).count();
            assert_eq!(writes, written_percent as usize);
        }
    }
}
