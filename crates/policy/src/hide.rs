//! Takes the values of a caller's document out of what a program says about it: a token in a
//! configuration that is refused has no place in a log.
use super::document::{self, Node, Value};

/// Values this long are hidden; shorter ones are words like `strict`, and no secrets.
const HIDDEN_LETTERS: usize = 8;
/// YAML readers in Go show a value that they cannot take by so many of its letters and dots.
const SHOWN_LETTERS: usize = 7;
/// What stands in the place of a value.
const MASK: &str = "***";

/// `words` without the values of `document`, which are not its keys. Of a document that cannot be read nothing is
/// known: it is refused before anybody speaks of it.
pub fn values(words: &str, document: Option<&str>) -> String {
    let mut hidden = Vec::new();
    for entry in document
        .and_then(|text| document::read(text).ok())
        .unwrap_or_default()
    {
        collect(&entry.value, &mut hidden);
    }
    // A value that is part of another must not break it up.
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
        // It may be shown line by line.
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
