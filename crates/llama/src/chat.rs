//! Conversations as text, rendered by the model's own chat template, with limits on
//! steps, on sizes of texts and values, and on the stack.

mod python;
mod rewrite;
mod veil;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use minijinja::{Environment, Error as JinjaError, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};

use crate::tokenize::TokenizeRequest;
use crate::vocab::Vocab;
use delayline_engine::Error;
use veil::Veil;

/// Maximum number of instructions that a template may execute.
const FUEL: u64 = 5_000_000;

/// Maximum length of its output, in bytes.
const MAX_TEXT: usize = 32 << 20;

/// Stack on which templates are compiled and rendered, in bytes: enough for the longest
/// expressions that [`rewrite`] allows.
const STACK: usize = 64 << 20;

/// Marks the place from which the model continues; a noncharacter of Unicode.
const HERE: char = '\u{10ffff}';

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
    /// What an assistant thought before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
}

impl Message {
    /// A message without reasoning.
    pub fn new(role: &str, content: &str) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            reasoning_content: None,
        }
    }
}

/// A conversation and the other inputs of a template.
#[derive(Clone, Debug, Deserialize)]
pub struct Conversation {
    /// Its messages, with whatever fields they have.
    messages: Value,
    /// Tools that the model may call.
    #[serde(default)]
    tools: Value,
    /// More variables for the template.
    #[serde(default, rename = "chat_template_kwargs")]
    variables: BTreeMap<String, Value>,
}

impl Conversation {
    /// Of messages, without tools or variables.
    pub fn new(messages: &[Message]) -> Self {
        Self {
            messages: Value::from_serialize(messages),
            tools: Value::from(()),
            variables: BTreeMap::new(),
        }
    }
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Byte ranges, in order and disjoint, that spell control tokens or private characters
    /// but come from the conversation, not from the template.
    pub plain: Vec<Range<usize>>,
}

/// A chat template, compiled.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    begin: String,
    end: String,
    vocab: Option<Vocab>,
    /// Characters of its source that cannot be used as veils.
    taken: BTreeSet<char>,
    /// Whether it expects a message's content as a list of parts.
    wants_parts: bool,
}

impl Template {
    /// The model's own template.
    ///
    /// # Errors
    /// When it has none, or it is not valid Jinja.
    pub fn of(vocab: &Vocab) -> Result<Self, Error> {
        let source = vocab.chat_template()?.ok_or_else(|| {
            Error::Template("it has none; use -p PROMPT to complete a text instead".into())
        })?;
        Self::for_vocab(source, vocab)
    }

    /// Another template for the same model.
    ///
    /// # Errors
    /// When it is not valid Jinja.
    pub fn for_vocab(source: String, vocab: &Vocab) -> Result<Self, Error> {
        let begin = vocab.special_text(true)?;
        let template = Self::new(source, begin, vocab.special_text(false)?)?;
        Ok(Self {
            vocab: Some(vocab.clone()),
            ..template
        })
    }

    /// From a template's source and the texts of the beginning and end tokens (BOS, EOS).
    ///
    /// # Errors
    /// When it is not valid Jinja.
    pub fn new(source: String, begin: String, end: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // As Transformers renders templates, for which they are written.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        python::furnish(&mut environment);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<String, JinjaError> {
                Err(JinjaError::new(ErrorKind::InvalidOperation, message))
            },
        );
        // A function of Transformers' environment, for templates that tell the date.
        environment.add_function(
            "strftime_now",
            |format: String| -> Result<String, JinjaError> {
                python::widths(&format)?;
                jiff::fmt::strtime::format(&format, &jiff::Zoned::now())
                    .map_err(|e| JinjaError::new(ErrorKind::InvalidOperation, e.to_string()))
            },
        );
        // Ends endless loops.
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(200);
        let taken = veil::taken(&source);
        let source = rewrite::rewritten(&source).map_err(Error::Template)?;
        on_own_stack(|| {
            environment
                .add_template_owned("chat", source)
                .map_err(|e| Error::Template(explain(&e)))
        })?;
        let mut template = Self {
            environment,
            begin,
            end,
            vocab: None,
            taken,
            wants_parts: false,
        };
        template.wants_parts = template.shows(true) && !template.shows(false);
        Ok(template)
    }

    /// Whether it expects contents as lists of parts, as templates of multimodal models do;
    /// texts are converted to that unless [`Template::as_sent`] was called.
    pub fn wants_parts(&self) -> bool {
        self.wants_parts
    }

    /// The same template, with contents passed unchanged, as Transformers does.
    pub fn as_sent(self) -> Self {
        Self {
            wants_parts: false,
            ..self
        }
    }

    /// Whether the output contains a user's text that is given as a string or in parts.
    fn shows(&self, in_parts: bool) -> bool {
        let said = "delay line";
        let content = match in_parts {
            true => parts(Value::from(said)),
            false => Value::from(said),
        };
        let messages = Value::from(vec![context! { role => "user", content }]);
        let text = on_own_stack(|| self.text(messages, Value::from(()), &BTreeMap::new(), true));
        text.is_ok_and(|text| text.contains(said))
    }

    /// The conversation as text, up to where the assistant's answer begins, or continues if
    /// the last message is the beginning of an answer.
    ///
    /// # Errors
    /// When the template refuses the conversation, or exceeds a limit.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered, Error> {
        let words = self.vocab.as_ref().map(Vocab::words).transpose()?;
        let refused = |e: JinjaError| Error::Template(explain(&e));
        on_own_stack(|| {
            let mut veil = Veil::new(words.map(|words| &words.special), &self.taken);
            let messages = veil.over(&conversation.messages, 0).map_err(refused)?;
            let tools = veil.over(&conversation.tools, 0).map_err(refused)?;
            let mut variables = BTreeMap::new();
            for (name, value) in &conversation.variables {
                variables.insert(name.clone(), veil.over(value, 0).map_err(refused)?);
            }
            let (messages, goes_on) = self.prepared(&messages).map_err(refused)?;
            let mut text = self.text(messages, tools, &variables, !goes_on)?;
            if goes_on {
                let here = text.rfind(HERE).ok_or_else(|| {
                    Error::Template(
                        "it leaves out the last message, the beginning of the answer: end the \
                         conversation with the user's"
                            .into(),
                    )
                })?;
                text.truncate(here);
            }
            let (text, plain) = veil.lift(text);
            Ok(Rendered { text, plain })
        })
    }

    /// The messages in the form that the template expects, and whether the last is the
    /// beginning of an answer, which then ends with [`HERE`].
    fn prepared(&self, messages: &Value) -> Result<(Value, bool), JinjaError> {
        let mut messages: Vec<Value> = messages.try_iter()?.collect();
        let is = |message: &Value, key: &str| message.get_attr(key).unwrap_or_default();
        let goes_on = messages.last().is_some_and(|last| {
            is(last, "role").as_str() == Some("assistant")
                && is(last, "content").as_str().is_some()
                && !is(last, "tool_calls").is_true()
        });
        let count = messages.len();
        for (at, message) in messages.iter_mut().enumerate() {
            let content = is(message, "content");
            let Some(text) = content.as_str() else {
                continue;
            };
            let mut text = text.to_owned();
            let ends = goes_on && at + 1 == count;
            if ends {
                text.push(HERE);
            }
            if ends || self.wants_parts {
                let content = match self.wants_parts {
                    true => parts(Value::from(text)),
                    false => Value::from(text),
                };
                *message = with(message, "content", content);
            }
        }
        Ok((Value::from(messages), goes_on))
    }

    fn text(
        &self,
        messages: Value,
        tools: Value,
        variables: &BTreeMap<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let refused = |e: JinjaError| Error::Template(explain(&e));
        let template = self.environment.get_template("chat").map_err(refused)?;
        let given = context! {
            messages,
            tools,
            add_generation_prompt,
            bos_token => self.begin,
            eos_token => self.end,
        };
        let more: Value = variables.clone().into_iter().collect();
        let mut out = Bounded::default();
        template
            .render_captured_to(context! { ..more, ..given }, &mut out)
            .map_err(|e| match out.is_full {
                true => Error::Template(format!("it makes a text of more than {MAX_TEXT} bytes")),
                false => refused(e),
            })?;
        String::from_utf8(out.bytes).map_err(|_| Error::Defect("a template made no text".into()))
    }

    /// The request that tokenizes a rendered conversation.
    pub fn request<'a>(&self, rendered: &'a Rendered) -> TokenizeRequest<'a> {
        let is_plain = rendered.plain.first().is_some_and(|range| range.start == 0);
        let begins = !self.begin.is_empty() && !is_plain && rendered.text.starts_with(&self.begin);
        TokenizeRequest {
            plain: &rendered.plain,
            begin: !begins,
            ..TokenizeRequest::new(&rendered.text)
        }
    }
}

/// A content of one text part.
fn parts(text: Value) -> Value {
    Value::from(vec![context! { type => "text", text }])
}

/// `map` with the value at `key` replaced.
fn with(map: &Value, key: &str, value: Value) -> Value {
    let pairs = map.as_object().and_then(|object| object.try_iter_pairs());
    let others = pairs.into_iter().flatten();
    others
        .map(|(name, other)| match name.as_str() == Some(key) {
            true => (name, value.clone()),
            false => (name, other),
        })
        .collect()
}

/// Output of at most [`MAX_TEXT`] bytes.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_TEXT {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Calls `body` on a thread with a stack of [`STACK`] bytes, of which only touched pages
/// take memory.
fn on_own_stack<T: Send>(body: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("template".into())
            .stack_size(STACK)
            .spawn_scoped(scope, body)
            .map_err(Error::Memory)?
            .join()
            .unwrap_or_else(|_| Err(Error::Template("it made the renderer panic".into())))
    })
}

fn explain(error: &JinjaError) -> String {
    let text = match error.line() {
        Some(line) => format!("line {line}: {error}"),
        None => error.to_string(),
    };
    // The text may come from the model's file: no control characters reach the terminal.
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    text.take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'].strip() + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    fn render(template: &Template, messages: &[Message]) -> Result<Rendered, Error> {
        template.render(&Conversation::new(messages))
    }

    fn made(source: &str, messages: &[Message]) -> Result<String, String> {
        let template = Template::new(source.into(), "<s>".into(), "</s>".into())
            .map_err(|error| error.to_string())?;
        let rendered = render(&template, messages).map_err(|error| error.to_string())?;
        Ok(rendered.text)
    }

    #[test]
    fn a_template_with_python_methods_renders() {
        let template = Template::new(CHATML.into(), "<s>".into(), "</s>".into()).unwrap();
        let rendered = render(&template, &[Message::new("user", " Hi ")]).unwrap();
        assert_eq!(
            rendered.text,
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
        assert!(template.request(&rendered).begin);
    }

    #[test]
    fn a_refusing_template_says_why() {
        let template = Template::new(
            "{{ raise_exception('no system turn') }}".into(),
            String::new(),
            String::new(),
        )
        .unwrap();
        let error = render(&template, &[]).unwrap_err().to_string();
        assert!(error.contains("no system turn"), "{error}");
    }

    #[test]
    fn a_template_can_tell_the_date() {
        let render = |format: &str| {
            let source = format!("{{{{ strftime_now('{format}') }}}}");
            let template = Template::new(source, String::new(), String::new()).unwrap();
            super::tests::render(&template, &[]).map(|rendered| rendered.text)
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
        assert!(render(&template, &[]).is_err());
    }

    /// Templates that would use unlimited steps, memory or stack are refused with an error.
    #[test]
    fn a_template_is_bounded() {
        let doubled = |set: &str| {
            format!(
                "{{% set ns = namespace(x='a', y=[1]) %}}{{% for i in range(60) %}}{{% {set} %}}{{% endfor %}}{{{{ ns.x }}}}"
            )
        };
        for source in [
            "{{ 'x' * 100000000000 }}".into(),
            doubled("set ns.x = ns.x ~ ns.x"),
            doubled("set ns.y = ns.y + ns.y"),
            "{% macro f(n) %}{{ f(n+1) }}{% endmacro %}{{ f(0) }}".into(),
            format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
            format!("{{{{ 1{} }}}}", "|string".repeat(200_000)),
            format!(
                "{}{}",
                "{% for a in [1] %}".repeat(20_000),
                "{% endfor %}".repeat(20_000)
            ),
            "{% set x %}".repeat(20_000),
            "{{ '%1000000000d' | format(1) }}".into(),
            "{{ 'x\ny' | indent(10000000000) }}".into(),
            "{{ [1]|batch(10000000000, 0)|list }}".into(),
            "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".into(),
            "{% set ns = namespace() %}{% set ns.a = [[ns]] %}{{ ns|string }}".into(),
            "{% set s='a'*4000 %}{{ s.replace('a', s) }}".into(),
            "{{ range(100000)|join('x'*100000) }}".into(),
            "{{ ('x'*100000).join(range(100000)) }}".into(),
            "{{ strftime_now('%1000000000d') }}".into(),
            "{% include 'chat' %}".into(),
            "{% include '/etc/passwd' %}".into(),
            "{% for i in range(100000) %}{{ 'x' * 100000 }}{% endfor %}".into(),
        ] {
            let error = made(&source, &[Message::new("user", "hi")]).expect_err(&source);
            assert!(error.contains("template"), "{error}");
        }
        // Just within the limits: the stack has to be large enough.
        let chain = format!("{{{{ 1{} }}}}", "|string".repeat(1100));
        let signs = format!("{{{{ {}1 }}}}", "-".repeat(8000));
        for source in [chain, signs] {
            assert_eq!(made(&source, &[]).unwrap(), "1");
        }
    }

    #[test]
    fn a_conversation_that_ends_with_a_beginning_goes_on_from_it() {
        let messages = [
            Message::new("user", "Hi"),
            Message::new("assistant", "I am "),
        ];
        assert_eq!(
            made(&CHATML.replace(".strip()", ""), &messages).unwrap(),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nI am "
        );
        let drops = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
        assert!(made(drops, &messages).unwrap_err().contains("leaves out"));
    }

    #[test]
    fn tags_of_transformers_are_known() {
        let source = "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration %}{% if loop.index > 1 %}{% break %}{% endif %}{% continue %}never{% endfor %}";
        let messages = ["a", "b", "c"].map(|text| Message::new("user", text));
        assert_eq!(made(source, &messages).unwrap(), "ab");
    }

    #[test]
    fn what_was_said_comes_in_parts_where_the_template_wants_them() {
        let source = "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}<{{ part.text }}>{% endif %}{% endfor %}{% endfor %}";
        assert_eq!(made(source, &[Message::new("user", "hi")]).unwrap(), "<hi>");
        let template = Template::new(source.into(), String::new(), String::new()).unwrap();
        assert!(template.wants_parts());
        let as_sent = render(&template.as_sent(), &[Message::new("user", "hi")]);
        assert_eq!(as_sent.unwrap().text, "");
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        let source = "{{ {'a': [true, none, 1.5, 'it\\'s']} }}{{ true }}{{ {'b': 'é<', 'a': []}|tojson }}{{ [1, {'x': 2}]|tojson(indent=2) }}{{ {'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }}";
        assert_eq!(
            made(source, &[]).unwrap(),
            "{'a': [True, None, 1.5, \"it's\"]}True{\"b\": \"é<\", \"a\": []}[\n  1,\n  {\n    \"x\": 2\n  }\n]{\"a\":2,\"b\":1}"
        );
    }
}
