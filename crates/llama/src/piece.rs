//! A piece of a lap: the tokens that one sequence has in it.

/// Consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The sequence's number, from 0.
    pub seq: u32,
    /// The position of the first token in the sequence.
    pub pos: u32,
    /// The tokens; not empty.
    pub tokens: &'a [i32],
    /// Whether the logits of the last token are computed.
    pub output: bool,
}

impl Piece<'_> {
    /// The same, with logits.
    pub(crate) fn with_output(self) -> Self {
        Self {
            output: true,
            ..self
        }
    }
}

/// The rows that have an output, counted over all pieces.
pub(crate) fn outputs(pieces: &[Piece<'_>]) -> Vec<usize> {
    let ends = pieces.iter().scan(0, |rows, piece| {
        *rows += piece.tokens.len();
        Some((*rows - 1, piece.output))
    });
    ends.filter_map(|(row, output)| output.then_some(row))
        .collect()
}

/// Splits `tokens` into one piece per output, each of another sequence, or into one piece
/// if there are no outputs. All pieces but the first are single tokens.
pub(crate) fn even(tokens: &[i32], outputs: u32) -> Vec<Piece<'_>> {
    let seqs = (outputs as usize).clamp(1, tokens.len());
    let first = tokens.len() - (seqs - 1);
    let mut from = 0;
    (0..seqs)
        .map(|seq| {
            let until = first + seq;
            let piece = Piece {
                seq: seq as u32,
                pos: 0,
                tokens: &tokens[from..until],
                output: outputs > 0,
            };
            from = until;
            piece
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_pieces_hold_all_tokens() {
        let tokens = [1, 2, 3, 4, 5];
        for (outputs, expect) in [
            (0, vec![5]),
            (1, vec![5]),
            (2, vec![4, 1]),
            (5, vec![1; 5]),
            (9, vec![1; 5]),
        ] {
            let pieces = even(&tokens, outputs);
            let lens: Vec<usize> = pieces.iter().map(|p| p.tokens.len()).collect();
            assert_eq!(lens, expect, "{outputs} outputs");
            assert!(pieces.iter().all(|p| p.output == (outputs > 0)));
        }
    }
}
