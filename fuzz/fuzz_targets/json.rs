//! The strict JSON reader of evidence: another reader reads the same value from every accepted text.
#![no_main]
use libfuzzer_sys::fuzz_target;
use pipelock_receipts::canonical::push_compact;
use pipelock_receipts::json::{MAX_ENTRY_DEPTH, Node, Value, parse, parse_bytes};

/// Returns the node as a value of `serde_json`.
fn plain(node: &Node<'_>) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number => serde_json::from_str(node.raw).expect("a number of JSON"),
        Value::String(text) => text.as_ref().into(),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.to_string(), plain(value)))
            .collect(),
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(node) = parse_bytes(data, MAX_ENTRY_DEPTH) else {
        return;
    };
    let other: serde_json::Value = serde_json::from_slice(data).expect("every reader accepts it");
    assert_eq!(plain(&node), other);
    let again = parse(node.raw, MAX_ENTRY_DEPTH).expect("its own text");
    assert_eq!(plain(&again), other);
    let mut compact = String::new();
    push_compact(&mut compact, node.raw);
    let read = parse(&compact, MAX_ENTRY_DEPTH).expect("the compact text");
    assert_eq!(plain(&read), other);
    let mut twice = String::new();
    push_compact(&mut twice, &compact);
    assert_eq!(twice, compact);
});
