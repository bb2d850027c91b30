//! Judges whether a `ClientHello` is for the host that the client connected to. Performs no I/O.
//!
//! Claims: name-match, encrypted-hello
use egress_http::client_hello::Hello;

use super::authority::Host;
use super::first_bytes::Alert;

/// Returns the reason word and the alert if the relay denies the hello, because the hello contains an encrypted hello
/// or is not for `host`. If `host` is an address, the hello must have no SNI.
pub(super) fn judge(hello: &Hello, host: &Host) -> Option<(&'static str, Alert)> {
    let is_for = match (host, &hello.sni) {
        (Host::Name(name), Some(sni)) => sni.eq_ignore_ascii_case(name.as_bytes()),
        (Host::Ip(_), None) => true,
        (Host::Name(_), None) | (Host::Ip(_), Some(_)) => false,
    };
    if hello.is_encrypted {
        Some(("encrypted_client_hello", Alert::AccessDenied))
    } else if !is_for {
        Some(("name_mismatch", Alert::UnrecognizedName))
    } else {
        None
    }
}

#[cfg(test)]
#[path = "hello/tests.rs"]
mod tests;
