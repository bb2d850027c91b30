//! Writes Pipelock's resolver configuration: the machine's name servers without its search domains.
//!
//! With a search domain, the resolver may look up a name other than the name that was judged. For example, with
//! `ndots:5`, as Kubernetes sets it, a resolver first looks up `api.example.com` below the search domain. Go's resolver
//! ignores `LOCALDOMAIN`, with which the supervisor removes the search domains for the resolver of glibc.
use std::io;
use std::path::Path;

use super::config;
use super::error::PipelockError;

/// Path of the resolver configuration (resolv.conf(5)).
pub(super) const PATH: &str = "/etc/resolv.conf";
/// Size limit of the configuration.
const MOST: u64 = 64 << 10;

/// Writes the file for user `id` to `path`, unless the machine has no resolver configuration.
///
/// # Errors
/// Fails if the machine's file cannot be read, or `path` cannot be written.
pub(super) fn write(path: &Path, id: u32) -> Result<(), PipelockError> {
    let text = match egress_files::read(Path::new(PATH), MOST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(config::file("read", Path::new(PATH)))?,
    };
    let text = without_search(&String::from_utf8_lossy(&text));
    config::write_for(path, text.as_bytes(), id)
}

/// Replaces the search domains with `onion`. Go does not look up names below `onion`, and name servers have no names
/// below `onion` (RFC 7686). Without any search domain, a resolver would use the domain of the machine's own name.
fn without_search(text: &str) -> String {
    let mut found: String = text
        .lines()
        .filter_map(|line| match line.split_whitespace().next() {
            Some("search" | "domain") => None,
            Some("options") => {
                let options = line.split_whitespace();
                let kept: Vec<_> = options
                    .filter(|option| !option.starts_with("ndots:"))
                    .collect();
                Some(kept.join(" ") + "\n")
            }
            _ => Some(format!("{line}\n")),
        })
        .collect();
    found.push_str("search onion\n");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: search-domains
    #[test]
    fn search_domains_are_left_out_and_the_rest_stays() {
        for (text, expected) in [
            ("", "search onion\n"),
            (
                "# x\nnameserver 192.0.2.1\nsearch a.test b.test\n domain c.test\nnameserver ::1",
                "# x\nnameserver 192.0.2.1\nnameserver ::1\nsearch onion\n",
            ),
            (
                "options ndots:5 edns0\noptions\ttimeout:1\nsearch\n",
                "options edns0\noptions timeout:1\nsearch onion\n",
            ),
        ] {
            assert_eq!(without_search(text), expected, "{text:?}");
        }
    }
}
