//! Tests the world itself. If the counter or the servers of the world missed traffic, the other tests would prove
//! nothing.

use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::World;
use crate::{INTERNET, pattern_sha256};

/// Claims: crate-tests*
#[test]
fn servers_answer_by_name_in_both_families() {
    let world = World::new();
    let output = world.shell("curl -sS http://allowed.test/ && curl -sS4 https://denied.test:8443/ && curl -sS6 https://two.allowed.test/");
    assert_eq!(
        output.stdout,
        "hello from allowed.test\nhello from denied.test:8443\nhello from two.allowed.test\n",
        "{output}"
    );
    let requests = world.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[1].server, (INTERNET.denied, 8443).into());
    assert_eq!(requests[1].sni.as_deref(), Some("denied.test"));
    assert!(requests[2].server.is_ipv6());
    assert!(
        world
            .queries()
            .iter()
            .any(|query| query.name == "allowed.test" && query.kind == 1)
    );
}

#[test]
fn bodies_are_byte_exact_both_ways() {
    let world = World::new();
    let output = world.shell(
        "curl -sS https://allowed.test/bytes/5000001 | sha256sum | cut -c-64 &&
         curl -sS http://allowed.test/chunked/70000 | sha256sum | cut -c-64 &&
         head -c 3000000 /dev/zero | curl -sS -T - http://allowed.test/upload",
    );
    let expected = format!(
        "{}\n{}\n{{\"bytes\":3000000,\"sha256\":\"{}\"}}\n",
        pattern_sha256(5_000_001),
        pattern_sha256(70_000),
        hex::encode(Sha256::digest(vec![0; 3_000_000]))
    );
    assert_eq!(output.stdout, expected, "{output}");
}

#[test]
fn counter_sees_every_kind_of_packet_and_nothing_else() {
    let world = World::new();
    std::thread::sleep(Duration::from_millis(50));
    let start = world.wire().snapshot();
    world.wire().assert_still(start);

    // These packets come from a refused connection, a datagram without an answer, and a ping, each over both address
    // families.
    let target = (INTERNET.allowed, 81);
    let refused = world.on_runner(|| TcpStream::connect(target));
    assert!(refused.is_err());
    world.wire().assert_left(start, |packet| {
        packet.protocol == 6 && packet.port == Some(81)
    });

    let start = world.wire().snapshot();
    world.on_runner(|| {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.send_to(b"x", (INTERNET.denied_v6, 4000)).unwrap()
    });
    let packets = world.wire().since(start);
    assert_eq!(packets.len(), 1);
    assert_eq!(
        (packets[0].protocol, packets[0].destination, packets[0].port),
        (17, Some(INTERNET.denied_v6.into()), Some(4000))
    );
}

#[test]
fn sinks_record_the_received_data() {
    let world = World::new();
    let output = world.shell(
        "exec 3<>/dev/tcp/198.51.100.77/22; read -r line <&3; echo \"$line\"; echo hi >&3; exec 3>&-
         echo -n lost > /dev/udp/198.51.100.77/123",
    );
    assert_eq!(output.stdout, "SSH-2.0-world\r\n", "{output}");
    let deadline = Instant::now() + Duration::from_secs(5);
    while world.arrivals().len() < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut arrivals = world.arrivals();
    arrivals.sort_by_key(|arrival| arrival.port);
    assert_eq!(
        (arrivals[0].port, arrivals[0].bytes.as_slice()),
        (22, b"hi\n".as_slice())
    );
    assert_eq!(
        (arrivals[1].port, arrivals[1].bytes.as_slice()),
        (123, b"lost".as_slice())
    );
}

#[test]
fn programs_of_agents_trust_the_authority() {
    let world = World::new();
    let output = world.shell(
        "wget -qO- https://allowed.test/ &&
         python3 -c 'import urllib.request as u; print(u.urlopen(\"https://allowed.test/\").read().decode(), end=\"\")' &&
         node -e 'fetch(\"https://allowed.test/\").then(r => r.text()).then(t => process.stdout.write(t))'",
    );
    assert_eq!(
        output.stdout,
        "hello from allowed.test\n".repeat(3),
        "{output}"
    );
}

#[test]
fn world_without_ipv6_has_none() {
    let world = World::builder().without_ipv6().build();
    let output =
        world.shell("curl -sS http://allowed.test/; curl -sS6 http://allowed.test/; ip -6 addr");
    assert_eq!(output.stdout, "hello from allowed.test\n", "{output}");
}

/// Claims: crate-tests
#[test]
fn world_is_removed_with_a_failed_test() {
    let dir = std::sync::Mutex::new(None);
    let failed = std::panic::catch_unwind(|| {
        let world = World::new();
        *dir.lock().unwrap() = Some(world.dir().to_owned());
        panic!("as a failed assertion would");
    });
    assert!(failed.is_err());
    let dir = dir.into_inner().unwrap().unwrap();
    assert!(!dir.exists());
}

#[test]
fn world_is_made_quickly() {
    // The shortest time counts, because the machine may be busy.
    let quickest = (0..5).map(|_| {
        let started = Instant::now();
        let _world = World::new();
        started.elapsed()
    });
    let quickest = quickest.min().unwrap();
    assert!(
        quickest < Duration::from_millis(500),
        "a world takes {quickest:?}"
    );
}

#[test]
fn cloud_metadata_answers_without_a_boundary() {
    let world = World::new();
    let output = world.runner(["curl", "-sS", "http://169.254.169.254/status/200"]);
    assert_eq!(output.stdout, "200 OK\n", "{output}");
}
