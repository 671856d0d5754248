//! Rewrites a chat template's source before it is compiled: the tag `generation`, which
//! only marks what is trained on, becomes `with`; assigned values pass through a filter that
//! limits their size; sources that could overflow the compiler's stack are refused. Knows
//! Jinja's lexer, not its grammar.

/// Maximum length of the source and of a single tag or expression, in bytes, and maximum
/// nesting depth of tags and of brackets: far more than known templates need.
const MAX_SOURCE: usize = 1 << 20;
const MAX_TAG: usize = 8 << 10;
const MAX_DEPTH: usize = 100;

/// Tags that are closed by an `end…` tag.
const OPENS: &[&str] = &[
    "if",
    "for",
    "macro",
    "call",
    "filter",
    "block",
    "with",
    "generation",
    "autoescape",
    "raw",
];

/// The source as it is compiled.
///
/// # Errors
/// What is wrong, when it exceeds a limit.
pub(super) fn rewritten(source: &str) -> Result<String, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!(
            "it is {} bytes long: at most {MAX_SOURCE} are allowed",
            source.len()
        ));
    }
    // Jinja2 normalizes line endings as well.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let (mut rest, mut depth) = (source.as_str(), 0_usize);
    while let Some(at) = rest.find('{') {
        let (text, tag) = rest.split_at(at);
        out.push_str(text);
        let Some(kind) = tag.as_bytes().get(1).filter(|kind| b"#{%".contains(kind)) else {
            out.push('{');
            rest = &tag[1..];
            continue;
        };
        if *kind == b'#' {
            let end = tag.find("#}").map_or(tag.len(), |end| end + 2);
            out.push_str(&tag[..end]);
            rest = &tag[end..];
            continue;
        }
        let end = end_of(tag, if *kind == b'{' { "}}" } else { "%}" })?;
        let (inner, behind) = tag.split_at(end);
        rest = behind;
        if *kind == b'{' {
            out.push_str(inner);
            continue;
        }
        let statement = Statement::of(inner);
        match statement.name {
            "raw" => {
                // Up to `endraw` nothing is a tag.
                let end = raw_end(rest);
                out.push_str(inner);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            name if OPENS.contains(&name) => depth += 1,
            "set" if statement.assignment().is_none() => depth += 1,
            name if name.starts_with("end") => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("tags are nested more than {MAX_DEPTH} deep"));
        }
        statement.write(&mut out);
    }
    out.push_str(rest);
    Ok(out)
}

/// The parts of `{%- name arguments -%}`.
struct Statement<'a> {
    /// Up to the name.
    head: &'a str,
    name: &'a str,
    /// What follows the name.
    arguments: &'a str,
    /// The closing delimiter, with its white space control.
    tail: &'a str,
}

impl<'a> Statement<'a> {
    fn of(tag: &'a str) -> Self {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let start = tag.find(is_name).unwrap_or(2);
        let end = tag[start..]
            .find(|c| !is_name(c))
            .map_or(tag.len(), |end| start + end);
        // An unclosed tag has no delimiter.
        let body_end = tag.strip_suffix("%}").map_or(tag.len(), str::len).max(end);
        let tail = match tag[end..body_end].chars().last() {
            Some('-' | '+') => body_end - 1,
            _ => body_end,
        };
        Self {
            head: &tag[..start],
            name: &tag[start..end],
            arguments: &tag[end..tail],
            tail: &tag[tail..],
        }
    }

    /// What a `set` assigns to, and the value. None of one that is closed by `endset`: a filter
    /// on it may have `=` too, between brackets.
    fn assignment(&self) -> Option<(&'a str, &'a str)> {
        let (at, ..) = bare(self.arguments).find(|&(_, byte, depth)| byte == b'=' && depth == 0)?;
        Some((&self.arguments[..at], &self.arguments[at + 1..]))
    }

    fn write(&self, out: &mut String) {
        out.push_str(self.head);
        let assigned = match self.name {
            "set" => self.assignment(),
            _ => None,
        };
        match (self.name, assigned) {
            ("generation", _) if self.arguments.trim().is_empty() => out.push_str("with "),
            ("endgeneration", _) => out.push_str("endwith "),
            (_, Some((to, value))) => {
                let filter = if to.contains('.') { "held" } else { "kept" };
                out.push_str("set");
                out.push_str(to);
                out.push_str("= (");
                out.push_str(value);
                out.push_str(")|");
                out.push_str(filter);
                out.push(' ');
            }
            _ => {
                out.push_str(self.name);
                out.push_str(self.arguments);
            }
        }
        out.push_str(self.tail);
    }
}

/// The offset after a tag's closing delimiter, ignoring those in strings and brackets.
fn end_of(tag: &str, close: &str) -> Result<usize, String> {
    for (at, _, depth) in bare(&tag[2..]).map(|(at, byte, depth)| (at + 2, byte, depth)) {
        if at > MAX_TAG {
            return Err(format!(
                "a tag or expression is longer than {MAX_TAG} bytes"
            ));
        }
        if depth == 0 && tag.as_bytes()[at..].starts_with(close.as_bytes()) {
            return Ok(at + 2);
        }
        if depth > MAX_DEPTH {
            return Err(format!("brackets are nested more than {MAX_DEPTH} deep"));
        }
    }
    // It is never closed, which the compiler reports.
    Ok(tag.len())
}

/// The bytes of an expression outside of its strings, each with its offset and the number of
/// brackets that are open before it.
fn bare(text: &str) -> impl Iterator<Item = (usize, u8, usize)> {
    let mut string = None;
    let (mut is_escaped, mut depth) = (false, 0_usize);
    text.bytes().enumerate().filter_map(move |(at, byte)| {
        if let Some(quote) = string {
            if byte == quote && !is_escaped {
                string = None;
            }
            is_escaped = byte == b'\\' && !is_escaped;
            return None;
        }
        let before = depth;
        match byte {
            b'"' | b'\'' => {
                string = Some(byte);
                return None;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        Some((at, byte, before))
    })
}

/// The offset of the `endraw` tag, or the end of the text.
fn raw_end(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%").map(|at| from + at) {
        let inner = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        if inner.starts_with("endraw") {
            return at;
        }
        from = at + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::rewritten;

    #[test]
    fn only_tags_are_rewritten() {
        for (source, expect) in [
            (
                "a{% generation %}b{% endgeneration %}",
                "a{% with %}b{% endwith %}",
            ),
            (
                "{%- generation -%}b{%- endgeneration -%}",
                "{%- with -%}b{%- endwith -%}",
            ),
            ("{%+generation+%}", "{%+with +%}"),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            ("{# {% generation %} #}", "{# {% generation %} #}"),
            (
                "{% raw %}{% generation %}{% endraw %}",
                "{% raw %}{% generation %}{% endraw %}",
            ),
            (
                "{{ {'a': {'b': 1}} }}{% generation %}",
                "{{ {'a': {'b': 1}} }}{% with %}",
            ),
            ("{% set x = '%}' %}", "{% set x = ( '%}' )|kept %}"),
            ("{%- set ns.x=1 -%}", "{%- set ns.x= (1 )|held -%}"),
            ("{% set x %}a{% endset %}", "{% set x %}a{% endset %}"),
            (
                "{% set x | f(a=1) %}a{% endset %}",
                "{% set x | f(a=1) %}a{% endset %}",
            ),
            (
                "{% set x | f('=') %}a{% endset %}",
                "{% set x | f('=') %}a{% endset %}",
            ),
            (
                "{% set x = f(a=1) == '=' %}",
                "{% set x = ( f(a=1) == '=' )|kept %}",
            ),
            ("{% set (a, b) = c %}", "{% set (a, b) = ( c )|kept %}"),
            ("{{ '\\'}}' }}{% generation %}", "{{ '\\'}}' }}{% with %}"),
            ("a\r\nb\rc{{ '\r\n' }}", "a\nb\nc{{ '\n' }}"),
            (
                "{ {% if generation %}{% endif %} } {",
                "{ {% if generation %}{% endif %} } {",
            ),
            // Never closed, as the compiler reports.
            ("{% x €", "{% x €"),
            ("{% set x = '€", "{% set x = ( '€)|kept "),
            ("{%", "{%"),
            ("{%}", "{%}"),
            ("{%-", "{%-"),
            ("{%%}", "{%%}"),
        ] {
            let got = rewritten(source).expect("within bounds");
            assert_eq!(
                got.replace("  ", " "),
                expect.replace("  ", " "),
                "{source}"
            );
        }
    }

    #[test]
    fn what_is_too_deep_or_long_is_refused() {
        for (source, says) in [
            ("{% if 1 %}".repeat(200), "deep"),
            ("{% set x | f(a=1) %}".repeat(200), "deep"),
            (format!("{{{{ {}1 }}}}", "(".repeat(200)), "deep"),
            (format!("{{{{ {}1 }}}}", "not ".repeat(5000)), "longer"),
            (" ".repeat(2 << 20), "bytes long"),
        ] {
            let error = rewritten(&source).expect_err("out of bounds");
            assert!(error.contains(says), "{error}");
        }
    }
}
