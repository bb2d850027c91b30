//! The grade of the boundary, and changes of a packet that verification must detect.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test whose evidence cannot be read has failed"
)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egress_tests::evidence::{sign_capsule, verify};
use egress_tests::{Output, RunOutput, World};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A run that is signed with two keys. Both keys were generated before the run.
struct Signed {
    run: RunOutput,
    key: PathBuf,
    boundary: PathBuf,
}

fn signed(world: &World, script: &str) -> Signed {
    let (key, boundary) = (world.key("key"), world.key("boundary"));
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(&key)
        .arg("--boundary-key")
        .arg(&boundary)
        .script(script)
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    Signed { run, key, boundary }
}

fn public(key: &Path) -> OsString {
    let mut public = key.as_os_str().to_owned();
    public.push(".pub");
    public
}

impl Signed {
    fn verify(&self, boundary: Option<&Path>, more: &[&str]) -> Output {
        let key = public(&self.key);
        let boundary = boundary.map(public);
        let mut args = vec![self.run.packet.as_os_str(), "--key".as_ref(), &key];
        if let Some(boundary) = &boundary {
            args.extend(["--boundary-key".as_ref(), boundary.as_os_str()]);
        }
        args.extend(more.iter().map(|text| std::ffi::OsStr::new(*text)));
        verify(&args)
    }

    fn grade(&self, boundary: Option<&Path>) -> (Option<i32>, String, Value) {
        let output = self.verify(boundary, &["--json"]);
        let result: Value = serde_json::from_str(&output.stdout).expect("one JSON object");
        let grade = result["boundary"]["grade"].as_str().unwrap_or("");
        (
            output.status,
            grade.to_owned(),
            result["boundary"]["not_higher"].clone(),
        )
    }
}

/// Claims: grade-enforced, grade-unpinned, verify-same-code*
#[test]
fn pinned_run_is_enforced_by_the_kernel() {
    let world = World::new();
    let signed = signed(&world, "curl -sSf http://allowed.test/ >out.txt");
    let (status, grade, reasons) = signed.grade(Some(&signed.boundary));
    assert_eq!(
        (status, grade.as_str()),
        (Some(0), "kernel_enforced"),
        "{reasons} {}",
        signed.run
    );
    // The run and its pages report the same grade.
    assert!(
        signed.run.stderr.contains("boundary  kernel_enforced"),
        "{}",
        signed.run
    );
    for file in ["verifier.txt", "summary.md", "report.html"] {
        let text = fs::read_to_string(signed.run.packet.join(file)).unwrap();
        assert!(text.contains("kernel_enforced"), "{file}: {text}");
    }
    let required = signed.verify(
        Some(&signed.boundary),
        &["--require-grade", "kernel_enforced"],
    );
    assert_eq!(required.status, Some(0), "{required}");

    // The grade is `unpinned` if the boundary key is not pinned.
    let (status, grade, reasons) = signed.grade(None);
    assert_eq!((status, grade.as_str()), (Some(0), "unpinned"), "{reasons}");
    let required = signed.verify(None, &["--require-grade", "kernel_enforced"]);
    assert_eq!(required.status, Some(1), "{required}");

    // Verification fails if another key is pinned.
    let other = world.key("other");
    let output = signed.verify(Some(&other), &[]);
    assert_eq!(output.status, Some(1), "{output}");
    for rule in ["[attestation.signature]", "[capsule.signer]"] {
        assert!(output.stdout.contains(rule), "{rule}: {output}");
    }
}

#[test]
fn pages_are_those_of_the_packet_whatever_keys_are_pinned() {
    let world = World::new();
    let script = "curl -sSf http://allowed.test/ >out.txt; curl -s http://denied.test/; true";
    let signed = signed(&world, script);
    let keyless = world.egress().allow(&["allowed.test"]).script(script).run();
    assert_eq!(keyless.status, Some(0), "{keyless}");
    for run in [&signed.run, &keyless] {
        let verified = verify(&[run.packet.as_os_str(), "--allow-unpinned".as_ref()]);
        assert_eq!(verified.status, Some(0), "{verified}");
        assert!(!verified.stdout.contains("packet."), "{verified}");
    }
    for page in ["summary.md", "verifier.txt", "report.html"] {
        let path = keyless.packet.join(page);
        let text = fs::read_to_string(&path).expect("a page");
        fs::write(&path, text.replace("unpinned", "kernel_enforced")).expect("change it");
        let verified = verify(&[keyless.packet.as_os_str(), "--allow-unpinned".as_ref()]);
        assert_eq!(verified.status, Some(1), "{page}: {verified}");
        fs::write(&path, text).expect("restore it");
    }
}

/// Returns how many connections the kernel redirected. Fails unless the relay reported each of these connections and
/// the grade is `kernel_enforced`.
fn redirected_and_seen(signed: &Signed) -> u64 {
    let output = signed.verify(Some(&signed.boundary), &["--json"]);
    let result: Value = serde_json::from_str(&output.stdout).expect("one JSON object");
    let both = &result["boundary"]["reconciliation"];
    assert_eq!(both["unseen"], 0, "{result:#}");
    assert_eq!(result["boundary"]["grade"], "kernel_enforced", "{result:#}");
    let redirected = both["kernel"]["redirected"].as_u64();
    redirected.expect("a number of connections")
}

/// Claims: tcp-mediated*, collect-relay
#[test]
fn connections_left_behind_are_all_in_the_relays_rows() {
    const CONNECTIONS: u64 = 300;
    let world = World::new();
    let signed = signed(
        &world,
        &format!(
            "python3 - <<'PROGRAM'\n\
             import os, socket\n\
             to = socket.getaddrinfo('allowed.test', 80, socket.AF_INET)[0][4]\n\
             held = []\n\
             for number in range({CONNECTIONS}):\n\
             \x20   one = socket.socket()\n\
             \x20   one.setblocking(False)\n\
             \x20   one.connect_ex(to)\n\
             \x20   one.close() if number % 3 == 0 else held.append(one)\n\
             os._exit(0)\n\
             PROGRAM\n"
        ),
    );
    assert!(redirected_and_seen(&signed) >= CONNECTIONS);
}

#[test]
fn connections_that_the_log_only_counts_are_compared_by_number() {
    const CONNECTIONS: u64 = 21_000;
    let world = World::new();
    let signed = signed(
        &world,
        &format!(
            "python3 - <<'PROGRAM'\n\
             import socket\n\
             to = socket.getaddrinfo('allowed.test', 80, socket.AF_INET)[0][4]\n\
             for number in range({CONNECTIONS}):\n\
             \x20   socket.create_connection(to).close()\n\
             last = socket.create_connection(to)\n\
             last.sendall(b'GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: close\\r\\n\\r\\n')\n\
             while last.recv(65536): pass\n\
             PROGRAM\n"
        ),
    );
    let rows = signed.run.lines("flows.jsonl");
    let counted = rows
        .iter()
        .find(|row| row["source"] == "kernel_repeats" && row["verdict"] == "redirected");
    let is_counted = counted.is_some_and(|row| row["count"].as_u64() > Some(900));
    assert!(is_counted, "{counted:?}, {:?}", rows.last());
    // The relay accepts connections in order, so it has accepted all others when it answers the last one.
    assert_eq!(redirected_and_seen(&signed), CONNECTIONS + 1);
}

/// Claims: boundary-first*, capsule-bound
#[test]
fn receipts_sign_the_capsule_that_was_measured() {
    let world = World::new();
    let signed = signed(
        &world,
        "curl -sSf --noproxy '*' http://allowed.test/ >out.txt",
    );
    let first = signed.run.lines("evidence.jsonl")[0].clone();
    let open = &first["detail"]["action_record"]["session_control"]["open"];
    let capsule = signed.run.json("posture-capsule.json");
    let text = fs::read_to_string(signed.run.packet.join("posture-capsule.json")).unwrap();
    let digest = hex::encode(Sha256::digest(text.trim_end()));
    assert_eq!(open["posture_capsule_sha256"], digest);
    // The capsule comes first, then the receipt that signs its hash, and then the first connection.
    let connections = signed.run.flows(&[("verdict", "redirected")]);
    let time = |value: &Value| value.as_str().expect("a time").to_owned();
    let times = [
        time(&capsule["generated_at"]),
        time(&first["ts"]),
        time(&connections[0]["ts"]),
    ];
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(open["containment_nonce"], capsule["signature"]);
    assert_eq!(open["posture_signer_key_id"], capsule["signer_key_id"]);
    let boundary = signed.run.json("boundary.json");
    assert_eq!(open["contained_uid"], boundary["agent"]["uid"].to_string());
    let containment = &capsule["evidence"]["containment"];
    assert_eq!(containment["mode"], "kernel_ebpf_cgroup");
    assert_eq!(containment["boundary_verified"], true);
    assert_eq!(containment["probe_refused_direct_egress"], true);
}

/// Claims: boundary-throughout, supervise-heartbeats, end-row, heartbeats*
#[test]
fn heartbeats_stand_at_the_start_and_at_the_end() {
    let world = World::new();
    let signed = signed(&world, "curl -sSf http://allowed.test/ >out.txt");
    let rows = signed.run.lines("flows.jsonl");
    let events: Vec<(usize, &str)> = rows
        .iter()
        .enumerate()
        .filter_map(|(at, row)| Some((at, row["event"].as_str()?)))
        .collect();
    let last = rows.len() - 1;
    assert_eq!(events.first(), Some(&(0, "heartbeat")), "{rows:#?}");
    assert_eq!(events.last(), Some(&(last, "end")), "{rows:#?}");
    assert!(
        events.iter().any(|(_, event)| *event == "agent_gone"),
        "{rows:#?}"
    );
    let programs = signed.run.json("boundary.json")["programs"]["attached"]
        .as_array()
        .unwrap()
        .len();
    for (at, event) in events {
        let links = rows[at]["links"].as_array().unwrap().len();
        assert_eq!(links, programs, "{event}");
        assert_eq!(rows[at]["interval_s"], 10, "{event}");
        assert_eq!(rows[at]["ring_full"], 0, "{event}");
        assert_eq!(rows[at]["unconfined"], 0, "{event}");
    }
}

/// Claims: files-attested, attestation*, add-packet-file*, crate-packet*
#[test]
fn no_file_of_a_packet_can_be_changed_added_or_removed() {
    let world = World::new();
    let signed = signed(&world, "curl -sSf http://allowed.test/ >out.txt");
    let status = || signed.verify(Some(&signed.boundary), &[]).status;
    assert_eq!(status(), Some(0));
    let names: Vec<PathBuf> = fs::read_dir(&signed.run.packet)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(names.len() >= 10, "{names:?}");
    // The attestation names every other file.
    let envelope = signed.run.json("attestation.json");
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap());
    let statement: Value = serde_json::from_slice(&payload.unwrap()).unwrap();
    let subjects = statement["subject"].as_array().unwrap().iter();
    let subjects: BTreeSet<_> = subjects.map(|one| one["name"].as_str().unwrap()).collect();
    let mut others: BTreeSet<_> = names
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    assert!(others.remove("attestation.json"));
    assert_eq!(subjects, others);
    for path in &names {
        let bytes = fs::read(path).unwrap();
        let mut changed = bytes.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(path, &changed).unwrap();
        assert_ne!(status(), Some(0), "a bit of {} changed", path.display());
        fs::remove_file(path).unwrap();
        assert_ne!(status(), Some(0), "{} removed", path.display());
        fs::write(path, &bytes).unwrap();
        assert_eq!(status(), Some(0), "{} restored", path.display());
    }
    let extra = signed.run.packet.join("report.txt");
    fs::write(&extra, "added").unwrap();
    assert_eq!(status(), Some(1));
    fs::remove_file(&extra).unwrap();
    fs::create_dir(&extra).unwrap();
    assert_eq!(status(), Some(1));
}

/// Claims: boundary-first
#[test]
fn capsule_and_record_of_another_run_are_found() {
    let world = World::new();
    let one = signed(&world, "true");
    let other = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(&one.key)
        .arg("--boundary-key")
        .arg(&one.boundary)
        .script("true")
        .run();
    assert_eq!(other.status, Some(0), "{other}");
    for (file, rule) in [
        ("posture-capsule.json", "[capsule.hash]"),
        ("flows.jsonl", "[boundary.flows]"),
        ("boundary.json", "[boundary.flows]"),
    ] {
        let path = one.run.packet.join(file);
        let own = fs::read(&path).unwrap();
        fs::copy(other.packet.join(file), &path).unwrap();
        let output = one.verify(Some(&one.boundary), &[]);
        assert_eq!(output.status, Some(1), "{file}: {output}");
        assert!(output.stdout.contains(rule), "{file}: {output}");
        fs::write(&path, own).unwrap();
    }
    assert_eq!(one.verify(Some(&one.boundary), &[]).status, Some(0));
}

#[test]
fn receipts_outside_the_time_of_the_capsule_are_found() {
    let world = World::new();
    let signed = signed(&world, "true");
    let path = signed.run.packet.join("posture-capsule.json");
    let mut capsule = signed.run.json("posture-capsule.json");
    let sign = |capsule: &mut Value| {
        sign_capsule(capsule, &signed.boundary);
        fs::write(&path, capsule.to_string()).unwrap();
        signed.verify(Some(&signed.boundary), &[])
    };
    let output = sign(&mut capsule);
    assert!(!output.stdout.contains("[capsule."), "{output}");
    capsule["expires_at"] = capsule["generated_at"].clone();
    let output = sign(&mut capsule);
    assert_eq!(output.status, Some(1), "{output}");
    for rule in ["[capsule.window]", "[capsule.hash]"] {
        assert!(output.stdout.contains(rule), "{rule}: {output}");
    }
    assert!(!output.stdout.contains("[capsule.signature]"), "{output}");
}

/// Claims: boundary-throughout*, heartbeats, grade-observed*
#[test]
fn detached_programs_lower_the_grade() {
    let world = World::new();
    let (key, boundary) = (world.key("key"), world.key("boundary"));
    let (running, packet, workdir) = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(&key)
        .arg("--boundary-key")
        .arg(&boundary)
        .script("touch ready; until [ -e go ]; do sleep 0.02; done")
        .arg("--workspace")
        .arg("direct")
        .start();
    while !workdir.join("ready").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(running.detach_links() >= 8);
    fs::write(workdir.join("go"), "").unwrap();
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(output.status, Some(125), "{output}");
    let (key, boundary) = (public(&key), public(&boundary));
    let args: [&std::ffi::OsStr; 5] = [
        packet.as_os_str(),
        "--key".as_ref(),
        &key,
        "--boundary-key".as_ref(),
        &boundary,
    ];
    let verdict = verify(&args);
    // The receipts are valid, but they do not cover everything that the boundary recorded.
    assert_eq!(verdict.status, Some(0), "{verdict}");
    assert!(
        verdict.stdout.contains("boundary:    kernel_observed")
            && verdict
                .stdout
                .contains("expected kernel links were attached"),
        "{verdict}"
    );
}

#[test]
fn one_key_cannot_sign_both() {
    let world = World::new();
    let key = world.key("key");
    let run = world
        .egress()
        .allow(&[])
        .signed_with(&key)
        .arg("--boundary-key")
        .arg(&key)
        .script("true")
        .run();
    assert_eq!(run.status, Some(64), "{run}");
    assert!(run.stderr.contains("--boundary-key"), "{run}");
}
