//! Converts every host to one spelling: a lower-case name or an address.
//!
//! Destinations are compared with the allow-list only in this form. Two spellings of the same name or address therefore
//! lead to the same decision.
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// A destination host in its normalized spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name of letters, digits, hyphens, underscores, and dots, in lower case and without a trailing dot.
    Name(String),
    /// An address; an IPv4-mapped IPv6 address is converted to IPv4.
    Ip(IpAddr),
}

/// Why a spelling of a host is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HostError {
    /// The text is empty.
    #[error("the host is empty")]
    Empty,
    /// The name exceeds 253 bytes.
    #[error("the host is longer than a DNS name can be")]
    TooLong,
    /// A byte that cannot be in a host name, such as a space, a percent sign, NUL, or a part of a non-ASCII letter.
    #[error("the host contains a character that is not allowed in a host name")]
    Character,
    /// A label is empty, exceeds 63 bytes, or starts or ends with a hyphen.
    #[error("the host has an empty or malformed label")]
    Label,
    /// A hexadecimal, octal, short, or single-number spelling of an IPv4 address.
    #[error("the host is a non-standard spelling of an IP address")]
    AddressSpelling,
}

impl Host {
    /// Reads a host from an authority (IPv6 in brackets) or from a list (IPv6 with or without
    /// brackets).
    ///
    /// # Errors
    /// Returns [`HostError`] if the text is not clearly a name or an address.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Character)?;
            return Self::ipv6(inner);
        }
        if text.contains(':') {
            return Self::ipv6(text);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > 253 {
            return Err(HostError::TooLong);
        }
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(IpAddr::V4(address)));
        }
        let mut last = "";
        for label in name.split('.') {
            check_label(label)?;
            last = label;
        }
        if is_number(last) {
            return Err(HostError::AddressSpelling);
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }

    /// Whether the host refers to the machine that resolves it. The command's loopback is not the
    /// mediator's loopback, so such a host is never forwarded.
    pub fn is_own_machine(&self) -> bool {
        match self {
            Self::Name(name) => is_localhost(name),
            Self::Ip(ip) => ip.is_loopback() || ip.is_unspecified(),
        }
    }

    /// Returns the text for the flow log, where an IPv6 address has no brackets.
    pub fn plain(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Ip(ip) => ip.to_string(),
        }
    }

    fn ipv6(text: &str) -> Result<Self, HostError> {
        let address: Ipv6Addr = text
            .parse()
            .map_err(|_not_an_address| HostError::AddressSpelling)?;
        Ok(Self::Ip(IpAddr::V6(address).to_canonical()))
    }
}

/// Writes the host as in an authority, with IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Ip(IpAddr::V4(address)) => write!(formatter, "{address}"),
            Self::Ip(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
        }
    }
}

/// Whether `name` is `localhost` or a subdomain of it (RFC 6761). `name` must be lower case.
pub fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn check_label(label: &str) -> Result<(), HostError> {
    if label
        .bytes()
        .any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-' && byte != b'_')
    {
        return Err(HostError::Character);
    }
    if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
        return Err(HostError::Label);
    }
    Ok(())
}

/// Whether resolvers treat a name that ends in this label as an IPv4 address.
fn is_number(label: &str) -> bool {
    let hex = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
