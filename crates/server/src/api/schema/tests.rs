//! Which schemas become which rules, and which are refused with which message.

use super::grammar_of;

fn convert(schema: &str) -> Result<String, String> {
    let format =
        format!(r#"{{"type": "json_schema", "json_schema": {{"name": "x", "schema": {schema}}}}}"#);
    match grammar_of(&format) {
        Ok(grammar) => Ok(grammar.expect("not plain text")),
        Err(error) => Err(error.message),
    }
}

#[test]
fn schemas_become_rules() {
    for (schema, rule) in [
        (r#"true"#, "whole-schema ::= value\n"),
        (
            r#"{"type": "integer", "title": "t"}"#,
            "whole-schema ::= integer\n",
        ),
        (
            r#"{"enum": ["a\"b", 1, null]}"#,
            "whole-schema ::= \"\\\"a\\\\\\\"b\\\"\" | \"1\" | \"null\"\n",
        ),
        (
            r#"{"type": "string", "minLength": 2, "maxLength": 3}"#,
            "whole-schema ::= \"\\\"\" char{2,3} \"\\\"\"\n",
        ),
        (
            r#"{"type": ["integer", "null"]}"#,
            "whole-schema ::= (integer) | (\"null\")\n",
        ),
        (
            r#"{"type": "integer", "minimum": 1, "exclusiveMaximum": 10}"#,
            "whole-schema ::= [1-9]\n",
        ),
        (
            r#"{"type": "number", "minimum": 0, "exclusiveMinimum": 0, "maximum": 1}"#,
            "whole-schema ::= \"0\" \".\" [0-9]{0,15} [1-9] | \"1\" (\".\" \"0\"{1,16})?\n",
        ),
        (
            r#"{"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}"#,
            "whole-schema ::= \"[\" ws r1 ws (\",\" ws r1 ws){0,2} \"]\"\n",
        ),
        (
            r##"{"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}"##,
            "n1 ::= \"[\" ws (r2 ws (\",\" ws r2 ws)*)? \"]\"\n",
        ),
    ] {
        let grammar = convert(schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
        assert!(grammar.contains(rule), "{schema}:\n{grammar}");
    }
}

#[test]
fn what_cannot_be_held_is_refused() {
    for (schema, says) in [
        (r#"{"type": "string", "pattern": "a+"}"#, "`pattern`"),
        (r#"{"type": "number", "minimum": 0.5}"#, "whole number"),
        (r#"{"type": "integer", "maximum": 1e99}"#, "15 digits"),
        (
            r#"{"type": "integer", "minimum": 3, "exclusiveMaximum": 3}"#,
            "no number is within",
        ),
        (r#"{"type": "integer", "multipleOf": 3}"#, "`multipleOf`"),
        (r#"{"type": "boolean", "minimum": 3}"#, "`minimum`"),
        (r#"{"not": {}}"#, "`not`"),
        (r#"{"type": "thing"}"#, "unknown type"),
        (r#"{"type": 7}"#, "`type` that is not a string"),
        (r#"{"anyOf": []}"#, "allows nothing"),
        (r#"{"allOf": [{}, {}]}"#, "a list of one"),
        (r##"{"$ref": "#/nowhere"}"##, "does not contain"),
        (r#"{"type": "object", "required": ["x"]}"#, "not among"),
        (
            r#"{"type": "array", "minItems": 5, "maxItems": 1}"#,
            "larger than",
        ),
        (
            r#"{"type": "string", "maxLength": 100000}"#,
            "from 0 to 1000",
        ),
        (r#"7"#, "not an object"),
        (r#"{"type": "null", "type": "null"}"#, "twice"),
        (r#"{"type": ["null", "null"]}"#, "twice"),
        (
            r##"{"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}"##,
            "comes back",
        ),
    ] {
        let error = convert(schema).expect_err(schema);
        assert!(error.contains(says), "{schema}: {error}");
    }
    let many = format!(r#"{{"enum": [{}0]}}"#, "0,".repeat(600));
    assert!(convert(&many).unwrap_err().contains("more than 512"));
    let string = r#"{"type": "string", "maxLength": 1000}"#;
    let long = format!(r#"{{"anyOf": [{}]}}"#, [string; 5].join(","));
    assert!(convert(&long).unwrap_err().contains("counts out"));
    let deep = "[".repeat(200);
    assert!(convert(&deep).is_err());
}

#[test]
fn other_formats() {
    assert_eq!(grammar_of(r#"{"type": "text"}"#).unwrap(), None);
    let any = grammar_of(r#"{"type": "json_object"}"#).unwrap();
    assert!(any.is_some_and(|grammar| grammar.starts_with("root ::= object\n")));
    assert!(grammar_of(r#"{"type": "json_schema"}"#).is_err());
    assert!(grammar_of(r#"{"type": "xml"}"#).is_err());
}
