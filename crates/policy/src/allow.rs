//! The list of hosts that may be reached.
use std::collections::BTreeSet;

use thiserror::Error;

use super::host::{Host, HostError};

/// Exact hosts and `*.` patterns; what is on neither is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    exact: BTreeSet<Host>,
    /// The `x` of each `*.x`, which stands for `x` and every name below it.
    parents: BTreeSet<String>,
}

/// Why an entry cannot be on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EntryError {
    /// `*` alone, or anywhere but as the whole first label.
    #[error("must be a name, an address, or `*.` and a name")]
    Wildcard,
    /// `*.` before an address.
    #[error("must not put `*.` before an address")]
    WildcardAddress,
    /// A scheme, path, port or CIDR.
    #[error("must be a host alone, without scheme, port, path or prefix length")]
    NotAHost,
    /// A spelling that is no host.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl EntryError {
    /// The sentence that follows the key's name in an error.
    #[cfg(feature = "yaml")]
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Wildcard => "must be a name, an address, or `*.` and a name",
            Self::WildcardAddress => "must not put `*.` before an address",
            Self::NotAHost => "must be a host alone, without scheme, port, path or prefix length",
            Self::Host(HostError::Empty) => "must not be empty",
            Self::Host(HostError::TooLong) => "is longer than a name can be",
            Self::Host(HostError::Character) => {
                "has a character that no host name has (write an international name as xn--)"
            }
            Self::Host(HostError::Label) => "has a malformed label",
            Self::Host(HostError::AddressSpelling) => "is an unusual spelling of an address",
        }
    }
}

impl AllowList {
    /// Adds one entry: `name`, `*.name` or an address.
    ///
    /// # Errors
    /// When the entry is none of them.
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

    /// Whether `host` is on the list. An address is only when it was written out.
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

    /// Whether nothing is on the list.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.parents.is_empty()
    }
}

/// One colon that is no part of an IPv6 address.
fn has_port(entry: &str) -> bool {
    let after_bracket = entry
        .rsplit_once(']')
        .is_some_and(|(_, rest)| !rest.is_empty());
    after_bracket || entry.bytes().filter(|byte| *byte == b':').count() == 1
}
