//! The allow-list of destinations.
use std::collections::BTreeSet;

use thiserror::Error;

use super::host::{Host, HostError};
use super::natural;

/// Exact hosts and `*.` patterns. A host that matches neither is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    exact: BTreeSet<Host>,
    /// The `x` of each `*.x`. The pattern matches `x` and every name below it.
    parents: BTreeSet<String>,
}

/// Why an entry is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EntryError {
    /// `*` alone, or `*` in any place other than the first label.
    #[error("must be a name, an address, or `*.` followed by a name")]
    Wildcard,
    /// An address after `*.`.
    #[error("must not put `*.` before an address")]
    WildcardAddress,
    /// An entry with a scheme, path, port, or prefix length.
    #[error("must be only a host, without a scheme, port, path, or prefix length")]
    NotAHost,
    /// A malformed host.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl AllowList {
    /// Adds one entry: `name`, `*.name` or an address.
    ///
    /// # Errors
    /// Returns [`EntryError`] if the entry has none of these forms.
    pub fn insert(&mut self, entry: &str) -> Result<(), EntryError> {
        if entry.contains('/') || has_port(entry) {
            return Err(EntryError::NotAHost);
        }
        let Some(parent) = entry.strip_prefix("*.") else {
            if entry.contains('*') {
                return Err(EntryError::Wildcard);
            }
            self.exact.insert(Host::parse(entry)?);
            return Ok(());
        };
        if parent.is_empty() || parent.contains('*') {
            return Err(EntryError::Wildcard);
        }
        match Host::parse(parent)? {
            Host::Name(name) => {
                self.parents.insert(name);
                Ok(())
            }
            Host::Ip(_) => Err(EntryError::WildcardAddress),
        }
    }

    /// Whether `host` is on the list. Wildcards match names only. An address must be listed itself.
    pub fn allows(&self, host: &Host) -> bool {
        if self.exact.contains(host) {
            return true;
        }
        let Host::Name(name) = host else {
            return false;
        };
        let mut rest = name.as_str();
        loop {
            if self.parents.contains(rest) {
                return true;
            }
            let Some((_label, parent)) = rest.split_once('.') else {
                return false;
            };
            rest = parent;
        }
    }

    /// The entries as a policy writes them, in natural order.
    pub fn entries(&self) -> Vec<String> {
        let exact = self.exact.iter().map(Host::plain);
        let wild = self.parents.iter().map(|parent| format!("*.{parent}"));
        let mut entries: Vec<String> = exact.chain(wild).collect();
        entries.sort_by(|a, b| natural::compare(a, b));
        entries
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.parents.is_empty()
    }
}

/// Whether the entry has a port, that is, one colon that is not part of an IPv6 address.
fn has_port(entry: &str) -> bool {
    let after_bracket = entry
        .rsplit_once(']')
        .is_some_and(|(_, rest)| !rest.is_empty());
    after_bracket || entry.bytes().filter(|byte| *byte == b':').count() == 1
}
