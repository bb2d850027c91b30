//! Faults that make a step fail. Each fault must cause one clear error, and no fault may lead to weaker protection.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use egress_tests::workflow::{Log, Runner};

/// Claims: action-inputs*, action-errors*
#[test]
fn bad_inputs_are_refused_with_the_accepted_ones() {
    let runner = Runner::new();
    runner.key("signer.key");
    runner.key("other.key");
    runner.write("outside/agent.sh", "true\n");
    runner.write("inside/agent.sh", "true\n");
    runner.write("broken.yaml", "mode: [\n");
    let signer = runner.path("signer.key").display().to_string();
    let other = runner.path("other.key.pub").display().to_string();
    for (variables, wanted) in [
        (vec![("MEDIATOR", "auto")], "use one of pipelock, builtin"),
        (vec![("STRICT", "True")], "use one of true, false"),
        (vec![("LOUD", "1")], "use one of true, false"),
        (vec![("DNS", "host")], "use one of synthetic, deny"),
        (
            vec![("WORKSPACE", "rw")],
            "use one of apply, copy, direct, discard, read-only",
        ),
        (vec![("SECONDS_LEFT", "soon")], "use 1 to 604800 seconds"),
        (vec![("MODE", "open")], "use one of enforce, audit"),
        (vec![("ALLOW_PORT", "0")], "input allow-port is \"0\""),
        (vec![("MAX_SCRATCH", "9Q")], "input max-scratch is \"9Q\""),
        (vec![("NO_HOME_TOOLS", "yes")], "use one of true, false"),
        (
            vec![("ALLOW_CHANGE", "src")],
            "nothing that it matches is protected by default",
        ),
        (vec![("ALLOW_UNIX", "none.sock")], "--allow-unix none.sock"),
        (vec![("ENV_DROP", "A=b")], "is not a variable name"),
        (vec![("PLAIN_HTTP", "tunnel")], "--plain-http"),
        (
            vec![
                ("MEDIATOR", "pipelock"),
                ("PIPELOCK", "/bin/true"),
                ("REQUIRE_STRICT", "true"),
            ],
            "--mediator pipelock needs a policy",
        ),
        (
            vec![("SCRIPT", "../../../../etc/passwd")],
            "outside the working directory",
        ),
        (
            vec![("SCRIPT", "/etc/passwd")],
            "outside the working directory",
        ),
        (
            vec![("SCRIPT", "../outside/agent.sh"), ("DIRECTORY", "inside")],
            "outside the working directory",
        ),
        (vec![("SCRIPT", "ci/none.sh")], "does not exist"),
        (
            vec![("CONFIG", "/etc/passwd")],
            "outside the working directory",
        ),
        (
            vec![("CONFIG", "../none/ci.yaml")],
            "outside the working directory",
        ),
        (vec![("CONFIG", "broken.yaml")], "cannot be used"),
        (
            vec![("CONFIG", ".pipelock/mistyped.yaml")],
            "config .pipelock/mistyped.yaml does not exist",
        ),
        (
            vec![("PUBLIC", other.as_str())],
            "needs signer-private-key-path",
        ),
        (
            vec![("KEY", signer.as_str()), ("PUBLIC", other.as_str())],
            "does not belong",
        ),
        (
            vec![("BINARY", "/none/egress")],
            "is not an executable file",
        ),
        (vec![("MEDIATOR", "pipelock")], "no pipelock on PATH"),
        (
            vec![("MEDIATOR", "pipelock"), ("PIPELOCK_VERSION", "9.9.9")],
            "no sha256 of Pipelock 9.9.9",
        ),
    ] {
        let log = runner.step(&variables);
        log.assert_one_error(wanted);
        assert!(log.text().contains("outcome=failure"), "{}", log.output());
        assert!(!runner.path("home/packet").exists(), "{variables:?}");
    }
}

#[test]
fn step_without_keys_succeeds_and_states_what_a_key_adds() {
    let runner = Runner::new();
    let log = runner.step(&[]);
    log.assert_success();
    let notice = "a reviewer cannot identify the signer";
    assert!(log.text().contains(notice), "{}", log.output());
    assert!(
        log.text()
            .contains("\"verifier-verdict\": \"self_consistent_only\"")
            || log
                .text()
                .contains("verifier-verdict: self_consistent_only"),
        "{}",
        log.output()
    );
    // The control: with a key, there is no such notice.
    let key = runner.key("signer.key").display().to_string();
    let log = runner.step(&[("KEY", &key)]);
    log.assert_success();
    assert!(!log.text().contains(notice), "{}", log.output());
}

#[test]
fn status_of_the_script_fails_the_step_after_the_packet() {
    let runner = Runner::new();
    let key = runner.key("signer.key").display().to_string();
    let log = runner.step(&[("SCRIPT", "ci/fail.sh"), ("KEY", &key)]);
    log.assert_one_error("the script exited with status 7");
    let packet = fs::read_to_string(runner.path("home/packet/packet.json")).unwrap();
    assert!(packet.contains("\"agent_exit_code\": 7"), "{packet}");
    assert!(packet.contains("\"verdict\": \"valid\""), "{packet}");
}

#[test]
fn time_out_is_an_error_of_its_own() {
    let runner = Runner::new();
    let key = runner.key("signer.key").display().to_string();
    runner.write("ci/slow.sh", "sleep 30\n");
    let log = runner.step(&[
        ("SCRIPT", "ci/slow.sh"),
        ("KEY", &key),
        ("SECONDS_LEFT", "1"),
    ]);
    log.assert_one_error("timeout expired");
    assert!(log.output().elapsed.as_secs() < 20, "{}", log.output());
}

/// Claims: action-sudo*
#[test]
fn runner_without_sudo_or_cgroups_is_named() {
    let runner = Runner::new();
    let etc = runner.path("etc/sudoers");
    let text = fs::read_to_string(&etc).unwrap();
    fs::write(&etc, text.replace("runner ALL=(ALL) NOPASSWD: ALL", "")).unwrap();
    runner.step(&[]).assert_one_error("sudo without a password");
    fs::write(&etc, text).unwrap();
    let gone = runner.world.shell("mount -t tmpfs none /sys/fs/cgroup");
    assert!(gone.success(), "{gone}");
    runner.step(&[]).assert_one_error("cgroup");
}

#[test]
fn other_systems_and_machines_are_named() {
    let runner = Runner::new();
    for (system, machine, wanted) in [
        (
            "Darwin",
            "arm64",
            "needs a Linux runner, and this one is Darwin",
        ),
        (
            "MINGW64_NT-10.0",
            "x86_64",
            "needs a Linux runner, and this one is MINGW64_NT-10.0",
        ),
        ("Linux", "riscv64", "and this runner is riscv64"),
    ] {
        let other = runner.world.shell(&format!(
            "printf '#!/bin/sh\\n[ \"$1\" = -m ] && echo {machine} || echo {system}\\n' > uname && chmod 755 uname
             mount --bind uname /usr/bin/uname"
        ));
        assert!(other.success(), "{other}");
        runner.step(&[]).assert_one_error(wanted);
        let back = runner.world.shell("umount /usr/bin/uname");
        assert!(back.success(), "{back}");
    }
    runner.step(&[("STRICT", "false")]).assert_success();
}

/// In a job's container, the script runs as root but cannot control the machine.
#[test]
fn container_without_privileges_is_named() {
    let runner = Runner::new();
    let egress = runner.path("bin/egress").display().to_string();
    let step = |capabilities: &str| {
        let script = format!(
            "cd checkout && export INPUT_SCRIPT_PATH=ci/noop.sh INPUT_AGENT_IDENTITY=x INPUT_AUDIT_PACKET_DIR=packet \
             INPUT_WORKING_DIRECTORY=. INPUT_FAIL_ON_VERIFIER_ERROR=false INPUT_DEBUG=false INPUT_MEDIATOR=builtin \
             INPUT_DNS=synthetic INPUT_WORKSPACE=apply INPUT_EGRESS_BIN='{egress}' INPUT_PIPELOCK_VERSION= \
             GITHUB_ACTION_PATH=$PWD
             setpriv {capabilities} bash --noprofile --norc -euo pipefail -c '. scripts/action.sh'"
        );
        runner.world.shell(&script)
    };
    let control = step("--bounding-set=+sys_admin");
    assert!(control.success(), "{control}");
    let refused = step("--bounding-set=-sys_admin,-net_admin,-bpf,-sys_ptrace,-mknod");
    assert!(!refused.success(), "{refused}");
    let errors: Vec<&str> = refused
        .stdout
        .lines()
        .filter(|line| line.starts_with("::error"))
        .collect();
    let [error] = errors.as_slice() else {
        panic!("{refused}")
    };
    for wanted in [
        "CAP_NET_ADMIN and CAP_SYS_ADMIN",
        "run a privileged container",
    ] {
        assert!(error.contains(wanted), "{error}");
    }
    let doctor = runner
        .world
        .shell("setpriv --bounding-set=-sys_admin bin/egress doctor");
    assert_eq!(doctor.status, Some(1), "{doctor}");
    assert!(
        doctor.stdout.contains("root lacks CAP_SYS_ADMIN"),
        "{doctor}"
    );
}

/// Lists a release in the action and serves it from a file. The release is a copy of the binary.
fn release(runner: &Runner, sha256: &str) -> String {
    fs::copy(runner.path("bin/egress"), runner.path("home/release")).unwrap();
    list(runner, sha256, "home/release")
}

/// Lists `file` as the release, and returns the path at which the action will store it.
fn list(runner: &Runner, sha256: &str, file: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let machine = std::env::consts::ARCH;
    let url = format!("file://{}", runner.path(file).display());
    runner.write(
        "dist/egress.sha256",
        &format!("{version} {machine} {sha256} {url}\n"),
    );
    format!("home/.cache/act/tool_cache/egress-egress/{version}/{machine}/egress")
}

fn sha256(runner: &Runner) -> String {
    let sum = runner.world.shell("sha256sum < bin/egress");
    sum.stdout.split_whitespace().next().unwrap().to_owned()
}

/// Claims: action-binaries*
#[test]
fn release_runs_only_with_its_own_sha256() {
    let runner = Runner::new();
    let key = runner.key("signer.key").display().to_string();
    let asked = [("BINARY", ""), ("KEY", &key)];

    // Without a listed release and without a build, the step fails.
    let unlisted = runner.step(&asked);
    unlisted.assert_one_error("is listed in dist/egress.sha256, and ");
    unlisted.assert_one_error("name a binary with egress-bin");
    // The same holds for a table without rows, as it is before the first release, and for no table.
    runner.write("dist/egress.sha256", "# No release is listed yet.\n");
    let unlisted = runner.step(&asked);
    unlisted.assert_one_error("is listed in dist/egress.sha256, and ");
    fs::remove_file(runner.path("checkout/dist/egress.sha256")).unwrap();
    let missing = runner.step(&asked);
    missing
        .assert_one_error("dist/egress.sha256 is missing, so no downloaded egress can be checked");

    let cached = release(&runner, &"0".repeat(64));
    runner
        .step(&asked)
        .assert_one_error("does not have the sha256");
    assert!(!runner.path(&cached).exists());

    // The served file differs from the release in one byte.
    release(&runner, &sha256(&runner));
    let served = runner.path("home/release");
    let mut bytes = fs::read(&served).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&served, bytes).unwrap();
    runner
        .step(&asked)
        .assert_one_error("does not have the sha256");
    assert!(!runner.path(&cached).exists());

    release(&runner, &sha256(&runner));
    runner.step(&asked).assert_success();

    // The release is in an archive, together with other files.
    fs::remove_file(runner.path(&cached)).unwrap();
    let packed = runner
        .world
        .shell("cd bin && echo x > README && tar -czf ../home/release.tar.gz README egress");
    assert!(packed.success(), "{packed}");
    list(&runner, &sha256(&runner), "home/release.tar.gz");
    runner.step(&asked).assert_success();

    // Another program replaces the stored binary.
    fs::write(runner.path(&cached), "#!/bin/sh\ntouch \"$HOME/ran\"\n").unwrap();
    runner
        .step(&asked)
        .assert_one_error("does not have the sha256");
    assert!(!runner.path("home/ran").exists());
}

/// Claims: action-binaries
#[test]
fn swapped_pipelock_is_found_by_its_sha256() {
    let runner = Runner::new();
    let program = runner.path("home/pipelock");
    fs::write(&program, "#!/bin/sh\ntouch \"$HOME/ran\"\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let machine = std::env::consts::ARCH;
    runner.write(
        "dist/pipelock.sha256",
        &format!("3.2.0 {machine} {} file:///none\n", "0".repeat(64)),
    );
    let program = program.display().to_string();
    let asked = [
        ("MEDIATOR", "pipelock"),
        ("PIPELOCK", &program),
        ("PIPELOCK_VERSION", "3.2.0"),
    ];
    runner
        .step(&asked)
        .assert_one_error("is not Pipelock 3.2.0");
    assert!(!runner.path("home/ran").exists());
}

#[test]
fn later_job_finds_a_tampered_packet_and_a_wrong_key() {
    let runner = Runner::new();
    let key = runner.key("signer.key").display().to_string();
    runner.key("other.key");
    let policy = "mode: strict\napi_allowlist: [allowed.test]\n";
    runner.write(".pipelock/ci.yaml", policy);
    runner
        .step(&[("SCRIPT", "ci/env.sh"), ("KEY", &key)])
        .assert_success();
    let packet = runner.path("home/packet");
    let (pinned, other) = (
        format!("{key}.pub"),
        runner.path("other.key.pub").display().to_string(),
    );
    let verify = |keys: &str| {
        let packet = packet.display().to_string();
        let variables = [
            ("PACKET", packet.as_str()),
            ("KEYS", keys),
            ("GRADE", "unpinned"),
        ];
        runner.act("verify", None, &variables)
    };
    verify(&pinned).assert_success();
    verify(&other).assert_one_error("does not pass verification");
    verify("").assert_one_error("input keys is empty");
    let evidence = packet.join("evidence.jsonl");
    let text = fs::read_to_string(&evidence).unwrap();
    assert!(text.contains("denied.test"));
    fs::write(&evidence, text.replace("denied.test", "harmless.te")).unwrap();
    verify(&pinned).assert_one_error("does not pass verification");
}

#[test]
fn named_boundary_key_is_what_the_grade_rests_on() {
    let runner = Runner::new();
    let key = runner.key("signer.key").display().to_string();
    let boundary = runner.key("boundary.key").display().to_string();
    let other = runner.key("other.key").display().to_string();
    runner.write(".pipelock/ci.yaml", "mode: strict\napi_allowlist: []\n");
    let grade_of = |log: &Log, grade: &str| {
        let found = log.text().contains(&format!("\"grade\": \"{grade}\""));
        assert!(found, "{grade}: {}", log.output());
    };
    // A key that exists only for the run cannot be pinned.
    let log = runner.step(&[("KEY", &key)]);
    log.assert_success();
    grade_of(&log, "unpinned");
    let log = runner.step(&[("KEY", &key), ("BOUNDARY_KEY", "/none/boundary.key")]);
    log.assert_one_error("/none/boundary.key");
    let log = runner.step(&[("KEY", &key), ("BOUNDARY_KEY", &boundary)]);
    log.assert_success();
    grade_of(&log, "kernel_enforced");

    // Runs the command that the summary and the page print. The keys in it are placeholders, which the reader replaces.
    let read = |name: &str| fs::read_to_string(runner.path("home/packet").join(name)).unwrap();
    let summary = read("summary.md");
    let command = summary
        .lines()
        .find(|line| line.starts_with("egress verify"))
        .unwrap();
    assert!(read("report.html").contains(&format!(">{command}</pre>")));
    let typed = command
        .replace(" --key RECEIPT_KEY", &format!(" --key {key}.pub"))
        .replace(" BOUNDARY_KEY", &format!(" {boundary}.pub"));
    assert!(!typed.contains("_KEY"), "{command}");
    let check = |command: &str| {
        runner.world.shell(&format!(
            "cd home && ln -sfn packet pipelock-audit-packet && PATH=../bin:$PATH {command} --require-grade kernel_enforced"
        ))
    };
    let checked = check(command);
    assert!(!checked.success(), "{checked}");
    let checked = check(&typed);
    assert!(checked.success(), "{checked}");

    let verify = |boundary_keys: &str, grade: &str| {
        let packet = runner.path("home/packet").display().to_string();
        let keys = format!("{key}.pub");
        let variables = [
            ("PACKET", packet.as_str()),
            ("KEYS", &keys),
            ("BOUNDARY_KEYS", boundary_keys),
            ("GRADE", grade),
        ];
        runner.act("verify", None, &variables)
    };
    let (boundary, other) = (format!("{boundary}.pub"), format!("{other}.pub"));
    let log = verify(&boundary, "kernel_enforced");
    log.assert_success();
    assert!(
        log.text().contains("grade=kernel_enforced\n"),
        "{}",
        log.output()
    );
    verify(&other, "kernel_enforced").assert_one_error("does not pass verification");
    verify(&boundary, "best").assert_one_error("use one of kernel_enforced, unpinned");
    // An empty input, such as a variable that the repository does not have, must not let a packet pass.
    verify("", "unpinned").assert_success();
    for grade in ["kernel_enforced", "kernel_observed"] {
        verify("", grade).assert_one_error("input boundary-keys is empty");
    }
    for keys in [boundary.as_str(), ""] {
        verify(keys, "").assert_one_error("input require-grade is \"\"; use one of");
    }
}

/// Claims: action-ended
#[test]
fn step_that_is_ended_ends_what_root_started() {
    let runner = Runner::new();
    let key = runner.key("signer.key").display().to_string();
    runner.write("ci/slow.sh", "sleep 6041\n");
    let egress = runner.path("bin/egress").display().to_string();
    // Runs the whole step as action.yml starts it. Only the step's own process receives the signal. No process can
    // forward KILL.
    for signal in ["TERM", "KILL"] {
        let script = format!(
            "cd '{}'
            '{egress}' action run > log 2>&1 & step=$!
            for i in $(seq 200); do pgrep -f 'sleep 604[1]' > before && break; sleep 0.1; done
            kill -{signal} $step
            wait $step; echo status=$?
            for i in $(seq 200); do pgrep -f 'sleep 604[1]' > after || break; sleep 0.1; done
            wc -l < before; pgrep -f 'sleep 604[1]' | wc -l",
            runner.path("checkout").display()
        );
        let inputs = [
            ("INPUT_SCRIPT_PATH", "ci/slow.sh"),
            ("INPUT_AGENT_IDENTITY", "x"),
            ("INPUT_SIGNER_PRIVATE_KEY_PATH", key.as_str()),
            ("INPUT_AUDIT_PACKET_DIR", "packet"),
            ("INPUT_WORKING_DIRECTORY", "."),
            ("INPUT_FAIL_ON_VERIFIER_ERROR", "true"),
            ("INPUT_DEBUG", "false"),
            ("INPUT_MEDIATOR", "builtin"),
            ("INPUT_DNS", "synthetic"),
            ("INPUT_WORKSPACE", "apply"),
        ];
        let ran = runner.user(&script, &inputs);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let [status, before, after] = lines.as_slice() else {
            panic!("{ran}")
        };
        assert_ne!(*status, "status=0", "{ran}");
        assert_ne!(*before, "0", "{signal}: nothing was running: {ran}");
        assert_eq!(*after, "0", "{signal}: {ran}");
    }
}
