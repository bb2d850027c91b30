//! A denied attempt, as `boundary.json` states it.
use serde::{Deserialize, Serialize};

/// The reason for the denial of a name that does not resolve, in Pipelock's words.
pub(crate) const NOT_RESOLVED: &str = "ssrf:name_not_resolved";

/// Protocols of the relay's rows about requests to a mediator.
pub const MEDIATED: [&str; 4] = ["connect", "http", "tls", "websocket"];

/// Destination of a request whose host cannot be read.
const UNKNOWN: &str = "unknown destination";

/// A destination that was denied, with the process and the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
pub struct Denied {
    /// Host name, or the address if the command did not use a name. Empty for a denied socket type, and for a request
    /// whose host cannot be read.
    pub destination: String,
    /// Port. 0 if the attempt has none.
    pub port: u16,
    /// `tcp`, `udp`, …, or the protocol that the relay recognized.
    pub protocol: String,
    /// Reason for the denial.
    pub reason: String,
    /// Name of the process, as the kernel reports it.
    pub process: String,
}

impl Denied {
    /// Returns the HTTP status in the answer, or `None` if this is not an answer that looks like a
    /// denial.
    pub fn answered_with(&self) -> Option<u16> {
        let rest = self.reason.strip_prefix("answered_")?;
        rest.get(..3)?.parse().ok()
    }

    /// Whether the answer names this layer of the mediator.
    pub fn claims(&self, layer: &str) -> bool {
        let named = self.claimed().and_then(|claimed| claimed.split(':').next());
        named == Some(layer)
    }

    /// Returns the layer and the reason, if the answer names them.
    pub(crate) fn claimed(&self) -> Option<&str> {
        let (_, claimed) = self.reason.split_once(": ")?;
        self.answered_with().map(|_| claimed)
    }

    /// Returns the destination for people: the host with the port, or the protocol of a denied socket type.
    pub fn target(&self) -> String {
        match (self.destination.as_str(), self.port) {
            ("", _) if self.is_request() => UNKNOWN.to_owned(),
            ("", _) => self.protocol.clone(),
            (destination, 0) => destination.to_owned(),
            (destination, port) => format!("{destination}:{port}"),
        }
    }

    /// Whether a client sent a request to the relay. A denied socket type has the name of its protocol instead.
    fn is_request(&self) -> bool {
        self.protocol == "h2c" || MEDIATED.contains(&self.protocol.as_str())
    }

    /// Returns the protocol and the reason, or one word if they are equal (`client_silent`). The text of
    /// `ssrf:name_not_resolved` has no prefix `ssrf:`, because a name without an address has no private address.
    pub fn why(&self) -> String {
        let reason = match self.reason.as_str() {
            NOT_RESOLVED => "name_not_resolved",
            reason => reason,
        };
        if reason == self.protocol {
            return reason.to_owned();
        }
        format!("{} {reason}", self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_denial_names_its_layer() {
        let denied = Denied {
            destination: String::from("a.test"),
            port: 80,
            protocol: String::from("http"),
            reason: String::from("answered_403: allowlist:not_in_allowlist"),
            process: String::new(),
        };
        assert_eq!(denied.answered_with(), Some(403));
        assert!(denied.claims("allowlist"));
    }

    #[test]
    fn protocol_and_reason_that_are_equal_are_one_word() {
        let denied = |protocol: &str, reason: &str| Denied {
            protocol: protocol.to_owned(),
            reason: reason.to_owned(),
            ..Denied::default()
        };
        let silent = denied("client_silent", "client_silent");
        assert_eq!(silent.why(), "client_silent");
        let closed = denied("client_silent", "port_not_allowed");
        assert_eq!(closed.why(), "client_silent port_not_allowed");
    }

    #[test]
    fn a_request_without_a_host_has_an_unknown_destination() {
        for (destination, port, protocol, target) in [
            ("", 0, "http", "unknown destination"),
            ("", 0, "connect", "unknown destination"),
            ("", 0, "h2c", "unknown destination"),
            ("", 0, "icmp", "icmp"),
            ("a.test", 80, "http", "a.test:80"),
            ("/run/x.sock", 0, "unix", "/run/x.sock"),
        ] {
            let denied = Denied {
                destination: destination.to_owned(),
                port,
                protocol: protocol.to_owned(),
                ..Denied::default()
            };
            assert_eq!(denied.target(), target, "{denied:?}");
        }
    }
}
