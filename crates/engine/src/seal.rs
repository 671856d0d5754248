//! What the bytes of a model are checked against: the seal beside each part, or the hashes
//! of the first reading. Sums are kept for each read of an extent, hashes of blocks for
//! everything else.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use delayline_gguf::{
    SEAL_BLOCK, SEAL_HEAD, SealCheck, SealError, Sealer, block_hash, is_seal, seal_len,
};
use delayline_medium::Checks;

use crate::atlas::Atlas;
use crate::error::Error;
use crate::model_file::{ModelFile, Part, PartFile, advise};
use crate::source::READ_LEN;

/// The path of the seal of a file: `NAME.seal` beside it.
pub fn seal_path(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".seal");
    name.into()
}

/// Whether there is a seal beside this file, valid or not.
pub fn has_seal(part: &Path) -> bool {
    let mut head = [0; SEAL_HEAD as usize];
    let read = File::open(seal_path(part)).and_then(|file| file.read_exact_at(&mut head, 0));
    read.is_ok() && is_seal(&head)
}

/// Reads a whole part and returns the bytes of its seal. `progress` is called with the
/// bytes read so far, and returns false to interrupt.
///
/// # Errors
/// If the part cannot be read; `Interrupted` if `progress` returned false.
pub fn seal_of(part: &Part, progress: &mut dyn FnMut(u64) -> bool) -> io::Result<Vec<u8>> {
    let [PartFile { file, .. }] = &part.files[..] else {
        let message = "a striped model has no seal: seal the model that it was made from";
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    };
    let mut sealer = Sealer::default();
    read_whole(file, part.len, std::convert::identity, |at, bytes| {
        sealer.update(bytes);
        match progress(at + bytes.len() as u64) {
            true => Ok(()),
            false => Err(io::ErrorKind::Interrupted.into()),
        }
    })?;
    Ok(sealer.finish())
}

/// Reads the first `len` bytes of a file in whole blocks and calls `take` with the offset
/// and bytes of each piece. Leaves nothing in the page cache, since it is read only once.
fn read_whole<E>(
    file: &File,
    len: u64,
    failed: impl Fn(io::Error) -> E,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut bytes = vec![0; 4 << 20];
    let mut at = 0;
    while at < len {
        let want = bytes.len().min((len - at) as usize);
        let piece = &mut bytes[..want];
        file.read_exact_at(piece, at).map_err(&failed)?;
        advise(file, libc::POSIX_FADV_DONTNEED);
        take(at, piece)?;
        at += want as u64;
    }
    Ok(())
}

/// The checks for a model whose laps are laid out by `atlas`, with the hashes of seals; and
/// the parts without a seal, whose hashes are those of the first reading.
///
/// # Errors
/// If a seal is damaged, or of another file.
pub fn checks(file: &ModelFile, atlas: &Atlas) -> Result<(Checks, Vec<String>), Error> {
    let mut checks = Checks::new(file.part_lens(), block_hash);
    for extent in &atlas.cut.extents {
        for from in (0..extent.len).step_by(READ_LEN as usize) {
            let len = (extent.len - from).min(u64::from(READ_LEN)) as u32;
            checks.add_whole(extent.part, extent.offset + from, len);
        }
    }
    checks.add_scattered(atlas.layout.scattered(file));
    let mut unsealed = Vec::new();
    for (number, part) in (0..).zip(file.parts()) {
        match Seal::open(part)? {
            Some(seal) => checks
                .know(number, |blocks, out| seal.hashes(blocks, out))
                .map_err(|error| unsound(&seal.path, error.to_string()))?,
            None => unsealed.push(part.path.display().to_string()),
        }
    }
    Ok((checks, unsealed))
}

/// Reads all parts that have seals and checks them, before llama.cpp reads the model
/// unchecked. Returns whether all have one.
///
/// # Errors
/// If a seal is damaged, or a part differs from what was sealed.
pub fn check_whole(file: &ModelFile) -> Result<bool, Error> {
    let mut all = true;
    for part in file.parts() {
        // A striped model has no seal.
        let (Some(seal), [PartFile { file, .. }]) = (Seal::open(part)?, &part.files[..]) else {
            all = false;
            continue;
        };
        let failed = |message: String| Error::Open {
            path: part.path.clone(),
            message,
        };
        let unread = |error: io::Error| failed(error.to_string());
        let mut hashes = Vec::new();
        read_whole(file, part.len, unread, |from, bytes| {
            let first = from / SEAL_BLOCK;
            let blocks = first..first + (bytes.len() as u64).div_ceil(SEAL_BLOCK);
            hashes.clear();
            seal.hashes(blocks, &mut hashes)
                .map_err(|error| unsound(&seal.path, error.to_string()))?;
            let read = bytes.chunks(SEAL_BLOCK as usize);
            if let Some(at) = read
                .zip(&hashes)
                .position(|(b, hash)| block_hash(b) != *hash)
            {
                let at = from + at as u64 * SEAL_BLOCK;
                return Err(failed(format!(
                    "other bytes are at {at} than its seal tells: fetch the model again, or check \
                     the drive; if the model was changed on purpose, make its seal again with \
                     `delayline seal`"
                )));
            }
            Ok(())
        })?;
    }
    Ok(all)
}

/// A seal whose checksum is right.
struct Seal {
    path: PathBuf,
    file: File,
}

impl Seal {
    /// Opens and checks the seal of a part; `None` if there is none.
    fn open(part: &Part) -> Result<Option<Self>, Error> {
        let path = seal_path(&part.path);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| unsound(&path, error.to_string()))?,
        };
        let read = || -> io::Result<SealCheck> {
            let mut check = SealCheck::new(part.len);
            let mut bytes = vec![0; 256 << 10];
            // One byte more than a seal of this file has makes the check fail.
            let mut rest = (&file).take(seal_len(part.len) + 1);
            loop {
                match rest.read(&mut bytes)? {
                    0 => return Ok(check),
                    got => check.update(&bytes[..got]),
                }
            }
        };
        let check = read().map_err(|error| unsound(&path, error.to_string()))?;
        match check.finish() {
            Ok(()) => Ok(Some(Self { path, file })),
            Err(SealError::IsModel) => Ok(None),
            Err(error) => Err(unsound(&path, error.to_string())),
        }
    }

    fn hashes(&self, blocks: Range<u64>, out: &mut Vec<u64>) -> io::Result<()> {
        let mut bytes = vec![0; 8 * (blocks.end - blocks.start) as usize];
        self.file
            .read_exact_at(&mut bytes, SEAL_HEAD + 8 * blocks.start)?;
        let words = bytes.as_chunks().0.iter();
        out.extend(words.map(|word| u64::from_le_bytes(*word)));
        Ok(())
    }
}

impl Drop for Seal {
    fn drop(&mut self) {
        // The page cache counts in the budget.
        advise(&self.file, libc::POSIX_FADV_DONTNEED);
    }
}

fn unsound(path: &Path, message: String) -> Error {
    Error::Seal {
        path: path.to_owned(),
        message,
    }
}
