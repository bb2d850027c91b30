//! Checks that the packet of every end-to-end test matches the schemas in `docs/schema`.
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonschema::Validator;
use serde_json::Value;

/// The schemas of the packet's documents and of the rows in `flows.jsonl`.
static SCHEMAS: LazyLock<[(&str, Validator); 7]> = LazyLock::new(|| {
    [
        "packet.json",
        "identity.json",
        "posture-capsule.json",
        "attestation.json",
        "boundary.json",
        "changes.json",
        "flows.jsonl",
    ]
    .map(|file| {
        let (stem, _) = file.split_once('.').unwrap_or((file, ""));
        (file, schema(stem))
    })
});
/// The schema of the statement in `attestation.json`.
static STATEMENT: LazyLock<Validator> = LazyLock::new(|| schema("statement"));

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
/// Panics with the differences from the schemas.
pub fn check(packet: &Path) {
    for (file, schema) in &*SCHEMAS {
        let Ok(text) = fs::read_to_string(packet.join(file)) else {
            continue;
        };
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        for value in values {
            let value = value.unwrap_or_else(|error| panic!("{file}: {error}"));
            matches(file, schema, &value);
            if *file == "attestation.json" {
                let payload = value.get("payload").and_then(Value::as_str);
                let payload = payload.expect("a payload");
                let statement = STANDARD.decode(payload).expect("a payload in base64");
                let statement = serde_json::from_slice(&statement).expect("a statement in JSON");
                matches("the statement", &STATEMENT, &statement);
            }
        }
    }
}

fn matches(name: &str, schema: &Validator, value: &Value) {
    let errors: Vec<String> = schema
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{value}");
}
