//! Checks that every packet of a test matches the schemas in `docs/schema`.
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

/// The schemas of `boundary.json`, `changes.json`, and a row of `flows.jsonl`.
static SCHEMAS: LazyLock<[(&str, Validator); 3]> = LazyLock::new(|| {
    ["boundary.json", "changes.json", "flows.jsonl"].map(|file| {
        let (stem, _) = file.split_once('.').unwrap_or((file, ""));
        (file, schema(stem))
    })
});

fn schema(stem: &str) -> Validator {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    let path = docs.join(format!("{stem}.schema.json"));
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema: Value =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails the test unless the documents and rows of the packet match their schemas. Does nothing without a packet.
///
/// # Panics
/// With the deviations.
pub fn check(packet: &Path) {
    for (file, schema) in &*SCHEMAS {
        let Ok(text) = fs::read_to_string(packet.join(file)) else {
            continue;
        };
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        for value in values {
            let value = value.unwrap_or_else(|error| panic!("{file}: {error}"));
            let errors: Vec<String> = schema
                .iter_errors(&value)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{file}: {errors:#?}\n{value}");
        }
    }
}
