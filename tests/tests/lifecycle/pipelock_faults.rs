//! Faults of a Pipelock, produced by a stand-in for Pipelock.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the result of its run has failed"
)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use egress_tests::aftermath::{SOON, full_disk_ends, until_ready};
use egress_tests::{Run, RunOutput, World, wait_until};

/// Sends one request. The stand-in answers the request.
const AGENT: &str = r"
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy
curl -sS http://allowed.test/
";

fn double() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_pipelock-double"))
}

/// Returns a run with the stand-in as Pipelock. The stand-in has the fault `fault`.
fn with<'a>(world: &'a World, fault: &str) -> Run<'a> {
    let mut yaml = String::from("mode: strict\napi_allowlist: [allowed.test]\n");
    if !fault.is_empty() {
        yaml = format!("{yaml}double: {fault}\n");
    }
    world
        .egress()
        .config(&yaml)
        .arg("--mediator")
        .arg("pipelock")
        .arg("--pipelock-bin")
        .arg(double())
        .signed_with(&world.key(&format!("key-{fault}")))
}

fn run(world: &World, fault: &str) -> RunOutput {
    with(world, fault).script(AGENT).run()
}

/// Fails unless the run ended before its command started, with an error that contains `words`, and left nothing behind.
#[track_caller]
fn assert_refused(world: &World, run: &RunOutput, words: &str) {
    assert_eq!(run.status, Some(125), "{run}");
    assert!(run.stderr.contains(words), "no {words:?}: {run}");
    assert_eq!(run.stdout, "", "{run}");
    assert!(!run.packet.exists(), "{run}");
    let left: Vec<_> = fs::read_dir(world.state())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["lock", "users", "kept"].contains(&name.as_str()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn reasons(run: &RunOutput) -> String {
    let boundary = run.json("boundary.json");
    boundary.get("incomplete").unwrap().to_string()
}

/// Claims: process-pipelock*, modes-and-mediators, add-mediator*, crate-pipelock*
#[test]
fn stand_in_without_a_fault_is_a_mediator() {
    let world = World::builder().own_state().build();
    let run = run(&world, "");
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stdout, "double\n", "{run}");
    let boundary = run.json("boundary.json");
    assert_eq!(boundary["incomplete"].to_string(), "[]", "{run}");
    let pipelock = &boundary["mediator"]["pipelock"];
    assert_eq!(pipelock["posture"], "bound");
    assert_eq!(pipelock["version"], "pipelock version 0.0.0-double");
    let sum = world.shell(&format!("sha256sum < {}", double().display()));
    let sum = sum.stdout.split_whitespace().next().unwrap();
    assert_eq!(pipelock["binary_sha256"], sum);
    let verdict = &run.json("packet.json")["verifier"]["verdict"];
    assert_eq!(verdict, "valid", "{run}");
}

#[test]
fn slow_start_is_waited_for_and_a_late_receipt_too() {
    let world = World::builder().own_state().build();
    for (fault, answer) in [
        ("slow-start", "double\n"),
        ("late-receipts", "late\n"),
        ("talkative", "double\n"),
    ] {
        let run = run(&world, fault);
        assert_eq!(
            (run.status, run.stdout.as_str()),
            (Some(0), answer),
            "{run}"
        );
        assert_eq!(reasons(&run), "[]", "{fault}: {run}");
        let allowed = &run.json("boundary.json")["mediator"]["pipelock"]["allowed"];
        assert_eq!(allowed.to_string(), "[1,1]", "{fault}");
    }
}

/// Claims: no-fallback*
#[test]
fn pipelock_that_does_not_become_ready_ends_the_run_with_its_own_words() {
    // Some of these faults take the whole time limit for the start of a mediator, so the runs are concurrent.
    std::thread::scope(|scope| {
        for (fault, words) in [
            ("crash-at-start", "this fault ends it"),
            ("refuses", "field double not found"),
            ("not-bound", "does not bind the posture capsule"),
            ("garbage", "the answer is not HTTP"),
            ("unhealthy", "/health reports degraded"),
            ("kill-switch", "its kill switch is on"),
            ("silent", "no process listens at 127.0.0.1:"),
        ] {
            scope.spawn(move || {
                let world = World::builder().own_state().build();
                assert_refused(&world, &run(&world, fault), words);
            });
        }
    });
}

#[test]
fn another_process_on_the_port_is_detected() {
    let world = World::builder().own_state().build();
    let (running, packet, workdir) = with(&world, "silent").script(AGENT).start();
    let mut listen = None;
    wait_until("the policy names the port", SOON, || {
        let runs = fs::read_dir(world.state()).unwrap();
        listen = runs
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("policy.yaml")).ok())
            .find_map(|yaml| {
                let at = yaml.find("listen: 127.0.0.1:")?;
                let digits = yaml.get(at + "listen: 127.0.0.1:".len()..)?;
                digits.lines().next()?.trim().parse::<u16>().ok()
            });
        listen.is_some()
    });
    let yaml = listen.unwrap();
    let poser = world.background([
        "python3".to_owned(),
        "-c".to_owned(),
        format!(
            "import http.server\n\
             class Poser(http.server.BaseHTTPRequestHandler):\n\
             \x20   def do_GET(self):\n\
             \x20       body = b'{{\"status\":\"healthy\",\"forward_proxy_enabled\":true,\"kill_switch_active\":false}}'\n\
             \x20       self.send_response(200); self.end_headers(); self.wfile.write(body)\n\
             http.server.HTTPServer(('127.0.0.1', {yaml}), Poser).serve_forever()"
        ),
    ]);
    let output = running.finish(Duration::from_mins(1));
    poser.signal(nix::sys::signal::Signal::SIGKILL);
    let poser = poser.finish(SOON);
    assert_eq!(output.status, Some(125), "{output}\nposer: {poser}");
    assert!(
        output.stderr.contains("belongs to user id 0"),
        "{output}\nposer: {poser}"
    );
    assert!(!packet.exists() && workdir.exists());
}

#[test]
fn no_listener_of_pipelock_answers_another_program() {
    let world = World::builder().own_state().build();
    let (running, _, workdir) = with(&world, "")
        .script(&format!(
            "{AGENT}touch ready; until [ -e done ]; do sleep 0.02; done\n"
        ))
        .start();
    until_ready(&workdir, SOON);
    let listening = world.shell("ss -Hltn | awk '{print $4}'");
    let listeners: Vec<&str> = listening.stdout.lines().collect();
    assert!(listeners.len() >= 2, "{listening}");
    let relay = running.cgroups();
    let relay = relay.iter().find(|dir| dir.ends_with("relay")).unwrap();
    let mut answered = 0;
    for address in listeners {
        let call = format!("curl -s -m 2 -o /dev/null http://{address}/health");
        let refused = world.shell(&call);
        assert_eq!(refused.status, Some(28), "{address}: {refused}");
        // The stand-in's proxy answers processes in the relay's cgroup, because the kernel programs allow them.
        let as_relay = format!("echo $$ > {}/cgroup.procs && {call}", relay.display());
        answered += usize::from(world.shell(&as_relay).success());
    }
    assert_eq!(answered, 1, "{listening}");
    fs::write(workdir.join("done"), "").unwrap();
    // The supervisor has already read everything that it needs from Pipelock.
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(output.status, Some(0), "{output}");
}

#[test]
fn key_of_a_newer_version_is_left_out_and_reported() {
    let world = World::builder().own_state().build();
    let run = run(&world, "old");
    // The stand-in does not write evidence, so the verification must fail.
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(123), "double\n"),
        "{run}"
    );
    let pipelock = &run.json("boundary.json")["mediator"]["pipelock"];
    assert_eq!(
        pipelock["left_out"].to_string(),
        r#"["flight_recorder.completeness.heartbeat_interval","flight_recorder.require_receipts"]"#
    );
    assert_eq!(pipelock["posture"], "not_known");
    for words in [
        "do not sign the boundary",
        "redact a receipt after signing it",
    ] {
        assert!(run.stderr.contains(words), "no {words:?}: {run}");
    }
    let policy = fs::read_to_string(run.packet.join("policy.yaml")).unwrap();
    assert!(!policy.contains("require_receipts"), "{policy}");
}

/// Claims: ends-with-any-part
#[test]
fn death_during_the_run_ends_the_agent() {
    let world = World::builder().own_state().build();
    let run = with(&world, "crash-at-request")
        .script(&format!("{AGENT}\nsleep 60\n"))
        .run();
    assert_eq!(run.status, Some(125), "{run}");
    assert!(run.elapsed < Duration::from_secs(30), "{run}");
    assert!(
        reasons(&run).contains("Pipelock is gone (ended by SIGABRT)"),
        "{run}"
    );
}

/// Claims: killed-at-the-end
#[test]
fn pipelock_that_does_not_end_is_killed() {
    let world = World::builder().own_state().build();
    let finished = run(&world, "hangs-at-stop");
    assert_eq!(finished.status, Some(0), "{finished}");
    assert_eq!(reasons(&finished), "[]", "{finished}");
    let pipelock = &finished.json("boundary.json")["mediator"]["pipelock"];
    assert_eq!(pipelock["killed"], true);
    assert!(
        pipelock["notes"]
            .to_string()
            .contains("its evidence was complete"),
        "{pipelock}"
    );

    let unfinished = run(&world, "hangs-unfinished");
    assert_eq!(unfinished.status, Some(125), "{unfinished}");
    assert!(reasons(&unfinished).contains("was killed"), "{unfinished}");
}

/// Claims: killed-at-the-end, pipelock-ending*
#[test]
fn pipelock_that_never_completes_a_request_does_not_close_its_session() {
    let world = World::builder().own_state().build();
    let agent = AGENT.replace("curl", "curl -m 1") + "true\n";
    let run = with(&world, "endless-request").script(&agent).run();
    assert_eq!(run.status, Some(125), "{run}");
    assert!(
        reasons(&run)
            .contains("still waiting on 1 requests, and was killed before it closed its session"),
        "{run}"
    );
    assert!(run.elapsed < Duration::from_secs(30), "{run}");
    // A receipt after the end of the session would make the packet invalid.
    let verdict = &run.json("packet.json")["verifier"]["verdict"];
    assert_eq!(verdict, "valid", "{run}");
    assert!(run.stderr.contains("kernel_observed"), "{run}");
}

/// Claims: read-receipts, collect-incomplete*
#[test]
fn evidence_that_lacks_something_is_named() {
    let world = World::builder().own_state().build();
    for (fault, status, words) in [
        ("no-receipts", 0, "1 allowed actions have no receipt"),
        (
            "emit-failures",
            0,
            "could not write receipts: emit_failures",
        ),
        ("open-tunnel", 0, "1 tunnels were open"),
        ("torn-line", 0, "an incomplete line"),
    ] {
        let run = run(&world, fault);
        assert_eq!(run.status, Some(status), "{fault}: {run}");
        assert!(reasons(&run).contains(words), "{fault}: {run}");
    }
}

#[test]
fn rotated_files_are_one_chain_in_numeric_order() {
    let world = World::builder().own_state().build();
    let run = with(&world, "rotates")
        .script(&format!(
            "{AGENT}for i in 1 2 3 4 5 6; do curl -sS http://allowed.test/$i; done"
        ))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(reasons(&run), "[]", "{run}");
    let entries = run.lines("evidence.jsonl");
    // The session has more than ten lines: its start, seven intents with their outcomes, and its end. The file names
    // therefore do not sort by number.
    assert!(entries.len() > 12, "{run}");
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!(entry["seq"], number);
    }
    assert_eq!(
        run.json("packet.json")["verifier"]["verdict"],
        "valid",
        "{run}"
    );
}

/// Claims: supervise-evidence
#[test]
fn run_ends_before_the_disk_of_the_evidence_is_full() {
    let world = World::builder().small_state("200m").build();
    let run = with(&world, "").script(&format!("{AGENT}\ntouch ready\nsleep 60\n"));
    full_disk_ends(&world, run.start());
}
