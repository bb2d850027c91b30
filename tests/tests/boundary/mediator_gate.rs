//! Other programs on the machine cannot use the mediator's listener, although both are on the same loopback interface.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the result of its run has failed"
)]

use std::path::PathBuf;
use std::time::Duration;

use egress_tests::{Running, World, wait_until};

const SOON: Duration = Duration::from_secs(15);

/// Opens a connection through the relay, keeps it open, and then creates the file `ready`.
const AGENT: &str = "
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
curl -sS --limit-rate 64k -o download http://allowed.test/bytes/1000000000 &
until [ -s download ]; do sleep 0.02; done
touch ready
until [ -e done ]; do sleep 0.02; done
";

/// Returns the port of the only listener on the runner's loopback interface.
fn mediator(world: &World) -> u16 {
    let listening = world.shell("ss -Hltn | awk '{print $4}'");
    let ports: Vec<u16> = listening
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("127.0.0.1:")?.parse().ok())
        .collect();
    assert_eq!(ports.len(), 1, "{listening}");
    *ports.first().unwrap()
}

/// Returns the local ports of the relay's open connections to the mediator.
fn ports_of_relay(world: &World, mediator: u16) -> Vec<u16> {
    let open = world.shell(&format!(
        "ss -Htn state established dst 127.0.0.1:{mediator} | awk '{{print $3}}'"
    ));
    let port = |line: &str| line.rsplit_once(':')?.1.parse().ok();
    open.stdout.lines().filter_map(port).collect()
}

/// Starts a run whose relay has an open connection. Returns the run with its packet directory and its workspace.
fn started(world: &World) -> (Running, PathBuf, PathBuf) {
    let run = world.egress().allow(&["allowed.test"]);
    let run = run.limit(Duration::from_mins(2)).script(AGENT);
    let (running, packet, workdir) = run.start();
    wait_until("the relay has a connection", SOON, || {
        workdir.join("ready").exists()
    });
    (running, packet, workdir)
}

fn cgroup_of_relay(running: &Running) -> PathBuf {
    let found = running.cgroups();
    found
        .into_iter()
        .find(|dir| dir.ends_with("relay"))
        .unwrap()
}

/// Claims: mediator-gate*, accepted-pass, mediator-listener*
#[test]
fn mediator_serves_the_relay_alone() {
    let world = World::new();
    let (running, packet, workdir) = started(&world);
    let port = mediator(&world);
    let call = format!(
        "curl -sS -m 2 -o /dev/null -x http://127.0.0.1:{port} http://allowed.test/ && echo THROUGH"
    );
    let relay = cgroup_of_relay(&running);
    let as_relay = format!("echo $$ > {}/cgroup.procs && {call}", relay.display());
    let control = world.shell(&as_relay);
    assert_eq!(control.stdout, "THROUGH\n", "{control}");
    // The listener answers neither a root process nor a process of any other user.
    for caller in [
        call.clone(),
        format!("setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '{call}'"),
    ] {
        let refused = world.shell(&caller);
        assert_eq!(refused.stdout, "", "{refused}");
        assert!(refused.stderr.contains("timed out"), "{refused}");
    }
    // A local port belongs to the relay only while the relay's connection is open, and only together with the address
    // of this connection.
    let of_relay = *ports_of_relay(&world, port).first().unwrap();
    let other_address = world.shell(&format!(
        "curl -sS -m 2 -o /dev/null --interface 127.0.0.2 --local-port {of_relay} \
         -x http://127.0.0.1:{port} http://allowed.test/ && echo THROUGH"
    ));
    assert_eq!(other_address.stdout, "", "{other_address}");
    assert!(
        other_address.stderr.contains("timed out"),
        "{other_address}"
    );
    std::fs::write(workdir.join("done"), "").unwrap();
    let output = running.finish(SOON);
    assert_eq!(output.status, Some(0), "{output}");
    let boundary = std::fs::read(packet.join("boundary.json")).unwrap();
    let boundary: serde_json::Value = serde_json::from_slice(&boundary).unwrap();
    let refused = &boundary["counters"]["caller_refused"];
    assert!(refused.as_u64().unwrap() >= 3, "{refused}");
}

/// Claims: mediator-gate, mediator-listener
#[test]
fn port_of_an_ended_connection_is_not_accepted() {
    let world = World::new();
    let (running, _, workdir) = started(&world);
    let port = mediator(&world);
    let relay = cgroup_of_relay(&running);
    // The program resets its connection, so that the next program can use the port.
    let call = format!(
        "python3 -c 'import socket, struct
s = socket.socket()
s.settimeout(2)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(\"ii\", 1, 0))
s.bind((\"127.0.0.1\", 23456))
s.connect((\"127.0.0.1\", {port}))
print(\"THROUGH\")'"
    );
    let control = world.shell(&format!(
        "echo $$ > {}/cgroup.procs; {call}",
        relay.display()
    ));
    assert_eq!(control.stdout, "THROUGH\n", "{control}");
    let refused = world.shell(&call);
    assert_eq!(refused.stdout, "", "{refused}");
    assert!(refused.stderr.contains("timed out"), "{refused}");
    std::fs::write(workdir.join("done"), "").unwrap();
    let output = running.finish(SOON);
    assert_eq!(output.status, Some(0), "{output}");
}
