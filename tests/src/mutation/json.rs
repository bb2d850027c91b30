//! JSON that keeps the order of members. Every node has a path, and a node can be replaced by its path.
use pipelock_receipts::canonical::push_string;
use pipelock_receipts::json::{MAX_ENTRY_DEPTH, Node, parse};

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// Source text of a string, a number, `true`, `false`, or `null`.
    Leaf(String),
    /// Elements.
    Array(Vec<Json>),
    /// Members in written order. A name may occur twice.
    Object(Vec<(String, Json)>),
}

/// One step from a node to a child: the position of the child among the members or elements.
pub(super) type Step = usize;

impl Json {
    /// Reads one value.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let node = parse(text, MAX_ENTRY_DEPTH).map_err(|error| error.to_string())?;
        Ok(Self::of(&node))
    }

    fn of(node: &Node<'_>) -> Self {
        if let Some(members) = node.members() {
            let each = members.iter();
            return Self::Object(
                each.map(|(name, node)| (name.to_string(), Self::of(node)))
                    .collect(),
            );
        }
        node.items().map_or_else(
            || Self::Leaf(node.raw.to_owned()),
            |items| Self::Array(items.iter().map(Self::of).collect()),
        )
    }

    /// Returns a JSON string.
    pub(super) fn string(text: &str) -> Self {
        let mut raw = String::new();
        push_string(&mut raw, text);
        Self::Leaf(raw)
    }

    /// Returns a JSON number.
    pub(super) fn number(number: impl ToString) -> Self {
        Self::Leaf(number.to_string())
    }

    /// Returns the text of this string, or `None` for another type.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Leaf(raw) if raw.starts_with('"') => serde_json::from_str(raw).ok(),
            _ => None,
        }
    }

    /// Returns the member `name`.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => {
                let mut members = members.iter();
                members.find(|(key, _)| key == name).map(|(_, value)| value)
            }
            Self::Array(_) | Self::Leaf(_) => None,
        }
    }

    /// Returns the text of the string member `name`, or "" if there is none.
    pub(super) fn member_text(&self, name: &str) -> String {
        self.member(name).and_then(Self::text).unwrap_or_default()
    }

    /// Sets the member `name`. A new member is added at the end.
    pub(super) fn set(&mut self, name: &str, value: Self) {
        let Self::Object(members) = self else {
            return;
        };
        match members.iter_mut().find(|(key, _)| key == name) {
            Some((_, there)) => *there = value,
            None => members.push((name.to_owned(), value)),
        }
    }

    /// Returns the children with their names. The name of an element is its position.
    pub(super) fn children(&self) -> Vec<(String, &Self)> {
        match self {
            Self::Leaf(_) => Vec::new(),
            Self::Array(items) => {
                let numbered = items.iter().enumerate();
                numbered.map(|(at, item)| (at.to_string(), item)).collect()
            }
            Self::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), value))
                .collect(),
        }
    }

    /// Returns the node at the end of these steps.
    pub(super) fn at(&self, steps: &[Step]) -> Option<&Self> {
        let Some((step, rest)) = steps.split_first() else {
            return Some(self);
        };
        match self {
            Self::Leaf(_) => None,
            Self::Array(items) => items.get(*step)?.at(rest),
            Self::Object(members) => members.get(*step)?.1.at(rest),
        }
    }

    /// Returns the node at the end of these steps, so that it can be changed.
    pub(super) fn at_mut(&mut self, steps: &[Step]) -> Option<&mut Self> {
        let Some((step, rest)) = steps.split_first() else {
            return Some(self);
        };
        match self {
            Self::Leaf(_) => None,
            Self::Array(items) => items.get_mut(*step)?.at_mut(rest),
            Self::Object(members) => members.get_mut(*step)?.1.at_mut(rest),
        }
    }

    /// Returns the text without white space.
    pub(super) fn compact(&self) -> String {
        let mut out = String::new();
        self.push(&mut out, None);
        out
    }

    /// Returns the text in the form of the packet's files, with a line break at the end.
    pub(super) fn pretty(&self) -> String {
        let mut out = String::new();
        self.push(&mut out, Some(0));
        out.push('\n');
        out
    }

    fn push(&self, out: &mut String, indent: Option<usize>) {
        let [open, close] = match self {
            Self::Leaf(raw) => {
                out.push_str(raw);
                return;
            }
            Self::Array(_) => ['[', ']'],
            Self::Object(_) => ['{', '}'],
        };
        let children = self.children();
        let inner = indent.map(|indent| indent + 2);
        let line = |out: &mut String, indent: Option<usize>| {
            if let Some(indent) = indent {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
            }
        };
        out.push(open);
        for (at, (name, value)) in children.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            line(out, inner);
            if open == '{' {
                push_string(out, name);
                out.push_str(if indent.is_some() { ": " } else { ":" });
            }
            value.push(out, inner);
        }
        if !children.is_empty() {
            line(out, indent);
        }
        out.push(close);
    }
}
