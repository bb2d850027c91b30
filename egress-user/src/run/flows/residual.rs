//! How much went through what is open on purpose: a boundary with an allowed host is a boundary with
//! a way out, and a reader wants to know how wide it was used.
use std::collections::BTreeMap;

use serde::Serialize;

use crate::relay::plan::{FlowReport, NameReport};

/// Hosts that are told apart; what goes to others is counted together.
const HOSTS: usize = 1000;

/// What passed, in bytes and numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Through {
    /// Requests and tunnels. When they were made, and how many, also says something to who listens.
    pub requests: u64,
    /// Bytes of bodies and tunnels from the agent.
    pub bytes_up: u64,
    /// The same, to the agent.
    pub bytes_down: u64,
    /// Bytes of the requests' targets, before queries were left out.
    pub target_bytes: u64,
    /// Bytes of the requests' heads, their targets and fields among them.
    pub head_bytes: u64,
}

impl Through {
    fn add(&mut self, flow: &FlowReport) {
        self.requests += 1;
        self.bytes_up = self.bytes_up.saturating_add(flow.bytes_up);
        self.bytes_down = self.bytes_down.saturating_add(flow.bytes_down);
        self.target_bytes = self.target_bytes.saturating_add(flow.target_bytes);
        self.head_bytes = self.head_bytes.saturating_add(flow.head_bytes);
    }
}

/// The channels that stay open, and what passed through each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Residual {
    /// By `host:port`. A host below an allowed wildcard is a name that the agent chose.
    allowed_hosts: BTreeMap<String, Through>,
    /// Hosts beyond the first thousand.
    other_hosts: Through,
    /// What the mediator refused for sure: it got these bytes, and by its own word passed none of them on.
    blocked: Through,
    /// Names that the stub answered inside the boundary; none of them left it for that.
    names: u64,
    /// Their length.
    name_bytes: u64,
}

impl Residual {
    /// Takes what became of one request or tunnel: everything that the mediator was asked for counts, by what passed
    /// and not by how it ended. What the relay refused before it asked reached nobody.
    pub fn flow(&mut self, flow: &FlowReport) {
        if flow.transport.is_none() {
            return;
        }
        if flow.verdict == "blocked" {
            return self.blocked.add(flow);
        }
        let host = flow.host.as_deref().unwrap_or_default();
        let host = format!("{host}:{}", flow.port.unwrap_or_default());
        if self.allowed_hosts.len() < HOSTS || self.allowed_hosts.contains_key(&host) {
            self.allowed_hosts.entry(host).or_default().add(flow);
        } else {
            self.other_hosts.add(flow);
        }
    }

    /// Takes a name that the stub was asked for.
    pub fn name(&mut self, name: &NameReport) {
        self.names += 1;
        self.name_bytes = self.name_bytes.saturating_add(name.name.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(host: &str, verdict: &str) -> FlowReport {
        FlowReport {
            cookie: 0,
            connect_ns: 0,
            orig_dst: None,
            host: Some(host.to_owned()),
            port: Some(443),
            protocol: String::from("tls"),
            transport: (verdict != "refused").then(|| String::from("connect")),
            target: Some(String::from("GET /")),
            target_bytes: 5,
            head_bytes: 20,
            verdict: verdict.to_owned(),
            reason: String::new(),
            claimed: None,
            status: None,
            bytes_up: 3,
            bytes_down: 5,
            duration_us: 0,
        }
    }

    #[test]
    fn what_passed_is_counted_by_host_and_never_without_bound() {
        let mut residual = Residual::default();
        residual.flow(&flow("a.test", "forwarded"));
        residual.flow(&flow("a.test", "failed"));
        residual.flow(&flow("a.test", "unfinished"));
        residual.flow(&flow("a.test", "answered"));
        residual.flow(&flow("b.test", "blocked"));
        residual.flow(&flow("c.test", "refused"));
        let all = Through {
            requests: 4,
            bytes_up: 12,
            bytes_down: 20,
            target_bytes: 20,
            head_bytes: 80,
        };
        assert_eq!(residual.allowed_hosts.get("a.test:443"), Some(&all));
        assert_eq!(residual.allowed_hosts.len(), 1);
        assert_eq!(
            (residual.blocked.requests, residual.blocked.bytes_up),
            (1, 3)
        );
        for number in 0..HOSTS + 4 {
            residual.flow(&flow(&format!("{number}.test"), "forwarded"));
        }
        assert_eq!(residual.allowed_hosts.len(), HOSTS);
        assert_eq!(residual.other_hosts.requests, 5);
        residual.flow(&flow("a.test", "forwarded"));
        assert_eq!(residual.other_hosts.requests, 5);
    }
}
