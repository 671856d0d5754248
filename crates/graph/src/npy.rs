//! The header of a .npy file (NumPy enhancement proposal 1, versions 1 to 3), which
//! may be hostile. Pure: bytes in, a shape or words out.

use crate::ElementType;

/// An array in a .npy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpyHeader {
    /// What its elements are.
    pub element: ElementType,
    /// Lengths of its dimensions.
    pub shape: Vec<u64>,
    /// Where its first byte is.
    pub data_at: u64,
}

/// What every such file begins with.
pub const NPY_MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header that is read, in bytes.
pub const NPY_HEADER_MAX: usize = 64 << 10;

impl NpyHeader {
    /// Reads the header that `start`, the first [`NPY_HEADER_MAX`] bytes of a file or
    /// all of a shorter one, begins with. Elements of two bytes and no type, as
    /// bfloat16 is saved, are what `untyped` says.
    ///
    /// # Errors
    /// In words, when it is not the header of an array in C order whose elements are
    /// known.
    pub fn parse(start: &[u8], untyped: Option<ElementType>) -> Result<Self, String> {
        let (fields, data_at) = Fields::of_file(start)?;
        Ok(Self {
            element: ElementType::from_npy(&fields.descr, untyped)?,
            shape: fields.shape,
            data_at,
        })
    }
}

/// Length of the headers that NumPy writes.
pub(crate) const NPY_HEADER: usize = 128;

/// A header of `header_len` bytes, `descr` being the type of the elements as NumPy writes it.
pub(crate) fn npy_header(descr: &str, shape: &[u64], header_len: usize) -> Vec<u8> {
    let lengths: Vec<String> = shape.iter().map(|len| format!("{len},")).collect();
    let fields = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}",
        lengths.join(" ")
    );
    let mut header = NPY_MAGIC.to_vec();
    header.extend([1, 0]);
    header.extend((header_len as u16 - 10).to_le_bytes());
    header.extend(fields.as_bytes());
    assert!(header.len() < header_len, "numbers of 20 digits fit");
    header.resize(header_len - 1, b' ');
    header.push(b'\n');
    header
}

/// Length and first byte of a list of numbers of the type `descr`.
///
/// # Errors
/// In words, as [`NpyHeader::parse`], and where it is another type or no list.
pub(crate) fn npy_list(start: &[u8], descr: &str) -> Result<(u64, u64), String> {
    let (fields, data_at) = Fields::of_file(start)?;
    match fields.shape.as_slice() {
        &[len] if fields.descr == descr => Ok((len, data_at)),
        shape => Err(format!(
            "an array of type {:?} and shape {shape:?}, expected a list of type {descr:?}",
            shorten(&fields.descr)
        )),
    }
}

fn shorten(text: &str) -> String {
    text.trim().chars().take(120).collect()
}

/// The three entries of the dictionary, which is a Python literal.
#[derive(Default)]
struct Fields {
    descr: String,
    fortran: bool,
    shape: Vec<u64>,
}

impl Fields {
    /// The header of a file that begins with `start`, and where its data does.
    fn of_file(start: &[u8]) -> Result<(Self, u64), String> {
        if start.starts_with(b"PK\x03\x04") {
            return Err(
                "this is a .npz archive, expected a .npy file; save the array by numpy.save".into(),
            );
        }
        if !start.starts_with(NPY_MAGIC) {
            return Err("this is not a .npy file; give shape and dtype to read raw bytes".into());
        }
        let cut = || "the .npy header is cut short; write the file again".to_owned();
        let version = *start.get(6).ok_or_else(cut)?;
        let (from, len) = match version {
            1 => {
                let bytes = start.get(8..10).ok_or_else(cut)?;
                (10, usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
            }
            2 | 3 => {
                let bytes = start.get(8..12).ok_or_else(cut)?;
                let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                (12, len as usize)
            }
            _ => {
                return Err(format!(
                    "version {version} of the .npy format, expected 1 to 3; save the array anew"
                ));
            }
        };
        if len > NPY_HEADER_MAX - from {
            return Err(format!(
                "a .npy header of {len} bytes, expected at most 64 KiB"
            ));
        }
        let text = start.get(from..from + len).ok_or_else(cut)?;
        let text =
            std::str::from_utf8(text).map_err(|_| "the .npy header is no text".to_owned())?;
        let fields = Fields::parse(text)
            .ok_or_else(|| format!("cannot understand the .npy header {:?}", shorten(text)))?;
        if fields.fortran {
            return Err(
                "the array is in Fortran order, expected C order: its rows are scattered; \
                        save numpy.ascontiguousarray of it"
                    .into(),
            );
        }
        Ok((fields, (from + len) as u64))
    }

    /// `None` where it is not such a dictionary with each entry once.
    fn parse(text: &str) -> Option<Self> {
        let (mut fields, mut seen) = (Self::default(), [false; 3]);
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            let (index, after) = match key {
                "descr" => {
                    let (descr, after) = quoted(value)?;
                    fields.descr = descr.to_owned();
                    (0, after)
                }
                "fortran_order" => match value.strip_prefix("False") {
                    Some(after) => (1, after),
                    None => {
                        fields.fortran = true;
                        (1, value.strip_prefix("True")?)
                    }
                },
                "shape" => {
                    let (inside, after) = value.strip_prefix('(')?.split_once(')')?;
                    fields.shape = lengths(inside)?;
                    (2, after)
                }
                _ => return None,
            };
            if std::mem::replace(&mut seen[index], true) {
                return None;
            }
            rest = after.trim_start();
            rest = rest.strip_prefix(',').or(rest.is_empty().then_some(rest))?;
            rest = rest.trim_start();
        }
        seen.iter().all(|seen| *seen).then_some(fields)
    }
}

/// A string in quotes without escapes, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let mark = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (inside, after) = text[1..].split_once(mark)?;
    (!inside.contains('\\')).then_some((inside, after))
}

/// The numbers of a tuple.
fn lengths(inside: &str) -> Option<Vec<u64>> {
    let inside = inside.trim();
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    if inside.is_empty() {
        return Some(Vec::new());
    }
    let number = |part: &str| {
        let digits = part.trim();
        let digits = digits.strip_suffix('L').unwrap_or(digits);
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    inside.split(',').map(number).collect()
}
