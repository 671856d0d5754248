//! OpenAI's `/v1/embeddings`: parses a request and formats its answer. Knows no engine.

use delayline_llama::batch::{Choice, GenerateRequest, Retention};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::Fields;
use super::request::{Prompt, TextPrompt};

/// Parameters with an effect, as in the OpenAPI description.
pub const PARAMETERS: &[&str] = &["input", "model", "encoding_format", "dimensions"];

/// Parameters without effect, accepted with any value.
const NEUTRAL: &[(&str, &[&str])] = &[("user", &["*"])];

/// Maximum number of inputs of a request.
const INPUTS: usize = 2048;

/// How the numbers of an embedding are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    /// Base64 of little-endian 32-bit floats.
    Base64,
}

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingRequest {
    /// The texts.
    pub inputs: Vec<Prompt>,
    /// The model asked for.
    pub model: Option<String>,
    encoding: Encoding,
    /// Number of leading dimensions to keep.
    dimensions: Option<usize>,
}

/// Parses a body of `/v1/embeddings`.
///
/// # Errors
/// When it is invalid or not supported.
pub fn embeddings(body: &[u8]) -> Result<EmbeddingRequest, ApiError> {
    let mut fields = Fields::parse(body)?;
    fields.neutral(NEUTRAL)?;
    let expected = "a text, a list of texts, the tokens of a text, or a list of such";
    let missing = || ApiError::param("input", format!("`input` is missing: {expected}"));
    let input: TextPrompt = fields.take("input", expected)?.ok_or_else(missing)?;
    let inputs = input.into_prompts();
    if inputs.is_empty() || inputs.len() > INPUTS {
        let message = format!(
            "`input` has {} texts: send from 1 to {INPUTS}",
            inputs.len()
        );
        return Err(ApiError::param("input", message));
    }
    let model: Option<String> = fields.take("model", "the name of a model")?;
    let encoding: Option<Encoding> = fields.take("encoding_format", "\"float\" or \"base64\"")?;
    let dimensions = fields.whole("dimensions", 1, i64::from(i32::MAX))?;
    fields.finish()?;
    Ok(EmbeddingRequest {
        inputs,
        model: model.filter(|model| !model.is_empty()),
        encoding: encoding.unwrap_or_default(),
        dimensions: dimensions.map(|n| n as usize),
    })
}

impl EmbeddingRequest {
    /// The job for the engine for a text of these tokens.
    pub fn generate(tokens: Vec<i32>) -> GenerateRequest {
        GenerateRequest {
            // The same text rarely comes again, so it is not kept on disk.
            retention: Retention::Memory,
            ..GenerateRequest::new(&tokens, 1, Choice::Embedding)
        }
    }

    /// The answer with an embedding for each text; `tokens` is their total length.
    ///
    /// # Errors
    /// When more dimensions are asked for than the embeddings have.
    pub fn answer(
        &self,
        model: &str,
        embeddings: Vec<Vec<f32>>,
        tokens: usize,
    ) -> Result<Value, ApiError> {
        let data = embeddings
            .into_iter()
            .enumerate()
            .map(|(index, embedding)| {
                let embedding = match self.encoding {
                    Encoding::Float => json!(self.cut(embedding)?),
                    Encoding::Base64 => json!(base64(&self.cut(embedding)?)),
                };
                Ok(json!({"object": "embedding", "index": index, "embedding": embedding}))
            });
        let data: Vec<Value> = data.collect::<Result<_, ApiError>>()?;
        Ok(json!({
            "object": "list",
            "data": data,
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }))
    }

    /// Keeps the leading dimensions and normalizes them to length 1.
    fn cut(&self, mut embedding: Vec<f32>) -> Result<Vec<f32>, ApiError> {
        let Some(dimensions) = self.dimensions else {
            return Ok(embedding);
        };
        if dimensions > embedding.len() {
            let message = format!(
                "`dimensions` is {dimensions}, but this model's embeddings have {}",
                embedding.len()
            );
            return Err(ApiError::param("dimensions", message));
        }
        embedding.truncate(dimensions);
        let length = embedding.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            embedding.iter_mut().for_each(|x| *x /= length);
        }
        Ok(embedding)
    }
}

fn base64(numbers: &[f32]) -> String {
    use base64::Engine;
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_taken_or_refused() {
        let inputs = |body: &str| embeddings(body.as_bytes()).map(|ask| ask.inputs.len());
        for (body, expect) in [
            (r#"{"input": "a"}"#, 1),
            (r#"{"input": ["a", "b"], "encoding_format": "base64"}"#, 2),
            (r#"{"input": [1, 2, 3], "user": "me"}"#, 1),
            (r#"{"input": [[1], [2, 3]], "dimensions": null}"#, 2),
        ] {
            assert_eq!(inputs(body).ok(), Some(expect), "{body}");
        }
        for (body, part) in [
            (r#"{}"#, "`input` is missing"),
            (r#"{"input": []}"#, "has 0 texts"),
            (r#"{"input": 5}"#, "a list of texts"),
            (r#"{"input": "a", "encoding_format": "hex"}"#, "base64"),
            (r#"{"input": "a", "dimensions": 0}"#, "dimensions"),
            (r#"{"input": "a", "temperature": 1}"#, "temperature"),
        ] {
            let error = embeddings(body.as_bytes()).expect_err(body);
            assert!(error.message.contains(part), "{body}: {}", error.message);
        }
    }

    #[test]
    fn embeddings_are_cut_to_length_1_and_written_as_asked() {
        let asked = |more: &str| {
            let body = format!(r#"{{"input": "a"{more}}}"#);
            embeddings(body.as_bytes()).expect("a request")
        };
        let of = |more: &str| asked(more).answer("m", vec![vec![0.6, 0.0, 0.8]], 4);
        let first = |more: &str| of(more).expect("an answer")["data"][0]["embedding"].clone();
        assert_eq!(first(r#", "dimensions": 1"#), json!([1.0]));
        assert_eq!(
            first(r#", "encoding_format": "base64", "dimensions": 1"#),
            "AACAPw=="
        );
        assert_eq!(of("").expect("an answer")["usage"]["total_tokens"], 4);
        assert!(of(r#", "dimensions": 4"#).is_err());
    }
}
