//! What was refused, as the summary tells it.

/// One refused destination, for the summary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
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
    /// Where it was to go, in one word.
    pub fn target(&self) -> String {
        match (self.destination.as_str(), self.port) {
            ("", _) => self.protocol.clone(),
            (destination, 0) => destination.to_owned(),
            (destination, port) => format!("{destination}:{port}"),
        }
    }

    /// The line to add, where one would help.
    pub fn remedy(&self) -> Option<String> {
        match self.reason.as_str() {
            "allowlist:not_in_allowlist" => {
                Some(format!("api_allowlist: [\"{}\"]", self.destination))
            }
            "port_not_allowed" => Some(format!("--allow-port {}", self.port)),
            _ => None,
        }
    }
}
