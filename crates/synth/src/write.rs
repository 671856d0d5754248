//! Writes a laid-out model to disk: large sequential writes to files with temporary names,
//! which are renamed when all files are complete.

use crate::Error;
use crate::layout::{Part, lay_out};
use crate::quant::{Quant, Role};
use crate::routing::{Fill, Routing, RowFill};
use crate::shape::Blueprint;
use crate::weights::Pool;
use delayline_gguf::{Sealer, Tensor, TensorType, part_path};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum size of a write, and size of the buffer for smaller ones, in bytes.
const WRITE_BYTES: usize = 4 << 20;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The files, in the order of parts.
    pub paths: Vec<PathBuf>,
    /// Their total length in bytes.
    pub bytes: u64,
    /// Total number of tensors.
    pub tensors: usize,
    /// The content of each file's seal, for a file beside it.
    pub seals: Vec<Vec<u8>>,
}

/// Writes a model of this shape to `out`, with weights that depend only on the shape, `quant`
/// and `seed`. `progress` is called with the bytes written and the total.
///
/// # Errors
/// The shape makes no valid file, or writing fails; then no file is left behind.
pub fn write(
    model: impl Into<Blueprint>,
    quant: Quant,
    seed: u64,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, Error> {
    let model = model.into();
    let parts = lay_out(&model, quant, None)?;
    let filling = Filling::new(&model, &parts, seed);
    write_parts(parts, filling, vec![out.to_owned()], progress)
}

/// Writes the same model in `parts` parts. For an `out` of `NAME.gguf` they are
/// `NAME-00001-of-00003.gguf` and so on, in the same folder.
///
/// # Errors
/// As for [`write()`], and if there are fewer tensors than parts.
pub fn write_split(
    model: impl Into<Blueprint>,
    quant: Quant,
    seed: u64,
    parts: u16,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, Error> {
    let stem = match out.extension() {
        Some(extension) if extension == "gguf" => out.with_extension(""),
        _ => out.to_owned(),
    };
    let paths = (0..parts).map(|no| part_path(&stem, no, parts)).collect();
    let model = model.into();
    let parts = lay_out(&model, quant, Some(parts))?;
    let filling = Filling::new(&model, &parts, seed);
    write_parts(parts, filling, paths, progress)
}

fn write_parts(
    parts: Vec<Part>,
    mut filling: Filling,
    paths: Vec<PathBuf>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, Error> {
    let bytes = parts.iter().map(|part| part.layout.file_len).sum();
    let mut before = 0;
    let (mut temporaries, mut seals) = (Vec::new(), Vec::new());
    for (part, path) in parts.iter().zip(&paths) {
        let mut sink = Sink::create(path, part.layout.file_len)?;
        write_part(part, &mut sink, &mut filling, &mut |done| {
            progress(before + done, bytes);
        })?;
        before += sink.written;
        let (temporary, seal) = sink.finish()?;
        temporaries.push(temporary);
        seals.push(seal);
    }
    for (renamed, temporary) in temporaries.into_iter().enumerate() {
        temporary.rename().inspect_err(|_| {
            // A model with a missing part is useless.
            for path in &paths[..renamed] {
                let _ = fs::remove_file(path);
            }
        })?;
    }
    Ok(Summary {
        paths,
        bytes,
        tensors: parts.iter().map(|part| part.roles.len()).sum(),
        seals,
    })
}

fn write_part(
    part: &Part,
    sink: &mut Sink,
    filling: &mut Filling,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    sink.write(&part.layout.header)?;
    for (tensor, &role) in part.layout.tensors.iter().zip(&part.roles) {
        sink.pad_to(tensor.at)?;
        let fill = filling.routing.as_ref().and_then(|it| it.fill(tensor));
        let fill = fill.or(match role {
            Role::Ones => Some(Fill::Constant(1.0)),
            Role::Decay => Some(Fill::Constant(-1.0)),
            _ => None,
        });
        match fill {
            Some(Fill::Constant(value)) => {
                sink.write(&value.to_le_bytes().repeat(tensor.len as usize / 4))?;
            }
            Some(Fill::Rows(rows)) => write_rows(tensor, &rows, sink, progress)?,
            None => {
                for piece in filling.pools.take(tensor) {
                    for chunk in piece.chunks(WRITE_BYTES) {
                        sink.write(chunk)?;
                        progress(sink.written);
                    }
                }
            }
        }
    }
    sink.pad_to(part.layout.file_len)?;
    progress(sink.written);
    Ok(())
}

fn write_rows(
    tensor: &Tensor,
    rows: &RowFill,
    sink: &mut Sink,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut values = vec![0.0; tensor.dims[0] as usize];
    let mut bytes = Vec::with_capacity(WRITE_BYTES);
    let count = tensor.dims[1..].iter().product();
    for row in 0..count {
        rows.put(tensor.ty, row, &mut values, &mut bytes);
        if bytes.len() >= WRITE_BYTES || row + 1 == count {
            sink.write(&bytes)?;
            progress(sink.written);
            bytes.clear();
        }
    }
    Ok(())
}

/// What the tensors of a model are filled from.
struct Filling {
    pools: Pools,
    routing: Option<Routing>,
}

impl Filling {
    fn new(model: &Blueprint, parts: &[Part], seed: u64) -> Filling {
        let routing = match model {
            Blueprint::Routed(shape) => Some(Routing::new(shape, seed)),
            Blueprint::Shape(_) | Blueprint::Arch(_) | Blueprint::Sized(_) => None,
        };
        let pools = Pools::new(parts, seed);
        Filling { pools, routing }
    }
}

/// The random weights, of one kind for each type and length of row.
struct Pools {
    pools: HashMap<(TensorType, u64), Pool>,
}

impl Pools {
    fn new(parts: &[Part], seed: u64) -> Pools {
        let mut wanted: HashMap<_, u64> = HashMap::new();
        for part in parts {
            for (tensor, &role) in part.layout.tensors.iter().zip(&part.roles) {
                if !matches!(role, Role::Ones | Role::Decay) {
                    *wanted.entry((tensor.ty, tensor.dims[0])).or_default() += tensor.len;
                }
            }
        }
        let wanted = wanted.into_iter();
        let pools = wanted.map(|((ty, row), len)| ((ty, row), Pool::new(ty, row, len, seed)));
        Pools {
            pools: pools.collect(),
        }
    }

    fn take(&mut self, tensor: &Tensor) -> impl Iterator<Item = &[u8]> {
        let key = (tensor.ty, tensor.dims[0]);
        let pool = self.pools.get_mut(&key);
        pool.expect("every tensor was counted").take(tensor.len)
    }
}

/// A file with a temporary name that is being written.
struct Sink {
    file: BufWriter<File>,
    temporary: Temporary,
    sealer: Sealer,
    needed: u64,
    written: u64,
}

impl Sink {
    fn create(target: &Path, needed: u64) -> Result<Sink, Error> {
        let (temporary, file) = Temporary::create(target)?;
        Ok(Sink {
            // Collects small tensors; larger writes bypass the buffer.
            file: BufWriter::with_capacity(WRITE_BYTES, file),
            temporary,
            sealer: Sealer::default(),
            needed,
            written: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let result = self.file.write_all(bytes);
        result.map_err(|error| self.failed(error))?;
        self.sealer.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad_to(&mut self, at: u64) -> Result<(), Error> {
        let padding = at - self.written;
        self.write(&vec![0; padding as usize])
    }

    fn failed(&self, error: io::Error) -> Error {
        let on_disk = self.written - self.file.buffer().len() as u64;
        Error::writing(&self.temporary.target, self.needed, on_disk, error)
    }

    /// Syncs the file, where a full disk may first be reported; returns its temporary name
    /// and its seal.
    fn finish(mut self) -> Result<(Temporary, Vec<u8>), Error> {
        let result = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all());
        result.map_err(|error| self.failed(error))?;
        Ok((self.temporary, self.sealer.finish()))
    }
}

/// A temporary file that is removed when dropped, unless it was renamed to its target.
struct Temporary {
    path: PathBuf,
    target: PathBuf,
    done: bool,
}

impl Temporary {
    fn create(target: &Path) -> Result<(Temporary, File), Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let Some(name) = target.file_name() else {
            return Err(Error::NoFileName {
                path: target.to_owned(),
            });
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        hidden.push(format!(".{}-{unique}.part", std::process::id()));
        let path = target.with_file_name(hidden);
        let file = File::create_new(&path).map_err(|source| Error::Io {
            path: target.to_owned(),
            source,
        })?;
        let temporary = Temporary {
            path,
            target: target.to_owned(),
            done: false,
        };
        Ok((temporary, file))
    }

    fn rename(mut self) -> Result<(), Error> {
        fs::rename(&self.path, &self.target).map_err(|source| Error::Io {
            path: self.target.clone(),
            source,
        })?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.done {
            // It may be gone already; an error in `drop` could not be reported.
            let _ = fs::remove_file(&self.path);
        }
    }
}
