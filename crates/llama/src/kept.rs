//! What a context's memory holds of each sequence: cutting a sequence back, sharing it,
//! whether its attention window is complete, and snapshots of recurrent states. Knows only
//! numbers of tokens, not which tokens they are.

use crate::context::Context;
use crate::piece::Piece;
use crate::sys;

/// Distance in tokens between snapshots of a sequence.
const SNAPSHOT_TOKENS: u32 = 64;

/// Number of snapshots per sequence for which there is room: one at the end of its prompt,
/// one after that.
const SNAPSHOTS: u64 = 2;

/// Bytes of a snapshot besides the state: its headers, and the rounding of the size of
/// states, which llama.cpp logs in MiB with two decimals.
const HEADERS: u64 = 16 << 10;

/// Room for the snapshots of `seqs` sequences whose states together take `states`, in bytes.
pub(crate) fn snapshot_room(states: u64, seqs: u32) -> u64 {
    SNAPSHOTS * (states + u64::from(seqs) * HEADERS)
}

/// llama.cpp's `LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY`: only the part of a state that cannot
/// be cut, without attention's cells.
const PARTIAL_ONLY: u32 = 1;

/// The state of a sequence after its first `tokens` tokens.
struct Snapshot {
    seq: u32,
    tokens: u32,
    /// Whether it was taken at the end of a prompt.
    at_prompt: bool,
    bytes: Vec<u8>,
}

/// Snapshots of all sequences, in the order in which they were taken.
#[derive(Default)]
pub(crate) struct Snapshots {
    room: u64,
    list: Vec<Snapshot>,
}

impl Snapshots {
    /// An empty list with room for so many bytes.
    pub fn new(room: u64) -> Self {
        Self {
            room,
            list: Vec::new(),
        }
    }

    /// Maximum size of all snapshots, in bytes.
    pub fn room(&self) -> u64 {
        self.room
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Drops a sequence's snapshots after its first `tokens` tokens.
    fn cut(&mut self, seq: u32, tokens: u32) {
        self.list
            .retain(|kept| kept.seq != seq || kept.tokens <= tokens);
    }

    /// Index of a sequence's longest snapshot of at most `tokens` tokens.
    fn last(&self, seq: u32, tokens: u32) -> Option<usize> {
        let all = self.list.iter().enumerate();
        let fits = all.filter(|(_, kept)| kept.seq == seq && kept.tokens <= tokens);
        fits.max_by_key(|(_, kept)| kept.tokens).map(|(at, _)| at)
    }

    /// Makes room for a snapshot of `len` bytes by dropping first this sequence's snapshots
    /// that were not taken at the end of a prompt, then the oldest of all. False if it can
    /// never fit.
    fn make_room(&mut self, seq: u32, len: u64) -> bool {
        if len > self.room {
            return false;
        }
        let taken = |list: &[Snapshot]| -> u64 {
            let bytes = list.iter().map(|kept| kept.bytes.len() as u64);
            bytes.sum()
        };
        while taken(&self.list) + len > self.room {
            let own = |kept: &Snapshot| kept.seq == seq && !kept.at_prompt;
            let oldest = self.list.iter().position(own).unwrap_or(0);
            self.list.remove(oldest);
        }
        true
    }

    /// Copies the snapshot of `from` after `tokens` tokens to sequence `to`.
    fn copy(&mut self, from: u32, to: u32, tokens: u32) {
        let Some(at) = self.last(from, tokens) else {
            return;
        };
        let bytes = self.list[at].bytes.clone();
        if self.make_room(to, bytes.len() as u64) {
            let at_prompt = false;
            self.add(Snapshot {
                seq: to,
                tokens,
                at_prompt,
                bytes,
            });
        }
    }

    fn add(&mut self, snapshot: Snapshot) {
        self.list
            .retain(|kept| kept.seq != snapshot.seq || kept.tokens != snapshot.tokens);
        self.list.push(snapshot);
    }
}

impl Context {
    /// Cuts a sequence back to its first `tokens` tokens, or to fewer if it must be; returns
    /// how many are left. Recurrent states are restored from a snapshot; where other
    /// sequences have taken cells of its attention window, nothing is left.
    pub fn keep(&mut self, seq: u32, tokens: u32) -> u32 {
        let kept = self.cut(seq, tokens).unwrap_or_else(|thrown| {
            self.unknown = Some(thrown);
            0
        });
        self.snapshots.cut(seq, kept);
        kept
    }

    /// Cuts sequence 0 back to its first `tokens` tokens; false if fewer are left. See
    /// [`Context::keep`].
    pub fn truncate(&mut self, tokens: u32) -> bool {
        self.keep(0, tokens) == tokens
    }

    fn cut(&mut self, seq: u32, tokens: u32) -> Result<u32, sys::Exception> {
        if tokens > 0 && self.has_recurrent_state {
            let held = self.held(seq)?;
            if held <= tokens {
                return Ok(held);
            }
            if let Some(kept) = self.take_back(seq, tokens)? {
                return Ok(kept);
            }
        } else if tokens > 0 && self.remove(seq, tokens)? && self.is_whole(seq, tokens)? {
            return Ok(tokens);
        }
        self.remove(seq, 0)?;
        Ok(0)
    }

    /// Removes the tokens of a sequence from position `from` on; false if its memory cannot.
    fn remove(&mut self, seq: u32, from: u32) -> Result<bool, sys::Exception> {
        // SAFETY: the context is live.
        unsafe {
            let memory = sys::llama_get_memory(self.as_ptr());
            sys::llama_memory_seq_rm(memory, seq as i32, from as i32, -1)
        }
    }

    /// Length of a sequence in tokens: its last position in the memory plus 1.
    fn held(&self, seq: u32) -> Result<u32, sys::Exception> {
        // SAFETY: the context is live.
        let last = unsafe {
            let memory = sys::llama_get_memory(self.as_ptr());
            sys::llama_memory_seq_pos_max(memory, seq as i32)?
        };
        Ok((last + 1).max(0) as u32)
    }

    /// Whether a sequence is `tokens` long and all cells to which its next token attends are
    /// there. llama.cpp reuses cells outside the window of a sequence's last token, the
    /// oldest first; after a cut, the window begins earlier.
    fn is_whole(&self, seq: u32, tokens: u32) -> Result<bool, sys::Exception> {
        Ok(self.held(seq)? == tokens && self.begins_before(seq, tokens)?)
    }

    /// Whether a sequence's first cell is at or before the start of the window of position
    /// `tokens`.
    fn begins_before(&self, seq: u32, tokens: u32) -> Result<bool, sys::Exception> {
        // SAFETY: the context is live.
        let first = unsafe {
            let memory = sys::llama_get_memory(self.as_ptr());
            sys::llama_memory_seq_pos_min(memory, seq as i32)?
        };
        let begins = match self.attention_window {
            0 => 0,
            window => tokens.saturating_sub(window),
        };
        Ok(u32::try_from(first).is_ok_and(|first| first <= begins))
    }

    /// How many of the first `tokens` tokens of a sequence can be shared. All of them while
    /// the window that ends with them is complete; of recurrent states, the sequence's own
    /// length or that of a snapshot.
    pub fn shareable(&self, seq: u32, tokens: u32) -> u32 {
        let found = || -> Result<u32, sys::Exception> {
            let held = self.held(seq)?;
            Ok(match self.has_recurrent_state {
                true if held <= tokens => held,
                true => {
                    let last = self.snapshots.last(seq, tokens);
                    last.map_or(0, |at| self.snapshots.list[at].tokens)
                }
                false if held >= tokens && self.begins_before(seq, tokens)? => tokens,
                false => 0,
            })
        };
        // The calls that change the memory would throw the same exception and report it.
        found().unwrap_or(0)
    }

    /// Makes sequence `to` hold the first `tokens` tokens of `from`, in the same cells; returns
    /// how many it holds then: none if a recurrent state could not be restored.
    pub fn share(&mut self, from: u32, to: u32, tokens: u32) -> u32 {
        let mut shared = || -> Result<u32, sys::Exception> {
            self.remove(to, 0)?;
            // SAFETY: the context is live and not decoding.
            unsafe {
                let memory = sys::llama_get_memory(self.as_ptr());
                sys::llama_memory_seq_cp(memory, from as i32, to as i32, 0, tokens as i32)?;
            }
            self.snapshots.cut(to, 0);
            if self.has_recurrent_state && self.held(from)? > tokens {
                self.snapshots.copy(from, to, tokens);
                return self.undone(to, tokens);
            }
            Ok(tokens)
        };
        let held = shared().unwrap_or_else(|thrown| {
            self.unknown = Some(thrown);
            0
        });
        self.snapshots.cut(to, held);
        held
    }

    /// Restores a sequence from its longest snapshot of at most `tokens` tokens; returns its
    /// length then, or `None` if that failed.
    fn take_back(&mut self, seq: u32, tokens: u32) -> Result<Option<u32>, sys::Exception> {
        let Some(at) = self.snapshots.last(seq, tokens) else {
            return Ok(None);
        };
        let Snapshot { tokens, bytes, .. } = &self.snapshots.list[at];
        let (tokens, id) = (*tokens, seq as i32);
        // SAFETY: the context is live, and has written these bytes.
        let read = unsafe {
            sys::llama_state_seq_set_data_ext(
                self.as_ptr(),
                bytes.as_ptr(),
                bytes.len(),
                id,
                PARTIAL_ONLY,
            )?
        };
        let back = read == bytes.len() && self.remove(seq, tokens)? && self.held(seq)? == tokens;
        Ok(back.then_some(tokens))
    }

    /// Takes a snapshot of a recurrent state if one is due: at the end of a prompt, and
    /// [`SNAPSHOT_TOKENS`] after the last one. Skipped if there is no memory for it.
    pub fn remember(&mut self, seq: u32, at_prompt: bool) {
        let due = |context: &Self| {
            let tokens = context.held(seq)?;
            let last = context.snapshots.last(seq, tokens);
            let since = tokens - last.map_or(0, |at| context.snapshots.list[at].tokens);
            Ok(((at_prompt && since > 0) || since >= SNAPSHOT_TOKENS).then_some(tokens))
        };
        let taken = match self.has_recurrent_state {
            true => due(self),
            false => Ok(None),
        };
        let taken = taken.and_then(|tokens| match tokens {
            Some(tokens) => self.snapshot(seq, tokens, at_prompt),
            None => Ok(()),
        });
        if let Err(thrown) = taken {
            self.unknown = Some(thrown);
        }
    }

    fn snapshot(&mut self, seq: u32, tokens: u32, at_prompt: bool) -> Result<(), sys::Exception> {
        let id = seq as i32;
        // SAFETY: the context is live and not decoding.
        let len = unsafe { sys::llama_state_seq_get_size_ext(self.as_ptr(), id, PARTIAL_ONLY)? };
        let mut bytes = Vec::new();
        if !self.snapshots.make_room(seq, len as u64) || bytes.try_reserve_exact(len).is_err() {
            return Ok(());
        }
        bytes.resize(len, 0);
        // SAFETY: as above; the vector is `len` bytes long.
        let written = unsafe {
            let out = bytes.as_mut_ptr();
            sys::llama_state_seq_get_data_ext(self.as_ptr(), out, len, id, PARTIAL_ONLY)?
        };
        if written == len {
            self.snapshots.add(Snapshot {
                seq,
                tokens,
                at_prompt,
                bytes,
            });
        }
        Ok(())
    }

    /// After a failed lap of these pieces: cuts each sequence back to what it held before. A
    /// recurrent state may have advanced, so it is restored from a snapshot.
    pub(crate) fn undo(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let kept = match self.has_recurrent_state && piece.pos > 0 {
                true => self.undone(piece.seq, piece.pos),
                false => Ok(self.keep(piece.seq, piece.pos)),
            };
            match kept {
                Ok(kept) => self.snapshots.cut(piece.seq, kept),
                Err(thrown) => self.unknown = Some(thrown),
            }
        }
    }

    /// Restores a sequence from a snapshot, or empties it; returns its length then.
    fn undone(&mut self, seq: u32, tokens: u32) -> Result<u32, sys::Exception> {
        if let Some(kept) = self.take_back(seq, tokens)? {
            return Ok(kept);
        }
        self.remove(seq, 0)?;
        Ok(0)
    }
}
