//! The hints that a run and `egress policy suggest` print about denials. A hint names only settings that let the
//! attempt through.
#![expect(
    clippy::disallowed_methods,
    reason = "a test starts the service that its command cannot reach"
)]

use std::path::Path;
use std::process::Command;

use egress_tests::{Output, RunOutput, World};

/// Connects to a service on loopback, and prints whether the connection succeeded.
const TO_SERVICE: &str = "
(exec 3<>/dev/tcp/127.0.0.1/6399) 2> /dev/null && echo reached || echo refused
";

fn suggest(world: &World, packet: &Path) -> Output {
    world.tool(["policy".as_ref(), "suggest".as_ref(), packet.as_os_str()])
}

fn page(run: &RunOutput, name: &str) -> String {
    std::fs::read_to_string(run.packet.join(name)).unwrap_or_default()
}

/// A request to the explicit proxy whose host the relay cannot read.
#[test]
fn a_malformed_host_is_an_unknown_destination() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .script(
            "proxy=${HTTP_PROXY#http://}; exec 3<>/dev/tcp/${proxy%:*}/${proxy##*:}
             printf 'GET http://allowed%%2etest/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n' >&3; head -n 1 <&3",
        )
        .run();
    assert!(run.stdout.starts_with("HTTP/1.1 400"), "{run}");
    run.assert_flow(&[("source", "relay"), ("reason", "malformed_target")]);
    let hint = "the request must name a host without percent-encoding";
    let line = format!("1 x unknown destination by bash (http malformed_target); {hint}");
    assert!(run.stderr.contains(&line), "{run}");
    for name in ["summary.md", "report.html"] {
        let page = page(&run, name);
        assert!(page.contains("unknown destination"), "{page}");
        assert!(page.contains(hint), "{page}");
    }
    let list = suggest(&world, &run.packet);
    assert!(list.stdout.contains(hint), "{list}");
    let packet = run.packet.to_string_lossy();
    let verified = world.tool(["verify", &packet, "--allow-unpinned"]);
    assert_eq!(verified.status, Some(0), "{verified}");
}

#[test]
fn each_denial_has_the_hint_that_works_and_many_end_in_one_block() {
    let world = World::new();
    let run = world
        .egress()
        .config("mode: strict\napi_allowlist: [allowed.test, gone.allowed.test, private.test]\n")
        .script(
            "get() { curl -s -o /dev/null -m 10 --noproxy '*' \"$@\"; }
             get http://h10.denied.test/; get http://h2.denied.test/; get http://two.denied.test:8080/
             get https://gone.allowed.test/; get http://private.test/
             printf '*1\\r\\n$4\\r\\nPING\\r\\n' > /dev/tcp/allowed.test/6379
             true",
        )
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let summary = page(&run, "summary.md");
    let suggested = suggest(&world, &run.packet);
    for (target, hint) in [
        ("h10.denied.test:80", "api_allowlist: [\"h10.denied.test\"]"),
        (
            "two.denied.test:8080",
            "api_allowlist: [\"two.denied.test\"] and --allow-port 8080",
        ),
        (
            "gone.allowed.test:443",
            "the name does not resolve on this machine",
        ),
        ("private.test:80", "trusted_domains: [\"private.test\"]"),
        (
            "allowed.test:6379",
            "only TLS and HTTP leave the boundary; --allow-unix",
        ),
    ] {
        for text in [&run.stderr, &summary] {
            let line = text
                .lines()
                .find(|line| line.contains(&format!(" {target} ")));
            assert!(
                line.is_some_and(|line| line.contains(hint)),
                "{target}: {run}\n{summary}"
            );
        }
    }
    assert!(run.stderr.contains(" name_not_resolved); "), "{run}");
    assert!(!run.stderr.contains("ssrf:name_not_resolved"), "{run}");
    assert!(!run.stderr.contains("--allow-port 6379"), "{run}");
    let block = "\napi_allowlist:\n  - \"h2.denied.test\"\n  - \"h10.denied.test\"\n  - \"two.denied.test\"\ntrusted_domains:\n  - \"private.test\"\n";
    assert!(run.stderr.contains(block), "{run}");
    assert!(summary.contains(block), "{summary}");
    assert!(
        run.stderr.contains("add the options --allow-port 8080"),
        "{run}"
    );
    // The printed lines are a valid policy if they are pasted into a policy file.
    let policy = format!(
        "mode: strict{}",
        block.replace("api_allowlist:\n", "api_allowlist:\n  - \"private.test\"\n")
    );
    // The suggested list allows the same attempts.
    for policy in [&policy, &suggested.stdout] {
        let again = world
            .egress()
            .config(policy)
            .arg("--allow-port")
            .arg("8080")
            .script(
                "for url in http://two.denied.test:8080/ http://private.test/; do
                     curl -s -f -o /dev/null -m 10 $url || echo failed $url
                 done",
            )
            .run();
        assert_eq!(again.stdout, "", "{policy}\n{again}");
    }
    for line in [
        "  - \"h2.denied.test\" # curl (1)\n  - \"h10.denied.test\" # curl (1)\n  - \"private.test\" # curl (1)\n  - \"two.denied.test\" # curl (1)\ntrusted_domains:\n  - \"private.test\" # if the name resolves to a private network",
        "to allowed.test port 6379, bash (1): only TLS and HTTP leave the boundary",
        "to gone.allowed.test port 443, curl (1): the name does not resolve",
    ] {
        assert!(suggested.stdout.contains(line), "{line}: {suggested}");
    }
    let verified = world.tool([
        "verify".as_ref(),
        "--allow-unpinned".as_ref(),
        run.packet.as_os_str(),
    ]);
    assert!(verified.success(), "{verified}");
}

#[test]
fn a_service_on_the_loopback_of_the_host_is_named() {
    let world = World::new();
    let server = "import socket, time
s = socket.create_server(('127.0.0.1', 6399))
time.sleep(60)
";
    let script = world.dir().join("service.py");
    assert!(std::fs::write(&script, server).is_ok());
    let _service = world.start(Command::new("python3").arg(&script));
    // The control: the same attempt on the host.
    let control = world.shell(&format!(
        "for _ in $(seq 50); do
             sleep 0.1
             {TO_SERVICE}
         done | grep -m 1 reached"
    ));
    assert_eq!(control.stdout, "reached\n", "{control}");

    let audit = world
        .egress()
        .arg("--mode")
        .arg("audit")
        .script(TO_SERVICE)
        .run();
    assert_eq!(audit.stdout, "reached\n", "{audit}");
    let hint = "the command has its own loopback; --allow-unix opens the Unix socket of a service on this machine";
    let list = suggest(&world, &audit.packet);
    let line = format!("tcp to 127.0.0.1 port 6399, bash (1): {hint}");
    assert!(list.stdout.contains(&line), "{list}");

    let run = world.egress().allow(&[]).script(TO_SERVICE).run();
    assert_eq!(run.stdout, "refused\n", "{run}");
    run.assert_flow(&[
        ("verdict", "local"),
        ("reason", "nothing_listens"),
        ("dst", "127.0.0.1"),
    ]);
    let notice = format!("nothing listens at 127.0.0.1:6399, where bash connected 1 x; {hint}");
    for text in [&run.stderr, &page(&run, "summary.md")] {
        assert!(text.contains(&notice), "{text}");
    }
    let list = suggest(&world, &run.packet);
    assert!(list.stdout.contains(&line), "{list}");
    // A server that the command starts is not a service of the host, even if the command connects before the server
    // listens.
    let own = world
        .egress()
        .allow(&[])
        .script(&format!(
            "{TO_SERVICE}
             python3 -c \"import socket, time; s = socket.create_server(('127.0.0.1', 6399)); time.sleep(60)\" &
             for _ in $(seq 100); do sleep 0.1; {} | grep reached && break; done",
            TO_SERVICE.trim()
        ))
        .run();
    assert_eq!(own.stdout, "refused\nreached\n", "{own}");
    assert!(!own.stderr.contains("nothing listens"), "{own}");
    assert!(
        !suggest(&world, &own.packet).stdout.contains("6399"),
        "{own}"
    );
}
