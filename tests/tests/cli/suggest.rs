//! `egress policy suggest`: the policy for a recorded run allows the same command, and nothing else.

use std::fs;
use std::path::Path;

use egress_tests::{Output, RunOutput, World};
use serde_json::Value;

/// Requests two host names, one of them on another port.
const AGENT: &str = r"
failed=0
for url in http://allowed.test/ https://allowed.test/ http://two.denied.test:8080/; do
    curl -sS -f -m 20 -o /dev/null $url || failed=1
done
exit $failed
";

fn suggest(world: &World, packet: &Path) -> Output {
    let told = world.tool(["policy".as_ref(), "suggest".as_ref(), packet.as_os_str()]);
    assert!(told.success(), "{told}");
    assert_eq!(told.stderr, "", "{told}");
    told
}

/// Runs the command behind the boundary, with a suggested policy and the options in its comments.
fn with_list(world: &World, list: &str, script: &str) -> RunOutput {
    let mut run = world.egress().config(list).script(script);
    let words: Vec<&str> = list.split_whitespace().collect();
    for pair in words.windows(2) {
        if let ["--allow-port", port] = pair {
            run = run.arg("--allow-port").arg(port);
        }
    }
    run.run()
}

#[test]
fn suggested_list_of_an_audit_allows_the_same_command_and_nothing_else() {
    let world = World::new();
    let audit = world
        .egress()
        .arg("--mode")
        .arg("audit")
        .script(&format!(
            "python3 -c \"import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.77', 4433))
socket.create_connection(('198.51.100.78', 2222), 5)\"
             {AGENT}"
        ))
        .run();
    assert_eq!(audit.status, Some(0), "{audit}");
    let list = suggest(&world, &audit.packet).stdout;
    let rows: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with("  - "))
        .collect();
    assert_eq!(rows.len(), 2, "{list}");
    assert!(rows.iter().all(|row| row.contains(" # curl (")), "{list}");
    for said in [
        "--allow-port 8080 # TLS or HTTP: two.denied.test\n",
        "udp to 198.51.100.77 port 4433, python3 (1): UDP does not leave the boundary",
        "tcp to 198.51.100.78 port 2222, python3 (1): has no known name",
    ] {
        assert!(list.contains(said), "{said}: {list}");
    }
    // DNS queries for the names are not listed as denied.
    assert!(!list.contains("port 53"), "{list}");
    assert_eq!(suggest(&world, &audit.packet).stdout, list);

    let run = with_list(&world, &list, AGENT);
    assert_eq!(run.status, Some(0), "{run}");
    let other = "curl -sS -f -m 20 -o /dev/null http://denied.test/";
    let control = world.shell(other);
    assert!(control.success(), "{control}");
    let refused = with_list(&world, &list, other);
    assert_eq!(refused.status, Some(22), "{refused}");
    refused.assert_receipt("block", "denied.test");
    // The policy is minimal: without any of its lines, the command fails.
    let needed = rows.into_iter().chain(
        list.lines()
            .filter(|line| line.contains("--allow-port 8080")),
    );
    for line in needed {
        let run = with_list(&world, &list.replace(line, "# one less"), AGENT);
        assert_eq!(run.status, Some(1), "without {line}: {run}");
    }
}

#[test]
fn suggested_list_of_a_denied_run_allows_it() {
    let world = World::new();
    let refused = world.egress().allow(&[]).script(AGENT).run();
    assert_eq!(refused.status, Some(1), "{refused}");
    let list = suggest(&world, &refused.packet).stdout;
    let run = with_list(&world, &list, AGENT);
    assert_eq!(run.status, Some(0), "{list}\n{run}");
    // The policy also contains the destinations that the policy of this run allowed.
    assert_eq!(suggest(&world, &run.packet).stdout, list);

    let told = world.tool([
        "policy".as_ref(),
        "suggest".as_ref(),
        "--json".as_ref(),
        run.packet.as_os_str(),
    ]);
    let found: Value = serde_json::from_str(&told.stdout).unwrap();
    let at = |pointer: &str| found.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(at("/rows/0/host"), "allowed.test", "{told}");
    assert_eq!(at("/rows/0/ports"), serde_json::json!([80, 443]), "{told}");
    assert_eq!(at("/rows/0/count"), 2, "{told}");
    assert_eq!(at("/rows/0/processes/curl"), 2, "{told}");
    assert_eq!(at("/rows/1/host"), "two.denied.test", "{told}");
    assert_eq!(at("/allow_ports"), serde_json::json!([8080]), "{told}");
    assert_eq!(at("/left_out"), serde_json::json!([]), "{told}");
}

#[test]
fn what_cannot_be_read_suggests_nothing() {
    let world = World::new();
    let run = world.egress().allow(&[]).script(AGENT).run();
    let list = suggest(&world, &run.packet);
    assert!(list.stdout.contains("allowed.test"), "{list}");
    let packet = run.packet.as_os_str();
    let fails = |status: i32, args: &[&std::ffi::OsStr]| {
        let told = world.tool(args);
        assert_eq!(told.status, Some(status), "{args:?}: {told}");
        assert_eq!(told.stdout, "", "{args:?}: {told}");
        assert_eq!(told.stderr.matches("error: ").count(), 1, "{told}");
    };
    let [policy, suggest] = ["policy".as_ref(), "suggest".as_ref()];
    fails(64, &[policy, suggest]);
    fails(64, &[policy, "propose".as_ref(), packet]);
    fails(64, &[policy, suggest, "--no-such-option".as_ref(), packet]);
    fails(2, &[policy, suggest, "nowhere".as_ref()]);
    fails(2, &[policy, suggest, run.workdir.as_os_str()]);

    let flows = run.packet.join("flows.jsonl");
    let text = fs::read_to_string(&flows).unwrap();
    fs::write(&flows, text.replacen("allowed.test", "another.test", 1)).unwrap();
    fails(1, &[policy, suggest, packet]);
    fs::write(&flows, text.trim_end()).unwrap();
    fails(1, &[policy, suggest, packet]);
    // `egress policy suggest` does not follow a link to a file outside the packet.
    let outside = world.dir().join("flows.jsonl");
    fs::write(&outside, &text).unwrap();
    fs::remove_file(&flows).unwrap();
    std::os::unix::fs::symlink(&outside, &flows).unwrap();
    fails(2, &[policy, suggest, packet]);
}
