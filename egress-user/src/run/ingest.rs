//! Takes the records of both witnesses, the kernel and the relay, into the flow log.
use std::io;

use egress_relay::plan::Report;

use super::error::{RunError, system};
use super::flows::FlowLog;
use crate::bpf::Gates;
use crate::bpf::events::Events;

/// Records of one ring that are read before the next one has its turn.
const TURN: usize = 256;

/// Moves every record that the kernel has written into the flow log. The rings take turns: a command that makes
/// connections as fast as one ring is read must not let another one fill up.
pub(super) fn drain(
    gates: &mut Gates,
    events: &mut Events,
    flows: &mut FlowLog,
) -> Result<(), RunError> {
    gates.flush_diagnostics();
    let mut is_more = true;
    while is_more {
        is_more = false;
        // Names before the connections that are told by them.
        for text in std::iter::from_fn(|| events.take_text()).take(TURN) {
            is_more = true;
            match text {
                Ok(text) => system("write the flow log", flows.text(&text))?,
                Err(_) => flows.malformed(),
            }
        }
        for event in std::iter::from_fn(|| events.take()).take(TURN) {
            is_more = true;
            match event {
                Ok(event) => system("write the flow log", flows.kernel(&event))?,
                Err(_) => flows.malformed(),
            }
        }
        // Last, so that the close of a connection mostly follows its connect.
        for traffic in std::iter::from_fn(|| events.take_traffic()).take(TURN) {
            is_more = true;
            match traffic {
                Ok(traffic) => system("write the flow log", flows.traffic(&traffic))?,
                Err(_) => flows.malformed(),
            }
        }
    }
    Ok(())
}

/// Puts one report into the log; `Some` when the relay says that it failed.
pub(super) fn take_report(flows: &mut FlowLog, report: Report) -> Result<Option<String>, RunError> {
    match report {
        Report::Ready => Ok(Some(String::from("the relay started twice"))),
        Report::Failed { error } => Ok(Some(format!("the relay failed: {error}"))),
        Report::Flow(flow) => written(flows.relay(&flow)),
        Report::Name(name) => written(flows.name(&name)),
    }
}

/// What a relay reports that no row can hold is its failure.
fn written(result: io::Result<()>) -> Result<Option<String>, RunError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(format!(
            "the relay sent a report that no row can hold: {error}"
        ))),
        other => system("write the flow log", other).map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use egress_relay::plan::FlowReport;

    use super::*;

    fn report(verdict: &str) -> Report {
        Report::Flow(FlowReport {
            cookie: 0,
            connect_ns: 0,
            orig_dst: None,
            host: None,
            port: None,
            protocol: String::from("raw"),
            transport: None,
            target: None,
            target_bytes: 0,
            head_bytes: 0,
            verdict: verdict.to_owned(),
            reason: String::from("not_tls_or_http"),
            claimed: None,
            status: None,
            bytes_up: 0,
            bytes_down: 0,
            duration_us: 0,
        })
    }

    #[test]
    fn a_report_that_no_row_can_hold_is_a_failure_of_the_relay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flows.jsonl");
        let mut flows = FlowLog::create(&path, None).unwrap();
        assert_eq!(take_report(&mut flows, report("refused")).unwrap(), None);
        let failed = take_report(&mut flows, report("zebra")).unwrap().unwrap();
        assert!(failed.contains("unknown word zebra"), "{failed}");
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1);
    }
}
