//! Conversations as text, by the model's own template.

use minijinja::{Environment, Error as JinjaError, ErrorKind, context};
use serde::Serialize;

use crate::vocab::Vocab;
use delayline_engine::Error;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: &str, content: &str) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// A chat template, compiled.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    begin: String,
    end: String,
}

impl Template {
    /// The model's own.
    ///
    /// # Errors
    /// When it has none, or it is not sound Jinja.
    pub fn of(vocab: &Vocab) -> Result<Self, Error> {
        let source = vocab.chat_template()?.ok_or_else(|| {
            Error::Template("it has none; use -p PROMPT to complete a text instead".into())
        })?;
        Self::new(
            source,
            vocab.special_text(true)?,
            vocab.special_text(false)?,
        )
    }

    /// From a template and the texts of the model's first and last token.
    ///
    /// # Errors
    /// When it is not sound Jinja.
    pub fn new(source: String, begin: String, end: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // As transformers renders them, which is what templates are written for.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<String, JinjaError> {
                Err(JinjaError::new(ErrorKind::InvalidOperation, message))
            },
        );
        // As transformers has it: many a template tells the model the date.
        environment.add_function(
            "strftime_now",
            |format: String| -> Result<String, JinjaError> {
                jiff::fmt::strtime::format(&format, &jiff::Zoned::now())
                    .map_err(|e| JinjaError::new(ErrorKind::InvalidOperation, e.to_string()))
            },
        );
        // A template loops as it likes; fuel ends one that never would.
        environment.set_fuel(Some(10_000_000));
        environment
            .add_template_owned("chat", source)
            .map_err(|e| Error::Template(explain(&e)))?;
        Ok(Self {
            environment,
            begin,
            end,
        })
    }

    /// The conversation as text, up to where the assistant begins to speak.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let template = self
            .environment
            .get_template("chat")
            .map_err(|e| Error::Template(explain(&e)))?;
        template
            .render(context! {
                messages,
                add_generation_prompt => true,
                bos_token => self.begin,
                eos_token => self.end,
            })
            .map_err(|e| Error::Template(explain(&e)))
    }

    /// Whether rendered text already starts with the model's first token.
    pub fn begins(&self, text: &str) -> bool {
        !self.begin.is_empty() && text.starts_with(&self.begin)
    }
}

fn explain(error: &JinjaError) -> String {
    match error.line() {
        Some(line) => format!("line {line}: {error}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'].strip() + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    #[test]
    fn a_template_with_python_methods_renders() {
        let template = Template::new(CHATML.into(), "<s>".into(), "</s>".into()).unwrap();
        let text = template.render(&[Message::new("user", " Hi ")]).unwrap();
        assert_eq!(
            text,
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
        assert!(!template.begins(&text));
    }

    #[test]
    fn a_refusing_template_says_why() {
        let template = Template::new(
            "{{ raise_exception('no system turn') }}".into(),
            String::new(),
            String::new(),
        )
        .unwrap();
        let error = template.render(&[]).unwrap_err().to_string();
        assert!(error.contains("no system turn"), "{error}");
    }

    #[test]
    fn a_template_can_tell_the_date() {
        let render = |format: &str| {
            let source = format!("{{{{ strftime_now('{format}') }}}}");
            Template::new(source, String::new(), String::new())
                .unwrap()
                .render(&[])
        };
        let date = render("%d %b %Y").unwrap();
        let parts: Vec<&str> = date.split(' ').collect();
        assert_eq!(
            parts.iter().map(|p| p.len()).collect::<Vec<_>>(),
            [2, 3, 4],
            "{date}"
        );
        assert!(
            parts[2].parse::<u32>().is_ok_and(|year| year > 2000),
            "{date}"
        );
        assert!(render("%!").is_err());
    }

    #[test]
    fn an_endless_template_ends() {
        let source =
            "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}";
        let template = Template::new(source.into(), String::new(), String::new()).unwrap();
        assert!(template.render(&[]).is_err());
    }
}
