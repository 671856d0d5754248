//! The header of a .npy file (NumPy enhancement proposal 1, versions 1 to 3), parsed from
//! bytes that may be hostile. Pure.

use crate::ElementType;

/// The header of a .npy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpyHeader {
    /// The type of the elements.
    pub element: ElementType,
    /// The lengths of the dimensions.
    pub shape: Vec<u64>,
    /// Offset of the first element in bytes.
    pub data_at: u64,
}

/// The first bytes of every .npy file.
pub const NPY_MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Maximum length of a header in bytes.
pub const NPY_HEADER_MAX: usize = 64 << 10;

impl NpyHeader {
    /// Parses the header at the beginning of `start`: the first [`NPY_HEADER_MAX`] bytes of
    /// a file, or all of a shorter file. Elements of two bytes without a type, as NumPy
    /// saves bfloat16, are of the type `untyped`.
    ///
    /// # Errors
    /// A message if it is not the header of an array in C order with elements of an
    /// [`ElementType`].
    pub fn parse(start: &[u8], untyped: Option<ElementType>) -> Result<Self, String> {
        let (fields, data_at) = Fields::of_file(start)?;
        Ok(Self {
            element: ElementType::from_npy(&fields.descr, untyped)?,
            shape: fields.shape,
            data_at,
        })
    }
}

/// Length of the headers that NumPy writes, in bytes.
pub(crate) const NPY_HEADER: usize = 128;

/// A header of `header_len` bytes; `descr` is the type of the elements as NumPy writes it.
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

/// The number of elements of a one-dimensional array of the type `descr`, and the offset of
/// the first.
///
/// # Errors
/// As [`NpyHeader::parse`], and if the array has another type or number of dimensions.
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

/// The three entries of the header, which is a Python dictionary.
#[derive(Default)]
struct Fields {
    descr: String,
    fortran: bool,
    shape: Vec<u64>,
}

impl Fields {
    /// Parses the header at the beginning of `start`. Also returns its length, where the
    /// data begins.
    fn of_file(start: &[u8]) -> Result<(Self, u64), String> {
        if start.starts_with(b"PK\x03\x04") {
            return Err(
                "this is a .npz archive, expected a .npy file; save the array with numpy.save"
                    .into(),
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
                    "version {version} of the .npy format, expected 1 to 3; save the array with \
                     numpy.save"
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
            std::str::from_utf8(text).map_err(|_| "the .npy header is not text".to_owned())?;
        let fields = Fields::parse(text)
            .ok_or_else(|| format!("cannot understand the .npy header {:?}", shorten(text)))?;
        if fields.fortran {
            return Err(
                "the array is in Fortran order, expected C order (rows that are consecutive); \
                        save numpy.ascontiguousarray of it"
                    .into(),
            );
        }
        Ok((fields, (from + len) as u64))
    }

    /// `None` unless the text is such a dictionary with each entry once.
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

/// A quoted string without escapes, and the text behind it.
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
