//! Makes the JSON Schemas of strings and of sets of words.
use schemars::{Schema, json_schema};
use serde_json::{Value, json};

/// Returns the schema of a kind of strings.
pub(super) fn text(description: &str, pattern: &str) -> Schema {
    let description = description.trim();
    json_schema!({ "description": description, "type": "string", "pattern": pattern })
}

/// Returns the schema of words, each with its meaning.
pub(crate) fn words(description: &str, words: &[(&str, &str)]) -> Schema {
    let word =
        |(word, meaning): &(&str, &str)| json!({ "const": word, "description": meaning.trim() });
    let words: Vec<Value> = words.iter().map(word).collect();
    let description = description.trim();
    json_schema!({ "description": description, "type": "string", "oneOf": words })
}
