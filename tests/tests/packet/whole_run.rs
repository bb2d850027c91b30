//! A whole run, from the script to the verified packet. The programs in the script make allowed and denied requests. No
//! program is configured for a proxy.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose evidence cannot be read has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use egress_tests::evidence::{Reference, public_key_hex, verify};
use egress_tests::{INTERNET, RunOutput, World, binary};

/// Requests of programs that are not configured for a proxy.
const AGENT: &str = r#"
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
curl -sS -o curl.txt -w 'curl allowed %{http_code}\n' http://allowed.test/echo
curl -sS -o refused.txt -w 'curl denied %{http_code}\n' http://denied.test/
python3 - <<'EOF'
import urllib.request, urllib.error
print("python allowed", urllib.request.urlopen("http://allowed.test/").status)
try:
    urllib.request.urlopen("http://denied.test/")
except urllib.error.HTTPError as error:
    print("python denied", error.code)
EOF
"#;

fn signed_run(world: &World, key: &Path) -> RunOutput {
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(key)
        .script(AGENT)
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    run
}

/// Claims: whole-run, modes-and-mediators, never-resolves*
#[test]
fn allowed_names_are_reached_and_others_are_not() {
    let world = World::new();
    let key = world.key("key");
    let start = world.wire().snapshot();
    let run = signed_run(&world, &key);
    assert_eq!(
        run.stdout, "curl allowed 200\ncurl denied 403\npython allowed 200\npython denied 403\n",
        "{run}"
    );
    let requests = world.requests();
    let hosts: Vec<_> = requests
        .iter()
        .map(|request| request.host.as_deref())
        .collect();
    assert_eq!(hosts, [Some("allowed.test"), Some("allowed.test")]);
    let denied = [INTERNET.denied.into(), INTERNET.denied_v6.into()];
    for packet in world.wire().since(start) {
        assert!(
            !packet.destination.is_some_and(|to| denied.contains(&to)),
            "{packet}"
        );
    }
    // A denied name is never resolved.
    let queries = world.queries();
    assert!(
        queries.iter().all(|query| query.name == "allowed.test"),
        "{queries:?}"
    );

    // The control: without the boundary, both names answer.
    let control = world.shell("curl -sSf http://allowed.test/ && curl -sSf http://denied.test/");
    assert!(control.success(), "{control}");
    world.wire().assert_left(start, |packet| {
        packet.destination.is_some_and(|to| denied.contains(&to))
    });
}

/// Claims: whole-run*, verify-same-code
#[test]
fn packet_satisfies_the_schema_and_every_verifier() {
    let world = World::new();
    let key = world.key("key");
    let run = signed_run(&world, &key);
    for name in [
        "packet.json",
        "evidence.jsonl",
        "verifier.txt",
        "summary.md",
        "report.html",
        "flows.jsonl",
        "boundary.json",
        "policy.yaml",
    ] {
        assert!(run.packet.join(name).is_file(), "{name} is missing: {run}");
    }
    check_schema(&run);

    let hex = public_key_hex(&key);
    let evidence = run.packet.join("evidence.jsonl");
    for reference in [Reference::Rust, Reference::Python] {
        let verdict = reference.chain(&evidence, &hex);
        assert!(verdict.success(), "{reference:?}: {verdict}");
    }
    let verdict = Reference::Rust.packet(&run.packet, &hex);
    assert!(verdict.success(), "{verdict}");

    // All verifiers reject the packet if another key is pinned.
    let other = public_key_hex(&world.key("other"));
    for reference in [Reference::Rust, Reference::Python] {
        assert!(
            !reference.chain(&evidence, &other).success(),
            "{reference:?}"
        );
    }
}

#[test]
fn verify_reports_by_its_exit_status() {
    let world = World::new();
    let key = world.key("key");
    let other = world.key("other");
    let run = signed_run(&world, &key);

    let packet = run.packet.as_os_str();
    let status = |key: &Path| {
        let mut public = key.as_os_str().to_owned();
        public.push(".pub");
        verify(&[packet, "--key".as_ref(), &public]).status
    };
    assert_eq!(status(&key), Some(0));
    assert_eq!(status(&other), Some(1));
    // Without a pinned key, `egress verify` can only check that the evidence is consistent.
    assert_eq!(verify(&[packet]).status, Some(1));
    assert_eq!(
        verify(&[packet, "--allow-unpinned".as_ref()]).status,
        Some(0)
    );
    assert_eq!(verify(&[]).status, Some(64));

    // Verification detects one changed byte.
    let evidence = run.packet.join("evidence.jsonl");
    let whole = fs::read_to_string(&evidence).unwrap();
    assert!(whole.contains("allowed.test"));
    fs::write(&evidence, whole.replacen("allowed.test", "allowed.tesu", 1)).unwrap();
    assert_eq!(status(&key), Some(1));
    // Verification also detects that the end is missing.
    let (prefix, _) = whole.trim_end().rsplit_once('\n').unwrap();
    fs::write(&evidence, format!("{prefix}\n")).unwrap();
    assert_ne!(status(&key), Some(0));
}

#[test]
fn run_without_a_key_of_the_caller_is_self_consistent() {
    let world = World::new();
    let run = world.egress().allow(&[]).script("true").run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(
        run.json("packet.json")["verifier"]["verdict"],
        "self_consistent_only",
        "{run}"
    );
    let required = || world.egress().allow(&[]).arg("--require-trusted");
    let reason = "error: --require-trusted: no --signer-private-key was given, so the signer of the packet cannot be identified";
    for run in [required(), required().arg("--quiet")] {
        let trusted = run.script("true").run();
        assert_eq!(trusted.status, Some(123), "{trusted}");
        let errors = trusted.stderr.lines().filter(|line| *line == reason);
        assert_eq!(errors.count(), 1, "{trusted}");
    }
    let signed = required().signed_with(&world.key("required"));
    let signed = signed.script("true").run();
    assert_eq!(signed.status, Some(0), "{signed}");
    assert!(!signed.stderr.contains("--require-trusted"), "{signed}");
}

/// Claims: addresses-in-records, executable-names, supervise-events
#[test]
fn flows_name_the_process_and_the_destination() {
    let world = World::new();
    let run = signed_run(&world, &world.key("key"));
    let rows = run.lines("flows.jsonl");
    for (name, process) in [
        ("allowed.test", "curl"),
        ("denied.test", "curl"),
        ("denied.test", "python3"),
    ] {
        assert!(
            rows.iter().any(|row| row["source"] == "relay"
                && row["host"] == name
                && row["process"]
                    .as_str()
                    .is_some_and(|comm| comm.starts_with(process))),
            "no row of {process} to {name}: {rows:#?}"
        );
    }
    for row in run.flows(&[("source", "relay"), ("process", "curl")]) {
        assert!(row["ts"].is_string(), "{row}");
        assert!(row["pid"].as_u64() > Some(1), "{row}");
        // The field is missing if the process ended before the supervisor read its executable.
        assert!(
            row["exe"].as_str().is_none_or(|exe| exe.ends_with("curl")),
            "{row}"
        );
        assert!(row["bytes_down"].as_u64() > Some(0), "{row}");
        let is_explained = row["reason"] != "";
        assert_eq!(is_explained, row["verdict"] != "forwarded", "{row}");
    }
    let curls = run.flows(&[("source", "relay"), ("process", "curl")]);
    let is_named = |row: &serde_json::Value| row["exe"].is_string();
    assert!(curls.iter().any(is_named), "{curls:#?}");
    for row in run.flows(&[("source", "kernel"), ("verdict", "redirected")]) {
        assert_eq!(row["protocol"], "tcp", "{row}");
        assert_eq!(row["port"], 80, "{row}");
        assert!(row["name"].is_string() && row["dst"].is_string(), "{row}");
    }
}

#[test]
fn repeated_attempts_are_one_row_with_a_count() {
    let world = World::new();
    // The program keeps running for some time, because the supervisor cannot read the executable of a process that has
    // ended.
    let program = "import socket, time
for _ in range(40):
    try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.77', 4000))
    except OSError: pass
    time.sleep(0.001)
time.sleep(0.1)
";
    let run = world
        .egress()
        .allow(&[])
        .file("repeat.py", program)
        .command(["python3", "repeat.py"])
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let to = [("dst", "198.51.100.77"), ("port", "4000")];
    let rows = run.flows(&to);
    let [first, rest] = rows.as_slice() else {
        panic!("{rows:#?}")
    };
    assert_eq!(first["source"], "kernel");
    assert!(first["exe"].is_string(), "{first}");
    assert_eq!(rest["source"], "kernel_repeats");
    assert_eq!(rest["count"], 40, "{rest}");
    for field in ["hook", "verdict", "reason", "protocol", "process"] {
        assert_eq!(first[field], rest[field], "{field}");
    }
    assert_eq!(rest["first"], first["ts"]);
    assert!(rest["last"].as_str() > rest["first"].as_str(), "{rest}");
}

/// Claims: program-names*, crate-ebpf
#[test]
fn boundary_names_what_enforced_it() {
    let world = World::new();
    let run = world.egress().allow(&[]).script("true").run();
    let sum = world.shell(&format!("sha256sum < {}", binary().display()));
    let sum = sum.stdout.split_whitespace().next().unwrap();
    assert_eq!(run.boundary("/egress/binary_sha256"), sum);
    for pointer in [
        "/programs/object_sha256",
        "/seccomp/agent_sha256",
        "/seccomp/relay_sha256",
    ] {
        let digest = run.boundary(pointer);
        assert_eq!(digest.as_str().map(str::len), Some(64), "{pointer}");
    }
    let policy = world.shell(&format!(
        "sha256sum < {}",
        run.packet.join("policy.yaml").display()
    ));
    let policy = policy.stdout.split_whitespace().next().unwrap();
    assert_eq!(run.boundary("/policy/sha256"), policy);
    let packet = run.json("packet.json");
    assert_eq!(packet["policy"]["config_snapshot_sha256"], policy);
    let attached = run.boundary("/programs/attached");
    let attached = attached.as_array().unwrap();
    for hook in [
        "connect4",
        "connect6",
        "sendmsg4",
        "sendmsg6",
        "getpeername4",
        "getpeername6",
        "sock_create",
        "sockops",
        "skb_egress",
    ] {
        let is_it = |one: &serde_json::Value| {
            let name = one["name"].as_str().unwrap_or_default();
            name.starts_with("agent_") && name.contains(hook)
        };
        assert!(attached.iter().any(is_it), "{hook}: {attached:#?}");
    }

    // A program's name begins with the cgroup that it is attached to.
    let parts = ["agent_", "relay_", "mediator_"];
    let name_of = |one: &serde_json::Value| one["name"].as_str().unwrap().to_owned();
    let names: Vec<String> = attached.iter().map(name_of).collect();
    assert!(
        names
            .iter()
            .all(|name| parts.iter().any(|part| name.starts_with(part))),
        "{names:?}"
    );
    let links = run.boundary("/programs/links");
    let mut cgroups = BTreeMap::<u64, BTreeSet<&str>>::new();
    for link in links.as_array().unwrap() {
        let is_it = |one: &&serde_json::Value| one["id"] == link["program_id"];
        let name = attached.iter().find(is_it).unwrap()["name"]
            .as_str()
            .unwrap();
        let part = name.split('_').next().unwrap();
        let cgroup = link["cgroup_id"].as_u64().unwrap();
        cgroups.entry(cgroup).or_default().insert(part);
    }
    assert_eq!(cgroups.len(), parts.len(), "{cgroups:?}");
    assert!(
        cgroups.values().all(|parts| parts.len() == 1),
        "{cgroups:?}"
    );

    // The posture in packet.json follows from the probes.
    let results = run.boundary("/probes/results");
    let results = results.as_array().unwrap();
    assert!(!results.is_empty());
    let closed = |probe: &serde_json::Value| {
        let outcome = probe["outcome"].as_str().unwrap();
        matches!(outcome, "denied" | "not_applicable")
    };
    assert!(results.iter().all(closed), "{results:#?}");
    let posture = &packet["posture"];
    assert_eq!(
        posture["unsupported_paths"],
        serde_json::json!(["mcp_transports", "sibling_steps"])
    );
    assert_eq!(posture["enforcement_mode"], "linux_netns_ebpf_cgroup");
    let network = posture["network_namespace"].as_str().unwrap();
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(network, own.to_str().unwrap());
    assert_eq!(posture["agent_uid"], run.boundary("/agent/uid"));
}

#[test]
fn debug_prints_the_messages_of_the_kernel_programs() {
    let world = World::new();
    let script = "curl -s --noproxy '*' http://denied.test/";
    let said = |run: RunOutput| run.stderr.matches("egress: kernel").count();
    let quiet = world.egress().allow(&["allowed.test"]).script(script).run();
    assert_eq!(said(quiet), 0);
    let loud = world
        .egress()
        .allow(&["allowed.test"])
        .arg("--debug")
        .script(script)
        .run();
    assert!(said(loud) > 0);
}

#[test]
fn proxy_variables_work_as_well() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .script(
            "curl -sS --proxy \"$HTTP_PROXY\" http://allowed.test/
             curl -sS -o /dev/null -w '%{http_code}\\n' --proxy \"$HTTP_PROXY\" http://denied.test/",
        )
        .run();
    assert_eq!(run.stdout, "hello from allowed.test\n403\n", "{run}");
}

/// Checks packet.json against the published schema if the directory `EGRESS_SHARED` has a copy of it.
fn check_schema(run: &RunOutput) {
    // Without a copy, only the published verifier, which contains the schema, checks packet.json.
    let Some(shared) = std::env::var_os("EGRESS_SHARED") else {
        return;
    };
    let schema = Path::new(&shared).join("corpora/sdk-audit-packet/v0.json");
    let schema = serde_json::from_slice(&fs::read(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let packet = run.json("packet.json");
    let errors: Vec<String> = validator
        .iter_errors(&packet)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}
