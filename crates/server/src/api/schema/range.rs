//! Grammars of the numbers between two bounds, which are whole numbers. Knows no schema.

/// Largest bound: as many digits as the grammar's numbers have.
pub const MOST: i64 = 999_999_999_999_999;

/// An optional fraction of zeros.
const ZEROS: &str = r#"("." "0"{1,16})?"#;
/// A fraction that is not zero.
const MORE: &str = r#""." [0-9]{0,15} [1-9]"#;

/// Two bounds, each with whether it is inclusive; none is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// The lower bound.
    pub from: Option<(i64, bool)>,
    /// The upper bound.
    pub until: Option<(i64, bool)>,
}

impl Range {
    /// The whole numbers in it; `None` if there is none.
    pub fn integers(self) -> Option<String> {
        let from = self
            .from
            .map_or(-MOST, |(n, itself)| n + i64::from(!itself));
        let until = self
            .until
            .map_or(MOST, |(n, itself)| n - i64::from(!itself));
        (from <= until).then(|| both_signs(from, until))
    }

    /// All numbers in it, without exponents; `None` if there is none.
    pub fn numbers(self) -> Option<String> {
        let (from, from_itself) = self.from.unwrap_or((-MOST, true));
        let (until, until_itself) = self.until.unwrap_or((MOST, true));
        if from > until {
            return None;
        }
        let mut all = Vec::new();
        // Numbers below zero are those above zero with a sign.
        if until > 0 {
            let low = if from >= 0 {
                (from, from_itself)
            } else {
                (0, false)
            };
            all.extend(above_zero(low, (until, until_itself)));
        }
        if from < 0 {
            let low = if until <= 0 {
                (-until, until_itself)
            } else {
                (0, false)
            };
            let below = above_zero(low, (-from, from_itself));
            all.extend(below.into_iter().map(|body| format!("\"-\" ({body})")));
        }
        let zero_below = from < 0 || from == 0 && from_itself;
        let zero_above = until > 0 || until == 0 && until_itself;
        // `above_zero` has added zero if it is the lower bound.
        if zero_below && zero_above && (from != 0 || until == 0) {
            all.push(format!("\"0\" {ZEROS}"));
        }
        (!all.is_empty()).then(|| all.join(" | "))
    }
}

/// Alternatives for the numbers from `low` to `high`; `0 <= low <= high`.
fn above_zero(low: (i64, bool), high: (i64, bool)) -> Vec<String> {
    let mut all = Vec::new();
    if low.1 && (low.0 < high.0 || high.1) {
        all.push(format!("\"{}\" {ZEROS}", low.0));
    }
    if low.0 < high.0 {
        all.push(format!("\"{}\" {MORE}", low.0));
        if low.0 + 1 < high.0 {
            let whole = digits(low.0 + 1, high.0 - 1);
            all.push(format!("({whole}) (\".\" [0-9]{{1,16}})?"));
        }
        if high.1 {
            all.push(format!("\"{}\" {ZEROS}", high.0));
        }
    }
    all
}

fn both_signs(from: i64, until: i64) -> String {
    match (from < 0, until < 0) {
        (true, true) => format!("\"-\" ({})", digits(-until, -from)),
        (true, false) => format!("\"-\" ({}) | {}", digits(1, -from), digits(0, until)),
        _ => digits(from, until),
    }
}

/// Whole numbers from `from` to `until`; `0 <= from <= until`.
fn digits(from: i64, until: i64) -> String {
    let (low, high) = (from.to_string(), until.to_string());
    if low.len() == high.len() {
        return same_length(&low, &high);
    }
    let mut all = vec![same_length(&low, &"9".repeat(low.len()))];
    let (shortest, longest) = (low.len(), high.len() - 2);
    if shortest <= longest {
        all.push(format!("[1-9] [0-9]{{{shortest},{longest}}}"));
    }
    let least = format!("1{}", "0".repeat(high.len() - 1));
    all.push(same_length(&least, &high));
    all.join(" | ")
}

/// Strings of digits from `low` to `high`, which have the same length.
fn same_length(low: &str, high: &str) -> String {
    let all_of = |text: &str, digit: char| text.chars().all(|c| c == digit);
    let free = |n: usize| match n {
        0 => String::new(),
        n => format!(" [0-9]{{{n}}}"),
    };
    if low == high {
        return format!("\"{low}\"");
    }
    let shared = low.bytes().zip(high.bytes()).take_while(|(a, b)| a == b);
    let shared = shared.count();
    if shared > 0 {
        let rest = same_length(&low[shared..], &high[shared..]);
        return format!("\"{}\" ({rest})", &low[..shared]);
    }
    let (low_rest, high_rest) = (&low[1..], &high[1..]);
    let (mut first, mut last) = (low.as_bytes()[0], high.as_bytes()[0]);
    let (mut before, mut after) = (None, None);
    if !all_of(low_rest, '0') {
        let rest = same_length(low_rest, &"9".repeat(low_rest.len()));
        before = Some(format!("\"{}\" ({rest})", char::from(first)));
        first += 1;
    }
    if !all_of(high_rest, '9') {
        let rest = same_length(&"0".repeat(high_rest.len()), high_rest);
        after = Some(format!("\"{}\" ({rest})", char::from(last)));
        last -= 1;
    }
    let between = (first <= last).then(|| {
        let (first, last) = (char::from(first), char::from(last));
        format!("[{first}-{last}]{}", free(low_rest.len()))
    });
    let all = [before, between, after];
    all.into_iter().flatten().collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The grammar as a regular expression, from which these grammars hardly differ.
    fn matcher(grammar: &str) -> regex::Regex {
        let text = grammar.replace("\".\"", r"\.").replace(['"', ' '], "");
        regex::Regex::new(&format!("^(?:{text})$")).unwrap_or_else(|e| panic!("{grammar}: {e}"))
    }

    fn bounds() -> Vec<Option<(i64, bool)>> {
        let numbers = (-12..=12).chain([-1204, -1000, -999, -120, -99, 99, 101, 999, 1000, 1204]);
        let both = numbers.flat_map(|n| [Some((n, true)), Some((n, false))]);
        [None].into_iter().chain(both).collect()
    }

    /// Whether the number `tenths` / 10 is in the range.
    fn holds(range: Range, tenths: i64) -> bool {
        let above = |(n, itself): (i64, bool)| tenths > n * 10 || itself && tenths == n * 10;
        let below = |(n, itself): (i64, bool)| tenths < n * 10 || itself && tenths == n * 10;
        range.from.is_none_or(above) && range.until.is_none_or(below)
    }

    #[test]
    fn all_whole_numbers_of_small_ranges_and_no_other() {
        for from in bounds() {
            for until in bounds() {
                let range = Range { from, until };
                let Some(grammar) = range.integers() else {
                    assert!((-1300..1300).all(|n| !holds(range, n * 10)), "{range:?}");
                    continue;
                };
                let matcher = matcher(&grammar);
                for n in (-130..130).chain((-1300..1300).step_by(7)).chain(990..1010) {
                    let is = matcher.is_match(&n.to_string());
                    assert_eq!(is, holds(range, n * 10), "{n} in {range:?}: {grammar}");
                }
                assert!(!matcher.is_match("00") && !matcher.is_match("-"));
            }
        }
    }

    #[test]
    fn all_numbers_of_small_ranges_and_no_other() {
        for from in bounds() {
            for until in bounds() {
                let range = Range { from, until };
                let Some(grammar) = range.numbers() else {
                    assert!((-13_000..13_000).all(|t| !holds(range, t)), "{range:?}");
                    continue;
                };
                let matcher = matcher(&grammar);
                for tenths in (-130_i64..130).chain([-12_045, -9_995, 9_985, 10_005, 12_039]) {
                    let sign = if tenths < 0 { "-" } else { "" };
                    let (whole, tenth) = (tenths.abs() / 10, tenths.abs() % 10);
                    let text = format!("{sign}{whole}.{tenth}");
                    let is = matcher.is_match(&text);
                    assert_eq!(is, holds(range, tenths), "{text} in {range:?}: {grammar}");
                    if tenth == 0 {
                        let text = format!("{sign}{whole}");
                        assert_eq!(matcher.is_match(&text), is, "{text} in {range:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn large_bounds_are_short_grammars() {
        let range = Range {
            from: Some((-987_654_321_987_654, true)),
            until: Some((123_456_789_123_456, true)),
        };
        let grammar = range.integers().expect("there are some");
        assert!(grammar.len() < 2000, "{}", grammar.len());
        let matcher = matcher(&grammar);
        assert!(matcher.is_match("123456789123456") && !matcher.is_match("123456789123457"));
        assert!(matcher.is_match("-987654321987654") && !matcher.is_match("-987654321987655"));
    }
}
