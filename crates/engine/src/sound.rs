//! Numbers in a header on which llama.cpp does not refuse a model but aborts the
//! process: they are held against its limits here, first. Knows no more of an
//! architecture than those.

use delayline_gguf::{Header, Value};

/// llama.cpp's `LLAMA_MAX_LAYERS` and `LLAMA_MAX_EXPERTS`, in the version that
/// this workspace pins.
const MOST_LAYERS: u64 = 512;
const MOST_EXPERTS: u64 = 1024;

/// Holds the header of a model's first part against the limits.
///
/// # Errors
/// Says which key is wrong, and what was expected.
pub fn check(header: &Header<'_>) -> Result<(), String> {
    let arch = header.get_str("general.architecture").unwrap_or_default();
    let number = |suffix: &str| header.get_u64(&format!("{arch}.{suffix}"));
    let within = |suffix: &str, value: u64, least: u64, most: u64| match value {
        value if (least..=most).contains(&value) => Ok(()),
        value => Err(format!(
            "its header says that {arch}.{suffix} is {value}, expected {least} to {most}"
        )),
    };
    // A key that is missing is for llama.cpp to refuse, or to do without.
    let layers = number("block_count");
    if let Some(layers) = layers {
        within("block_count", layers, 1, MOST_LAYERS)?;
    }
    if let Some(next) = number("nextn_predict_layers") {
        within("nextn_predict_layers", next, 0, layers.unwrap_or(next))?;
    }
    let experts = number("expert_count").unwrap_or(0);
    within("expert_count", experts, 0, MOST_EXPERTS)?;
    // These call themselves mixtures of one, which llama.cpp takes for none.
    let dense = experts <= 1 && arch.starts_with("hunyuan");
    if let Some(used) = most_used(header, arch)
        && !dense
    {
        within("expert_used_count", used, experts.min(1), experts)?;
    }
    if experts > 0 {
        let groups = number("expert_group_count").unwrap_or(0);
        within("expert_group_count", groups, 0, experts - 1)?;
        if groups > 1 {
            let used = number("expert_group_used_count").unwrap_or(0);
            within("expert_group_used_count", used, 1, groups - 1)?;
            if !experts.is_multiple_of(groups) {
                return Err(format!(
                    "its header divides {experts} experts into {groups} groups, expected equal ones"
                ));
            }
        }
    }
    match header.get_str("tokenizer.ggml.model") {
        Some("none" | "no_vocab") => {
            Err("it has no vocabulary, without which there is no text".into())
        }
        _ => Ok(()),
    }
}

/// Experts that a token uses, in the layer that uses most.
fn most_used(header: &Header<'_>, arch: &str) -> Option<u64> {
    let value = header.get(&format!("{arch}.expert_used_count"))?;
    match value.as_array() {
        Some(each) => each.scalars().filter_map(|used| used.as_u64()).max(),
        None => Value::as_u64(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_gguf::{Array, write};

    /// What becomes of a header with these keys of its architecture.
    fn said(arch: &'static str, keys: &[(&str, Value<'static>)]) -> Result<(), String> {
        let mut metadata = vec![("general.architecture".into(), Value::from(arch))];
        for (key, value) in keys {
            metadata.push((format!("{arch}.{key}").into(), value.clone()));
        }
        let layout = write(&metadata, &[]).unwrap();
        check(&Header::parse(&layout.header, layout.file_len).unwrap())
    }

    #[test]
    fn what_llama_cpp_would_abort_on_is_refused() {
        let number = Value::U32;
        let each = |used: [i32; 2]| Value::Array(Array::from_i32s(used));
        let (layers, experts, used) = ("block_count", "expert_count", "expert_used_count");
        let good: [&[_]; 6] = [
            &[],
            &[(layers, number(1))],
            &[(layers, number(512)), ("nextn_predict_layers", number(1))],
            &[(experts, number(8)), (used, number(8))],
            &[(experts, number(8)), (used, each([0, 2]))],
            &[
                (experts, number(8)),
                ("expert_group_count", number(4)),
                ("expert_group_used_count", number(2)),
            ],
        ];
        for keys in good {
            assert_eq!(said("llama", keys), Ok(()), "{keys:?}");
        }
        let bad: [(&[_], &str); 9] = [
            (
                &[(layers, number(0))],
                "block_count is 0, expected 1 to 512",
            ),
            (&[(layers, number(513))], "block_count is 513"),
            (
                &[(layers, number(2)), ("nextn_predict_layers", number(3))],
                "nextn",
            ),
            (&[(experts, number(1025))], "expert_count is 1025"),
            (
                &[(used, number(2))],
                "expert_used_count is 2, expected 0 to 0",
            ),
            (
                &[(experts, number(8)), (used, number(9))],
                "expert_used_count is 9, expected 1 to 8",
            ),
            (
                &[(experts, number(8)), (used, each([0, 0]))],
                "expert_used_count is 0",
            ),
            (
                &[(experts, number(8)), ("expert_group_count", number(8))],
                "expert_group_count is 8, expected 0 to 7",
            ),
            (
                &[
                    (experts, number(8)),
                    ("expert_group_count", number(3)),
                    ("expert_group_used_count", number(1)),
                ],
                "equal",
            ),
        ];
        for (keys, expect) in bad {
            let message = said("llama", keys).unwrap_err();
            assert!(message.contains(expect), "{message}");
        }
        let one = [(experts, number(0)), (used, number(1))];
        assert_eq!(said("hunyuan-dense", &one), Ok(()));
    }
}
