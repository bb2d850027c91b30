//! The output of the subcommands, for people and for programs.
#![expect(
    clippy::panic,
    reason = "a test whose output cannot be read has failed"
)]

use std::fs;

use egress_tests::{Output, Run, World, binary};
use serde_json::Value;

/// Parses the last line of standard output as JSON.
#[track_caller]
fn json(output: &Output) -> Value {
    let line = output.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[test]
fn run_without_a_policy_states_the_allowed_destinations() {
    let world = World::new();
    let run = world
        .egress()
        .script("curl -s -o /dev/null -w '%{http_code}\\n' http://allowed.test/")
        .run();
    assert_eq!(run.stdout, "403\n", "{run}");
    let said = run
        .stderr
        .lines()
        .filter(|line| line.contains("no --config"));
    assert_eq!(said.count(), 1, "{run}");
    let with_policy = world.egress().allow(&[]).script("true").run();
    assert!(!with_policy.stderr.contains("no --config"), "{with_policy}");
}

#[test]
fn result_names_who_was_refused_and_the_line_to_add() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&[])
        .script("curl -s http://denied.test/; curl -s http://denied.test:8080/; true")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    for wanted in [
        "egress: verdict   self_consistent_only",
        "egress: actions   1 judged, 1 denied; 1 more attempt denied by the relay or the kernel",
        "denied.test:80 by curl",
        "api_allowlist: [\"denied.test\"]",
        "denied.test:8080 by curl",
        "--allow-port 8080",
        run.packet.to_str().unwrap(),
    ] {
        assert!(run.stderr.contains(wanted), "{wanted}: {run}");
    }
}

#[test]
fn every_command_prints_its_failure_as_json() {
    let world = World::new();
    let nowhere = world.dir().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let key = world.key("key");
    let key = key.to_str().unwrap();
    let zeros = "00".repeat(32);
    for (status, args) in [
        (64, vec!["run", "--json", "--config", nowhere, "--", "true"]),
        (64, vec!["run", "--json"]),
        (64, vec!["run", "--json", "--no-such-option", "--", "true"]),
        (2, vec!["verify", "--json", nowhere]),
        (2, vec!["policy", "suggest", "--json", nowhere]),
        (64, vec!["policy", "suggest", "--json"]),
        (64, vec!["verify", "--json", key, "--key", &zeros]),
        (64, vec!["keygen", "--json", "--out", key]),
        (2, vec!["keygen", "--json", "--out", "/nowhere/key"]),
        (64, vec!["doctor", "--json", "--workdir", nowhere]),
    ] {
        let output = world.tool(&args);
        assert_eq!(output.status, Some(status), "{args:?}: {output}");
        let told = json(&output);
        assert_eq!(told["exit"], status, "{args:?}: {output}");
        assert!(
            told["error"].as_str().is_some_and(|text| !text.is_empty()),
            "{args:?}: {output}"
        );
        assert_eq!(output.stderr, "", "{args:?}");
    }
    // An argument after `--` is not an egress option.
    let output = world.tool(["verify", "--", "--json"]);
    assert!(output.stderr.starts_with("error: "), "{output}");
}

#[test]
fn every_command_prints_its_result_as_json() {
    let world = World::new();
    let key = world.dir().join("key");
    let key = key.to_str().unwrap();
    let made = world.tool(["keygen", "--json", "--out", key]);
    assert_eq!(made.status, Some(0), "{made}");
    let public = json(&made)["public_key"].as_str().unwrap().to_owned();
    let text = fs::read_to_string(format!("{key}.pub")).unwrap();
    assert!(!text.is_empty());

    let run = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(key.as_ref())
        .arg("--json")
        .script("curl -s http://allowed.test/; curl -s http://denied.test/ > /dev/null; exit 7")
        .run();
    assert_eq!(run.status, Some(7), "{run}");
    let told = json(&run);
    assert_eq!(told["verdict"], "valid", "{run}");
    assert_eq!(told["exit_status"], 7, "{run}");
    assert_eq!(told["error"], Value::Null, "{run}");
    assert_eq!(told["denied"][0]["attempt"]["destination"], "denied.test");
    assert_eq!(told["denied"][0]["attempt"]["process"], "curl", "{run}");

    let packet = told["packet"].as_str().unwrap();
    let verified = world.tool(["verify", "--json", packet, "--key", &public]);
    assert_eq!(verified.status, Some(0), "{verified}");
    let verified = json(&verified);
    assert_eq!(verified["verdict"], "valid");
    assert_eq!(verified["end"]["proven"], true);

    let missing = world.egress().allow(&[]).arg("--json");
    let missing = missing.command(["/nowhere/agent"]).run();
    assert_eq!(missing.status, Some(127), "{missing}");
    let told = json(&missing);
    assert!(told["error"].as_str().unwrap().contains("/nowhere/agent"));
    assert!(!missing.stderr.contains("error:"), "{missing}");
}

/// Claims: add-step*
#[test]
fn progress_is_shown_to_a_terminal_and_not_to_a_log() {
    let world = World::new();
    let line = format!(
        "script --quiet --return --command '{} run --packet-dir packet -- true' /dev/null",
        binary().display()
    );
    let at = |before: &str| world.shell(&format!("mkdir -p work && cd work && {before} {line}"));
    let terminal = at("");
    assert_eq!(terminal.status, Some(0), "{terminal}");
    for step in ["probed", "ready", "started", "ended"] {
        let wanted = format!("egress: {step} ");
        assert!(terminal.stdout.contains(&wanted), "{step}: {terminal}");
    }
    let in_ci = at("CI=true");
    assert_eq!(in_ci.status, Some(0), "{in_ci}");
    assert!(in_ci.stdout.contains("egress: packet"), "{in_ci}");
    assert!(!in_ci.stdout.contains("egress: started"), "{in_ci}");
    let log = world.egress().allow(&[]).script("true").run();
    assert!(!log.stderr.contains("egress: started"), "{log}");
}

/// The notice that limits were raised has a kind of its own, because it is long and requires no action.
#[test]
fn only_verbose_output_has_the_notice_about_raised_limits() {
    let world = World::new();
    let key = world.key("signer");
    let run = |options: &[&str]| {
        let policy = "mode: strict\napi_allowlist: []\ntrusted_domains: [a.test]\n";
        let run = world.egress().config(policy).signed_with(&key);
        let run = run.arg("--mediator").arg("pipelock").arg("--pipelock-bin");
        let run = run.arg(env!("CARGO_BIN_EXE_pipelock-double"));
        let run = options.iter().fold(run, Run::arg);
        run.script("true").run()
    };
    let (brief, verbose) = (run(&[]), run(&["--verbose"]));
    let notice = "egress: notice    limits were raised: ";
    let other = "egress: notice    policy: `trusted_domains`";
    assert!(verbose.stderr.contains(notice), "{verbose}");
    assert!(!brief.stderr.contains(notice), "{brief}");
    for run in [&brief, &verbose] {
        assert!(run.stderr.contains(other), "{run}");
        let listed = run.boundary("/notices");
        assert!(listed.to_string().contains("limits were raised"), "{run}");
    }
}

#[test]
fn unread_result_does_not_change_the_status() {
    let world = World::new();
    let output = world.shell(&format!(
        "mkdir work && cd work && exec 2> >(exec true); sleep 0.2; {} run -- bash -c 'exit 5'",
        binary().display()
    ));
    assert_eq!(output.status, Some(5), "{output}");
}

#[test]
fn help_has_examples_and_exit_statuses() {
    let world = World::new();
    let help = world.tool(["--help"]);
    assert_eq!(help.status, Some(0), "{help}");
    assert!(help.stdout.contains("egress run --config"), "{help}");
    for command in [
        vec!["run"],
        vec!["verify"],
        vec!["doctor"],
        vec!["policy", "suggest"],
        vec!["policy", "check"],
        vec!["policy", "schema"],
        vec!["keygen"],
        vec!["completions"],
        vec!["man"],
    ] {
        let help = world.tool(command.iter().chain(&["--help"]));
        assert_eq!(help.status, Some(0), "{help}");
        assert!(help.stdout.contains("Exit status"), "{help}");
        assert!(help.stdout.contains("Example"), "{help}");
        // Commands that need root are shown with sudo.
        let example = format!("egress {}", command.join(" "));
        let mut lines = help.stdout.lines().map(str::trim_start);
        let is_example = |line: &str| line.trim_start_matches("sudo ").starts_with(&example);
        assert!(lines.any(is_example), "{help}");
    }
    let help = world.tool(["policy", "--help"]);
    assert!(help.stdout.contains("Examples:"), "{help}");
}

#[test]
fn proxy_variables_name_the_explicit_port() {
    let world = World::new();
    let script = "echo $HTTP_PROXY $HTTPS_PROXY $ALL_PROXY $http_proxy $https_proxy $all_proxy
                  curl -s -o /dev/null -w '%{http_code}\\n' --proxy \"$HTTP_PROXY\" http://allowed.test/";
    for (port, variable, option) in [
        ("3128", None, None),
        ("4001", Some("4001"), None),
        ("4002", Some("4001"), Some("4002")),
    ] {
        let mut run = world.egress().allow(&["allowed.test"]);
        if let Some(value) = variable {
            run = run.env("EGRESS_PROXY_PORT", value);
        }
        if let Some(value) = option {
            run = run.arg("--proxy-port").arg(value);
        }
        let run = run.script(script).run();
        let wanted = vec![format!("http://127.0.0.1:{port}"); 6].join(" ");
        assert_eq!(run.stdout, format!("{wanted}\n200\n"), "{run}");
    }
}

#[test]
fn command_begins_with_the_first_word_that_is_no_option() {
    let world = World::new();
    let words = ["--json", "--", "-x", "--timeout"];
    let after = |run: Run<'_>| {
        let run = words.iter().fold(run, |run, word| run.arg(*word)).run();
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(run.stdout, "--json\n--\n-x\n--timeout\n", "{run}");
    };
    after(world.egress().allow(&[]).arg("printf").arg("%s\\n"));
    let run = world.egress().allow(&[]).arg("--");
    after(run.arg("printf").arg("%s\\n"));
    // A name that begins with a dash needs the separator.
    let run = world.egress().allow(&[]).arg("-x").run();
    assert_eq!(run.status, Some(64), "{run}");
    assert!(run.stderr.contains("use '-- -x'"), "{run}");
}

#[test]
fn amount_of_output_is_selectable() {
    let world = World::new();
    let run = |option: &[&str], script: &str| {
        let run = option
            .iter()
            .fold(world.egress(), |run, option| run.arg(*option));
        run.config("mode: strict\napi_allowlist: []\n")
            .script(script)
            .run()
    };
    let many = "for n in $(seq 12); do curl -s -o /dev/null http://h$n.test/; done; exit 3";
    let normal = run(&[], many);
    assert!(
        normal
            .stderr
            .contains("egress: denied    2 more, in flows.jsonl"),
        "{normal}"
    );
    let verbose = run(&["-v"], many);
    for wanted in [
        "egress: started   the command",
        "h12.test:80",
        "egress: packet",
    ] {
        assert!(verbose.stderr.contains(wanted), "{wanted}: {verbose}");
    }
    assert!(
        !verbose.stderr.contains("more, in flows.jsonl"),
        "{verbose}"
    );
    let quiet = run(&["--quiet"], many);
    assert_eq!(
        (quiet.status, quiet.stderr.as_str()),
        (Some(3), ""),
        "{quiet}"
    );
    // Errors and failed evidence are printed nevertheless.
    let missing = world
        .egress()
        .allow(&[])
        .arg("-q")
        .command(["/nowhere/agent"])
        .run();
    assert!(
        missing
            .stderr
            .starts_with("error: cannot run /nowhere/agent"),
        "{missing}"
    );
    let both = world.egress().arg("-q").arg("-v").script("true").run();
    assert_eq!(both.status, Some(64), "{both}");

    let packet = quiet.packet.to_str().unwrap();
    let verified = world.tool(["verify", "-q", packet, "--allow-unpinned"]);
    assert_eq!(
        (verified.status, verified.stdout.as_str()),
        (Some(0), ""),
        "{verified}"
    );
    let verified = world.tool(["verify", "-q", packet]);
    assert_eq!(
        (verified.status, verified.stdout.as_str()),
        (Some(1), ""),
        "{verified}"
    );
}

#[test]
fn colors_follow_the_usual_variables() {
    let world = World::new();
    let key = world.key("signer.key");
    let made = world
        .egress()
        .allow(&[])
        .signed_with(&key)
        .script("true")
        .run();
    let line = format!(
        "'{0}' verify '{1}' --key '{2}.pub'; '{0}' verify /nowhere",
        binary().display(),
        made.packet.display(),
        key.display()
    );
    let is_colored = |before: &str, terminal: bool| {
        let line = if terminal {
            format!("script --quiet --command \"{line}\" /dev/null")
        } else {
            line.clone()
        };
        let output = world.shell(&format!("unset NO_COLOR CI; {before}; {{ {line}; }} 2>&1"));
        let text = output.stdout.replace('\r', "");
        let colored = [
            "\u{1b}[32mverdict:     VALID\u{1b}[0m",
            "\u{1b}[1;31merror:\u{1b}[0m",
        ];
        let plain = ["\nverdict:     VALID", "\nerror: "];
        let text = format!("\n{text}");
        match colored.map(|part| text.contains(part)) {
            [true, true] => true,
            [false, false] => {
                assert!(
                    plain.iter().all(|part| text.contains(part)),
                    "{before}: {output}"
                );
                assert!(!text.contains('\u{1b}'), "{before}: {output}");
                false
            }
            _ => panic!("{before}: {output}"),
        }
    };
    assert!(is_colored("export TERM=xterm", true));
    assert!(!is_colored("export TERM=xterm", false));
    assert!(!is_colored("export TERM=dumb", true));
    assert!(!is_colored("export TERM=xterm NO_COLOR=1", true));
    assert!(!is_colored("export TERM=xterm CLICOLOR=0", true));
    assert!(is_colored("export CLICOLOR_FORCE=1", false));
    assert!(!is_colored("export NO_COLOR=1 CLICOLOR_FORCE=1", false));
}

#[test]
fn mistyped_commands_have_a_suggestion() {
    let world = World::new();
    for (wrong, meant) in [
        ("rnu", "run"),
        ("verfy", "verify"),
        ("docter", "doctor"),
        ("mna", "man"),
    ] {
        let output = world.tool([wrong]);
        assert_eq!(output.status, Some(64), "{output}");
        let tip = format!("a similar subcommand exists: '{meant}'");
        assert!(output.stderr.contains(&tip), "{output}");
    }
    let output = world.tool(["xyzzy"]);
    assert!(!output.stderr.contains("similar"), "{output}");
}
