//! The experts that were hot when a model last ran: the choices of its last laps, kept from
//! one run to the next in a small file beside the model, `NAME.experts`. It is only a hint:
//! whatever is wrong with the file is reported in one line and costs reads, never an answer.
//!
//! The file holds two lists of equal maximum length that are written in turns, each with a
//! number and a checksum, so that an interrupted write leaves the list before it. The file
//! gets its name when there is something in it. It is opened early, so that a process that
//! confines itself later can still write it.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use delayline_gguf::block_hash;
use delayline_plan::{ALIGN, ExpertLayer, ExpertRoute, RouteLap, RouteRow};

use crate::model_file::advise;

/// Number of laps kept. On recorded routes of real models the policy then holds the same
/// experts as after hundreds: a use counts half after ten laps.
const LAPS: usize = 64;

/// Maximum number of rows of a lap that is kept: prompts use nearly all experts of a layer,
/// which tells nothing.
const ROWS: usize = 8;

/// First bytes of a list; the last of them is the version.
const MAGIC: [u8; 8] = *b"DLHOTEX\x01";

/// Bytes before the choices: magic, number, model, layers, laps, words, a zero.
const HEAD: usize = 40;

/// Bytes of the checksum at the end.
const TAIL: usize = 8;

/// The choices of the last laps. A lap is kept as it is written: for each layer the number
/// of experts, and their indices.
#[derive(Clone, Debug, Default)]
pub struct HotLaps {
    /// By layer: its number of experts.
    counts: Vec<u32>,
    /// Maximum number of words kept.
    most: usize,
    laps: VecDeque<Box<[u16]>>,
    words: usize,
    /// Whether laps were added since it was written.
    is_new: bool,
}

impl HotLaps {
    /// An empty list for layers of `counts` experts of which a token uses `chosen`.
    pub fn new(counts: Vec<u32>, chosen: u32) -> Self {
        Self {
            most: LAPS * counts.len() * (1 + chosen as usize),
            counts,
            ..Self::default()
        }
    }

    /// Maximum bytes of memory of such a list, with what reading and writing it takes
    /// temporarily and in the page cache.
    pub fn bytes(layers: usize, chosen: u32) -> u64 {
        8 * place_len(LAPS * layers * (1 + chosen as usize)) as u64
    }

    /// Adds a lap that used these layers and experts, each once, in ascending order of
    /// layers. A lap of more than a few rows is ignored.
    pub fn add(&mut self, rows: usize, used: impl IntoIterator<Item = (u32, u32)>) {
        if !(1..=ROWS).contains(&rows) {
            return;
        }
        let mut lap = vec![0_u16];
        let (mut layer, mut at) = (0, 0);
        for (of, expert) in used {
            while layer < of {
                at = lap.len();
                lap.push(0);
                layer += 1;
            }
            lap[at] += 1;
            lap.push(expert as u16);
        }
        lap.resize(lap.len() + self.counts.len() - 1 - layer as usize, 0);
        self.push(lap.into());
        self.is_new = true;
    }

    fn push(&mut self, lap: Box<[u16]>) {
        self.words += lap.len();
        self.laps.push_back(lap);
        while self.laps.len() > LAPS || self.words > self.most {
            let gone = self.laps.pop_front().expect("a lap is not longer");
            self.words -= gone.len();
        }
    }

    /// Number of laps.
    pub fn len(&self) -> usize {
        self.laps.len()
    }

    /// Whether there are no laps.
    pub fn is_empty(&self) -> bool {
        self.laps.is_empty()
    }

    /// The laps in order, each as the experts of each layer.
    pub fn laps(&self) -> impl Iterator<Item = impl Iterator<Item = (u32, &[u16])>> {
        self.laps.iter().map(|lap| {
            let mut rest = &lap[..];
            (0..self.counts.len() as u32).map(move |layer| {
                let (experts, behind) = rest[1..].split_at(usize::from(rest[0]));
                rest = behind;
                (layer, experts)
            })
        })
    }

    /// The list as a route in which each lap generates a token.
    pub fn route(&self, layers: Vec<ExpertLayer>, chosen: u32) -> ExpertRoute {
        let row = |lap: &mut dyn Iterator<Item = (u32, &[u16])>| RouteRow {
            picks: lap
                .flat_map(|(layer, of)| of.iter().map(move |&expert| (layer as u16, expert)))
                .collect(),
        };
        let laps = self.laps().map(|mut lap| RouteLap {
            is_prompt: false,
            rows: vec![row(&mut lap)],
        });
        ExpertRoute {
            model: String::new(),
            layers,
            chosen,
            laps: laps.collect(),
        }
    }

    /// The bytes of the list as it is written, with its number, the hash of the model's
    /// headers and the checksum.
    fn to_bytes(&self, number: u64, model: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + 2 * self.words + TAIL);
        out.extend(MAGIC);
        out.extend(number.to_le_bytes());
        out.extend(model.to_le_bytes());
        for count in [self.counts.len(), self.laps.len(), self.words, 0] {
            out.extend((count as u32).to_le_bytes());
        }
        for word in self.laps.iter().flatten() {
            out.extend(word.to_le_bytes());
        }
        out.extend(block_hash(&out).to_le_bytes());
        out
    }

    /// Replaces the list by one that was written; returns its number. `None`, without a
    /// change, if it is damaged or of another model.
    fn read(&mut self, bytes: &[u8], model: u64) -> Option<u64> {
        let (number, words) = checked(bytes)?;
        let [of_model, shape] = [16, 24].map(|at| word64(bytes, at));
        let (layers, laps) = (shape as u32 as usize, (shape >> 32) as usize);
        if of_model != model || layers != self.counts.len() || laps > LAPS {
            return None;
        }
        let mut fresh = Self::new(self.counts.clone(), 0);
        fresh.most = self.most;
        let mut rest = &words[..];
        for _ in 0..laps {
            let mut len = 0;
            for &count in &self.counts {
                let chosen = usize::from(*rest.get(len)?);
                let experts = rest.get(len + 1..len + 1 + chosen)?;
                if experts.iter().any(|&expert| u32::from(expert) >= count) {
                    return None;
                }
                len += 1 + chosen;
            }
            let (lap, behind) = rest.split_at(len);
            fresh.push(lap.into());
            rest = behind;
        }
        if !rest.is_empty() {
            return None;
        }
        *self = fresh;
        Some(number)
    }
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    let word = bytes[at..at + 8].try_into().expect("eight bytes");
    u64::from_le_bytes(word)
}

/// A list's number and its words, if its checksum is right.
fn checked(bytes: &[u8]) -> Option<(u64, Vec<u16>)> {
    if bytes.len() < HEAD || bytes[..8] != MAGIC {
        return None;
    }
    let words = word64(bytes, 32) as u32 as usize;
    let end = HEAD + 2 * words;
    let sum = bytes.get(end..end + TAIL)?;
    if block_hash(&bytes[..end]).to_le_bytes() != sum {
        return None;
    }
    let words = bytes[HEAD..end].as_chunks().0.iter();
    let words = words.map(|word| u16::from_le_bytes(*word)).collect();
    Some((word64(bytes, 8), words))
}

/// Bytes in the file for a list of up to `words` words.
fn place_len(words: usize) -> usize {
    (HEAD + 2 * words + TAIL).next_multiple_of(ALIGN as usize)
}

/// The file beside a model, opened.
#[derive(Debug)]
pub struct HotnessFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// If there is none, the file is created by name when it is written.
    file: Option<File>,
    has_name: bool,
    /// Why it cannot be written.
    refused: Option<String>,
    /// Whether that was reported.
    is_told: bool,
    /// Number of the next list.
    number: u64,
}

/// The path of a model's list: `NAME.experts` beside its first file.
pub fn hotness_path(model: &Path) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(".experts");
    name.into()
}

impl HotnessFile {
    /// Opens the file of a model, or prepares to create it. If it cannot be opened, that is
    /// reported by `HotnessFile::write`.
    pub fn open(model: &Path) -> Self {
        let path = hotness_path(model);
        let open = |write: bool, flags| {
            let flags = flags | libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let mut options = OpenOptions::new();
            options.read(true).write(write).custom_flags(flags);
            options
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let state = match open(true, 0).open(&path) {
            Ok(file) => State {
                file: Some(file),
                has_name: true,
                ..State::default()
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => State {
                // Not every file system supports files without a name.
                file: open(true, libc::O_TMPFILE).open(folder).ok(),
                ..State::default()
            },
            Err(error) => State {
                file: open(false, 0).open(&path).ok(),
                has_name: true,
                refused: Some(error.to_string()),
                ..State::default()
            },
        };
        Self {
            path,
            state: Mutex::new(state),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it exists by its name.
    pub fn has_name(&self) -> bool {
        self.state().has_name
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the latest list into `laps`, for a model whose headers have this hash. Returns a
    /// notice if there is a file without such a list.
    pub(crate) fn read(&self, laps: &mut HotLaps, model: u64) -> Option<String> {
        let mut state = self.state();
        let place = place_len(laps.most);
        let mut bytes = vec![0; 2 * place + 1];
        let file = state.file.as_ref().filter(|_| state.has_name)?;
        let read = match file.metadata() {
            Ok(metadata) if metadata.is_file() => read_up_to(file, &mut bytes),
            Ok(_) => Err(io::Error::other("it is not a regular file")),
            Err(error) => Err(error),
        };
        // The page cache counts in the budget.
        advise(file, libc::POSIX_FADV_DONTNEED);
        let path = self.path.display();
        let len = match read {
            Ok(0) => return None,
            Ok(len) => len,
            Err(error) => {
                state.refused.get_or_insert_with(|| error.to_string());
                state.is_told = true;
                return Some(format!("{path} cannot be read: {error}"));
            }
        };
        let bytes = &bytes[..len];
        let places = [bytes, bytes.get(place..).unwrap_or_default()];
        if places.iter().all(|place| !place.starts_with(&MAGIC)) {
            state.refused = Some("another file has its name".into());
            state.is_told = true;
            return Some(format!(
                "{path} is not a list of hot experts, or is damaged, and is left alone: remove it \
                 to have a list kept there"
            ));
        }
        let mut latest = None;
        for place in places {
            let mut found = laps.clone();
            let number = found.read(place, model);
            if number > latest {
                (latest, *laps) = (number, found);
            }
        }
        state.number = latest.map_or(0, |number| number.wrapping_add(1));
        let why = match places.iter().any(|place| checked(place).is_some()) {
            true => "of another model",
            false => "damaged",
        };
        latest.is_none().then(|| {
            format!("{path} is {why} and is not used: which experts are hot is learned again")
        })
    }

    /// Writes the list, if laps were added since it was written.
    ///
    /// # Errors
    /// If it cannot be written, with the file's name; only once until it can.
    pub(crate) fn write(&self, laps: &mut HotLaps, model: u64) -> io::Result<()> {
        if !laps.is_new {
            return Ok(());
        }
        laps.is_new = false;
        let mut state = self.state();
        let outcome = self.put(&mut state, laps, model);
        let was_told = std::mem::replace(&mut state.is_told, outcome.is_err());
        match outcome {
            Err(error) if !was_told => {
                let path = self.path.display();
                let message = format!(
                    "{path} cannot be written ({error}): which experts are hot is learned again \
                     at each start; --no-hotness turns this off"
                );
                Err(io::Error::new(error.kind(), message))
            }
            _ => Ok(()),
        }
    }

    fn put(&self, state: &mut State, laps: &HotLaps, model: u64) -> io::Result<()> {
        if let Some(why) = &state.refused {
            return Err(io::Error::other(why.clone()));
        }
        if state.file.is_none() {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create_new(true);
            state.file = Some(options.open(&self.path)?);
            state.has_name = true;
        }
        let file = state.file.as_ref().expect("there is one now");
        let place = place_len(laps.most) as u64;
        let at = state.number % 2 * place;
        file.write_all_at(&laps.to_bytes(state.number, model), at)?;
        if !state.has_name {
            name(file, &self.path)?;
            state.has_name = true;
        }
        state.number = state.number.wrapping_add(1);
        Ok(())
    }
}

fn read_up_to(file: &File, out: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < out.len() {
        match file.read_at(&mut out[len..], len as u64)? {
            0 => break,
            got => len += got,
        }
    }
    Ok(len)
}

/// Gives a file without a name this path.
fn name(file: &File, path: &Path) -> io::Result<()> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(path.as_os_str().as_bytes())?;
    let (here, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    // SAFETY: both texts end in a zero and live until it returns.
    match unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), follow) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
