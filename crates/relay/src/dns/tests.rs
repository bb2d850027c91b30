use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use super::*;
use crate::names::MAX_NAMES;

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(names: &mut Names, message: &Message, ipv6: bool) -> (Message, Option<NameReport>) {
    let answered = answer(names, &message.to_vec().unwrap(), ipv6).unwrap();
    (Message::from_vec(&answered.bytes).unwrap(), answered.report)
}

fn shown(names: &mut Names, name: &str, kind: RecordType) -> String {
    let (reply, _) = ask(names, &question(name, kind), true);
    assert_eq!(reply.metadata.id, 0x1234);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert_eq!(reply.queries, question(name, kind).queries);
    let data: Vec<String> = reply
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    format!("{} {}", reply.metadata.response_code, data.join(","))
}

#[test]
fn questions_have_their_answers() {
    let mut names = Names::new(MAX_NAMES);
    let cases = [
        ("a.test.", RecordType::A, "No Error 198.18.0.1"),
        ("A.TEST.", RecordType::A, "No Error 198.18.0.1"),
        ("a.test.", RecordType::AAAA, "No Error fd65:6772:6573::1"),
        ("b.test.", RecordType::AAAA, "No Error fd65:6772:6573::2"),
        ("b.test.", RecordType::A, "No Error 198.18.0.2"),
        ("_svc._tcp.a.test.", RecordType::A, "No Error 198.18.0.3"),
        ("a.test.", RecordType::TXT, "No Error "),
        ("a.test.", RecordType::MX, "No Error "),
        ("a.test.", RecordType::HTTPS, "No Error "),
        ("a.test.", RecordType::ANY, "No Error "),
        ("localhost.", RecordType::A, "No Error 127.0.0.1"),
        ("x.localhost.", RecordType::AAAA, "No Error ::1"),
        (
            "1.0.18.198.in-addr.arpa.",
            RecordType::PTR,
            "No Error a.test.",
        ),
        (
            "9.9.18.198.in-addr.arpa.",
            RecordType::PTR,
            "Non-Existent Domain ",
        ),
        (
            "1.2.0.192.in-addr.arpa.",
            RecordType::PTR,
            "Non-Existent Domain ",
        ),
        (
            "1.0.0.127.in-addr.arpa.",
            RecordType::PTR,
            "No Error localhost.",
        ),
        ("a.test.", RecordType::PTR, "Non-Existent Domain "),
        ("198.18.0.5.", RecordType::A, "Non-Existent Domain "),
        ("x.0x7f.", RecordType::A, "Non-Existent Domain "),
        (".", RecordType::A, "Non-Existent Domain "),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(shown(&mut names, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn odd_bytes_are_no_name() {
    let mut names = Names::new(MAX_NAMES);
    for label in ["a b", "a.b", "a\0", "\u{e4}", "a/b", "*", "\\097"] {
        let name = Name::from_labels([label.as_bytes(), b"test"]).unwrap();
        let mut message = question("x.", RecordType::A);
        message.queries[0].set_name(name);
        let (reply, _) = ask(&mut names, &message, true);
        assert_eq!(
            reply.metadata.response_code,
            ResponseCode::NXDomain,
            "{label:?}"
        );
    }
}

#[test]
fn a_name_is_reported_once() {
    let mut names = Names::new(2);
    let report = |names: &mut Names, name: &str| ask(names, &question(name, RecordType::A), true).1;
    assert_eq!(
        report(&mut names, "A.test."),
        Some(NameReport {
            name: "a.test".to_owned(),
            address: Some("198.18.0.1".parse().unwrap()),
            reason: String::new(),
        })
    );
    assert_eq!(report(&mut names, "a.test."), None);
    assert!(report(&mut names, "b.test.").is_some());
    assert_eq!(
        report(&mut names, "c.test.").map(|r| r.reason).as_deref(),
        Some("exhausted")
    );
    assert_eq!(report(&mut names, "c.test."), None);
    assert_eq!(
        shown(&mut names, "c.test.", RecordType::A),
        "Server Failure "
    );
    assert_eq!(
        shown(&mut names, "a.test.", RecordType::A),
        "No Error 198.18.0.1"
    );
}

#[test]
fn without_ipv6_there_is_no_aaaa() {
    let mut names = Names::new(MAX_NAMES);
    for name in ["a.test.", "localhost."] {
        let (reply, _) = ask(&mut names, &question(name, RecordType::AAAA), false);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty());
    }
}

#[test]
fn edns_is_answered_and_small() {
    let mut names = Names::new(MAX_NAMES);
    let mut message = question("a.test.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    message.set_edns(edns);
    let (reply, _) = ask(&mut names, &message, true);
    assert_eq!(reply.edns.map(|edns| edns.max_payload()), Some(PAYLOAD));
    let long = format!("{}.test.", ["a".repeat(60).as_str(); 4].join("."));
    let bytes = answer(
        &mut names,
        &question(&long, RecordType::A).to_vec().unwrap(),
        true,
    )
    .unwrap();
    assert!(bytes.bytes.len() < 512);
}

#[test]
fn what_is_no_question_gets_an_error_or_nothing() {
    let mut names = Names::new(MAX_NAMES);
    let good = question("a.test.", RecordType::A);
    let code = |names: &mut Names, bytes: &[u8]| {
        answer(names, bytes, true)
            .map(|a| Message::from_vec(&a.bytes).unwrap().metadata.response_code)
    };
    let mut chaos = good.clone();
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(
        code(&mut names, &chaos.to_vec().unwrap()),
        Some(ResponseCode::Refused)
    );
    let mut update = good.clone();
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(
        code(&mut names, &update.to_vec().unwrap()),
        Some(ResponseCode::NotImp)
    );
    let mut two = good.clone();
    two.add_query(two.queries[0].clone());
    assert_eq!(
        code(&mut names, &two.to_vec().unwrap()),
        Some(ResponseCode::FormErr)
    );
    let mut none = good.clone();
    none.queries.clear();
    assert_eq!(
        code(&mut names, &none.to_vec().unwrap()),
        Some(ResponseCode::FormErr)
    );
    let whole = good.to_vec().unwrap();
    for end in 3..whole.len() {
        assert_eq!(
            code(&mut names, &whole[..end]),
            Some(ResponseCode::FormErr),
            "{end}"
        );
    }
    for end in 0..3 {
        assert_eq!(code(&mut names, &whole[..end]), None, "{end}");
    }
    // The name contains a pointer to itself.
    let mut looped = whole[..12].to_vec();
    looped.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(code(&mut names, &looped), Some(ResponseCode::FormErr));
    // A response is never answered.
    let mut response = good;
    response.metadata.message_type = MessageType::Response;
    assert_eq!(code(&mut names, &response.to_vec().unwrap()), None);
    assert!(
        matches!(names.assign("a.test"), Assigned::New(_)),
        "a bad question gave a name"
    );
}

#[test]
fn any_bytes_are_answered_without_panic() {
    let mut names = Names::new(16);
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    question("a.test.", RecordType::A)
        .emit(&mut encoder)
        .unwrap();
    for at in 0..bytes.len() {
        for value in 0..=255 {
            let mut changed = bytes.clone();
            changed[at] = value;
            drop(answer(&mut names, &changed, true));
        }
    }
}
