//! The hosts that occur in lies, and functions for the parts of targets.

/// A host that the command requests often.
pub(super) const FIRST: &str = "allowed.test";
/// A host that the command requests less often.
pub(super) const SECOND: &str = "two.allowed.test";
/// A host that the policy allows and the command never requests.
pub(super) const NEVER_ASKED: &str = "v4.test";

/// Returns the parts of a target: scheme, host, port with its colon, and the rest.
fn split(target: &str) -> Option<(&str, &str, &str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let port = authority.rfind(':').unwrap_or(authority.len());
    let (host, port) = authority.split_at_checked(port)?;
    Some((scheme, host, port, rest))
}

/// Returns the host of a target.
pub(super) fn host(target: &str) -> &str {
    split(target).map_or("", |(_, host, _, _)| host)
}

/// Returns `target` with the host `host`.
pub(super) fn at_host(target: &str, host: &str) -> String {
    changed(target, |(scheme, _, port, rest)| {
        format!("{scheme}://{host}{port}{rest}")
    })
}

/// Returns `target` with the port `port`.
pub(super) fn at_port(target: &str, port: u16) -> String {
    changed(target, |(scheme, host, _, rest)| {
        format!("{scheme}://{host}:{port}{rest}")
    })
}

/// Returns `target` with the path `path`.
pub(super) fn at_path(target: &str, path: &str) -> String {
    changed(target, |(scheme, host, port, _)| {
        format!("{scheme}://{host}{port}{path}")
    })
}

/// Returns `target` with the scheme `scheme`.
pub(super) fn by_scheme(target: &str, scheme: &str) -> String {
    changed(target, |(_, host, port, rest)| {
        format!("{scheme}://{host}{port}{rest}")
    })
}

fn changed(target: &str, with: impl FnOnce((&str, &str, &str, &str)) -> String) -> String {
    split(target).map_or_else(|| target.to_owned(), with)
}
