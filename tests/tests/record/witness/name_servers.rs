//! Records about name servers.
use super::*;

/// Claims: mediator-datagrams*, addresses-in-records*
#[test]
fn question_by_ipv6_is_recorded_with_its_address() {
    let resolver = INTERNET.resolver_v6;
    let world = World::builder()
        .resolv_conf(&format!("nameserver {resolver}\n"))
        .build();
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .script(&format!(
            "{NO_PROXY}curl -sSf -o /dev/null http://allowed.test/\n"
        ))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let datagrams = run.flows(&[("source", "kernel_mediator"), ("protocol", "udp")]);
    let asked = world.queries();
    let by_udp = asked.iter().filter(|query| !query.tcp).count();
    assert!(by_udp > 0, "{run}");
    assert_eq!(datagrams.len(), by_udp, "{datagrams:#?}");
    for row in &datagrams {
        assert_eq!(row["dst"], resolver.to_string(), "{row:#}");
        assert_eq!(row["port"], 53, "{row:#}");
    }
}

#[test]
fn requests_to_the_port_of_name_servers_are_held_against_connections() {
    let world = World::new();
    let origin = world.peer([
        "python3".to_owned(),
        "-c".to_owned(),
        format!(
            "
import http.server
class Origin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '6')
        self.end_headers()
        self.wfile.write(b'origin')
server = http.server.HTTPServer(('{}', 53), Origin)
open('listening', 'w').close()
server.serve_forever()
",
            INTERNET.allowed
        ),
    ]);
    wait_until("the origin listens", SOON, || {
        world.dir().join("listening").exists()
    });
    let [key, boundary] = ["key", "boundary"].map(|name| world.key(name));
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .arg("--allow-port")
        .arg("53")
        .signed_with(&key)
        .arg("--boundary-key")
        .arg(&boundary)
        .script("curl -sSf -x $HTTP_PROXY http://allowed.test:53/ >out.txt\n")
        .run();
    drop(origin);
    assert_eq!(run.status, Some(0), "{run}");
    run.assert_receipt("allow", "allowed.test");
    let opened = of_mediator(&run, "53");
    assert!(
        opened.iter().any(|row| row["established"] == true),
        "{opened:#?}"
    );
    let judged = Judged::new(&run.packet, &key, &boundary);
    assert_eq!(judged.grade(), "kernel_enforced", "{judged}");
}
