//! The types of feature elements, with their names in NumPy and PyTorch. The rest of the
//! crate sees rows as bytes.

use std::fmt;

/// The type of a feature element. Numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// 16-bit floating point.
    F16,
    /// 16-bit brain floating point, the upper half of an `F32`.
    Bf16,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
}

impl ElementType {
    /// All types.
    pub const ALL: [Self; 6] = [
        Self::F32,
        Self::F64,
        Self::F16,
        Self::Bf16,
        Self::I8,
        Self::U8,
    ];

    /// Bytes of an element.
    pub fn size(self) -> u64 {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }

    /// The name in PyTorch, such as `float32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
        }
    }

    /// The type of that name in PyTorch, with or without `torch.` before it.
    ///
    /// # Errors
    /// A message if there is none.
    pub fn from_name(name: &str) -> Result<Self, String> {
        let name = name.strip_prefix("torch.").unwrap_or(name);
        let found = Self::ALL.into_iter().find(|element| element.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("features of type {name:?} cannot be read; expected one of {names}")
        })
    }

    /// The `descr` of a .npy header.
    pub(crate) fn descr(self) -> &'static str {
        match self {
            Self::F32 => "<f4",
            Self::F64 => "<f8",
            Self::F16 => "<f2",
            // NumPy does not have this type and writes two bytes without a type.
            Self::Bf16 => "|V2",
            Self::I8 => "|i1",
            Self::U8 => "|u1",
        }
    }

    /// The type that the `descr` of a .npy header names. Two bytes without a type (`|V2`)
    /// are `untyped`.
    ///
    /// # Errors
    /// A message if features cannot have this type.
    pub(crate) fn from_npy(descr: &str, untyped: Option<Self>) -> Result<Self, String> {
        let (order, kind) = match descr.split_at_checked(1) {
            Some((order @ ("<" | ">" | "|" | "="), kind)) => (order, kind),
            _ => ("|", descr),
        };
        let element = match kind {
            "f4" => Self::F32,
            "f8" => Self::F64,
            "f2" => Self::F16,
            "i1" => Self::I8,
            "u1" => Self::U8,
            "bfloat16" => Self::Bf16,
            "V2" if untyped == Some(Self::Bf16) => Self::Bf16,
            "V2" => {
                return Err(
                    "elements are two bytes without a type (|V2), as NumPy saves bfloat16; give \
                     dtype=\"bfloat16\" if they are"
                        .into(),
                );
            }
            _ => {
                let names = Self::ALL.map(Self::name).join(", ");
                return Err(format!(
                    "elements of type {descr:?} cannot be read; expected one of {names}: convert the array by astype"
                ));
            }
        };
        if order == ">" {
            return Err(format!(
                "elements are big-endian ({descr}), expected little-endian; convert by astype({:?})",
                format!("<{kind}")
            ));
        }
        Ok(element)
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
