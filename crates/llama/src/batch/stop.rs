//! Stop texts: generated text is released as soon as it cannot be part of a stop text.
//! Knows nothing of tokens.

/// Searches a stream of pieces for the first of several texts.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    texts: Vec<String>,
    held: String,
    met: Option<usize>,
}

impl Stops {
    /// Searches for `texts`; empty ones never match.
    pub fn new(texts: Vec<String>) -> Self {
        let texts = texts.into_iter().filter(|text| !text.is_empty()).collect();
        Self {
            texts,
            ..Self::default()
        }
    }

    /// Adds a piece; returns the text that may be released, and whether a stop text was
    /// found. The stop text and what follows it are never released.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let found = self.texts.iter().enumerate();
        let found = found.filter_map(|(which, text)| Some((self.held.find(text)?, which)));
        if let Some((at, which)) = found.min() {
            self.met = Some(which);
            let mut out = std::mem::take(&mut self.held);
            out.truncate(at);
            return (out, true);
        }
        let keep = self.unsure();
        let held = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, held), false)
    }

    /// The stop text that was found.
    pub fn met(&self) -> Option<&str> {
        self.met.map(|which| self.texts[which].as_str())
    }

    /// The text that was held back, at the end of a generation.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Number of bytes at the end that could be the beginning of a stop text.
    fn unsure(&self) -> usize {
        let texts = self.texts.iter();
        texts.map(|text| begun(&self.held, text)).max().unwrap_or(0)
    }
}

/// Length in bytes of the longest suffix of `text` that is a proper prefix of `mark`, which
/// must not be empty.
pub fn begun(text: &str, mark: &str) -> usize {
    let most = (mark.len() - 1).min(text.len());
    let begins =
        |&n: &usize| mark.is_char_boundary(n) && text.as_bytes().ends_with(&mark.as_bytes()[..n]);
    (1..=most).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in three pieces, cut in every possible way.
    fn check(stops: &[&str], text: &str, expect: &str, stopped: bool) {
        let cuts: Vec<usize> = (0..=text.len())
            .filter(|&at| text.is_char_boundary(at))
            .collect();
        for &a in &cuts {
            for &b in cuts.iter().filter(|&&b| b >= a) {
                let mut stops = Stops::new(stops.iter().map(ToString::to_string).collect());
                let mut out = String::new();
                let mut met = false;
                for piece in [&text[..a], &text[a..b], &text[b..]] {
                    let (more, stop) = stops.push(piece);
                    out.push_str(&more);
                    met = stop;
                    if met {
                        break;
                    }
                }
                if !met {
                    out.push_str(&stops.finish());
                }
                assert_eq!((out.as_str(), met), (expect, stopped), "cut at {a} and {b}");
            }
        }
    }

    #[test]
    fn stop_texts_are_met_however_they_come() {
        check(&["END"], "a EN b END c", "a EN b ", true);
        check(&["€€"], "1 € 2 €€ 3", "1 € 2 ", true);
        check(&["aab"], "aaaab", "aa", true);
        check(&[], "all of it", "all of it", false);
        check(&["", "never"], "nev nev", "nev nev", false);
    }

    #[test]
    fn what_cannot_stop_is_handed_out_at_once() {
        let mut stops = Stops::new(vec!["###".into(), "\n\n".into()]);
        assert_eq!(stops.push("one#"), ("one".into(), false));
        assert_eq!(stops.push("two\n"), ("#two".into(), false));
        assert_eq!(stops.push("\nthree"), (String::new(), true));
    }
}
