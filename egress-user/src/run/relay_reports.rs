//! Writes the relay's reports to the flow log.
use std::io;

use egress_relay::plan::Report;

use super::error::{RunError, system};
use super::flows::FlowLog;

/// Writes one report to the flow log. Returns an error text if the report shows that the relay failed.
///
/// # Errors
/// Fails if the row cannot be written.
pub(super) fn take_report(flows: &mut FlowLog, report: Report) -> Result<Option<String>, RunError> {
    match report {
        Report::Ready => Ok(Some(String::from("the relay started twice"))),
        Report::Failed { error } => Ok(Some(format!("the relay failed: {error}"))),
        Report::Flow(flow) => written(flows.relay(&flow)),
        Report::Name(name) => written(flows.name(&name)),
    }
}

/// Turns a report that does not fit into a row into a failure of the relay.
fn written(result: io::Result<()>) -> Result<Option<String>, RunError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(format!(
            "the relay sent a report that does not fit into a row: {error}"
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
        assert!(failed.contains("verdict is \"zebra\""), "{failed}");
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1);
    }
}
