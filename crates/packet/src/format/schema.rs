//! Makes the JSON Schemas of the formats from their types.
use pipelock_receipts::capsule::Capsule;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::boundary::BoundaryDocument;
use super::changes::ChangesDocument;
use super::row::Row;
use super::value::Sha256;
use crate::attest::{Envelope, Statement};
use crate::identity::Identity;
use crate::model::Packet;

/// The largest integer that every reader of JSON keeps exact.
const LARGEST: u64 = (1 << 53) - 1;

/// Returns every schema with the name of its file in `docs/schema`.
pub fn all() -> [(&'static str, Value); 8] {
    [
        ("packet.schema.json", of::<Packet>()),
        ("identity.schema.json", of::<Identity>()),
        ("posture-capsule.schema.json", of::<Capsule>()),
        ("attestation.schema.json", of::<Envelope>()),
        ("statement.schema.json", of::<Statement>()),
        ("boundary.schema.json", of::<BoundaryDocument>()),
        ("changes.schema.json", of::<ChangesDocument>()),
        ("flows.schema.json", rows()),
    ]
}

/// Returns the schema of the values that this version writes.
fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(bounded).transform(&mut schema);
    schema.to_value()
}

/// Adds to each integer the bounds of its type. Removes defaults, because they concern only the
/// reader.
fn bounded(schema: &mut Schema) {
    schema.remove("default");
    let most = match schema.get("format").and_then(Value::as_str) {
        Some("uint16") => u64::from(u16::MAX),
        Some("uint32") => u64::from(u32::MAX),
        Some("uint64") => LARGEST,
        Some("int64") => {
            schema.remove("format");
            return;
        }
        Some(_) | None => return,
    };
    schema.remove("format");
    schema.insert(String::from("maximum"), most.into());
}

/// Returns the schema of the rows with the members that the chain adds.
fn rows() -> Value {
    let mut schema = of::<Row>();
    let hash = of::<Sha256>();
    let chain = [
        (
            "seq",
            json!({"description": "Place in the log, from 0.", "type": "integer", "minimum": 0, "maximum": LARGEST}),
        ),
        (
            "prev_hash",
            json!({"description": "`genesis`, or the hash of the previous row.", "type": "string"}),
        ),
        (
            "hash",
            json!({"description": "Hash of the row.", "type": "string", "pattern": hash.get("pattern")}),
        ),
    ];
    let kinds = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for kind in kinds.into_iter().flatten().filter_map(Value::as_object_mut) {
        for (name, member) in &chain {
            if let Some(properties) = kind.get_mut("properties").and_then(Value::as_object_mut) {
                properties.insert((*name).to_owned(), member.clone());
            }
            if let Some(required) = kind.get_mut("required").and_then(Value::as_array_mut) {
                required.push((*name).into());
            }
        }
    }
    schema
}
