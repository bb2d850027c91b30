//! JSON that keeps the order and the text of members, because both are covered by the signature.
use pipelock_receipts::canonical::push_string;
use pipelock_receipts::json::{MAX_ENTRY_DEPTH, Node, parse};

/// One value: an object whose members can be changed, or the source text of any other value.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    /// Source text.
    Leaf(String),
    /// Members in written order.
    Object(Vec<(String, Tree)>),
}

/// The members that a lie may add to an action record. Each is inserted after the first member of its list that the
/// record has (evidence protocol, section 2.2).
const BEHIND: [(&str, &[&str]); 4] = [
    ("decision_phase", &["verdict"]),
    ("layer", &["method", "transport"]),
    ("pattern", &["layer", "method", "transport"]),
    ("severity", &["pattern", "layer", "method", "transport"]),
];

impl Tree {
    /// Reads one value.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let node = parse(text, MAX_ENTRY_DEPTH).map_err(|error| error.to_string())?;
        Ok(Self::of(&node))
    }

    fn of(node: &Node<'_>) -> Self {
        node.members().map_or_else(
            || Self::Leaf(node.raw.to_owned()),
            |members| {
                let each = members.iter();
                Self::Object(
                    each.map(|(name, node)| (name.to_string(), Self::of(node)))
                        .collect(),
                )
            },
        )
    }

    fn members(&self) -> &[(String, Self)] {
        match self {
            Self::Object(members) => members,
            Self::Leaf(_) => &[],
        }
    }

    /// Returns the value at this path of member names.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        let Some((name, rest)) = path.split_first() else {
            return Some(self);
        };
        let mut members = self.members().iter();
        members.find(|(key, _)| key == name)?.1.at(rest)
    }

    /// Returns the value at this path of member names, so that it can be changed.
    pub(crate) fn at_mut(&mut self, path: &[&str]) -> Option<&mut Self> {
        let Some((name, rest)) = path.split_first() else {
            return Some(self);
        };
        match self {
            Self::Object(members) => {
                let mut members = members.iter_mut();
                members.find(|(key, _)| key == name)?.1.at_mut(rest)
            }
            Self::Leaf(_) => None,
        }
    }

    /// Returns the text of the string member `name`, or "" if there is none.
    pub(crate) fn text(&self, name: &str) -> String {
        match self.at(&[name]) {
            Some(Self::Leaf(raw)) => serde_json::from_str(raw).unwrap_or_default(),
            Some(Self::Object(_)) | None => String::new(),
        }
    }

    /// Sets the string member `name`.
    pub(crate) fn set(&mut self, name: &str, text: &str) {
        let mut raw = String::new();
        push_string(&mut raw, text);
        self.set_raw(name, &raw);
    }

    /// Sets the member `name` to the JSON text `raw`. A new member is inserted at its place in the signed form.
    pub(crate) fn set_raw(&mut self, name: &str, raw: &str) {
        let leaf = Self::Leaf(raw.to_owned());
        if let Some(there) = self.at_mut(&[name]) {
            *there = leaf;
            return;
        }
        if let Self::Object(members) = self {
            let place = |name: &&str| members.iter().position(|(key, _)| key == name);
            let behind = BEHIND.iter().find(|(added, _)| *added == name);
            let at = behind.and_then(|(_, behind)| behind.iter().find_map(place));
            let at = at.map(|at| at + 1);
            members.insert(at.unwrap_or(members.len()), (name.to_owned(), leaf));
        }
    }

    /// Removes the member `name`.
    pub(crate) fn remove(&mut self, name: &str) {
        if let Self::Object(members) = self {
            members.retain(|(key, _)| key != name);
        }
    }

    /// Returns the text without white space, with the members in their order.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.push(&mut out, false, "");
        out
    }

    /// Returns the canonical text of a version 2 receipt, with sorted members. With `unsigned`, the members of
    /// `signature` are empty.
    pub(crate) fn canonical(&self, unsigned: bool) -> String {
        let mut out = String::new();
        self.push(
            &mut out,
            true,
            if unsigned { "signature" } else { "nothing" },
        );
        out
    }

    fn push(&self, out: &mut String, sorted: bool, blank: &str) {
        match self {
            Self::Leaf(raw) => out.push_str(raw),
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                if sorted {
                    members.sort_by(|(one, _), (other, _)| one.cmp(other));
                }
                out.push('{');
                for (index, (name, value)) in members.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    push_string(out, name);
                    out.push(':');
                    if sorted && name == blank {
                        value.push_blank(out);
                    } else {
                        value.push(out, sorted, blank);
                    }
                }
                out.push('}');
            }
        }
    }

    fn push_blank(&self, out: &mut String) {
        let mut names: Vec<_> = self.members().iter().map(|(name, _)| name).collect();
        names.sort();
        let blank: Vec<String> = names
            .iter()
            .map(|name| format!("\"{name}\":\"\""))
            .collect();
        out.push('{');
        out.push_str(&blank.join(","));
        out.push('}');
    }
}
