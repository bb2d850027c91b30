//! The probes that run before the command starts, and the error if one of them succeeds.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use egress_tests::{RunOutput, World};
use serde_json::Value;

/// Returns the results of the probes, which every packet has.
fn results(run: &RunOutput) -> Vec<Value> {
    let results = run.boundary("/probes/results");
    results.as_array().cloned().unwrap_or_default()
}

fn outcome<'r>(results: &'r [Value], name: &str) -> &'r Value {
    let same = |probe: &&Value| probe["name"] == name;
    results.iter().find(same).unwrap_or(&Value::Null)
}

/// Claims: other-protocols*, probe-denied*, probe-not-applicable, probes-inside*, probes-side-by-side*, crate-sandbox*
#[test]
fn every_probe_is_refused_inside_and_succeeds_outside() {
    let world = World::new();
    let key = world.key("signer");
    let command_file = world.dir().join("github-env");
    fs::write(&command_file, "").unwrap();
    let run = world
        .egress()
        .allow(&[])
        .signed_with(&key)
        .env("GITHUB_ENV", &command_file)
        .env("ACTIONS_RUNTIME_TOKEN", "canary")
        .script("true")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let results = results(&run);
    let names: BTreeSet<&str> = results
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names.len(), results.len(), "names are unique");
    for probe in &results {
        let control = probe["control"]["succeeded"].as_bool().unwrap();
        match probe["outcome"].as_str().unwrap() {
            "denied" => assert!(control, "{probe:#}"),
            "not_applicable" => {
                assert!(!control, "{probe:#}");
                let why = probe["control"]["detail"].as_str().unwrap();
                assert!(!why.is_empty(), "{probe:#}");
            }
            _ => panic!("{probe:#}"),
        }
    }
    // These probes can succeed on every machine. If one is denied, the reason is therefore not that this machine lacks
    // something.
    for name in [
        "raw_socket_ipv4",
        "packet_socket",
        "netlink_beyond_route",
        "network_change",
        "udp_sendto",
        "udp_sendmsg",
        "udp_connected",
        "dns_udp",
        "dns_tcp",
        "dns_tls",
        "direct_tcp_ipv4",
        "direct_tcp_mapped",
        "direct_tcp_fast_open",
        "direct_tcp_ssh",
        "metadata_ipv4",
        "interface_other_than_lo",
        "route",
        "bpf",
        "enter_namespace",
        "mount_file_system",
        "become_root",
        "setuid_file",
        "file_capability",
        "ptrace_init",
        "ptrace_supervisor",
        "ptrace_mediator",
        "ptrace_relay",
        "memory_supervisor",
        "leave_cgroup",
        "inherited_descriptors",
        "docker_socket",
        "ssh_agent_socket",
        "host_path_sockets",
        "host_fifo",
        "abstract_socket",
        "sysv_shared_memory",
        "posix_shared_memory",
        "signing_key_read",
        "signing_key_write",
        "config_read",
        "config_write",
        "evidence_read",
        "evidence_write",
        "packet_read",
        "packet_write",
        "runner_command_files",
        "runner_tokens",
        "sys_write",
        "proc_sys_write",
        "cgroupfs",
        "device_nodes",
        "terminal_input",
    ] {
        assert_eq!(outcome(&results, name)["outcome"], "denied", "{name}");
    }
    let counts = run.boundary("/probes/counts");
    let sum: u64 = counts
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(sum, u64::try_from(results.len()).unwrap(), "{counts}");
    assert_eq!(counts["reachable"], 0);
    let seen = run.boundary("/probes/seen_by_hooks");
    assert!(seen.as_u64().is_some_and(|seen| seen > 10), "{seen}");
}

#[test]
fn probes_leave_nothing_in_the_record_and_on_the_wire() {
    let world = World::new();
    let before = world.wire().snapshot();
    let run = world.egress().allow(&[]).script("true").run();
    assert_eq!(run.status, Some(0), "{run}");
    world.wire().assert_still(before);
    assert_eq!(run.flows(&[("verdict", "denied")]), [] as [Value; 0]);
    assert_eq!(run.flows(&[("verdict", "redirected")]), [] as [Value; 0]);
    assert!(
        !fs::exists(format!(
            "/dev/shm/egress-{}",
            run.boundary("/run_id").as_str().unwrap()
        ))
        .unwrap()
    );
}

/// Claims: probe-reachable*, grade-observed, closed-before-code*
#[test]
fn hole_stops_the_run_unless_it_is_accepted_by_name() {
    let world = World::new();
    let direct = || world.egress().allow(&[]).arg("--workspace").arg("direct");
    // The control: without a socket in the workspace, the run starts.
    let run = direct().script("touch started").run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.workdir.join("started").exists(), "{run}");
    assert_eq!(run.boundary("/probes/counts/reachable"), 0);

    // A host process has a socket in the workspace. The command writes to the workspace directly.
    let run = direct();
    let path = run.directory().join("service.socket");
    let listener = world.on_runner(|| UnixListener::bind(&path)).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let workdir = run.directory();
    let run = run.script("touch started").run();
    assert_eq!(run.status, Some(125), "{run}");
    assert!(run.stderr.contains("host_path_sockets"), "{run}");
    assert!(run.stderr.contains("service.socket"), "{run}");
    assert!(run.stderr.contains("--accept-risk"), "{run}");
    assert!(!workdir.join("started").exists(), "{run}");
    assert!(!run.packet.join("packet.json").exists(), "{run}");

    // Accepting the risk of another probe does not start the run.
    let again = || direct().workdir(&workdir);
    let run = again().arg("--accept-risk").arg("udp_sendto");
    let run = run.script("touch started").run();
    assert_eq!(run.status, Some(125), "{run}");
    assert!(!workdir.join("started").exists(), "{run}");

    let run = again().arg("--accept-risk").arg("host_path_sockets");
    let run = run.script("touch started").run();
    drop(listener);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(workdir.join("started").exists(), "{run}");
    assert!(run.stderr.contains("accepted  host_path_sockets"), "{run}");
    let results = results(&run);
    assert_eq!(
        outcome(&results, "host_path_sockets")["outcome"],
        "reachable"
    );
    assert_eq!(
        run.boundary("/probes/accepted_risks/0"),
        "host_path_sockets"
    );
    let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
    assert!(summary.contains("Accepted risks"), "{summary}");
    assert!(summary.contains("host_path_sockets reachable"), "{summary}");
    // The posture in packet.json follows from the result.
    let packet = fs::read(run.packet.join("packet.json")).unwrap();
    let packet: Value = serde_json::from_slice(&packet).unwrap();
    let open = packet["posture"]["unsupported_paths"].as_array().unwrap();
    assert!(open.contains(&Value::from("nested_docker")), "{open:?}");
}

#[test]
fn command_file_that_the_command_could_write_is_a_hole() {
    let world = World::new();
    let run = world.egress().allow(&[]).arg("--workspace").arg("direct");
    let file = run.directory().join("github-env");
    fs::write(&file, "").unwrap();
    let run = run.env("GITHUB_ENV", &file).script("touch started").run();
    assert_eq!(run.status, Some(125), "{run}");
    assert!(run.stderr.contains("runner_command_files"), "{run}");
    assert!(!run.workdir.join("started").exists(), "{run}");
}

#[test]
fn risk_of_a_probe_that_does_not_exist_cannot_be_accepted() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&[])
        .arg("--accept-risk")
        .arg("docker_sockets")
        .script("touch started")
        .run();
    assert_eq!(run.status, Some(64), "{run}");
    assert!(run.stderr.contains("no such probe"), "{run}");
    assert!(run.stderr.contains("raw_socket_ipv4, "), "{run}");
    assert!(!run.workdir.join("started").exists(), "{run}");
    assert!(!run.packet.exists(), "{run}");
}

#[test]
fn doctor_makes_the_probes_of_a_run() {
    let world = World::new();
    let before = world.wire().snapshot();
    let doctor = world.tool(["doctor", "--json"]);
    world.wire().assert_still(before);
    let found: Value = serde_json::from_str(&doctor.stdout).unwrap();
    assert_eq!(doctor.status, Some(0), "{doctor}");
    let probes = found["probes"].as_array().unwrap();
    let run = world.egress().allow(&[]).script("true").run();
    assert_eq!(probes.len(), results(&run).len(), "{doctor}");
    assert_eq!(outcome(probes, "raw_socket_ipv4")["outcome"], "denied");
    let table = world.tool(["doctor"]);
    assert!(table.stdout.contains("ok       probes"), "{table}");
    assert!(
        table.stdout.contains("denied         raw_socket_ipv4"),
        "{table}"
    );

    // Without root, no probe can be run, and egress reports that.
    let binary = world.dir().join("egress");
    fs::copy(egress_tests::binary(), &binary).unwrap();
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = binary.display().to_string();
    let words = [
        "setpriv",
        "--reuid",
        "65534",
        "--clear-groups",
        "--",
        &binary,
    ];
    let doctor = world.runner(words.into_iter().chain(["doctor", "--json"]));
    let found: Value = serde_json::from_str(&doctor.stdout).unwrap();
    assert_eq!(found["probes"], Value::Array(Vec::new()), "{doctor}");
    assert_eq!(doctor.status, Some(1), "{doctor}");
}
