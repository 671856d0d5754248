//! The state of the light that carries the pieces: which of their copies circulate,
//! since when, and when each was last read. It counts passes, not time, and knows no
//! bytes.
//!
//! Of `n` copies of a piece, pass `p` at the tap shows copy `p mod n`, so that each
//! comes by once in `n` passes, which are one lap of the light.

/// The first pass of a copy that does not circulate.
const DARK: u64 = u64::MAX;

/// One copy of a piece.
#[derive(Clone, Copy)]
struct PieceCopy {
    /// The first pass in which it comes by; [`DARK`] if it does not circulate.
    from_pass: u64,
    /// The pass in which it was last read or sent.
    seen_pass: u64,
}

/// The light of all pieces.
pub(crate) struct Lights {
    copies: u64,
    /// All copies of all pieces, piece by piece.
    light: Vec<PieceCopy>,
    /// The last pass in which each piece was taken, or sent again after that; `None`
    /// before it was first taken.
    taken: Vec<Option<u64>>,
    /// Copies that do not circulate.
    dark: usize,
}

/// What was found when a piece was taken.
pub(crate) struct Found {
    /// Laps since this copy was last read or sent.
    pub laps: u64,
    /// Passes of the piece since it was last taken, this one not counted.
    pub missed: u64,
}

impl Lights {
    /// All dark.
    pub fn new(pieces: usize, copies: u32) -> Self {
        let mut lights = Self {
            copies: copies.into(),
            light: Vec::new(),
            taken: vec![None; pieces],
            dark: 0,
        };
        lights.go_dark();
        lights
    }

    /// Everything circulates, and has since the first pass.
    pub fn shine(&mut self) {
        self.dark = 0;
        self.light.iter_mut().for_each(|copy| copy.from_pass = 0);
    }

    /// Nothing circulates.
    pub fn go_dark(&mut self) {
        let dark = PieceCopy {
            from_pass: DARK,
            seen_pass: 0,
        };
        self.dark = self.taken.len() * self.copies as usize;
        self.light.clear();
        self.light.resize(self.dark, dark);
    }

    /// Whether everything circulates.
    pub fn is_full(&self) -> bool {
        self.dark == 0
    }

    /// Whether no copy of the piece circulates.
    pub fn is_dark(&self, piece: u32) -> bool {
        (0..self.copies).all(|copy| self.light[self.at(piece, copy)].from_pass == DARK)
    }

    /// The first pass, from `from` on, in which the piece is there.
    pub fn next(&self, piece: u32, from: u64) -> Option<u64> {
        // A copy that is sent in the coming lap is back in the one after it.
        let passes = from..from + 2 * self.copies;
        let mut there = passes.filter(|&p| self.light[self.at(piece, p)].from_pass <= p);
        there.next()
    }

    /// Records that the piece is taken in this pass.
    pub fn take(&mut self, piece: u32, pass: u64) -> Found {
        let (at, copies) = (self.at(piece, pass), self.copies);
        let copy = &mut self.light[at];
        let laps = pass.saturating_sub(copy.seen_pass) / copies;
        copy.seen_pass = copy.seen_pass.max(pass);
        let taken = &mut self.taken[piece as usize];
        let missed = taken.map_or(0, |last| pass.saturating_sub(last).saturating_sub(1));
        *taken = (*taken).max(Some(pass));
        Found { laps, missed }
    }

    /// Records that the copy of this pass is wrong: it circulates no more.
    pub fn lose(&mut self, piece: u32, pass: u64) {
        let at = self.at(piece, pass);
        self.dark += usize::from(self.light[at].from_pass != DARK);
        self.light[at].from_pass = DARK;
    }

    /// Sends the piece wherever a copy of it is dark, as those places pass from `from`
    /// on; a lap after that the copies come by.
    pub fn send(&mut self, piece: u32, from: u64) {
        for pass in from..from + self.copies {
            let at = self.at(piece, pass);
            if self.light[at].from_pass == DARK {
                self.dark -= 1;
                self.light[at] = PieceCopy {
                    from_pass: pass + self.copies,
                    seen_pass: pass,
                };
                let taken = &mut self.taken[piece as usize];
                *taken = taken.map(|last| last.max(pass));
            }
        }
    }

    fn at(&self, piece: u32, pass: u64) -> usize {
        piece as usize * self.copies as usize + (pass % self.copies) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_comes_by_once_a_lap() {
        let mut lights = Lights::new(2, 3);
        assert!(lights.is_dark(1) && !lights.is_full());
        lights.send(1, 4);
        assert!(lights.is_dark(0) && !lights.is_dark(1));
        assert_eq!(
            lights.next(1, 2),
            Some(7),
            "sent in passes 4 to 6, back in 7"
        );
        assert_eq!((lights.next(1, 8), lights.next(0, 8)), (Some(8), None));
        assert_eq!(lights.take(1, 7).missed, 0, "nobody had taken it before");
        let found = lights.take(1, 13);
        assert_eq!(
            (found.laps, found.missed),
            (2, 5),
            "the same copy, two laps on"
        );
        let found = lights.take(1, 14);
        assert_eq!(
            (found.laps, found.missed),
            (3, 0),
            "the next, sent in pass 5"
        );
        // One of three is lost: the others still come by.
        lights.lose(1, 14);
        assert_eq!(
            (lights.next(1, 17), lights.next(1, 18)),
            (Some(18), Some(18))
        );
        lights.send(1, 19);
        assert_eq!(
            lights.next(1, 20),
            Some(21),
            "copy 2 is sent in pass 20, not 19"
        );
        assert_eq!(lights.next(1, 23), Some(23));
        lights.send(0, 0);
        assert!(lights.is_full());
    }
}
