//! Tests of all formats together.
use pipelock_receipts::json::{MAX_DEPTH, parse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::boundary::{BoundaryDocument, MediatorDocument};
use super::changes::ChangesDocument;
use super::{deviations, rows};

/// Returns every document that differs from `node` in one leaf, with the replacements of that leaf.
fn with_other_leaves(node: &Json) -> Vec<Json> {
    let mut all = Vec::new();
    match node {
        Json::Object(members) => {
            for (name, member) in members {
                for other in with_other_leaves(member) {
                    let mut version = members.clone();
                    version.insert(name.clone(), other);
                    all.push(Json::Object(version));
                }
            }
            let mut version = members.clone();
            version.extend(["", "zebra"].map(|name| (name.to_owned(), json!(0))));
            all.push(Json::Object(version));
        }
        Json::Array(items) => {
            for text in ["", "zebra"] {
                all.push(Json::Array([items.as_slice(), &[json!(text)]].concat()));
            }
        }
        Json::String(_) => all.extend(["", "zebra", "\u{0}\u{feff}\""].map(Json::from)),
        Json::Number(_) => all.extend([0, 1, 7, u64::MAX].map(Json::from)),
        Json::Bool(_) | Json::Null => {
            all.extend([json!(true), json!(false), json!(null), json!(""), json!(0)]);
        }
    }
    all
}

/// Checks that every document that can be read can be serialized, and keeps every member.
fn every_readable_version_is_written<T>(name: &str)
where
    T: Default + Serialize + DeserializeOwned,
{
    // The default has empty names and unknown words.
    let document = serde_json::to_value(T::default()).unwrap();
    let mut read = Vec::new();
    for version in with_other_leaves(&document) {
        if let Ok(value) = serde_json::from_value::<T>(version.clone()) {
            let written = serde_json::to_value(&value);
            assert!(written.is_ok(), "{name}: {written:?} for {version}");
            read.push(version);
        }
    }
    assert!(read.len() > 1, "{name}");
}

#[test]
fn every_document_that_can_be_read_can_be_written() {
    every_readable_version_is_written::<BoundaryDocument>("boundary");
    every_readable_version_is_written::<ChangesDocument>("changes");
    every_readable_version_is_written::<rows::RelayRow>("relay");
    every_readable_version_is_written::<rows::AttemptRow>("kernel");
    every_readable_version_is_written::<rows::EndRow>("end");
}

#[test]
#[cfg_attr(
    feature = "schema",
    ignore = "a build that makes schemas has no serializer for these kinds"
)]
fn every_unknown_kind_of_mediator_is_a_deviation() {
    let found = |kind: &str| {
        let text = format!(r#"{{"kind":"{kind}","posture":"bound"}}"#);
        let node = parse(&text, MAX_DEPTH).unwrap();
        deviations(&node.typed::<MediatorDocument>().unwrap(), &node, &[])
    };
    assert_eq!(found("builtin"), Vec::<String>::new());
    for kind in ["", "unknown", "zebra"] {
        let named = format!("kind is \"{kind}\"");
        assert!(found(kind).contains(&named), "{:?}", found(kind));
    }
}
