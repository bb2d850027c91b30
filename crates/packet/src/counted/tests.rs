//! Tests the comparison of the rows with the numbers of `boundary.json`.
use pipelock_receipts::json::{MAX_DEPTH, parse};
use serde_json::json;

use super::*;

/// `boundary.json` lists only the first answers, so the order of the answers decides which of them a page can show.
#[test]
fn answers_are_in_natural_order_whatever_their_number_is() {
    for number in [20, LISTED + 100] {
        let mut counted = Counted::default();
        let name = |number: usize| format!("h{number}.test");
        for number in 0..number {
            let answer = Denied {
                destination: name(number),
                reason: String::from("answered_403"),
                ..Denied::default()
            };
            counted.answered.insert(answer, 1);
        }
        counted.settle(&Receipts::default(), &Allowed::default());
        let found = counted.unclear.iter().map(|(one, _)| &one.destination);
        assert!(found.eq(&(0..number).map(name).collect::<Vec<_>>()));
    }
}

/// Returns the findings about the ports of a run whose relay denied the port 25.
fn about_ports(allowed_ports: &[u16]) -> Vec<String> {
    let row = json!({
        "source": "relay", "verdict": "refused", "reason": "port_not_allowed", "host": "a.test", "port": 25,
        "protocol": "raw",
    });
    let text = row.to_string();
    let node = parse(&text, MAX_DEPTH).unwrap();
    let mut counted = Counted::default();
    counted.see(&node, &Row::read(&node));
    let document = BoundaryDocument {
        allowed_ports: allowed_ports.to_vec(),
        ..BoundaryDocument::default()
    };
    let (mut findings, mut caps) = (Findings::default(), Caps::default());
    counted.check(&document, 0, &mut findings, &mut caps);
    let found = findings.into_ranked().0.into_iter();
    let found = found.map(|finding| finding.found);
    found
        .filter(|text| text.starts_with("allowed_ports"))
        .collect()
}

#[test]
fn port_that_the_relay_denied_is_not_allowed() {
    assert_eq!(about_ports(&[80, 443]), Vec::<String>::new());
    assert_eq!(about_ports(&[22, 80, 443]), Vec::<String>::new());
    assert_eq!(about_ports(&[25, 80, 443]), ["allowed_ports [25,80,443]"]);
}

#[test]
fn list_that_leaves_out_rows_is_full() {
    let document = BoundaryDocument {
        allowed_left_out: 1,
        ..BoundaryDocument::default()
    };
    let (mut findings, mut caps) = (Findings::default(), Caps::default());
    Counted::default().check(&document, 0, &mut findings, &mut caps);
    let found = findings.into_ranked().0;
    let is_named = |text: &str| found.iter().any(|finding| finding.found == text);
    assert!(is_named("1 of allowed left out"), "{found:?}");
    assert!(!is_named("1 of denied left out"), "{found:?}");
}
