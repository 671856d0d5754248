//! How prompts share what a lap has to spare: pure arithmetic.
//!
//! Every prompt gets an equal share of the rows, and what one does not need goes
//! to the others, the longest waiting first. A short prompt is thus through
//! after a few laps however long the others are, and with n prompts each
//! gets at least the n-th part of all rows: nobody waits for anybody.

/// Deals out `rows` among prompts that lack so many tokens each, the one that
/// came first in front. The shares are whole, none is larger than what is
/// lacking, and their sum is `rows` unless all together lack less.
pub fn deal(rows: usize, lacking: &[usize]) -> Vec<usize> {
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
                    let most = shares.iter().max().copied().unwrap_or(0);
                    assert!(
                        content || share + 1 >= most,
                        "{at} of {lacking:?} gets {share} of {shares:?}"
                    );
                    let before = shares[..at].iter().zip(&lacking[..at]);
                    let overtaken = before.filter(|(s, l)| s < l && **s < share).count();
                    assert_eq!(overtaken, 0, "{shares:?} of {lacking:?}");
                }
            }
        }
    }
}
