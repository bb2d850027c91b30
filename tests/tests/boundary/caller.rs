//! The caller's directories around the workspace and the caller's variables, as the command sees them.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use egress_tests::World;
use tempfile::TempDir;

/// Creates a directory that is removed at the end of the test.
fn directory(parent: &str, mode: u32, owner: u32) -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("egress-test-")
        .tempdir_in(parent)
        .unwrap();
    chown(dir.path(), Some(owner), Some(owner)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    dir
}

#[test]
fn workspaces_where_the_agent_could_not_go() {
    let world = World::new();
    for (parent, mode, owner) in [
        ("/root", 0o700, 0),
        ("/home", 0o750, 4242),
        ("/tmp", 0o700, 4242),
    ] {
        let home = directory(parent, mode, owner);
        fs::write(home.path().join("private"), "canary").unwrap();
        fs::set_permissions(
            home.path().join("private"),
            fs::Permissions::from_mode(0o644),
        )
        .unwrap();
        let work = home.path().join("a/project");
        fs::create_dir_all(&work).unwrap();
        for dir in [home.path().join("a"), work.clone()] {
            chown(dir, Some(owner), Some(owner)).unwrap();
        }
        fs::write(work.join("input"), "from outside\n").unwrap();
        let script = format!(
            "cat input && mkdir out && echo made > out/file && rm input && stat -c %U out/file
             cat {0}/private 2> /dev/null || echo nothing beside it
             ls -A {0} {0}/a
             touch {0}/x {0}/a/x 2> /dev/null || echo closed above",
            home.path().display()
        );
        let control = world.shell(&format!("cat {}/private", home.path().display()));
        assert_eq!(control.stdout, "canary", "{control}");
        let run = world
            .egress()
            .workdir(&work)
            .allow(&[])
            .script(&script)
            .run();
        assert_eq!(
            run.stdout,
            format!(
                "from outside\npipelock-agent\nnothing beside it\n{0}:\na\n\n{0}/a:\nproject\nclosed above\n",
                home.path().display()
            ),
            "{parent}: {run}"
        );
        // The owner of the workspace owns the file that the command created.
        let made = work.join("out/file").metadata().unwrap();
        assert_eq!((made.uid(), made.gid()), (owner, owner), "{parent}");
        assert!(!work.join("input").exists());
    }
}

#[test]
fn variables_that_steer_the_runner_stay_outside() {
    let world = World::new();
    // Every user of the host can read this file.
    let temp = directory("/opt", 0o755, 0);
    fs::write(temp.path().join("token"), "canary").unwrap();
    fs::set_permissions(temp.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let event = temp.path().join("_github_workflow/event.json");
    fs::create_dir(temp.path().join("_github_workflow")).unwrap();
    fs::write(&event, "{\"action\":\"opened\"}").unwrap();
    let show = format!(
        "env; cat {0}/token 2> /dev/null; ls -A {0} $(dirname $GITHUB_EVENT_PATH); cat $GITHUB_EVENT_PATH
         for file in {0}/x $GITHUB_EVENT_PATH; do echo x 2> /dev/null >> $file && echo canary; done",
        temp.path().display()
    );
    let names = [
        "ACTIONS_RUNTIME_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "ACTIONS_CACHE_URL",
        "RUNNER_SOME_TOKEN",
        "BASH_ENV",
        "LD_LIBRARY_PATH",
        "SSH_AUTH_SOCK",
    ];
    let mut run = world.egress().allow(&[]);
    for name in names {
        run = run.env(name, "canary");
    }
    let run = run
        .env("RUNNER_TEMP", temp.path())
        .env("GITHUB_EVENT_PATH", &event)
        .env("GITHUB_SHA", "kept")
        .script(&format!("set +e\n{show}\ntrue"))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!run.stdout.contains("canary"), "{run}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    for line in [
        "{\"action\":\"opened\"}",
        "GITHUB_SHA=kept",
        "HOME=/home/pipelock-agent",
        "USER=pipelock-agent",
        "TMPDIR=/tmp",
        "NO_PROXY=localhost,127.0.0.1,::1",
    ] {
        assert!(lines.contains(&line), "{line}: {run}");
    }
    // The packet contains the names of the removed variables, and none of their values.
    let dropped = run.boundary("/environment/dropped");
    for name in names {
        assert!(dropped.as_array().unwrap().contains(&name.into()), "{name}");
    }
    let text = fs::read_to_string(run.packet.join("boundary.json")).unwrap();
    assert!(!text.contains("canary"));
    // The control: without the boundary, an unprivileged user can read the file.
    let control = world.shell(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups cat {}/token",
        temp.path().display()
    ));
    assert_eq!(control.stdout, "canary", "{control}");
}

#[test]
fn single_variables_are_passed_and_kept_back_by_name() {
    let world = World::new();
    let run = |options: &[&str]| {
        let mut run = world
            .egress()
            .allow(&[])
            .env("SSH_AUTH_SOCK", "/kept/agent")
            .env("OWN_SECRET", "canary")
            .env("ACTIONS_RUNTIME_TOKEN", "canary");
        for option in options {
            run = run.arg(*option);
        }
        run.script("env").run()
    };
    let plain = run(&[]);
    assert_eq!(plain.status, Some(0), "{plain}");
    assert!(plain.stdout.contains("OWN_SECRET=canary\n"), "{plain}");
    assert!(!plain.stdout.contains("SSH_AUTH_SOCK"), "{plain}");

    let other = run(&["--env-pass", "SSH_AUTH_SOCK", "--env-drop", "OWN_SECRET"]);
    assert_eq!(other.status, Some(0), "{other}");
    assert!(
        other.stdout.contains("SSH_AUTH_SOCK=/kept/agent\n"),
        "{other}"
    );
    assert!(!other.stdout.contains("canary"), "{other}");
    for (list, name) in [("passed", "SSH_AUTH_SOCK"), ("dropped", "OWN_SECRET")] {
        let names = other.boundary(&format!("/environment/{list}"));
        assert!(names.as_array().unwrap().contains(&name.into()), "{names}");
    }

    // One probe checks for tokens of the runner, so `--env-pass` with a token also needs `--accept-risk`.
    let token = ["--env-pass", "ACTIONS_RUNTIME_TOKEN"];
    let refused = run(&token);
    assert_eq!(refused.status, Some(125), "{refused}");
    assert!(refused.stderr.contains("probe runner_tokens"), "{refused}");
    let accepted = run(&[&token[..], &["--accept-risk", "runner_tokens"]].concat());
    assert_eq!(accepted.status, Some(0), "{accepted}");
    assert!(
        accepted.stdout.contains("ACTIONS_RUNTIME_TOKEN=canary\n"),
        "{accepted}"
    );

    for (options, told) in [
        (
            &["--env-pass", "HOME"][..],
            "egress sets variable HOME itself",
        ),
        (
            &["--env-drop", "GITHUB_ENV"],
            "egress sets variable GITHUB_ENV itself",
        ),
        (
            &["--env-drop", "https_proxy"],
            "egress sets variable https_proxy itself",
        ),
        (&["--env-pass", "A=b"], "not a variable name"),
        (&["--env-pass", "A", "--env-drop", "A"], "leave one out"),
    ] {
        let wrong = run(options);
        assert_eq!(wrong.status, Some(64), "{wrong}");
        assert!(wrong.stderr.contains(told), "{told}: {wrong}");
    }
}

#[test]
fn workspace_inside_the_runners_own_directory() {
    let world = World::new();
    let temp = directory("/opt", 0o755, 0);
    fs::write(temp.path().join("token"), "canary").unwrap();
    let work = temp.path().join("a/work");
    fs::create_dir_all(&work).unwrap();
    let run = world
        .egress()
        .workdir(&work)
        .allow(&[])
        .env("RUNNER_TEMP", temp.path())
        .script(&format!(
            "ls -A {0} {0}/a; cat {0}/token 2> /dev/null; touch made",
            temp.path().display()
        ))
        .run();
    let expected = format!("{0}:\na\n\n{0}/a:\nwork\n", temp.path().display());
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), expected.as_str()),
        "{run}"
    );
    assert!(work.join("made").exists());
}
