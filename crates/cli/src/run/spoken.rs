//! Converts what a model says into what a person reads: for models that write to channels,
//! thoughts between `<think>` tags, as other models write them, and the answer.

use delayline_llama::Vocab;
use delayline_server::api::calls::AnswerPart;
use delayline_server::api::channels::{CONTROL, ChannelReader};
use delayline_server::api::tools::CallFormat;

use anyhow::Result;

/// Whether a model writes to channels, and the control tokens that mark them.
#[derive(Clone, Debug, Default)]
pub struct Speech {
    control: Option<Vec<i32>>,
}

impl Speech {
    /// For a model whose template has this source.
    ///
    /// # Errors
    /// When the vocabulary cannot be read.
    pub fn of(source: &str, vocab: &Vocab) -> Result<Self> {
        let has_channels = CallFormat::in_template(source).has_channels();
        let control = has_channels.then(|| vocab.control_tokens(&CONTROL));
        Ok(Self {
            control: control.transpose()?,
        })
    }

    /// Control tokens whose text has to be passed on.
    pub fn shown(&self) -> Vec<i32> {
        self.control.clone().unwrap_or_default()
    }

    /// A converter for one answer.
    pub fn spoken(&self) -> Spoken {
        Spoken {
            reader: self
                .control
                .is_some()
                .then(|| ChannelReader::new(Vec::new())),
            thinks: false,
        }
    }

    /// The answer within all that was said, for the next turn of the conversation.
    pub fn answer(&self, text: &str) -> String {
        if self.control.is_none() {
            return text.to_owned();
        }
        let parts = ChannelReader::new(Vec::new()).push(text, true);
        let content = parts.into_iter().filter_map(|part| match part {
            AnswerPart::Content(text) => Some(text),
            _ => None,
        });
        content.collect()
    }
}

/// One answer as it is converted.
#[derive(Debug)]
pub struct Spoken {
    reader: Option<ChannelReader>,
    thinks: bool,
}

impl Spoken {
    /// Takes a piece; returns the text to print now.
    pub fn push(&mut self, piece: &str) -> String {
        self.parts(piece, false)
    }

    /// Returns the rest of the text at the end.
    pub fn end(&mut self) -> String {
        let rest = self.parts("", true);
        match std::mem::take(&mut self.thinks) {
            true => rest + "\n</think>",
            false => rest,
        }
    }

    fn parts(&mut self, piece: &str, ends: bool) -> String {
        let Some(reader) = &mut self.reader else {
            return piece.to_owned();
        };
        let mut out = String::new();
        for part in reader.push(piece, ends) {
            let (thinks, text) = match part {
                AnswerPart::Thought(text) => (true, text),
                AnswerPart::Content(text) | AnswerPart::Arguments { text, .. } => (false, text),
                AnswerPart::Call { name, .. } => (false, name),
            };
            out += match (self.thinks, thinks) {
                (false, true) => "<think>\n",
                (true, false) => "\n</think>\n\n",
                _ => "",
            };
            self.thinks = thinks;
            out += &text;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_read_as_other_models_write() {
        let speech = Speech {
            control: Some(Vec::new()),
        };
        let text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.";
        for cut in 0..=text.len() {
            let mut spoken = speech.spoken();
            let read = [
                spoken.push(&text[..cut]),
                spoken.push(&text[cut..]),
                spoken.end(),
            ];
            assert_eq!(read.concat(), "<think>\nHm.\n</think>\n\nYes.");
        }
        assert_eq!(speech.answer(text), "Yes.");
        let plain = Speech::default();
        assert_eq!(plain.answer(text), text);
        assert_eq!(plain.spoken().push(text), text);
    }
}
