//! The parts of a session's evidence. Each part can be read and replaced as text.
use crate::liar::testimony::{Item, Testimony};
use crate::liar::tree::Tree;

/// One part of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The entry around a receipt, or an entry of another kind.
    Entry,
    /// The signed record of a version 1 receipt.
    Record,
    /// The unsigned part of a version 1 receipt.
    Ext,
    /// The entry around the receipt of version 2.
    TwinEntry,
    /// The receipt of version 2.
    Twin,
}

impl Part {
    /// All parts.
    pub(crate) const ALL: [Self; 5] = [
        Self::Entry,
        Self::Record,
        Self::Ext,
        Self::TwinEntry,
        Self::Twin,
    ];

    /// Returns the part's name, which is one word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Record => "record",
            Self::Ext => "ext",
            Self::TwinEntry => "twin_entry",
            Self::Twin => "twin",
        }
    }
}

impl Testimony {
    /// Returns the kind of each item as a text. Items with the same text are of the same kind.
    pub(crate) fn kinds(&self) -> Vec<String> {
        let kind = |item: &Item| match item {
            Item::Receipt(receipt) => {
                let words = [
                    "transport",
                    "verdict",
                    "decision_phase",
                    "layer",
                    "action_type",
                ];
                let mut words: Vec<String> = words.map(|name| receipt.text(name)).into();
                if let Some(Tree::Object(members)) = receipt.record.at(&["session_control"]) {
                    words.extend(members.iter().map(|(name, _)| name.clone()));
                }
                words.retain(|word| !word.is_empty());
                words.join(".")
            }
            Item::Other(entry) => entry.text("type"),
        };
        self.items.iter().map(kind).collect()
    }

    /// Returns the text of `part` of the item at position `at`.
    pub(crate) fn part(&self, at: usize, part: Part) -> Option<String> {
        match (self.items.get(at)?, part) {
            (Item::Receipt(receipt), Part::Entry) => Some(receipt.entry.compact()),
            (Item::Receipt(receipt), Part::Record) => Some(receipt.record.compact()),
            (Item::Receipt(receipt), Part::Ext) => receipt.ext.clone(),
            (Item::Receipt(receipt), Part::TwinEntry) => {
                receipt.twin.as_ref().map(|twin| twin.entry.compact())
            }
            (Item::Receipt(receipt), Part::Twin) => {
                receipt.twin.as_ref().map(|twin| twin.receipt.compact())
            }
            (Item::Other(entry), Part::Entry) => Some(entry.compact()),
            (Item::Other(_), _) => None,
        }
    }

    /// Replaces `part` of the item at position `at`.
    pub(crate) fn replace(&mut self, at: usize, part: Part, text: &str) -> Result<(), String> {
        let tree = Tree::read(text)?;
        match (self.items.get_mut(at).ok_or("no such item")?, part) {
            (Item::Receipt(receipt), Part::Entry) => receipt.entry = tree,
            (Item::Receipt(receipt), Part::Record) => receipt.record = tree,
            (Item::Receipt(receipt), Part::Ext) => receipt.ext = Some(text.to_owned()),
            (Item::Receipt(receipt), Part::TwinEntry) => {
                receipt.twin.as_mut().ok_or("no twin")?.entry = tree;
            }
            (Item::Receipt(receipt), Part::Twin) => {
                receipt.twin.as_mut().ok_or("no twin")?.receipt = tree;
            }
            (Item::Other(entry), _) => *entry = tree,
        }
        Ok(())
    }

    /// Returns copies of the evidence in which the item at position `at` is removed, repeated, or exchanged with the
    /// next one.
    pub(crate) fn rearranged(&self, at: usize) -> Vec<(&'static str, Self)> {
        let version = |change: &dyn Fn(&mut Vec<Item>)| {
            let mut version = self.clone();
            change(&mut version.items);
            version
        };
        let mut all = vec![
            ("removed", version(&|items| drop(items.remove(at)))),
            (
                "twice",
                version(&|items| {
                    if let Some(item) = items.get(at).cloned() {
                        items.insert(at, item);
                    }
                }),
            ),
            ("cut_behind", version(&|items| items.truncate(at))),
        ];
        if at + 1 < self.items.len() {
            all.push(("swapped", version(&|items| items.swap(at, at + 1))));
        }
        all
    }
}
