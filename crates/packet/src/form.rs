//! The closed form of what the boundary writes: which members there are, and what each may hold.
//!
//! `boundary.json` and `changes.json` have more members than the checks read. One that nobody
//! knows, that is missing, or that holds something else keeps the grade down, because its writer was another program.
mod kind;
mod tables;

use kind::Form;
pub(super) use tables::{STEPS, STEPS_OF_SOME_RUNS};

use pipelock_receipts::json::{Node, Value};

/// The largest integer that every reader of JSON can hold.
const LARGEST: u64 = (1 << 53) - 1;
/// Deviations that are kept; more of the same say nothing new.
const KEPT: usize = 5;

/// What is wrong with `boundary.json`; nothing when it is as this version writes it.
pub(super) fn of_boundary(document: &Node<'_>) -> Vec<String> {
    deviations(document, &tables::BOUNDARY)
}

/// What is wrong with `changes.json`.
pub(super) fn of_changes(document: &Node<'_>) -> Vec<String> {
    deviations(document, &tables::CHANGES)
}

fn deviations(node: &Node<'_>, form: &Form) -> Vec<String> {
    let mut found = Vec::new();
    form.check(node, "", &mut found);
    found
}

impl Form {
    fn check(&self, node: &Node<'_>, path: &str, found: &mut Vec<String>) {
        if found.len() >= KEPT {
            return;
        }
        let below = |name: &str| {
            if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            }
        };
        let fits = match self {
            Self::Nullable(form) => {
                if !node.is_null() {
                    form.check(node, path, found);
                }
                true
            }
            Self::Either(forms) => forms.iter().any(|form| deviations(node, form).is_empty()),
            Self::Object(members) => match node.members() {
                None => false,
                Some(there) => {
                    for (name, form) in *members {
                        let required = !name.ends_with('?');
                        let name = name.trim_end_matches('?');
                        match node.member(name) {
                            Some(child) => form.check(child, &below(name), found),
                            None if required => found.push(format!("{} is missing", below(name))),
                            None => {}
                        }
                    }
                    for (name, _) in there {
                        let is_known = members
                            .iter()
                            .any(|(known, _)| known.trim_end_matches('?') == name);
                        if !is_known {
                            found.push(format!("{} is unknown", below(name)));
                        }
                    }
                    true
                }
            },
            Self::Map(form) => match node.members() {
                None => false,
                Some(there) => {
                    for (name, child) in there {
                        form.check(child, &below(name), found);
                    }
                    true
                }
            },
            Self::List(form) => match node.items() {
                None => false,
                Some(items) => {
                    for item in items {
                        form.check(item, &below("[]"), found);
                    }
                    true
                }
            },
            Self::Text => node.text().is_some(),
            Self::Name => node.text().is_some_and(|text| !text.is_empty()),
            Self::Word(words) => node.text().is_some_and(|text| words.contains(&text)),
            Self::Hex(length) => node.text().is_some_and(|text| {
                let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                text.len() == *length && text.bytes().all(is_digit)
            }),
            Self::Mode => node.text().is_some_and(|text| {
                text.len() == 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
            }),
            Self::Number => node.unsigned().is_some_and(|number| number <= LARGEST),
            Self::Flag => matches!(node.value, Value::Bool(_)),
            Self::True => matches!(node.value, Value::Bool(true)),
        };
        if !fits {
            let short: String = node.raw.chars().take(40).collect();
            found.push(format!("{path} is {short}"));
        }
        found.truncate(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelock_receipts::json::{MAX_DEPTH, parse};

    static SMALL: Form = Form::Object(&[
        ("id", Form::Hex(4)),
        ("mode", Form::Word(&["on", "off"])),
        ("note?", Form::Text),
        ("held", Form::Nullable(&Form::Number)),
        ("times", Form::List(&Form::Name)),
        ("by", Form::Map(&Form::Flag)),
    ]);

    fn found(text: &str) -> Vec<String> {
        deviations(&parse(text, MAX_DEPTH).unwrap(), &SMALL)
    }

    #[test]
    fn every_deviation_is_named() {
        let sound = r#"{"id":"00af","mode":"on","held":null,"times":["2026-11-24T10:00:00Z"],"by":{"x":true}}"#;
        assert_eq!(found(sound), Vec::<String>::new());
        for (from, to, named) in [
            (r#""id":"00af","#, "", "id is missing"),
            ("00af", "00AF", "id is \"00AF\""),
            ("00af", "0af", "id is \"0af\""),
            (r#""on""#, r#""On""#, "mode is \"On\""),
            ("null", "-1", "held is -1"),
            ("2026-11-24T10:00:00Z", "", "times.[] is \"\""),
            (r#"{"x":true}"#, "[]", "by is []"),
            (r#"{"x":true}"#, r#"{"x":1}"#, "by.x is 1"),
            ("{\"id\"", "{\"more\":1,\"id\"", "more is unknown"),
        ] {
            let said = found(&sound.replacen(from, to, 1));
            assert!(
                said.len() == 1 && said[0].starts_with(named),
                "{named}: {said:?}"
            );
        }
    }
}
