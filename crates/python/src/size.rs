//! Parses sizes: a number of bytes, or a number with a unit.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Units and their bytes. `B` is the last, because the others end with it.
const UNITS: [(&str, f64); 9] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("B", 1.0),
];

/// The bytes of a size such as `"4GiB"`, or of an integer.
///
/// # Errors
/// `ValueError` if it is neither.
pub(crate) fn bytes(size: &Bound<'_, PyAny>) -> PyResult<u64> {
    if let Ok(bytes) = size.extract::<u64>() {
        return Ok(bytes);
    }
    let wrong = || {
        let got = size
            .repr()
            .map_or_else(|_| "this".to_owned(), |repr| repr.to_string());
        PyValueError::new_err(format!(
            "{got}: expected a size such as \"4GiB\" or \"500MB\", or a number of bytes"
        ))
    };
    let text: String = size.extract().map_err(|_| wrong())?;
    let text = text.trim();
    let found = UNITS.iter().find_map(|(unit, factor)| {
        let number = text.strip_suffix(unit)?.trim_end();
        Some((number, *factor))
    });
    let (number, factor) = found.unwrap_or((text, 1.0));
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * factor;
    match (0.0..9e18).contains(&bytes) {
        true => Ok(bytes as u64),
        false => Err(wrong()),
    }
}
