//! Changes the sums in `boundary.json` after a change of the flow log, so that they agree with the changed rows.
use std::cmp::Reverse;
use std::collections::BTreeMap;

use audit_packet::denied::in_natural_order;
use audit_packet::format::boundary::{Denied, Residual};
use audit_packet::format::rows::RelayRow;
use audit_packet::format::{MediatorVerdict, Row};
use pipelock_receipts::json::{MAX_DEPTH, parse};

use super::json::Json;

/// The sums of a flow log.
#[derive(Debug, Default)]
struct Sums {
    channels: Residual,
    allowed: BTreeMap<(String, u16), u64>,
    /// Denied attempts, with the numbers of their rows.
    denied: BTreeMap<Denied, i64>,
}

/// Sets the sums in `document` that differ between the rows before and after a change.
pub(super) fn follow(document: &mut Json, honest: &[Json], rows: &[Json]) {
    let [before, after] = [honest, rows].map(Sums::of);
    let channels = [&before, &after].map(|sums| serde_json::to_string(&sums.channels).ok());
    if channels[0] != channels[1]
        && let Some(Ok(mut new)) = channels[1].as_deref().map(Json::read)
        && let Some(old) = document.member("residual_channels")
    {
        keep_targets(&mut new, old);
        document.set("residual_channels", new);
    }
    if before.allowed != after.allowed {
        let mut all: Vec<_> = after.allowed.iter().collect();
        all.sort_by_key(|(_, count)| Reverse(**count));
        let all = all.into_iter().map(|((host, port), count)| {
            object(&[
                ("host", Json::string(host)),
                ("port", Json::number(port)),
                ("count", Json::number(count)),
            ])
        });
        document.set("allowed", Json::Array(all.collect()));
    }
    if before.denied != after.denied {
        let mut all = listed(document);
        for (attempt, count) in &after.denied {
            let more = count - before.denied.get(attempt).unwrap_or(&0);
            change(&mut all, attempt, more);
        }
        for (attempt, count) in &before.denied {
            if !after.denied.contains_key(attempt) {
                change(&mut all, attempt, -count);
            }
        }
        all.retain(|(_, count)| *count > 0);
        in_natural_order(&mut all, |(attempt, count)| (attempt, *count));
        let all = all.iter().filter_map(|(attempt, count)| {
            let attempt = Json::read(&serde_json::to_string(attempt).ok()?).ok()?;
            Some(object(&[
                ("attempt", attempt),
                ("count", Json::number(count)),
            ]))
        });
        document.set("denied", Json::Array(all.collect()));
    }
}

fn object(members: &[(&str, Json)]) -> Json {
    let members = members.iter();
    Json::Object(
        members
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    )
}

/// Sets the bytes of the targets, which no row states, to those of the honest document.
fn keep_targets(new: &mut Json, old: &Json) {
    if let Some(bytes) = old.member("target_bytes") {
        new.set("target_bytes", bytes.clone());
    }
    let Json::Object(members) = new else {
        return;
    };
    for (name, value) in members {
        if let Some(old) = old.member(name) {
            keep_targets(value, old);
        }
    }
}

/// Returns the denied attempts of the document.
fn listed(document: &Json) -> Vec<(Denied, u64)> {
    let rows = document.member("denied").map(Json::children);
    let rows = rows.unwrap_or_default().into_iter();
    rows.filter_map(|(_, row)| {
        let attempt = row.member("attempt")?.compact();
        let count = row.member("count")?.compact().parse().ok()?;
        Some((serde_json::from_str(&attempt).ok()?, count))
    })
    .collect()
}

/// Adds `more` to the attempt of this kind. The document may list the attempt with the name of its address.
fn change(all: &mut Vec<(Denied, u64)>, attempt: &Denied, more: i64) {
    let is_kind = |one: &Denied| {
        (one.port, &one.protocol, &one.reason, &one.process)
            == (
                attempt.port,
                &attempt.protocol,
                &attempt.reason,
                &attempt.process,
            )
    };
    let is_same = |one: &Denied| one == attempt;
    let at = all
        .iter()
        .position(|(one, _)| is_same(one))
        .or_else(|| all.iter().position(|(one, _)| more < 0 && is_kind(one)));
    match at.and_then(|at| all.get_mut(at)) {
        Some((_, count)) => *count = count.saturating_add_signed(more),
        None => all.push((attempt.clone(), u64::try_from(more).unwrap_or(0))),
    }
}

impl Sums {
    fn of(rows: &[Json]) -> Self {
        let mut sums = Self::default();
        for row in rows {
            let text = row.compact();
            if let Ok(node) = parse(&text, MAX_DEPTH) {
                sums.see(&Row::read(&node));
            }
        }
        sums
    }

    fn see(&mut self, row: &Row) {
        if let Some(tried) = row.attempts() {
            let is_unix = tried.protocol == "unix";
            if tried.verdict == if is_unix { "unreachable" } else { "denied" } {
                let destination = tried.name.unwrap_or(tried.place);
                let count = i64::try_from(tried.count).unwrap_or(i64::MAX);
                self.deny(
                    Denied {
                        destination: destination.to_owned(),
                        port: tried.port,
                        protocol: tried.protocol.to_owned(),
                        reason: tried.reason.to_owned(),
                        process: tried.process.to_owned(),
                    },
                    count,
                );
            }
        }
        match row {
            Row::Relay(row) => self.relay(row),
            Row::Resolver(row) => self.channels.name(&row.name),
            Row::KernelMediatorDenied(row) if row.verdict == MediatorVerdict::Denied => {
                let attempt = Denied {
                    destination: row.dst.to_string(),
                    port: row.port,
                    protocol: row.protocol.to_string(),
                    reason: row.reason.to_string(),
                    process: String::new(),
                };
                self.deny(attempt, 1);
            }
            _ => {}
        }
    }

    fn deny(&mut self, attempt: Denied, count: i64) {
        *self.denied.entry(attempt).or_default() += count;
    }

    fn relay(&mut self, row: &RelayRow) {
        self.channels.row(row, 0);
        let host = row.host.as_deref().map(str::to_owned);
        if let Some(reason) = row.denial() {
            let address = row.orig_dst.map(|dst| dst.ip().to_string());
            let attempt = Denied {
                destination: host.or(address).unwrap_or_default(),
                port: row.port.unwrap_or(0),
                protocol: row.protocol.to_string(),
                reason,
                process: row.process.clone(),
            };
            self.deny(attempt, 1);
        } else if let (Some(host), Some(port)) = (host, row.port)
            && row.went_through()
        {
            *self.allowed.entry((host, port)).or_default() += 1;
        }
    }
}
