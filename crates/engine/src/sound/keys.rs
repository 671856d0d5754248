//! Keys of the architecture: a table of the values allowed. llama.cpp itself refuses
//! missing keys that it needs.

use delayline_gguf::{Header, Value};

/// llama.cpp's `LLAMA_MAX_LAYERS` and `LLAMA_MAX_EXPERTS`, in the version that
/// this workspace pins.
const MOST_LAYERS: u64 = 512;
const MOST_EXPERTS: u64 = 1024;

/// Far beyond any real model; with larger values llama.cpp's products of sizes would
/// overflow.
const MOST_WIDTH: u64 = 1 << 24;
const MOST_HEADS: u64 = 1 << 16;

/// The values allowed for a key, or for each element of an array. Values of other types
/// are not checked, because llama.cpp refuses them.
enum Expected {
    /// A whole number in this range, both ends included.
    Within(u64, u64),
    /// A floating-point number of 0 or more.
    NotNegative,
    /// One of these strings.
    OneOf(&'static [&'static str]),
}

use Expected::{NotNegative, OneOf, Within};

/// By key, without the architecture's name.
const TABLE: &[(&str, Expected)] = &[
    ("block_count", Within(1, MOST_LAYERS)),
    ("embedding_length", Within(1, MOST_WIDTH)),
    ("feed_forward_length", Within(0, MOST_WIDTH)),
    ("expert_feed_forward_length", Within(0, MOST_WIDTH)),
    ("expert_shared_feed_forward_length", Within(0, MOST_WIDTH)),
    ("expert_count", Within(0, MOST_EXPERTS)),
    ("attention.head_count", Within(0, MOST_HEADS)),
    ("attention.head_count_kv", Within(0, MOST_HEADS)),
    ("attention.key_length", Within(0, MOST_HEADS)),
    ("attention.value_length", Within(0, MOST_HEADS)),
    ("rope.dimension_count", Within(0, MOST_HEADS)),
    ("attention.layer_norm_epsilon", NotNegative),
    ("attention.layer_norm_rms_epsilon", NotNegative),
    ("attention.group_norm_epsilon", NotNegative),
    (
        "rope.scaling.type",
        OneOf(&["none", "linear", "yarn", "longrope"]),
    ),
];

/// Checks the keys of the header's architecture against the table, and that all of them
/// are finite if they are floating-point numbers.
pub fn check(header: &Header<'_>) -> Result<(), String> {
    let arch = header.get_str("general.architecture").unwrap_or_default();
    for (key, value) in &header.metadata {
        let own = key
            .strip_prefix(arch)
            .and_then(|rest| rest.strip_prefix('.'));
        let Some(suffix) = own else { continue };
        let expected = TABLE.iter().find(|(name, _)| *name == suffix);
        try_each(value, |value| {
            if value.as_f32().is_some_and(|number| !number.is_finite()) {
                return Err(wrong(key, value, "a finite number"));
            }
            expected.map_or(Ok(()), |(_, expected)| hold(key, value, expected))
        })?;
    }
    check_heads(header, arch)?;
    let layers = header.get_u64(&format!("{arch}.block_count"));
    let next = "nextn_predict_layers";
    match header.get_u64(&format!("{arch}.{next}")) {
        Some(count) => within(arch, next, count, 0, layers.unwrap_or(count)),
        None => Ok(()),
    }
}

/// Checks that the number of key heads divides the number of heads.
fn check_heads(header: &Header<'_>, arch: &str) -> Result<(), String> {
    let heads = |suffix: &str| {
        let mut heads = Vec::new();
        if let Some(value) = header.get(&format!("{arch}.attention.{suffix}")) {
            try_each(value, |value| {
                heads.extend(value.as_u64());
                Ok(())
            })?;
        }
        Ok::<_, String>(heads)
    };
    let (heads, groups) = (heads("head_count")?, heads("head_count_kv")?);
    let layers = heads.len().max(groups.len());
    let pairs = heads.iter().cycle().zip(groups.iter().cycle());
    for (heads, groups) in pairs.take(layers) {
        if *groups > 0 && !heads.is_multiple_of(*groups) {
            return Err(format!(
                "its header has {groups} heads of keys among {heads} heads, expected a divisor of \
                 {heads}"
            ));
        }
    }
    Ok(())
}

/// Calls `each` with the value, or with each element of an array; elements that are
/// strings are skipped.
fn try_each(
    value: &Value<'_>,
    mut each: impl FnMut(&Value<'_>) -> Result<(), String>,
) -> Result<(), String> {
    match value.as_array() {
        Some(array) => array.scalars().try_for_each(|value| each(&value)),
        None => each(value),
    }
}

fn hold(key: &str, value: &Value<'_>, expected: &Expected) -> Result<(), String> {
    match expected {
        Within(least, most) => match whole(value) {
            Some(number) if !(i128::from(*least)..=i128::from(*most)).contains(&number) => {
                Err(wrong(key, value, &format!("{least} to {most}")))
            }
            _ => Ok(()),
        },
        NotNegative => match value.as_f32() {
            Some(number) if number < 0.0 => Err(wrong(key, value, "0 or more")),
            _ => Ok(()),
        },
        OneOf(words) => match value.as_str() {
            Some(word) if !words.contains(&word) => {
                Err(wrong(key, value, &format!("one of {}", words.join(", "))))
            }
            _ => Ok(()),
        },
    }
}

fn whole(value: &Value<'_>) -> Option<i128> {
    let negative = || match *value {
        Value::I8(n) => Some(i128::from(n)),
        Value::I16(n) => Some(i128::from(n)),
        Value::I32(n) => Some(i128::from(n)),
        Value::I64(n) => Some(i128::from(n)),
        _ => None,
    };
    value.as_u64().map(i128::from).or_else(negative)
}

fn wrong(key: &str, value: &Value<'_>, expected: &str) -> String {
    let key = key.escape_debug();
    match (whole(value), value.as_f32(), value.as_str()) {
        (Some(number), ..) => {
            format!("its header says that {key} is {number}, expected {expected}")
        }
        (_, Some(number), _) => {
            format!("its header says that {key} is {number}, expected {expected}")
        }
        (.., Some(word)) => {
            let word: String = word.chars().take(40).collect();
            format!("its header says that {key} is {word:?}, expected {expected}")
        }
        _ => format!("its header has a wrong value of {key}, expected {expected}"),
    }
}

fn within(arch: &str, suffix: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(wrong(
            &format!("{arch}.{suffix}"),
            &Value::U64(value),
            &format!("{least} to {most}"),
        )),
    }
}

/// Checks the keys of experts against each other.
pub fn check_experts(header: &Header<'_>) -> Result<(), String> {
    let arch = header.get_str("general.architecture").unwrap_or_default();
    let number = |suffix: &str| header.get_u64(&format!("{arch}.{suffix}"));
    let experts = number("expert_count").unwrap_or(0);
    // These models give the numbers of a mixture, but llama.cpp treats them as dense.
    let dense = experts <= 1 && arch.starts_with("hunyuan");
    if let Some(used) = most_used(header, arch)
        && !dense
    {
        within(arch, "expert_used_count", used, experts.min(1), experts)?;
    }
    if experts == 0 {
        return Ok(());
    }
    let groups = number("expert_group_count").unwrap_or(0);
    within(arch, "expert_group_count", groups, 0, experts - 1)?;
    if groups > 1 {
        let used = number("expert_group_used_count").unwrap_or(0);
        within(arch, "expert_group_used_count", used, 1, groups - 1)?;
        if !experts.is_multiple_of(groups) {
            return Err(format!(
                "its header divides {experts} experts into {groups} groups, expected equal ones"
            ));
        }
    }
    Ok(())
}

/// Maximum over layers of the experts that a token uses.
fn most_used(header: &Header<'_>, arch: &str) -> Option<u64> {
    let value = header.get(&format!("{arch}.expert_used_count"))?;
    match value.as_array() {
        Some(each) => each.scalars().filter_map(|used| used.as_u64()).max(),
        None => Value::as_u64(value),
    }
}
