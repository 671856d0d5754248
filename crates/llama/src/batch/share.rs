//! How many rows of a lap each sequence gets: pure arithmetic.
//!
//! Each generating sequence gets one row. Prompts share the remaining rows equally; what
//! one does not need goes to the others, the earliest first. So a short prompt is done
//! after a few laps however long the others are, and each of n prompts gets at least
//! 1/n of the rows.

use super::SequenceId;
use delayline_engine::Class;

/// Minimum number of rows for prompts beside generating sequences, so that prompts advance.
const MINIMUM_SPARE: usize = 4;

/// What the sharing of a lap has to know of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub slot: usize,
    pub id: SequenceId,
    /// Tokens that are not in the KV cache yet.
    pub lacking: usize,
    /// Whether its prompt is computed: then it lacks one token.
    pub generates: bool,
    /// Whether the next token is its last.
    pub ends_next: bool,
}

/// A slot's part of a lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub slot: usize,
    /// Tokens, at least one.
    pub rows: usize,
    /// Whether these are all that it lacks, so that logits are computed.
    pub output: bool,
}

/// Which pieces may share a lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixture {
    /// Tokens and pieces of prompts of any length.
    Any,
    /// Pieces of equal length: a lap carries either the single tokens of all sequences that
    /// lack just one, or equal pieces of the other sequences' prompts.
    Equal {
        /// Whether it is the prompts' turn, if there are both.
        prompts: bool,
    },
}

impl Mixture {
    /// The mixture of the lap after one so shared: prompts and single tokens alternate.
    pub fn after(self, shares: &[Share]) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Equal { .. } => Self::Equal {
                prompts: shares.iter().any(|share| share.output),
            },
        }
    }
}

/// Shares a lap of at most `rows` tokens. `spare(n)` is how many rows prompts may have
/// beside `n` generating sequences.
pub fn share(
    members: &[Member],
    rows: usize,
    spare: impl Fn(usize) -> usize,
    mixture: Mixture,
) -> Vec<Share> {
    // With equal pieces, a prompt's last token shares a lap with the generating sequences.
    let single = |member: &&Member| match mixture {
        Mixture::Any => member.generates,
        Mixture::Equal { .. } => member.lacking == 1,
    };
    let (singles, mut prompts): (Vec<&Member>, Vec<&Member>) = members.iter().partition(single);
    prompts.sort_by_key(|member| member.id);
    let spared = match singles.len() {
        0 => rows,
        generating => spare(generating).max(MINIMUM_SPARE),
    };
    match mixture {
        Mixture::Any => {
            let mut shares = one_each(&singles);
            let left = rows.saturating_sub(shares.len()).min(spared);
            let lacking: Vec<usize> = prompts.iter().map(|member| member.lacking).collect();
            let dealt = prompts.iter().zip(deal(left, &lacking));
            shares.extend(
                dealt
                    .filter(|(_, rows)| *rows > 0)
                    .map(|(member, rows)| Share {
                        slot: member.slot,
                        rows,
                        output: rows == member.lacking,
                    }),
            );
            shares
        }
        Mixture::Equal { prompts: turn } if singles.is_empty() || turn && !prompts.is_empty() => {
            equal(&prompts, spared.min(rows))
        }
        Mixture::Equal { .. } => one_each(&singles),
    }
}

fn one_each(members: &[&Member]) -> Vec<Share> {
    let share = |member: &&Member| Share {
        slot: member.slot,
        rows: 1,
        output: true,
    };
    members.iter().map(share).collect()
}

/// Equal pieces of prompts, without their last tokens, as long as the shortest prompt and
/// the rows allow. A piece of a single token gets a lap for itself: several would make a
/// lap of the class that has outputs.
fn equal(prompts: &[&Member], rows: usize) -> Vec<Share> {
    let prompts = &prompts[..prompts.len().min((rows / 2).max(1))];
    let shortest = prompts.iter().min_by_key(|member| member.lacking);
    let Some(shortest) = shortest else {
        return Vec::new();
    };
    let share = |rows: usize| {
        move |member: &&Member| Share {
            slot: member.slot,
            rows,
            output: false,
        }
    };
    match (shortest.lacking - 1).min(rows / prompts.len()) {
        0 | 1 => vec![share(1)(shortest)],
        each => prompts.iter().map(share(each)).collect(),
    }
}

/// The members after a lap so shared, assuming that no sequence joins or leaves and that
/// answers end only by their length.
pub fn after(members: &[Member], shares: &[Share]) -> Vec<Member> {
    let next = |member: &Member| {
        let share = shares.iter().find(|share| share.slot == member.slot);
        match share {
            Some(share) if share.output => (!member.ends_next).then_some(Member {
                lacking: 1,
                generates: true,
                ..*member
            }),
            _ => Some(Member {
                lacking: member.lacking - share.map_or(0, |share| share.rows),
                ..*member
            }),
        }
    };
    members.iter().filter_map(next).collect()
}

/// The class of a lap so shared; `None` if it is empty.
pub fn class(shares: &[Share]) -> Option<Class> {
    let rows = shares.iter().map(|share| share.rows).sum();
    (rows > 0).then(|| Class::of(rows, shares.iter().any(|share| share.output)))
}

/// Divides `rows` among prompts that lack so many tokens each, in the order in which they
/// joined. No share is larger than what is lacking; the sum is `rows`, or all that is
/// lacking if that is less.
fn deal(rows: usize, lacking: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; lacking.len()];
    let mut left = rows;
    loop {
        let hungry = lacking.iter().zip(&shares).filter(|(l, s)| s < l).count();
        if hungry == 0 || left == 0 {
            return shares;
        }
        let each = (left / hungry).max(1);
        for (share, &lack) in shares.iter_mut().zip(lacking) {
            let more = each.min(lack - *share).min(left);
            *share += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every case of up to three prompts of up to six tokens and up to eight rows.
    #[test]
    fn all_small_deals_are_whole_and_fair() {
        for rows in 0..=8 {
            for case in 0..7 * 7 * 7 {
                let lacking = [case % 7, case / 7 % 7, case / 49];
                let shares = deal(rows, &lacking);
                let (dealt, all): (usize, usize) = (shares.iter().sum(), lacking.iter().sum());
                assert_eq!(dealt, rows.min(all), "{rows} rows among {lacking:?}");
                for (at, (&share, &lack)) in shares.iter().zip(&lacking).enumerate() {
                    assert!(share <= lack, "{rows} rows among {lacking:?}: {shares:?}");
                    let content = share == lack;
                    let largest = shares.iter().max().copied().unwrap_or(0);
                    assert!(
                        content || share + 1 >= largest,
                        "{at} of {lacking:?} gets {share} of {shares:?}"
                    );
                    let before = shares[..at].iter().zip(&lacking[..at]);
                    let overtaken = before.filter(|(s, l)| s < l && **s < share).count();
                    assert_eq!(overtaken, 0, "{shares:?} of {lacking:?}");
                }
            }
        }
    }

    /// A session's laps: its prompt in micro-batches, of which only the last has logits,
    /// then a token a lap.
    #[test]
    fn the_laps_of_a_sequence_alone_are_known_beforehand() {
        let mut members = vec![Member {
            slot: 0,
            id: SequenceId(0),
            lacking: 9,
            generates: false,
            ends_next: false,
        }];
        let mut classes = Vec::new();
        for lap in 0..4 {
            members.iter_mut().for_each(|m| m.ends_next = lap == 3);
            let shares = share(&members, 4, |_| 0, Mixture::Any);
            classes.push(class(&shares));
            members = after(&members, &shares);
        }
        let [quiet, single] = [Class::Quiet, Class::Single].map(Some);
        assert_eq!(classes, [quiet, quiet, single, single]);
        assert_eq!(class(&share(&members, 4, |_| 0, Mixture::Any)), None);
    }
}
