//! Stop texts: what is generated is handed out as soon as no stop text can begin
//! in it any more. Knows nothing of tokens.

/// Looks for the first of several texts in a stream of pieces.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    texts: Vec<String>,
    held: String,
    met: Option<usize>,
}

impl Stops {
    /// Looks for these; empty ones never match.
    pub fn new(texts: Vec<String>) -> Self {
        let texts = texts.into_iter().filter(|text| !text.is_empty()).collect();
        Self {
            texts,
            ..Self::default()
        }
    }

    /// Takes a piece; returns what may be handed out, and whether a stop text was
    /// met. It is not handed out, nor what comes after it.
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

    /// The stop text that was met.
    pub fn met(&self) -> Option<&str> {
        self.met.map(|which| self.texts[which].as_str())
    }

    /// What was held back, at the end of a generation.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end that could be the beginning of a stop text.
    fn unsure(&self) -> usize {
        let texts = self.texts.iter();
        texts.map(|text| begun(&self.held, text)).max().unwrap_or(0)
    }
}

/// Bytes at the end of a text that may be the beginning of a mark, which is not empty: what
/// comes next tells.
pub fn begun(text: &str, mark: &str) -> usize {
    let most = (mark.len() - 1).min(text.len());
    let begins =
        |&n: &usize| mark.is_char_boundary(n) && text.as_bytes().ends_with(&mark.as_bytes()[..n]);
    (1..=most).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in every way of cutting it in three.
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
