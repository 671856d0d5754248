//! Who brings how many rows to a lap: pure arithmetic.
//!
//! Each generating sequence brings its token. Prompts share what rows are left
//! equally, and what one does not need goes to the others, the longest waiting
//! first. A short prompt is thus through after a few laps however long the others
//! are, and with n prompts each gets at least the n-th part of all rows: nobody
//! waits for anybody.

use super::SequenceId;
use delayline_engine::Class;

/// Minimum number of rows for prompts beside generating sequences: prompts get on.
const MINIMUM_SPARE: usize = 4;

/// A sequence in a slot, as far as sharing laps depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub slot: usize,
    pub id: SequenceId,
    /// Tokens that are not in the KV cache yet.
    pub lacking: usize,
    /// Whether its prompt is computed: then it lacks one token a lap.
    pub generates: bool,
    /// Whether the next token is its last.
    pub ends_next: bool,
}

/// What a slot brings to a lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub slot: usize,
    /// Tokens, at least one.
    pub rows: usize,
    /// Whether they are the last that it lacks: then logits are computed.
    pub output: bool,
}

/// Which pieces go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixture {
    /// Tokens and pieces of prompts of any length.
    Any,
    /// Pieces of equal length. A lap has the last token of each text that lacks no
    /// other, or else equal pieces of the prompts of the others.
    Equal {
        /// Whether it is the prompts' turn, where there are both.
        prompts: bool,
    },
}

impl Mixture {
    /// What the lap after one so shared is: prompts and tokens take turns.
    pub fn after(self, shares: &[Share]) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Equal { .. } => Self::Equal {
                prompts: shares.iter().any(|share| share.output),
            },
        }
    }
}

/// Shares a lap of at most `rows` tokens. `spare` is how many rows prompts may have
/// beside so many generating sequences.
pub fn share(
    members: &[Member],
    rows: usize,
    spare: impl Fn(usize) -> usize,
    mixture: Mixture,
) -> Vec<Share> {
    // Beside equal pieces, the last token of a prompt goes with those that generate.
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

/// Pieces of equal length of prompts, without their last tokens: the longest such
/// that each has a piece. Each lap thus is as long as it may be, or the last of a
/// prompt. A piece of a single token goes alone: several would be a lap that decodes.
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

/// The members after a lap so shared, as far as that can be known: nobody joins or
/// leaves, and no answer ends but by its length.
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

/// The class of a lap so shared; `None` of a lap of nobody.
pub fn class(shares: &[Share]) -> Option<Class> {
    let rows = shares.iter().map(|share| share.rows).sum();
    (rows > 0).then(|| Class::of(rows, shares.iter().any(|share| share.output)))
}

/// Deals out `rows` among prompts that lack so many tokens each, the one that
/// came first in front. The shares are whole, none is larger than what is
/// lacking, and their sum is `rows` unless all together lack less.
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

    /// A session's laps: its prompt in micro-batches without logits but for the
    /// last, then a token a lap.
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
