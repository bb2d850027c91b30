//! The resolver's configuration for Pipelock: the machine's name servers, and none of its search domains.
//!
//! With a search domain the resolver may look up another name than the one that was judged: with `ndots:5`, which
//! Kubernetes sets, `api.example.com` is first looked up below that domain. Go's resolver, unlike that of a C library,
//! heeds no `LOCALDOMAIN`.
use std::io;
use std::path::Path;

use super::config;
use super::error::PipelockError;

/// Where resolvers look (resolv.conf(5)).
pub(super) const PATH: &str = "/etc/resolv.conf";
/// More than any resolver heeds.
const MOST: u64 = 64 << 10;

/// Writes the file for user `id` to `path`, unless the machine has none.
///
/// # Errors
/// When the machine's file cannot be read, or `path` cannot be written.
pub(super) fn write(path: &Path, id: u32) -> Result<(), PipelockError> {
    let text = match egress_files::read(Path::new(PATH), MOST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(config::file("read", Path::new(PATH)))?,
    };
    let text = without_search(&String::from_utf8_lossy(&text));
    config::write_for(path, text.as_bytes(), id)
}

/// The configuration with a search domain in which no name is looked up. Without any, a resolver takes the domain of the
/// machine's own name. Go asks nobody for a name below `onion`, and no name server knows one (RFC 7686).
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
