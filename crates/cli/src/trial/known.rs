//! Remembers which files have been tried, by name, length, times and header: one small file
//! for each in the user's cache folder, rewritten when a model has changed. Without such a
//! folder nothing is remembered.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use delayline_engine::{ModelFile, Options, Way, available_bytes};
use delayline_llama::Rehearsed;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::args::EngineArgs;

/// The entry of a model, which may be written or not.
pub struct Entry {
    /// Its file; none without a cache folder.
    path: Option<PathBuf>,
    /// Hash of the model's files as they are now, and of the program.
    id: String,
}

impl Entry {
    /// The entry of a model as it is now, to be run with these types of KV cache and
    /// attention.
    pub fn of(model: &Path, file: &ModelFile, args: &EngineArgs) -> Self {
        let model = model.canonicalize().unwrap_or_else(|_| model.to_owned());
        let context = format!("{:?} {:?}", args.kv_type, args.flash_attn);
        let name = [model.as_os_str().as_encoded_bytes(), context.as_bytes()].concat();
        let path =
            cache_folder().map(|folder| folder.join(format!("tried/{:032x}", xxh3_128(&name))));
        Self {
            path,
            id: identity(file),
        }
    }

    /// Whether this machine has tried the model as it is now, in the way in which
    /// `options` will run it.
    pub fn holds(&self, weight_bytes: u64, options: &Options) -> bool {
        let Some(rehearsed) = self.read() else {
            return false;
        };
        let budget = options.memory.or_else(available_bytes);
        let may_be_native = match options.way {
            Way::Native => true,
            Way::Streamed | Way::Mmap => false,
            // Only if all weights fit into memory.
            Way::Auto => budget.is_none_or(|budget| {
                budget >= weight_bytes && budget >= rehearsed.native_from_bytes
            }),
        };
        rehearsed.native || !may_be_native
    }

    fn read(&self) -> Option<Rehearsed> {
        let text = std::fs::read_to_string(self.path.as_ref()?).ok()?;
        let mut words = text.split_whitespace();
        if words.next()? != self.id {
            return None;
        }
        Some(Rehearsed {
            native: words.next()? == "native",
            native_from_bytes: words.next()?.parse().ok()?,
        })
    }

    /// Writes the entry after a trial that succeeded.
    ///
    /// # Errors
    /// When the cache folder cannot be written.
    pub fn remember(&self, rehearsed: Rehearsed) -> Result<()> {
        let path = self.path.as_ref().context("there is no cache folder")?;
        let folder = path.parent().expect("a file in the folder");
        let way = match rehearsed.native {
            true => "native",
            false => "streamed",
        };
        let text = format!("{} {way} {}\n", self.id, rehearsed.native_from_bytes);
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            io::Write::write_all(&mut file, text.as_bytes())?;
            file.persist(path)?;
            Ok(())
        };
        write().with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// The folder for what can be computed again: `$XDG_CACHE_HOME/delayline`, by the XDG Base
/// Directory Specification.
pub fn cache_folder() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = of("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(of("HOME")?.join(".cache")))?;
    Some(cache.join("delayline"))
}

/// A hash of the fingerprints and headers of the model's files, and of the program.
fn identity(file: &ModelFile) -> String {
    let mut hash = Xxh3::new();
    for part in file.parts() {
        hash.update(&part.header);
        for file in &part.files {
            hash.update(format!("{:?}", file.fingerprint).as_bytes());
        }
    }
    // Another build may bring another llama.cpp.
    let program = std::env::current_exe().and_then(std::fs::metadata);
    if let Ok(program) = program {
        let written = program.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        hash.update(format!("{} {written:?}", program.len()).as_bytes());
    }
    format!("{:032x}", hash.digest128())
}
