//! Headers put together byte by byte, so that any part of them can be wrong.
#![allow(dead_code, reason = "each test binary uses its share")]

/// The fields of a header, valid or not.
#[derive(Clone)]
pub struct Raw {
    pub magic: [u8; 4],
    pub version: u32,
    pub n_tensors: Option<u64>,
    pub n_entries: Option<u64>,
    pub entries: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub data: usize,
}

pub const U32: u32 = 4;
pub const BOOL: u32 = 7;
pub const STR: u32 = 8;
pub const ARRAY: u32 = 9;

pub fn string(text: &[u8]) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(text);
    out
}

pub fn entry(key: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
    [string(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

pub fn array(kind: u32, len: u64, raw: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &len.to_le_bytes(), raw].concat()
}

pub fn tensor(name: &[u8], dims: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend((dims.len() as u32).to_le_bytes());
    out.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    out.extend(ty.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

impl Raw {
    /// A small valid header, with one value of most kinds and two tensors.
    pub fn valid() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_entries: None,
            entries: vec![
                entry(b"general.architecture", STR, &string(b"llama")),
                entry(b"llama.block_count", U32, &2u32.to_le_bytes()),
                entry(b"llama.rope.freq_base", 6, &1e4f32.to_le_bytes()),
                entry(b"a.bool", BOOL, &[1]),
                entry(b"a.i64", 11, &(-3i64).to_le_bytes()),
                entry(
                    b"tokenizer.ggml.tokens",
                    ARRAY,
                    &array(
                        STR,
                        3,
                        &[string(b"a"), string(b""), string(b"\xff")].concat(),
                    ),
                ),
                entry(b"a.numbers", ARRAY, &array(3, 2, &[1, 0, 255, 255])),
            ],
            tensors: vec![
                tensor(b"token_embd.weight", &[64, 3], 2, 0),
                tensor(b"output_norm.weight", &[5], 0, 128),
            ],
            data: 128 + 20,
        }
    }

    /// The whole file, data included.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(
            self.n_tensors
                .unwrap_or(self.tensors.len() as u64)
                .to_le_bytes(),
        );
        out.extend(
            self.n_entries
                .unwrap_or(self.entries.len() as u64)
                .to_le_bytes(),
        );
        out.extend(self.entries.concat());
        out.extend(self.tensors.concat());
        out.resize(out.len().next_multiple_of(32) + self.data, 0);
        out
    }
}
