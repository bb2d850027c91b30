//! Removes the values of a caller's document from messages, so that a token in a rejected policy does not reach a log.
use super::document::{self, Node, Value};

/// Values of at least this many characters are hidden. Shorter values are usually words such as `strict`.
const HIDDEN_LETTERS: usize = 8;
/// YAML parsers in Go quote only this many characters of a rejected value, followed by an ellipsis.
const SHOWN_LETTERS: usize = 7;
/// The text that replaces a value.
const MASK: &str = "***";

/// Returns `words` with each value of `document` replaced. Keys are not replaced. If `document` cannot be parsed,
/// nothing is replaced, because its values are unknown. Such a document is rejected before any message about its
/// content is printed.
pub fn values(words: &str, document: Option<&str>) -> String {
    let mut hidden = Vec::new();
    for entry in document
        .and_then(|text| document::read(text).ok())
        .unwrap_or_default()
    {
        collect(&entry.value, &mut hidden);
    }
    // Longer values are replaced first, because a shorter value may be part of a longer value.
    hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
    hidden.iter().fold(words.to_owned(), |text, value| {
        let start: String = value.chars().take(SHOWN_LETTERS).collect();
        text.replace(value.as_str(), MASK)
            .replace(&format!("{start}..."), MASK)
    })
}

fn collect(node: &Node, hidden: &mut Vec<String>) {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Float(_) => {}
        Value::Int(number) => hide(&number.to_string(), hidden),
        // A message may quote a multi-line value line by line.
        Value::Text(text) => text.lines().for_each(|line| hide(line.trim(), hidden)),
        Value::List(items) => items.iter().for_each(|item| collect(item, hidden)),
        Value::Map(entries) => entries
            .iter()
            .for_each(|entry| collect(&entry.value, hidden)),
    }
}

fn hide(value: &str, hidden: &mut Vec<String>) {
    if value.chars().count() >= HIDDEN_LETTERS {
        hidden.push(value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::values;

    #[test]
    fn values_are_hidden_and_keys_are_not() {
        let document = "mode: strict\n\
                        emit: {webhook: {bearer_token: correct-horse, ids: [correct-horse-battery, 12345678]}}\n\
                        note: |\n  one long line\n  another long line\n";
        for (said, hidden) in [
            ("bad bearer_token correct-horse", "bad bearer_token ***"),
            ("correct-horse-battery, 12345678", "***, ***"),
            (
                "cannot take `correct...` in strict",
                "cannot take `***` in strict",
            ),
            ("one long line\nanother long line", "***\n***"),
        ] {
            assert_eq!(values(said, Some(document)), hidden);
        }
        assert_eq!(values("correct-horse", None), "correct-horse");
    }
}
