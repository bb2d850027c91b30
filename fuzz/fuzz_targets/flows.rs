//! `flows.jsonl`: a change of any line breaks the chain, and every row can be parsed.
#![no_main]
use std::sync::LazyLock;

use audit_packet::flows::{FlowChain, FlowReport, check_flows};
use audit_packet::format::Row;
use egress_fuzz::changed;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut chain = FlowChain::new();
    let rows = [
        json!({"source": "kernel", "verdict": "redirect", "n": 1}),
        json!({"source": "relay", "hash": "mine", "x": "\",\"hash\":\"y"}),
        json!({"source": "supervisor", "event": "end"}),
    ];
    let lines = rows.iter().filter_map(|row| row.as_object());
    lines.flat_map(|row| chain.line(row)).collect()
});

fn check(bytes: &[u8]) -> FlowReport {
    let mut rows = 0;
    let report = check_flows(&mut &*bytes, &mut |node| {
        rows += 1;
        if let Row::Relay(row) = Row::read(node) {
            assert!(row.connection().is_none_or(|(cookie, _)| cookie != 0));
        }
    })
    .expect("bytes in memory");
    assert_eq!(report.lines, rows);
    assert!(report.findings.len() < 10_000);
    report
}

fuzz_target!(|data: &[u8]| {
    check(data);
    let bytes = changed(&SOUND, data);
    if check(&bytes).findings.is_empty() {
        let is_cut = bytes.is_empty() || bytes.ends_with(b"\n");
        assert!(
            is_cut && SOUND.starts_with(&bytes),
            "a change is not detected"
        );
    }
});
