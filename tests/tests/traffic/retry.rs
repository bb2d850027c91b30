//! The second `ClientHello` of a TLS handshake must name the same server as the first one. Otherwise, the relay does
//! not forward the second `ClientHello`.

use egress_tests::retry::{PORT, RetryServer, client};
use egress_tests::{Judged, World};

const UNSET: &str = "unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy\n";

/// Claims: second-hello
#[test]
fn second_hello_with_the_same_name_passes_and_with_another_does_not() {
    let world = World::new();
    let server = RetryServer::start(&world);
    let honest = client("allowed.test", "allowed.test", "direct");
    let other = client("allowed.test", "denied.test", "direct");
    let control = world.shell(&other);
    assert_eq!(
        control.stdout, "flights 3 names: allowed.test denied.test\n",
        "{control}"
    );
    assert_eq!(server.names(), ["allowed.test", "denied.test"]);

    let [key, boundary] = ["receipts", "boundary"].map(|name| world.key(name));
    let run = world.egress().allow(&["allowed.test"]).signed_with(&key);
    let run = run.arg("--boundary-key").arg(&boundary);
    let run = run.arg("--allow-port").arg(PORT.to_string());
    let by_proxy = [
        client("allowed.test", "allowed.test", "proxy"),
        client("allowed.test", "denied.test", "proxy"),
    ];
    let script = format!("{UNSET}{honest}{other}{}{}true\n", by_proxy[0], by_proxy[1]);
    let run = run.script(&script).run();
    let passed = "flights 3 names: allowed.test allowed.test\n";
    let refused = "flights 2 alert [21, 3, 3, 0, 2, 2, 112]\n";
    assert_eq!(
        run.stdout,
        [passed, refused, passed, refused].concat(),
        "{run}"
    );
    let names = server.names();
    let names = names.get(2..).unwrap_or_default();
    assert_eq!(names, ["allowed.test"; 6], "{run}");
    let rows = run.flows(&[("source", "relay"), ("reason", "name_mismatch")]);
    assert_eq!(rows.len(), 2, "{rows:#?}");
    for row in rows {
        assert_eq!(
            row.get("verdict").and_then(serde_json::Value::as_str),
            Some("unfinished"),
            "{row}"
        );
    }
    let judged = Judged::new(&run.packet, &key, &boundary);
    assert_eq!(judged.grade(), "kernel_enforced", "{judged}");
}
