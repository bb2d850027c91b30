use super::*;

/// Returns one entry without valid signatures and hashes.
fn entry(kind: &str, host: &str) -> String {
    let decision = format!(
        "\"target\":\"http://{host}/\",\"verdict\":\"allow\",\"transport\":\"forward\",\"action_type\":\"read\""
    );
    let detail = match kind {
        "action_receipt" => {
            format!("{{\"action_record\":{{\"chain_seq\":0,{decision},\"chain_prev_hash\":\"\"}}}}")
        }
        _ => format!(
            "{{\"chain_seq\":0,\"chain_prev_hash\":\"\",\"payload\":{{{decision}}},\"signature\":{{\"signature\":\"\"}}}}"
        ),
    };
    format!(
        "{{\"v\":2,\"seq\":0,\"ts\":\"\",\"session_id\":\"\",\"type\":\"{kind}\",\"event_kind\":\"\",\"transport\":\"\",\
         \"summary\":\"\",\"detail\":{detail},\"prev_hash\":\"\",\"hash\":\"\"}}\n"
    )
}

/// Returns the type and the host of each entry.
fn order(lines: &str) -> Vec<(String, bool)> {
    let of = |line: &str| {
        let entry = Tree::read(line).unwrap();
        (entry.text("type"), line.contains("http://a.test/"))
    };
    lines.lines().map(of).collect()
}

#[test]
fn evidence_that_is_written_again_keeps_its_order() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let [a1, b1] = ["a.test", "b.test"].map(|host| entry("action_receipt", host));
    let [a2, b2] = ["a.test", "b.test"].map(|host| entry("evidence_receipt", host));
    for entries in [
        [&a1, &a2, &b1, &b2],
        [&a1, &b1, &a2, &b2],
        [&a1, &b1, &b2, &a2],
        [&b1, &a1, &b2, &a2],
    ] {
        let text: String = entries.map(String::as_str).concat();
        let write = |text: &str| {
            let testimony = Testimony::of(text).unwrap();
            String::from_utf8(testimony.write(&key)).unwrap()
        };
        let signed = write(&text);
        assert_eq!(order(&signed), order(&text));
        // Correctly signed evidence does not change at all.
        assert_eq!(write(&signed), signed);
    }
}

#[test]
fn a_receipt_of_version_2_is_written_although_the_entries_before_it_are_missing() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let [a1, b1] = ["a.test", "b.test"].map(|host| entry("action_receipt", host));
    let [a2, b2] = ["a.test", "b.test"].map(|host| entry("evidence_receipt", host));
    let mut testimony = Testimony::of(&[a1, b1, b2, a2].concat()).unwrap();
    testimony.retain(|receipt| receipt.text("target").contains("a.test"));
    let signed = String::from_utf8(testimony.write(&key)).unwrap();
    let kinds = ["action_receipt", "evidence_receipt"].map(|kind| (kind.to_owned(), true));
    assert_eq!(order(&signed), kinds);
}
