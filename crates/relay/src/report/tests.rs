//! Tests the reports of flows, and their order.
use super::*;

/// Claims: closes-wait
#[tokio::test]
async fn flows_wait_for_a_reader_and_none_is_lost() {
    let (out, mut taken) = mpsc::channel(1);
    let (reporter, pump) = Reporter::new(2, out, Key::new("k"), Patterns::default());
    let first = reporter.flow(Origin::default(), "raw").await;
    first.refused("a");
    drop(
        reporter
            .flow(
                Origin {
                    cookie: 7,
                    ..Origin::default()
                },
                "raw",
            )
            .await,
    );
    let third = tokio::spawn({
        let reporter = reporter.clone();
        async move { reporter.flow(Origin::default(), "tls").await.failed("c") }
    });
    tokio::task::yield_now().await;
    assert!(
        !third.is_finished(),
        "a third flow opened although no report was read"
    );
    let pump = tokio::spawn(pump.run());
    let mut reasons = Vec::new();
    while reasons.len() < 3 {
        let outgoing = taken.recv().await.unwrap();
        let Report::Flow(flow) = outgoing.report().clone() else {
            panic!("no flow")
        };
        reasons.push((flow.cookie, flow.verdict, flow.reason));
    }
    let row = |cookie, verdict: &str, reason: &str| (cookie, verdict.into(), reason.into());
    assert_eq!(
        reasons,
        [
            row(0, "refused", "a"),
            row(7, "failed", "stopped"),
            row(0, "failed", "c")
        ]
    );
    reporter.end();
    pump.await.unwrap();
}

#[tokio::test]
async fn a_name_is_reported_when_its_report_is_sent() {
    let (out, mut taken) = mpsc::channel(8);
    let (reporter, pump) = Reporter::new(8, out, Key::new("k"), Patterns::default());
    let pump = tokio::spawn(pump.run());
    let naming = tokio::spawn({
        let reporter = reporter.clone();
        async move {
            let name = NameReport {
                name: String::from("a.test"),
                address: None,
                reason: String::new(),
            };
            reporter.name(name).await;
        }
    });
    let outgoing = taken.recv().await.unwrap();
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    assert!(!naming.is_finished(), "the report was not sent yet");
    outgoing.sent();
    naming.await.unwrap();
    reporter.end();
    pump.await.unwrap();
}

/// Claims: crate-relay
#[tokio::test]
async fn what_passed_is_reported_whatever_ends_the_flow() {
    let (out, mut taken) = mpsc::channel(8);
    let (reporter, pump) = Reporter::new(8, out, Key::new("k"), Patterns::default());
    let pump = tokio::spawn(pump.run());
    let mut row = async |change: &dyn Fn(&mut Flow)| {
        let mut flow = reporter.flow(Origin::default(), "http").await;
        let passed = flow.passed();
        change(&mut flow);
        drop(flow);
        assert!(!passed.may_pass(1), "a byte passed behind the report");
        let outgoing = taken.recv().await.unwrap();
        let Report::Flow(flow) = outgoing.report().clone() else {
            panic!("no flow")
        };
        (flow.verdict, flow.reason, flow.bytes_up, flow.bytes_down)
    };
    let up = |flow: &mut Flow| {
        flow.asked("forward", "POST", "http://a.test/");
        flow.sent();
        assert!(flow.passed().may_pass(7));
    };
    let words = |verdict: &str, reason: &str, up| (verdict.into(), reason.into(), up, 0);
    assert_eq!(row(&|_| {}).await, words("failed", "stopped", 0));
    let asked = |flow: &mut Flow| flow.asked("forward", "GET", "http://a.test/");
    assert_eq!(row(&asked).await, words("failed", "stopped", 0));
    assert_eq!(row(&up).await, words("unfinished", "stopped", 7));
    let cut = |verdict, reason: &'static str| {
        move |flow: &mut Flow| {
            up(flow);
            flow.verdict(verdict, reason);
            flow.cut("client_closed");
        }
    };
    let forwarded = row(&cut(FlowVerdict::Forwarded, "")).await;
    assert_eq!(forwarded, words("unfinished", "client_closed", 7));
    // The denial is recorded, even if the client read only a part of the page.
    let blocked = row(&cut(FlowVerdict::Blocked, "allowlist:x")).await;
    assert_eq!(blocked, words("blocked", "allowlist:x", 7));
    reporter.end();
    pump.await.unwrap();
}
