//! Types of feature elements, by the names that NumPy and PyTorch have for them. The
//! rows are bytes to everybody else.

use std::fmt;

/// What a feature is stored as. Little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// 16-bit floating point.
    F16,
    /// The upper half of an `F32`.
    Bf16,
    /// Signed bytes.
    I8,
    /// Unsigned bytes.
    U8,
}

impl ElementType {
    /// All of them.
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

    /// PyTorch's name.
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

    /// By PyTorch's name.
    ///
    /// # Errors
    /// In words, when it is none of them.
    pub fn from_name(name: &str) -> Result<Self, String> {
        let name = name.strip_prefix("torch.").unwrap_or(name);
        let found = Self::ALL.into_iter().find(|element| element.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("features of type {name:?} cannot be read; expected one of {names}")
        })
    }

    /// As a .npy header says it.
    pub(crate) fn descr(self) -> &'static str {
        match self {
            Self::F32 => "<f4",
            Self::F64 => "<f8",
            Self::F16 => "<f2",
            // NumPy has no name for it.
            Self::Bf16 => "|V2",
            Self::I8 => "|i1",
            Self::U8 => "|u1",
        }
    }

    /// By a .npy header's `descr`; what has no type is `untyped`.
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
                    "elements are two bytes of no type (|V2), as bfloat16 is saved; give \
                     dtype=\"bfloat16\" to read them as that"
                        .into(),
                );
            }
            _ => {
                let names = Self::ALL.map(Self::name).join(", ");
                return Err(format!(
                    "elements of type {descr:?} cannot be read; expected one of {names}, convert the array by astype"
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
