//! Tests which traffic of the flow log the pages show.
use super::super::format::boundary::{AllowedRow, DeniedRow};
use super::super::format::rows::{AttemptRow, RepeatsRow};
use super::super::format::words::{RelayVerdict, Transport};
use super::*;

fn activity() -> Activity {
    let document = BoundaryDocument {
        allowed: vec![AllowedRow {
            host: "a.test".into(),
            port: 80,
            count: 1,
        }],
        denied: vec![DeniedRow {
            count: 3,
            attempt: Denied {
                destination: String::from("192.0.2.1"),
                port: 53,
                ..Denied::default()
            },
        }],
        ..BoundaryDocument::default()
    };
    let second = |second: i128| second.saturating_mul(1_000_000_000);
    Activity {
        span: Some((0, second(96))),
        ..Activity::new(&document, None)
    }
}

fn request(host: &str, second: u64, process: &str) -> Row {
    Row::Relay(Box::new(RelayRow {
        ts: format!("1970-01-01T00:00:{second:02}Z").into(),
        host: Some(host.into()),
        port: Some(80),
        transport: Some(Transport::Forward),
        target: Some(format!("GET http://{host}/{process}").into()),
        verdict: RelayVerdict::Forwarded,
        bytes_up: 5,
        head_bytes: 7,
        bytes_down: 11,
        duration_us: 2_000_000,
        process: process.to_owned(),
        pid: Some(4),
        ..RelayRow::default()
    }))
}

#[test]
fn traffic_is_counted_with_its_program_and_time() {
    let mut activity = activity();
    activity.see(&request("a.test", 10, "curl"));
    activity.see(&request("a.test", 20, "wget"));
    activity.see(&request("other.test", 30, "curl"));
    let attempt = AttemptRow {
        ts: "1970-01-01T00:00:40Z".into(),
        verdict: "denied".into(),
        protocol: "udp".into(),
        dst: "192.0.2.1".into(),
        // The address received its name after its first attempt.
        name: Some("later.test".into()),
        port: 53,
        process: String::from("dig"),
        pid: 9,
        ..AttemptRow::default()
    };
    activity.see(&Row::Kernel(attempt.clone()));
    activity.see(&Row::KernelRepeats(RepeatsRow {
        verdict: attempt.verdict.clone(),
        protocol: attempt.protocol.clone(),
        dst: attempt.dst.clone(),
        port: 53,
        process: attempt.process.clone(),
        count: 3,
        first: attempt.ts.clone(),
        last: "1970-01-01T00:00:42Z".into(),
        ..RepeatsRow::default()
    }));
    let allowed = activity.destinations["a.test:80"].talk().allowed;
    let second = |second: i128| second.saturating_mul(1_000_000_000);
    assert_eq!(
        allowed,
        Traffic {
            count: 2,
            sent: 24,
            received: 22,
            times: Some((second(8), second(20))),
            parts: 0b111 << 8 | 0b111 << 18,
        }
    );
    let denied = activity.destinations["192.0.2.1:53"].talk().denied;
    assert_eq!((denied.count, denied.parts), (3, 0b111 << 40));
    assert_eq!(activity.others.allowed.count, 1);
    assert_eq!(activity.programs["curl"].talk.allowed.count, 2);
    assert_eq!(activity.programs["dig"].processes, BTreeSet::from([9]));
    let (requests, rest) = activity.requests_in_order(2);
    let targets: Vec<&str> = requests
        .iter()
        .map(|(one, _)| one.target.as_str())
        .collect();
    assert_eq!(
        targets,
        ["GET http://a.test/curl", "GET http://a.test/wget"]
    );
    assert_eq!(rest, 1);
}

#[test]
fn many_names_take_no_more_memory() {
    let mut activity = activity();
    for number in 0..5_000 {
        let name = format!("{number}.{}", "x".repeat(1_000));
        activity.see(&request(&name, 1, &name));
        activity.see(&request("a.test", 1, &name));
    }
    assert_eq!(activity.destinations.len(), 2);
    assert_eq!(activity.destinations["a.test:80"].0.len(), PROGRAMS + 1);
    assert_eq!(activity.programs.len(), PROGRAMS + 1);
    assert_eq!(activity.requests.len(), REQUESTS);
    assert_eq!(activity.more_requests, 10_000 - 1_000);
    let longest = activity.programs.keys().map(String::len).max();
    assert_eq!(longest, Some(MAX_CHARACTERS));
    assert_eq!(
        activity.programs[OTHERS].talk.allowed.count,
        2 * (5_000 - 40)
    );
}
