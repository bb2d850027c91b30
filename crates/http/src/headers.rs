//! Header fields that neither the relay nor the mediator passes on.
use http::header::{HeaderMap, HeaderName};

/// Removes every field whose name begins with `prefix`. The prefix is in lower case.
pub fn remove_prefixed(headers: &mut HeaderMap, prefix: &str) {
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(prefix))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}
