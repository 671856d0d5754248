//! Lookups in a [`Header`]. Only keys that every model has are known here.

use crate::error::shown;
use crate::header::Header;
use crate::tensor::Tensor;
use crate::value::{Array, Value};
use crate::{Error, ValueType};

impl<'a> Header<'a> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        let found = self.metadata.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value)
    }

    /// The value of a key if it is an integer that is not negative.
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// The value of a key if it is a floating-point number.
    pub fn get_f32(&self, key: &str) -> Option<f32> {
        self.get(key)?.as_f32()
    }

    /// The value of a key if it is a boolean.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// The value of a key if it is a string.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The value of a key if it is an array.
    pub fn get_array(&self, key: &str) -> Option<&Array<'a>> {
        self.get(key)?.as_array()
    }

    /// The value of a key that has to be there.
    ///
    /// # Errors
    /// The key is missing, or its value is not an integer or is negative.
    pub fn require_u64(&self, key: &str) -> Result<u64, Error> {
        self.require(key, "an integer that is not negative", Value::as_u64)
    }

    /// The value of a key that has to be there.
    ///
    /// # Errors
    /// The key is missing, or its value is not a string.
    pub fn require_str(&self, key: &str) -> Result<&str, Error> {
        self.require(key, "a string", Value::as_str)
    }

    fn require<'s, T>(
        &'s self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'s Value<'a>) -> Option<T>,
    ) -> Result<T, Error> {
        let value = self.get(key).ok_or_else(|| Error::MissingKey {
            key: shown(key.as_bytes()),
        })?;
        read(value).ok_or_else(|| Error::WrongType {
            key: shown(key.as_bytes()),
            expected,
            found: value.kind(),
        })
    }

    /// The architecture, such as `llama` (`general.architecture`).
    ///
    /// # Errors
    /// The key is missing, or its value is not a string.
    pub fn architecture(&self) -> Result<&str, Error> {
        self.require_str("general.architecture")
    }

    /// The key of this architecture for `suffix`: `llama.block_count` for
    /// `block_count`.
    ///
    /// # Errors
    /// Those of [`Header::architecture`].
    pub fn arch_key(&self, suffix: &str) -> Result<String, Error> {
        Ok(format!("{}.{suffix}", self.architecture()?))
    }

    /// Number of transformer layers.
    ///
    /// # Errors
    /// The key is missing, or its value is not an integer or is negative.
    pub fn block_count(&self) -> Result<u64, Error> {
        self.require_u64(&self.arch_key("block_count")?)
    }

    /// Longest context that the model was trained for, in tokens.
    ///
    /// # Errors
    /// The key is missing, or its value is not an integer or is negative.
    pub fn context_length(&self) -> Result<u64, Error> {
        self.require_u64(&self.arch_key("context_length")?)
    }

    /// Length of the vectors between layers.
    ///
    /// # Errors
    /// The key is missing, or its value is not an integer or is negative.
    pub fn embedding_length(&self) -> Result<u64, Error> {
        self.require_u64(&self.arch_key("embedding_length")?)
    }

    /// Number of experts of a layer; `None` if the model has no experts.
    pub fn expert_count(&self) -> Option<u64> {
        let key = self.arch_key("expert_count").ok()?;
        self.get_u64(&key).filter(|&count| count > 0)
    }

    /// Number of tokens in the vocabulary, if the file has one.
    pub fn vocab_len(&self) -> Option<u64> {
        let tokens = self.get_array("tokenizer.ggml.tokens")?;
        (tokens.kind() == ValueType::Str).then(|| tokens.len())
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Bytes of all tensors together, without padding.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.len).sum()
    }
}
