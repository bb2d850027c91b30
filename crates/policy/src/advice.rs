//! Texts for mistakes in a policy: the value that was found, and the value to write instead.
use super::allow::{AllowList, EntryError};
use super::document::Value;
use super::error::PolicyError;
use super::host::{Host, HostError};

/// The longest value that an error shows, in characters.
const MAX_SHOWN: usize = 64;
/// The longest word, in bytes, for which [`nearest`] searches for a similar name.
const MAX_WORD: usize = 96;

/// Returns the value of a key that belongs to the policy language, shortened and escaped. The user information and the
/// query of a URL are left out, because they may hold secrets.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::from("nothing"),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(text) => quoted(text),
        Value::List(_) => String::from("a list"),
        Value::Map(_) => String::from("a mapping"),
    }
}

fn quoted(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let (kept, query) = text.split_at(end);
    let whole = match kept.rsplit_once('@') {
        Some((_user, rest)) => format!("***@{rest}"),
        None => kept.to_owned(),
    };
    let cut: String = whole.chars().take(MAX_SHOWN).collect();
    let is_cut = cut.len() < whole.len() || !query.is_empty();
    let more = if is_cut { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}

/// Returns the name that is most similar to `word`, if the two are similar enough for a spelling mistake.
pub(super) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if word.len() > MAX_WORD {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let wanted = plain(word);
    let most = wanted.len().div_euclid(4).clamp(1, 3);
    let distance = |name: &str| strsim::osa_distance(&wanted, &plain(name));
    names
        .map(|name| (distance(name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// Returns advice if `found` is the word `expected` in another case or with a spelling mistake.
pub(super) fn word(found: &str, expected: &str) -> Option<String> {
    if found.eq_ignore_ascii_case(expected) {
        return Some(String::from("write it in lower case"));
    }
    let meant = nearest(found, std::iter::once(expected))?;
    Some(format!("did you mean {meant}?"))
}

/// Returns what is wrong with an entry of a list of hosts, and what to write instead.
pub(super) fn entry(text: &str, error: EntryError) -> String {
    let found = quoted(text);
    if let Some(what) = range_or_url(text) {
        return format!("is {found}, {what}");
    }
    if text.contains(char::is_whitespace) {
        return if text.contains(" - ") {
            format!(
                "is {found}, which looks like several items; indent all items of a list by the same number of spaces"
            )
        } else {
            format!("is {found}, which contains a space; write one host per item")
        };
    }
    match error {
        EntryError::Wildcard if matches!(text, "*" | "*." | "*.*" | "**") => format!(
            "is {found}, which would allow every destination; list the host names, or write \"*.example.org\" for a name and all below it"
        ),
        EntryError::Wildcard => {
            let parent = text.rsplit('*').next().unwrap_or_default();
            let parent = parent.trim_start_matches(['.', '-', '_']);
            let instead = match Host::parse(parent) {
                Ok(Host::Name(name)) if name.contains('.') => format!("*.{name}"),
                Ok(_) | Err(_) => String::from("*.example.org"),
            };
            format!(
                "is {found}, but `*` is allowed only at the beginning, followed by a dot and a name; write \"{instead}\""
            )
        }
        EntryError::WildcardAddress => {
            format!("is {found}, but an address has no subdomains; write the address alone")
        }
        EntryError::NotAHost | EntryError::Host(HostError::Character) => {
            match international(text) {
                Some(name) => format!("is {found}, an international name; write {name}"),
                None => format!(
                    "is {found}, which contains a character that is not allowed in a host name"
                ),
            }
        }
        EntryError::Host(HostError::Empty) => {
            String::from("is empty; write a host, or remove the item")
        }
        EntryError::Host(HostError::TooLong) => {
            format!("is {found}, which is longer than a DNS name can be")
        }
        EntryError::Host(HostError::Label) => {
            format!("is {found}, which has an empty or malformed label between its dots")
        }
        EntryError::Host(HostError::AddressSpelling) => format!(
            "is {found}, a non-standard spelling of an IP address; write all four numbers in decimal, without leading zeros"
        ),
    }
}

/// Returns what is wrong with an entry that is a range, a URL, or a part of a URL.
fn range_or_url(text: &str) -> Option<String> {
    if super::ssrf::Cidr::parse(text).is_some() {
        return Some(String::from(
            "a range of addresses; list single addresses here, and put the range into ssrf.ip_allowlist if names resolve to addresses in it",
        ));
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(at) => (rest.get(..at)?, rest.get(at..)?),
        None => (rest, ""),
    };
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let kind = match (scheme, path, port) {
        (Some(_), ..) => "a URL",
        (None, path, _) if !path.is_empty() => "a host with a path",
        (None, _, Some(_)) => "a host with a port",
        (None, _, None) => return None,
    };
    let host = international(host).unwrap_or_else(|| host.to_owned());
    if AllowList::default().insert(&host).is_err() {
        return Some(format!("{kind}; write only a host name or an address"));
    }
    let host = if host.starts_with('*') {
        format!("\"{host}\"")
    } else {
        host
    };
    Some(match port.and_then(|port| port.parse::<u16>().ok()) {
        Some(port @ (80 | 443)) => {
            format!("{kind}; write {host}, because port {port} is always open")
        }
        Some(port) => format!("{kind}; write {host}, and add --allow-port {port} to egress run"),
        None => format!("{kind}; write {host}"),
    })
}

/// Returns the `xn--` form of an international name or wildcard, if the text is one.
fn international(text: &str) -> Option<String> {
    let (star, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text),
    };
    if name.is_ascii() {
        return None;
    }
    let ascii = idna::domain_to_ascii(name).ok()?;
    Host::parse(&ascii).ok()?;
    Some(format!("{star}{ascii}"))
}

/// Returns the error for a section that is not a mapping.
pub(super) fn not_a_section(line: u64, key: &str, value: &Value) -> PolicyError {
    let must = "must be a mapping of keys";
    let reason = if *value == Value::Null {
        format!("{must}; indent its keys two spaces deeper than its name")
    } else {
        format!("{must}, not {}", shown(value))
    };
    PolicyError::Invalid {
        line,
        key: key.to_owned(),
        reason,
    }
}
