//! Selects which nodes of a document are changed.
use std::collections::BTreeSet;

use super::json::{Json, Step};

/// One node of a document.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Steps to the node.
    pub(super) steps: Vec<Step>,
    /// Path in words: names of members, and `first`, `middle`, or `last` for elements.
    pub(super) path: String,
    /// Name of the nearest member.
    pub(super) name: String,
}

/// Returns every member of a document. Arrays are represented by their first, middle, and last element, and by one
/// element of each further form.
pub(super) fn of(document: &Json) -> Vec<Site> {
    let mut sites = Vec::new();
    let root = Site {
        steps: Vec::new(),
        path: String::new(),
        name: String::new(),
    };
    walk(document, &root, &mut sites);
    sites
}

fn walk(node: &Json, here: &Site, sites: &mut Vec<Site>) {
    sites.push(Site {
        path: if here.path.is_empty() {
            String::from("/")
        } else {
            here.path.clone()
        },
        ..here.clone()
    });
    let children = node.children();
    let chosen: Vec<(usize, String)> = match node {
        Json::Leaf(_) => Vec::new(),
        Json::Object(_) => children
            .iter()
            .map(|(name, _)| name.clone())
            .enumerate()
            .collect(),
        Json::Array(items) => elements(items),
    };
    for (at, label) in chosen {
        let Some((name, child)) = children.get(at) else {
            continue;
        };
        let is_member = matches!(node, Json::Object(_));
        let mut steps = here.steps.clone();
        steps.push(at);
        let below = Site {
            steps,
            path: format!("{}/{}", here.path, label.replace('/', "~")),
            name: if is_member {
                name.clone()
            } else {
                here.name.clone()
            },
        };
        walk(child, &below, sites);
    }
}

/// Returns the positions of the elements that represent an array, each with its label.
fn elements(items: &[Json]) -> Vec<(usize, String)> {
    let mut chosen: Vec<(usize, String)> = Vec::new();
    let last = items.len().saturating_sub(1);
    for (at, label) in [(0, "first"), (items.len() / 2, "middle"), (last, "last")] {
        if at < items.len() && !chosen.iter().any(|(there, _)| *there == at) {
            chosen.push((at, label.to_owned()));
        }
    }
    let mut forms: BTreeSet<String> = chosen
        .iter()
        .filter_map(|(at, _)| items.get(*at))
        .map(form)
        .collect();
    for (at, item) in items.iter().enumerate() {
        if forms.insert(form(item)) {
            chosen.push((at, format!("form{}", forms.len())));
        }
    }
    chosen
}

/// Returns the form of a node: the names and types of its descendants to a depth of a few levels, and the words that
/// distinguish the elements of a list.
fn form(node: &Json) -> String {
    match node {
        Json::Leaf(raw) => raw
            .chars()
            .next()
            .filter(char::is_ascii_punctuation)
            .unwrap_or('0')
            .to_string(),
        Json::Array(items) => format!("[{}]", items.first().map(form).unwrap_or_default()),
        Json::Object(members) => {
            let telling = |name: &str| matches!(name, "outcome" | "kind" | "verdict");
            let each = members.iter().map(|(name, value)| match value {
                Json::Leaf(raw) if telling(name) => format!("{name}={raw}"),
                _ => format!("{name}:{}", form(value)),
            });
            each.collect::<Vec<_>>().join(",")
        }
    }
}
