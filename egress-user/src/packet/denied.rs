//! What was denied, as `boundary.json`, the summary and the report list it.
use serde::{Deserialize, Serialize};

/// A destination that the command was denied, by whom and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Denied {
    /// Host name, or address where no name was asked for; empty for a refused socket type.
    pub destination: String,
    /// Port, 0 where there is none.
    pub port: u16,
    /// `tcp`, `udp`, … or what the relay called it.
    pub protocol: String,
    /// Why.
    pub reason: String,
    /// Name of the process, as the kernel reports it.
    pub process: String,
}

impl Denied {
    /// The status of the answer, where all that is known is an answer that looks like a denial.
    pub fn answered_with(&self) -> Option<u16> {
        let rest = self.reason.strip_prefix("answered_")?;
        rest.get(..3)?.parse().ok()
    }

    /// Whether that answer names this layer.
    pub fn claims(&self, layer: &str) -> bool {
        let named = self.claimed().and_then(|claimed| claimed.split(':').next());
        named == Some(layer)
    }

    /// The words of that answer.
    fn claimed(&self) -> Option<&str> {
        let (_, claimed) = self.reason.split_once(": ")?;
        self.answered_with().map(|_| claimed)
    }

    /// Where it was to go, in one word.
    pub fn target(&self) -> String {
        match (self.destination.as_str(), self.port) {
            ("", _) => self.protocol.clone(),
            (destination, 0) => destination.to_owned(),
            (destination, port) => format!("{destination}:{port}"),
        }
    }

    /// Protocol and reason.
    pub fn why(&self) -> String {
        format!("{} {}", self.protocol, self.reason)
    }

    /// The line to add, where one would help.
    pub fn remedy(&self) -> Option<String> {
        // A refusal that an origin may have written is most likely the mediator's all the same.
        match self.claimed().unwrap_or(&self.reason) {
            "allowlist:not_in_allowlist" => {
                Some(format!("api_allowlist: [\"{}\"]", self.destination))
            }
            "port_not_allowed" => Some(format!("--allow-port {}", self.port)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_denial_has_its_remedy() {
        let denied = Denied {
            destination: String::from("a.test"),
            port: 80,
            protocol: String::from("http"),
            reason: String::from("answered_403: allowlist:not_in_allowlist"),
            process: String::new(),
        };
        assert_eq!(denied.answered_with(), Some(403));
        assert!(denied.claims("allowlist"));
        let remedy = denied.remedy();
        assert_eq!(remedy.as_deref(), Some("api_allowlist: [\"a.test\"]"));
    }
}
