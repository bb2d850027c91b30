//! Destinations of plain HTTP requests. Pipelock either fetches a destination itself or carries the request through a
//! tunnel.
use std::fs;
use std::time::Duration;

use egress_tests::{Running, World, wait_until};

use crate::support::{NO_PROXY, allow, assert_verified, has_sessions, with};

/// Redirects requests on port 8100 to the given URL, and writes the requests on ports 8100 and 8101 to a file.
const REDIRECTS: &str = r"
import socket, sys, threading
def serve(port, name, answer):
    server = socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        open('listens.' + name, 'a').close()
        stream = server.accept()[0]
        stream.recv(65536)
        with open('asked', 'a') as asked: asked.write(name + '\n')
        stream.sendall(b'HTTP/1.1 ' + answer + b'\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
        stream.close()
threading.Thread(target=serve, args=(8101, 'second', b'200 OK'), daemon=True).start()
serve(8100, 'first', b'302 Found\r\nLocation: ' + sys.argv[1].encode())
";

fn redirects(world: &World, to: &str) -> Running {
    let origin = world.peer(["python3", "-c", REDIRECTS, to]);
    wait_until("the origin listens", Duration::from_secs(20), || {
        ["listens.first", "listens.second"]
            .iter()
            .all(|name| world.dir().join(name).exists())
    });
    origin
}

fn follow() -> String {
    format!("{NO_PROXY}curl -sS -L -o /dev/null -w '%{{http_code}}\\n' http://allowed.test:8100/\n")
}

#[test]
fn redirect_leads_to_no_port_that_is_not_open() {
    let world = World::new();
    let _origin = redirects(&world, "http://allowed.test:8101/");
    let agent = follow();
    let asked = || fs::read_to_string(world.dir().join("asked")).unwrap_or_default();
    let control = world.shell(&agent);
    assert_eq!(control.stdout, "200\n", "{control}");
    assert_eq!(asked(), "first\nsecond\n", "{control}");

    let run = |ports: &[&str]| {
        let mut run = with(&world, &allow(&["allowed.test"]));
        for port in ports {
            run = run.arg("--allow-port").arg(*port);
        }
        run.script(&agent).run()
    };
    let refused = run(&["8100"]);
    assert_eq!(refused.stdout, "502\n", "{refused}");
    assert_eq!(asked(), "first\nsecond\nfirst\n", "{refused}");
    let rows = refused.flows(&[
        ("source", "kernel_mediator_denied"),
        ("reason", "port_not_allowed"),
        ("port", "8101"),
    ]);
    assert!(!rows.is_empty(), "{refused}");
    // An older Pipelock does not sign a receipt for a request that failed.
    if has_sessions(&refused) {
        assert_verified(&world, &refused);
    }

    let opened = run(&["8100", "8101"]);
    assert_eq!(opened.stdout, "200\n", "{opened}");
    assert_verified(&world, &opened);
}

#[test]
fn redirect_to_a_host_that_is_not_listed_is_denied_and_recorded_as_such() {
    let world = World::new();
    let _origin = redirects(&world, "http://denied.test/");
    let control = world.shell(&follow());
    assert_eq!(control.stdout, "200\n", "{control}");
    let before = world.requests().len();
    assert_eq!(before, 1, "denied.test was asked");
    let run = with(&world, &allow(&["allowed.test"])).arg("--allow-port");
    let run = run.arg("8100").script(&follow()).run();
    assert_eq!(run.stdout, "403\n", "{run}");
    assert_eq!(world.requests().len(), before, "{run}");
    assert_verified(&world, &run);
}

#[test]
fn websocket_and_errors_through_tunnels_are_recorded_as_such() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}curl -sS -o /dev/null -w '%{{http_code}}\\n' http://allowed.test/status/404\n\
         python3 - <<'PROGRAM'\n\
         import socket\n\
         stream = socket.create_connection(('allowed.test', 80), 10)\n\
         stream.sendall(b'GET /ws HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: Upgrade\\r\\n'\n\
         \x20   b'Upgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n'\n\
         \x20   b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n')\n\
         print(stream.recv(4096)[9:12].decode())\n\
         stream.sendall(b'\\x81\\x84' + bytes(4) + b'ping')\n\
         print(stream.recv(4096))\n\
         stream.sendall(b'\\x88\\x80' + bytes(4))\n\
         stream.recv(4096)\n\
         PROGRAM\n"
    );
    let control = world.shell(&agent);
    assert_eq!(control.stdout, "404\n101\nb'\\x81\\x04ping'\n", "{control}");
    let run = with(&world, &allow(&["allowed.test"]))
        .arg("--plain-http")
        .arg("tunnel")
        .script(&agent)
        .run();
    assert_eq!(run.stdout, control.stdout, "{run}");
    run.assert_flow(&[("protocol", "websocket"), ("transport", "connect")]);
    assert_verified(&world, &run);
}
