//! Counts the traffic through the channels that are open on purpose. An allowed host is a way out,
//! so a reader needs the amount of traffic to it. The writer of a packet and its verifier use the
//! same code.
//!
//! Claims: channel-host, channel-wildcard, channel-other-name, channel-time
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::rows::RelayRow;
use super::super::words::RelayVerdict;

/// Number of hosts that are counted separately. All other hosts are counted together.
const HOSTS: usize = 1000;

/// Traffic in bytes and requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
#[serde(default)]
pub struct Through {
    /// Requests and tunnels. The number and the timing of requests can carry information too.
    pub requests: u64,
    /// Bytes of bodies and tunnels from the command.
    pub bytes_up: u64,
    /// Bytes of bodies and tunnels to the command.
    pub bytes_down: u64,
    /// Bytes of the targets of requests, including the queries.
    pub target_bytes: u64,
    /// Bytes of the heads of requests, including targets and header fields.
    pub head_bytes: u64,
}

impl Through {
    fn add(&mut self, row: &RelayRow, target_bytes: u64) {
        self.requests = self.requests.saturating_add(1);
        self.bytes_up = self.bytes_up.saturating_add(row.bytes_up);
        self.bytes_down = self.bytes_down.saturating_add(row.bytes_down);
        self.target_bytes = self.target_bytes.saturating_add(target_bytes);
        self.head_bytes = self.head_bytes.saturating_add(row.head_bytes);
    }

    /// Returns only the counts that can be computed from the rows of the flow log.
    pub(crate) fn in_rows(self) -> Self {
        Self {
            target_bytes: 0,
            ..self
        }
    }
}

/// The channels that stay open, and the traffic through each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields)
)]
#[serde(default)]
pub struct Residual {
    /// Traffic by `host:port`. Below an allowed wildcard, the command chooses the host name.
    pub(crate) allowed_hosts: BTreeMap<String, Through>,
    /// Traffic of all destinations after the first 1,000.
    pub(crate) other_hosts: Through,
    /// Requests that the mediator certainly denied. The mediator received these bytes and states that it did not pass
    /// them on.
    pub(crate) blocked: Through,
    /// Number of names that the stub resolver answered. The stub resolver answers inside the boundary and does not send
    /// names outside.
    pub(crate) names: u64,
    /// Sum of the lengths of the names that the stub resolver answered, bytes.
    pub(crate) name_bytes: u64,
}

impl Residual {
    /// Counts one row of the relay. `target_bytes` is the length of the target before anything was removed. Every
    /// request to the mediator counts, whatever its result. A request that the relay denied is not counted, because the
    /// relay did not send it on.
    pub fn row(&mut self, row: &RelayRow, target_bytes: u64) {
        if row.transport.is_none() {
            return;
        }
        let host = row.host.as_deref().unwrap_or_default();
        let host = format!("{host}:{}", row.port.unwrap_or_default());
        let through = if row.verdict == RelayVerdict::Blocked {
            &mut self.blocked
        } else if self.allowed_hosts.len() < HOSTS || self.allowed_hosts.contains_key(&host) {
            self.allowed_hosts.entry(host).or_default()
        } else {
            &mut self.other_hosts
        };
        through.add(row, target_bytes);
    }

    /// Counts a name in a query to the stub resolver.
    pub fn name(&mut self, name: &str) {
        let length = u64::try_from(name.len()).unwrap_or(u64::MAX);
        self.names = self.names.saturating_add(1);
        self.name_bytes = self.name_bytes.saturating_add(length);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::words::Transport;
    use super::*;

    fn row(host: &str, verdict: RelayVerdict) -> RelayRow {
        RelayRow {
            host: Some(host.into()),
            port: Some(443),
            transport: (verdict != RelayVerdict::Refused).then_some(Transport::Connect),
            head_bytes: 20,
            verdict,
            bytes_up: 3,
            bytes_down: 5,
            ..RelayRow::default()
        }
    }

    #[test]
    fn what_passed_is_counted_by_host_and_never_without_bound() {
        let mut residual = Residual::default();
        residual.row(&row("a.test", RelayVerdict::Forwarded), 5);
        residual.row(&row("a.test", RelayVerdict::Failed), 5);
        residual.row(&row("a.test", RelayVerdict::Unfinished), 5);
        residual.row(&row("a.test", RelayVerdict::Answered), 5);
        residual.row(&row("b.test", RelayVerdict::Blocked), 5);
        residual.row(&row("c.test", RelayVerdict::Refused), 5);
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
            residual.row(&row(&format!("{number}.test"), RelayVerdict::Forwarded), 5);
        }
        assert_eq!(residual.allowed_hosts.len(), HOSTS);
        assert_eq!(residual.other_hosts.requests, 5);
        residual.row(&row("a.test", RelayVerdict::Forwarded), 5);
        assert_eq!(residual.other_hosts.requests, 5);
    }
}
