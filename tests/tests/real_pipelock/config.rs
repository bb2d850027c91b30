//! Configurations that are accepted, the errors for other configurations, and attempts to change a configuration during
//! a run.
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::thread;
use std::time::Duration;

use egress_tests::World;
use egress_tests::aftermath::until_ready;

use crate::support::{
    NO_PROXY, SOON, Verdicts, allow, assert_nothing_left, assert_verdicts, facts, has_sessions,
    pipelock, policies, receipts_of, runs, targets, with, without_policy,
};

#[test]
fn configuration_that_pipelock_rejects_is_reported_in_its_words_and_leaves_nothing() {
    let world = World::builder().own_state().build();
    let cases = [
        ("no_such_key: 1\n", "no_such_key"),
        ("fetch_proxy: {no_such_key: 1}\n", "no_such_key"),
        ("ssrf: {ip_allowlist: [nonsense]}\n", "ip_allowlist"),
        ("tls_interception: {enabled: true}\n", "tls_interception"),
        // Pipelock's error repeats the value, and the error of egress must not repeat it.
        (
            "fetch_proxy: {timeout_seconds: correct-horse}\n",
            "cannot unmarshal",
        ),
        ("ssrf: {ip_allowlist: [correct-horse]}\n", "ip_allowlist"),
    ];
    for (more, words) in cases {
        let yaml = format!("{}{more}", allow(&["allowed.test"]));
        let run = with(&world, &yaml).script("echo ran").run();
        assert_eq!(run.status, Some(125), "{more}: {run}");
        assert!(run.stderr.contains(words), "{more}: {run}");
        assert!(!run.stderr.contains("correct"), "{more}: {run}");
        assert_eq!(run.stdout, "", "{run}");
        assert!(!run.packet.exists(), "{run}");
        assert_nothing_left(&world);
    }
}

#[test]
fn what_is_typed_wrong_is_refused_before_anything_starts() {
    let world = World::builder().own_state().build();
    let strict = allow(&["allowed.test"]);
    let duplicate = format!("{strict}mode: audit\n");
    let second = format!("{strict}---\nmode: audit\n");
    for yaml in [
        duplicate.as_str(),
        &second,
        "- a list\n",
        "fetch_proxy: 7\n",
    ] {
        let run = with(&world, yaml).script("echo ran").run();
        assert_eq!(
            (run.status, run.stdout.as_str()),
            (Some(64), ""),
            "{yaml}: {run}"
        );
    }
    // Without a policy, the error contains an example of one.
    let run = without_policy(&world).script("echo ran").run();
    assert_eq!(run.status, Some(64), "{run}");
    assert!(run.stderr.contains("api_allowlist"), "{run}");
    // If there is no Pipelock, the built-in mediator does not take its place.
    let missing = world
        .egress()
        .config(&strict)
        .arg("--mediator")
        .arg("pipelock");
    let run = missing.script("echo ran").run();
    assert_eq!(run.status, Some(64), "{run}");
    assert!(
        run.stderr.contains("cannot find `pipelock` on PATH"),
        "{run}"
    );
    // Other users can read this private key.
    let key = world.key("open-key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let run = without_policy(&world)
        .config(&strict)
        .signed_with(&key)
        .script("echo ran")
        .run();
    assert_eq!(run.status, Some(64), "{run}");
    assert_nothing_left(&world);
}

#[test]
fn keys_that_enforce_less_are_named_and_refused_where_that_is_asked() {
    let world = World::builder().own_state().build();
    let yaml = "mode: balanced\napi_allowlist: [allowed.test]\ninternal: []\n";
    let agent =
        format!("{NO_PROXY}curl -sS -o /dev/null -w '%{{http_code}}\\n' http://denied.test/\n");
    let run = with(&world, yaml).script(&agent).run();
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "200\n"),
        "{run}"
    );
    for words in ["`mode` is not strict", "`internal` removes loopback"] {
        assert!(run.stderr.contains(words), "{run}");
    }
    let notices = facts(&run).get("notices").unwrap().to_string();
    assert!(
        notices.contains("internal") && notices.contains("mode"),
        "{notices}"
    );
    let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
    assert!(summary.contains("removes loopback"), "{summary}");
    let packet = run.json("packet.json").to_string();
    assert!(packet.contains("\"mode\":\"balanced\""), "{packet}");

    let run = with(&world, yaml)
        .arg("--require-strict")
        .script(&agent)
        .run();
    assert_eq!((run.status, run.stdout.as_str()), (Some(64), ""), "{run}");
    let run = with(&world, &allow(&["allowed.test"]))
        .arg("--require-strict")
        .script(&agent)
        .run();
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "403\n"),
        "{run}"
    );

    // Without a policy, Pipelock runs in balanced mode, and the run reports the mode.
    let run = without_policy(&world)
        .arg("--allow-no-config")
        .script(&agent)
        .run();
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "200\n"),
        "{run}"
    );
    assert!(run.stderr.contains("mode balanced"), "{run}");
}

#[test]
fn pipelock_has_a_copy_and_files_that_it_cannot_write() {
    let world = World::builder().own_state().build();
    let agent = "touch ready; until [ -e done ]; do sleep 0.02; done\n";
    let (running, packet, workdir) = with(&world, &allow(&["allowed.test"]))
        .script(agent)
        .start();
    until_ready(&workdir, SOON);
    let all = runs(&world);
    let [dir] = all.as_slice() else {
        panic!("{all:?}");
    };
    for (name, mode) in [
        ("pipelock", 0o555),
        ("policy.yaml", 0o440),
        ("signing.key", 0o440),
        ("posture-capsule.json", 0o440),
    ] {
        let meta = fs::metadata(dir.join(name)).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, mode), "{name}");
    }
    assert_eq!(fs::metadata(dir).unwrap().uid(), 0);
    // Pipelock has no privileges, no variables of the caller, and its own user.
    let found = world.shell("pgrep -x pipelock");
    let pid = found.stdout.lines().find(|pid| {
        fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.starts_with(dir) || exe.ends_with("pipelock"))
    });
    let pid = pid.unwrap_or_else(|| panic!("{found}"));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in [
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
    ] {
        assert!(status.contains(line), "no {line:?}: {status}");
    }
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let names: Vec<_> = environment
        .split_terminator('\0')
        .filter_map(|entry| entry.split('=').next())
        .collect();
    assert_eq!(names, ["PIPELOCK_POSTURE_PROOF"]);
    fs::write(workdir.join("done"), "").unwrap();
    let output = running.finish(Duration::from_mins(1));
    assert!(matches!(output.status, Some(0 | 123)), "{output}");
    let boundary = fs::read_to_string(packet.join("boundary.json")).unwrap();
    let sum = world.shell(&format!("sha256sum < {}", pipelock().display()));
    assert!(
        boundary.contains(sum.stdout.split_whitespace().next().unwrap()),
        "{boundary}"
    );
    assert!(boundary.contains("pipelock version"), "{boundary}");
}

#[test]
fn configuration_that_is_rewritten_during_the_run_changes_nothing() {
    let world = World::builder().own_state().build();
    let agent = format!(
        "{NO_PROXY}\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://denied.test/\n\
         touch ready; until [ -e rewritten ]; do sleep 0.02; done\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' http://denied.test/\n"
    );
    let (running, packet, workdir) = with(&world, &allow(&["allowed.test"]))
        .script(&agent)
        .start();
    until_ready(&workdir, SOON);
    let all = runs(&world);
    let path = all.first().unwrap().join("policy.yaml");
    let before = fs::read_to_string(&path).unwrap();
    // Only root can change the file. If Pipelock can watch the directory of the file, it reads a changed file within a
    // second.
    fs::write(&path, before.replace("mode: strict", "mode: balanced")).unwrap();
    thread::sleep(Duration::from_secs(3));
    fs::write(workdir.join("rewritten"), "").unwrap();
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(
        (output.status, output.stdout.as_str()),
        (Some(0), "403\n403\n"),
        "{output}"
    );
    assert_eq!(
        fs::read_to_string(packet.join("policy.yaml")).unwrap(),
        before
    );
    // Every receipt names the same policy.
    let decisions = receipts_of(&packet);
    assert!(decisions.len() >= 2, "{decisions:?}");
    assert_eq!(policies(&decisions), 1, "{decisions:?}");

    // The control: the rewritten policy would have allowed the request.
    let yaml = allow(&["allowed.test"]).replace("strict", "balanced");
    let control = with(&world, &yaml)
        .script(&format!(
            "{NO_PROXY}curl -sS -o /dev/null http://denied.test/\n"
        ))
        .run();
    assert_eq!(
        targets(&control, "allow"),
        ["http://denied.test/"],
        "{control}"
    );
    assert_verdicts(&world, &packet, Verdicts::whole(has_sessions(&control)));
}
