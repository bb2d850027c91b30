//! Tests the stub resolver through its sockets.
use egress_relay::plan::Report;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::{RelayWorld, question};

/// Claims: synthetic-address*, never-resolves
#[tokio::test]
async fn names_are_answered_over_udp_and_tcp_and_reported_once() {
    let mut world = RelayWorld::new().await;
    let over_udp = world.ask("a.test.", RecordType::A).await;
    assert_eq!(over_udp.answers[0].data.to_string(), "198.18.0.1");
    assert!(over_udp.answers[0].ttl <= 60);
    let mut stream = TcpStream::connect(world.dns_tcp).await.unwrap();
    // The bytes are two consecutive queries, and are cut at any place.
    let mut bytes = Vec::new();
    for name in ["A.test.", "b.test."] {
        let question = question(name, RecordType::A).to_vec().unwrap();
        bytes.extend(u16::try_from(question.len()).unwrap().to_be_bytes());
        bytes.extend(question);
    }
    for piece in bytes.chunks(9) {
        stream.write_all(piece).await.unwrap();
    }
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        answers.push(
            Message::from_vec(&answer).unwrap().answers[0]
                .data
                .to_string(),
        );
    }
    assert_eq!(answers, ["198.18.0.1", "198.18.0.2"]);
    let mut reported = Vec::new();
    for _ in 0..2 {
        match world.reports.recv().await.unwrap() {
            Report::Name(name) => reported.push((name.name, name.address.unwrap().to_string())),
            other => panic!("{other:?}"),
        }
    }
    let row = |name: &str, ip: &str| (name.to_owned(), ip.to_owned());
    assert_eq!(
        reported,
        [row("a.test", "198.18.0.1"), row("b.test", "198.18.0.2")]
    );
    let (_, rest) = world.stop().await;
    assert_eq!(rest, []);
}

#[tokio::test]
async fn when_the_addresses_are_used_up_names_fail_and_known_ones_do_not() {
    let world = RelayWorld::with(|config| config.limits.names = 1).await;
    world.resolve("a.test.").await;
    let refused = world.ask("b.test.", RecordType::A).await;
    assert_eq!(refused.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(world.resolve("a.test.").await.to_string(), "198.18.0.1");
}
