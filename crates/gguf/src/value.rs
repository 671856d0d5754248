//! Metadata values of thirteen types; arrays are kept in their encoded form. Does not know
//! which keys exist.

use std::borrow::Cow;

macro_rules! value_types {
    ($($variant:ident = $id:literal, $name:literal, $bytes:expr;)*) => {
        /// The type of a metadata value.
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ValueType {
            $($variant),*
        }

        impl ValueType {
            /// The type's number in the file.
            pub const fn id(self) -> u32 {
                match self { $(ValueType::$variant => $id),* }
            }

            /// The type with this number in the file.
            pub fn from_id(id: u32) -> Option<ValueType> {
                match id { $($id => Some(ValueType::$variant),)* _ => None }
            }

            /// Encoded size in bytes; `None` for strings and arrays, whose size varies.
            pub const fn fixed_bytes(self) -> Option<u64> {
                match self { $(ValueType::$variant => $bytes),* }
            }
        }

        impl std::fmt::Display for ValueType {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(ValueType::$variant => $name),* })
            }
        }
    };
}

value_types! {
    U8 = 0, "u8", Some(1);
    I8 = 1, "i8", Some(1);
    U16 = 2, "u16", Some(2);
    I16 = 3, "i16", Some(2);
    U32 = 4, "u32", Some(4);
    I32 = 5, "i32", Some(4);
    F32 = 6, "f32", Some(4);
    Bool = 7, "bool", Some(1);
    Str = 8, "string", None;
    Array = 9, "array", None;
    U64 = 10, "u64", Some(8);
    I64 = 11, "i64", Some(8);
    F64 = 12, "f64", Some(8);
}

/// One metadata value. Strings and arrays borrow the header's bytes.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(Cow<'a, str>),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Its type.
    pub fn kind(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// Any integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// A floating-point number; a double is rounded.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(v) => Some(v),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&Array<'a>> {
        match self {
            Value::Array(v) => Some(v),
            _ => None,
        }
    }

    /// The scalar of this type in `bytes`; `None` if their number is not the type's.
    pub(crate) fn scalar(kind: ValueType, bytes: &[u8]) -> Option<Value<'static>> {
        Some(match kind {
            ValueType::U8 => Value::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            // As in llama.cpp, every value but zero is true.
            ValueType::Bool => Value::Bool(u8::from_le_bytes(bytes.try_into().ok()?) != 0),
            ValueType::U64 => Value::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::Str | ValueType::Array => return None,
        })
    }

    /// Appends the encoded value, without its type's number.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(v) => out.extend(v.to_le_bytes()),
            Value::I8(v) => out.extend(v.to_le_bytes()),
            Value::U16(v) => out.extend(v.to_le_bytes()),
            Value::I16(v) => out.extend(v.to_le_bytes()),
            Value::U32(v) => out.extend(v.to_le_bytes()),
            Value::I32(v) => out.extend(v.to_le_bytes()),
            Value::F32(v) => out.extend(v.to_le_bytes()),
            Value::Bool(v) => out.push(u8::from(*v)),
            Value::Str(v) => encode_str(v.as_bytes(), out),
            Value::Array(v) => {
                out.extend(v.kind.id().to_le_bytes());
                out.extend(v.len.to_le_bytes());
                out.extend_from_slice(&v.raw);
            }
            Value::U64(v) => out.extend(v.to_le_bytes()),
            Value::I64(v) => out.extend(v.to_le_bytes()),
            Value::F64(v) => out.extend(v.to_le_bytes()),
        }
    }
}

pub(crate) fn encode_str(text: &[u8], out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Str(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Str(Cow::Owned(text))
    }
}

/// An array in its encoded form: a vocabulary of 150 000 tokens costs no
/// allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<'a> {
    pub(crate) kind: ValueType,
    pub(crate) len: u64,
    pub(crate) raw: Cow<'a, [u8]>,
}

impl Array<'_> {
    /// An array of strings.
    pub fn from_strings<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Self {
        let (mut len, mut raw) = (0, Vec::new());
        for text in strings {
            encode_str(text.as_ref(), &mut raw);
            len += 1;
        }
        Self {
            kind: ValueType::Str,
            len,
            raw: Cow::Owned(raw),
        }
    }

    /// An array of 32-bit integers.
    pub fn from_i32s(values: impl IntoIterator<Item = i32>) -> Self {
        let raw: Vec<u8> = values.into_iter().flat_map(i32::to_le_bytes).collect();
        Self {
            kind: ValueType::I32,
            len: raw.len() as u64 / 4,
            raw: Cow::Owned(raw),
        }
    }

    /// An array of 32-bit floating-point numbers.
    pub fn from_f32s(values: impl IntoIterator<Item = f32>) -> Self {
        let raw: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self {
            kind: ValueType::F32,
            len: raw.len() as u64 / 4,
            raw: Cow::Owned(raw),
        }
    }

    /// The type of its elements.
    pub fn kind(&self) -> ValueType {
        self.kind
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The strings, as bytes because not all tokens are UTF-8; none if the elements are
    /// not strings.
    pub fn strings(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = match self.kind {
            ValueType::Str => &*self.raw,
            _ => &[],
        };
        std::iter::from_fn(move || {
            let (len, tail) = rest.split_first_chunk::<8>()?;
            let (text, tail) = tail.split_at_checked(u64::from_le_bytes(*len) as usize)?;
            rest = tail;
            Some(text)
        })
    }

    /// The elements; none if they are strings.
    pub fn scalars(&self) -> impl Iterator<Item = Value<'static>> {
        let bytes = self.kind.fixed_bytes().unwrap_or(1) as usize;
        let chunks = self.raw.chunks_exact(bytes);
        chunks.filter_map(|chunk| Value::scalar(self.kind, chunk))
    }
}
