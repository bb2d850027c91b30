//! Name servers that the mediator may query.
use super::*;

/// Claims: gate-maps
#[test]
fn name_servers_of_the_machine_are_asked_wherever_they_are() {
    // Forwards each query to the world's name server.
    const FORWARDER: &str = "
import socket
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(('127.0.0.53', 53))
while True:
    question, peer = own.recvfrom(4096)
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.settimeout(5)
    other.sendto(question, ('198.51.100.53', 53))
    own.sendto(other.recv(4096), peer)
";
    let world = World::builder()
        .resolv_conf("nameserver 127.0.0.53\n")
        .build();
    let _forwarder = world.background(["python3", "-c", FORWARDER]);
    let _service = service(&world, 6099);
    wait_until("the name server listens", SOON, || {
        !world.shell("ss -Hlun src 127.0.0.53").stdout.is_empty()
    });
    let waiting = Waiting::start(world.egress().allow(&["allowed.test"]));
    let cgroup = waiting.cgroup();
    // Only DNS is allowed, and only to this address.
    let other_port = calls(
        &world,
        Some(&cgroup),
        "tcp,udp,udp_sendto",
        &at(&["127.0.0.53"], 6099),
    );
    assert_eq!(other_port.stdout, "", "{other_port}");
    let other_server = calls(
        &world,
        Some(&cgroup),
        "udp,udp_sendto",
        &at(&["127.0.0.1"], 53),
    );
    assert!(
        other_server.stderr.contains("not permitted"),
        "{other_server}"
    );
    let (_, output) = waiting.end();
    assert_eq!(output.status, Some(0), "{output}");
    let run = world.egress().allow(&["allowed.test"]);
    let run = run
        .script("curl -sSf --noproxy '*' http://allowed.test/")
        .run();
    assert!(run.success(), "{run}");
    let rows = rows(&run.packet, "kernel_mediator");
    assert!(
        rows.iter().any(|row| text(row, "dst") == "127.0.0.53"),
        "{rows:#?}"
    );
}

/// Claims: gate-updates*
#[test]
fn name_server_that_the_machine_gets_during_the_run_is_reached() {
    const ANSWERS: &str = "
import socket
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind(('127.0.0.53', 53))
while True: own.sendto(b'here', own.recvfrom(4096)[1])
";
    let world = World::new();
    let _server = world.background(["python3", "-c", ANSWERS]);
    wait_until("the name server is there", SOON, || {
        !world.shell("ss -Hlun src 127.0.0.53").stdout.is_empty()
    });
    let waiting = Waiting::start(world.egress().allow(&["allowed.test"]));
    let cgroup = waiting.cgroup();
    let ask = || calls(&world, Some(&cgroup), "udp", &at(&["127.0.0.53"], 53));
    let before = ask();
    assert!(before.stderr.contains("not permitted"), "{before}");
    let changed = world.shell("echo nameserver 127.0.0.53 >> /etc/resolv.conf");
    assert!(changed.success(), "{changed}");
    wait_until("the supervisor has read it", SOON, || {
        ask().stdout == "udp 127.0.0.53\n"
    });
    let (_, output) = waiting.end();
    assert_eq!(output.status, Some(0), "{output}");
}
