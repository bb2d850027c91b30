//! Attacks of a command on the job that it runs in. The command tries to control the runner through its log and its
//! command files, and to steal tokens.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use egress_tests::World;

/// Returns the commands in `log` that GitHub's runner would execute. Such commands are at the start of a line after
/// white space, or in brackets anywhere. This function respects commands that switch the execution off and on again.
fn obeyed(log: &str) -> Vec<String> {
    let mut token: Option<String> = None;
    let mut obeyed = Vec::new();
    for line in log.split(['\n', '\r']) {
        let text = line.trim_start();
        let command = text
            .strip_prefix("::")
            .and_then(|rest| rest.split_once("::"));
        if let Some(wanted) = &token {
            if command.is_some_and(|(name, _)| name == wanted) {
                token = None;
            }
            continue;
        }
        match command {
            Some(("stop-commands", word)) => token = Some(word.to_owned()),
            Some(_) => obeyed.push(line.to_owned()),
            None if text.contains("##[") => obeyed.push(line.to_owned()),
            None => {}
        }
    }
    obeyed
}

/// Returns the lines that a runner without `stop-commands` would execute.
fn commands(log: &str) -> Vec<&str> {
    log.split(['\n', '\r'])
        .filter(|line| {
            let is_ours = line.trim_start().starts_with("::stop-commands::")
                || line.len() == 36 && line.ends_with("::");
            let brackets = ["##[", "##vso[", "##teamcity["];
            let is_command = line.trim_start().starts_with("::");
            !is_ours && (is_command || brackets.iter().any(|bracket| line.contains(bracket)))
        })
        .collect()
}

const SPEAKS: &str = r"
printf '::set-output name=a::canary\n'
printf '  \t::add-path::canary\n' >&2
printf 'text\r::error::canary\n'
printf 'note ##[set-output name=b]canary\n' >&2
printf '##[add-mask]canary\n'
printf ':'; sleep 0.05; printf ':save-state name=c::canary\n'
printf '##' >&2; sleep 0.05; printf '[debug]canary\n' >&2
printf '::stop-commands::x\n::x::\n'
printf 'prompt? '
sleep 0.3
printf '\n::warning::canary'
";

/// Claims: ci-commands*
#[test]
fn runner_executes_no_command_in_the_output() {
    let world = World::new();
    let control = world.shell(SPEAKS);
    assert_eq!(obeyed(&control.stdout).len(), 5, "{control}");
    assert_eq!(obeyed(&control.stderr).len(), 3, "{control}");

    let run = world
        .egress()
        .allow(&[])
        .env("GITHUB_ACTIONS", "true")
        .script(SPEAKS)
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(obeyed(&run.stdout), Vec::<String>::new(), "{run}");
    assert_eq!(obeyed(&run.stderr), Vec::<String>::new(), "{run}");
    // Each of the two measures is sufficient by itself.
    assert_eq!(commands(&run.stdout), Vec::<&str>::new(), "{run}");
    assert_eq!(commands(&run.stderr), Vec::<&str>::new(), "{run}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    let token = lines[0].strip_prefix("::stop-commands::").unwrap();
    assert_eq!(token.len(), 32, "{run}");
    assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    // The last line of the command has no line break, but the token is still on its own line.
    assert_eq!(lines[lines.len() - 1], format!("::{token}::"), "{run}");
    assert_eq!(lines[lines.len() - 2], ":\\:warning::canary", "{run}");
    let output = run.json("boundary.json")["output"].clone();
    assert_eq!(output["defused"], 10, "{output}");
    assert_eq!(output["stop_commands"], true, "{output}");
    let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
    assert!(
        summary.contains("10 commands to the CI system"),
        "{summary}"
    );
    assert!(run.stderr.contains("10 commands to the CI system"), "{run}");
    for name in ["boundary.json", "flows.jsonl", "summary.md"] {
        let text = fs::read_to_string(run.packet.join(name)).unwrap();
        assert!(!text.contains(token), "{name}");
    }

    // Without a CI system, the output of the command is not changed.
    let run = world.egress().allow(&[]).script(SPEAKS).run();
    assert_eq!(run.stdout, control.stdout, "{run}");
}

/// Claims: ci-commands
#[test]
fn halves_on_two_streams_do_not_make_a_command() {
    let world = World::new();
    let script = "printf ':'; sleep 0.1; printf ':add-path::canary' >&2; sleep 0.1; echo
                  printf '#' >&2; sleep 0.1; printf '#'; sleep 0.1; printf '[add-path]canary\\n' >&2";
    let control = world.shell(&format!("({script}) 2>&1"));
    assert_eq!(obeyed(&control.stdout).len(), 2, "{control}");
    let run = world.egress().allow(&[]).file("agent.sh", script);
    let work = run.directory();
    let line = format!(
        "GITHUB_ACTIONS=true {} run --workdir {} --packet-dir {} -- bash agent.sh 2>&1",
        egress_tests::binary().display(),
        work.display(),
        work.with_file_name("packet").display(),
    );
    let together = world.shell(&line);
    assert!(together.success(), "{together}");
    assert!(together.stdout.contains("canary"), "{together}");
    assert_eq!(commands(&together.stdout), Vec::<&str>::new(), "{together}");
}

/// Claims: read-own-lines*
#[test]
fn names_that_the_command_chose_are_not_executed_in_lines_of_egress() {
    let world = World::new();
    // Standard error names each denied change.
    let script = "mkdir -p .github && cd .github && touch '##[set-output name=a]canary' \
        '###[set-output name=a]canary' '####vso[task.setvariable variable=a]canary' '###teamcity[canary]'";
    // The control: a program that lists such names prints text that the runner would execute.
    let control = world.shell(&format!("cd {} && {script} && ls", world.dir().display()));
    assert_eq!(commands(&control.stdout).len(), 4, "{control}");
    let run = world
        .egress()
        .allow(&[])
        .env("GITHUB_ACTIONS", "true")
        .arg("--workspace")
        .arg("apply")
        .script(script)
        .run();
    assert_eq!(run.stderr.matches("]canary").count(), 3, "{run}");
    assert!(run.stderr.contains("teamcity\\[canary]"), "{run}");
    assert_eq!(commands(&run.stderr), Vec::<&str>::new(), "{run}");
}

/// Claims: step-values*, read-step-files*
#[test]
fn command_files_are_the_agents_own() {
    let world = World::new();
    let names = [
        "GITHUB_ENV",
        "GITHUB_PATH",
        "GITHUB_OUTPUT",
        "GITHUB_STATE",
        "GITHUB_STEP_SUMMARY",
    ];
    let files = tempfile::tempdir_in("/opt").unwrap();
    let script = r#"set -e
for name in GITHUB_ENV GITHUB_PATH GITHUB_OUTPUT GITHUB_STATE GITHUB_STEP_SUMMARY; do
  test ! -s "${!name}"; test -w "${!name}"
done
echo LD_PRELOAD=canary.so >> "$GITHUB_ENV"
printf 'BODY<<END\ncanary=x\nEND\n' >> "$GITHUB_ENV"
echo /tmp/canary >> "$GITHUB_PATH"
echo result=canary > "$GITHUB_OUTPUT"
echo '# canary' >> "$GITHUB_STEP_SUMMARY"
# The directory is not the agent's: nothing else can take a file's place.
! rm "$GITHUB_ENV" 2> /dev/null && ! touch "$(dirname "$GITHUB_ENV")/x" 2> /dev/null && echo DONE
"#;
    for name in names {
        fs::write(files.path().join(name), "").unwrap();
    }
    let mut run = world.egress().allow(&[]);
    for name in names {
        run = run.env(name, files.path().join(name));
    }
    let run = run.script(script).run();
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "DONE\n"),
        "{run}"
    );
    for name in names {
        let text = fs::read_to_string(files.path().join(name)).unwrap();
        assert_eq!(text, "", "{name}: {run}");
    }
    let boundary = run.json("boundary.json");
    let rows = boundary["command_files"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "{rows:#?}");
    assert_eq!(rows[0]["name"], "GITHUB_ENV");
    assert_eq!(rows[0]["keys"], serde_json::json!(["BODY", "LD_PRELOAD"]));
    assert_eq!(rows[0]["bytes"], 44);
    assert!(
        run.stderr
            .contains("44 bytes written to GITHUB_ENV (BODY, LD_PRELOAD)"),
        "{run}"
    );
    let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
    assert!(summary.contains("GITHUB_OUTPUT (result)"), "{summary}");
    assert_nowhere(&run.packet, "canary");
}

/// Claims: read-step-files
#[test]
fn holes_in_a_command_file_take_no_memory_of_the_supervisor() {
    const MOST: u64 = 512 << 20;
    let world = World::new();
    let file = world.dir().join("env");
    fs::write(&file, "").unwrap();
    let script =
        "echo A=1 >\"$GITHUB_ENV\" && truncate -s 1T \"$GITHUB_ENV\" && stat -c %s \"$GITHUB_ENV\"";
    // The control: a program that reads the whole file runs out of memory.
    let control = world.shell(&format!(
        "export GITHUB_ENV={}; {script}; ulimit -v {}; python3 -c 'open(\"{0}\").read()'",
        file.display(),
        MOST >> 10
    ));
    assert!(
        !control.success() && control.stderr.contains("MemoryError"),
        "{control}"
    );
    fs::write(&file, "").unwrap();
    let run = world
        .egress()
        .allow(&[])
        .env("GITHUB_ENV", &file)
        .script(script)
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stdout, format!("{}\n", 1_u64 << 40), "{run}");
    let row = run.json("boundary.json")["command_files"][0].clone();
    assert_eq!(row["bytes"], 1_u64 << 40, "{row}");
    assert_eq!(row["keys"], serde_json::json!(["A"]), "{row}");
    assert!(row.get("sha256").is_none(), "{row}");
}

/// Creates a repository that belongs to an ordinary user. The configuration of the repository contains the token that a
/// checkout leaves. `{}` is a directory outside the repository that every user can see.
const CHECKOUT: &str = r#"set -e
cd "$WORK"; git init -q; git config user.name n; git config user.email e@example.test
git remote add origin https://x-access-token:$SECRET@github.test/a/b
git config http.https://github.test/.extraheader "AUTHORIZATION: basic $SECRET"
printf '[http "https://github.test/"]\n\textraheader = AUTHORIZATION: basic %s\n' $SECRET > "$TEMP/git-credentials-1.config"
chmod 644 "$TEMP/git-credentials-1.config"
git config "includeIf.gitdir:$WORK/.git.path" "$TEMP/git-credentials-1.config"
mkdir -p .git/modules/sub nested
cp .git/config .git/modules/sub/config; cp .git/HEAD .git/modules/sub/
git init -q nested/repo; cp .git/config nested/repo/.git/config
echo 1 > file; git add file; git commit -qm one
chown -R 1000:1000 ."#;

/// Searches for the secret in every place where git stores one.
const LOOKS: &str = r#"
cd "$WORK_DIR"
git config --list; git remote -v
cat .git/config .git/modules/sub/config nested/repo/.git/config "$TOKEN_DIR"/* 2>&1
grep -rah extraheader . "$TOKEN_DIR" 2> /dev/null
git status --short; git log --oneline | wc -l
"#;

/// Claims: git-tokens*
#[test]
fn stored_checkout_tokens_are_hidden_from_the_command() {
    const SECRET: &str = "c3VwZXJzZWNyZXQ";
    let world = World::new();
    for mode in ["apply", "discard", "direct", "read-only", "copy"] {
        let temp = tempfile::tempdir_in("/opt").unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let run = world.egress().allow(&[]);
        let work = run.directory();
        let variables = format!(
            "export SECRET={SECRET} WORK={} TEMP={}\n",
            work.display(),
            temp.path().display()
        );
        let made = world.shell(&format!("{variables}{CHECKOUT}"));
        assert!(made.success(), "{made}");
        let looks = format!(
            "export WORK_DIR={} TOKEN_DIR={}\n{LOOKS}",
            work.display(),
            temp.path().display()
        );
        let file = world.dir().join("looks.sh");
        fs::write(&file, &looks).unwrap();
        let control = world.shell(&format!(
            "HOME=/ setpriv --reuid 1000 --regid 1000 --clear-groups bash {}",
            file.display()
        ));
        assert!(control.stdout.matches(SECRET).count() > 6, "{control}");
        let before = fs::read(work.join(".git/config")).unwrap();
        let meta = fs::metadata(work.join(".git/config")).unwrap();

        let script = format!(
            "{looks}
             if [ {mode} != read-only ]; then
               echo 2 > file; git commit -qam two && git log --oneline | wc -l
               git checkout -qb other && echo branched
             fi
             case {mode} in apply|discard|copy) git config user.name m && git config user.name ;; esac
             echo x 2> /dev/null >> .git/config; true"
        );
        let run = run
            .env("HOME", temp.path())
            .arg("--workspace")
            .arg(mode)
            .command(["bash", "-c", &script])
            .run();
        assert_eq!(run.status, Some(0), "{mode}: {run}");
        assert!(
            !run.stdout.contains(SECRET) && !run.stderr.contains(SECRET),
            "{mode}: {run}"
        );
        assert!(
            run.stdout.contains("https://github.test/a/b (fetch)"),
            "{mode}: {run}"
        );
        assert!(run.stdout.contains("user.name=n"), "{mode}: {run}");
        if mode != "read-only" {
            assert!(run.stdout.contains("2\nbranched\n"), "{mode}: {run}");
        }
        // The configuration on the host does not change, so the next step of the job can use the token.
        assert_eq!(
            fs::read(work.join(".git/config")).unwrap(),
            before,
            "{mode}"
        );
        let after = fs::metadata(work.join(".git/config")).unwrap();
        assert_eq!(
            (after.uid(), after.mode(), after.ino()),
            (meta.uid(), meta.mode(), meta.ino()),
            "{mode}"
        );
        let boundary = run.json("boundary.json");
        let hidden = boundary["credentials"]["hidden"].as_array().unwrap();
        assert_eq!(hidden.len(), 4, "{mode}: {hidden:#?}");
        let key = "http.https://github.test/.extraheader";
        for one in hidden {
            assert!(
                one["keys"].as_array().unwrap().contains(&key.into()),
                "{one}"
            );
        }
        let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
        assert!(
            run.stderr.contains(key) && summary.contains(key),
            "{mode}: {run}"
        );
        assert_nowhere(&run.packet, SECRET);
    }
}

#[test]
fn tokens_of_the_runner_are_nowhere() {
    const SECRET: &str = "c3VwZXJzZWNyZXQ";
    let world = World::new();
    let temp = tempfile::tempdir_in("/opt").unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let token = temp.path().join("runner-token");
    fs::write(&token, SECRET).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let names = [
        "ACTIONS_RUNTIME_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_RESULTS_URL",
        "ACTIONS_CACHE_URL",
        "RUNNER_TOKEN",
        "RUNNER_REGISTRATION_TOKEN",
        "SUDO_COMMAND",
        "LD_PRELOAD_CANARY",
        "BASH_ENV",
    ];
    let script = format!(
        "set +e; env; cat /proc/*/environ /proc/*/cmdline 2> /dev/null | tr '\\0' '\\n'
         cat {} 2>&1; grep -r {} /run /tmp /proc/self/mountinfo; curl -s http://denied.test/; true",
        token.display(),
        SECRET.chars().rev().collect::<String>()
    );
    let mut run = world.egress().allow(&[]).env("RUNNER_TEMP", temp.path());
    for name in names {
        run = run.env(name, SECRET);
    }
    let control = world.shell(&format!(
        "env {}={SECRET} env; cat {}",
        names[0],
        token.display()
    ));
    assert_eq!(control.stdout.matches(SECRET).count(), 2, "{control}");
    let run = run.script(&script).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(
        !run.stdout.contains(SECRET) && !run.stderr.contains(SECRET),
        "{run}"
    );
    let dropped = run.json("boundary.json")["environment"]["dropped"].clone();
    for name in names {
        assert!(
            dropped.as_array().unwrap().contains(&name.into()),
            "{name}: {dropped}"
        );
    }
    assert_nowhere(&run.packet, SECRET);
}

/// Fails if a file of the packet contains `word`.
fn assert_nowhere(packet: &Path, word: &str) {
    for entry in fs::read_dir(packet).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let found = bytes
            .windows(word.len())
            .any(|part| part == word.as_bytes());
        assert!(!found, "{} holds {word}", path.display());
    }
}

/// Claims: read-missing-policy
#[test]
fn step_without_a_policy_cannot_write_one_for_the_next() {
    const POLICY: &str = r#"mkdir -p .pipelock && printf 'version: 1\nmode: strict\napi_allowlist: ["evil.test"]\n' >.pipelock/ci.yaml; echo fine >fine"#;
    let world = World::new();
    let work = world.dir().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("agent.sh"), POLICY).unwrap();
    let step = || {
        let inputs = [
            "SCRIPT_PATH=agent.sh",
            "CONFIG=",
            "AGENT_IDENTITY=agent",
            "AUDIT_PACKET_DIR=../packet",
            "WORKING_DIRECTORY=.",
            "FAIL_ON_VERIFIER_ERROR=false",
            "DEBUG=false",
            "MEDIATOR=builtin",
            "DNS=synthetic",
            "WORKSPACE=apply",
        ]
        .map(|input| format!("INPUT_{input}"));
        let step = world.shell(&format!(
            "cd {} && export {} && {} action run",
            work.display(),
            inputs.join(" "),
            egress_tests::binary().display()
        ));
        assert!(step.success(), "{step}");
        step.stdout.contains("EVERY DESTINATION IS DENIED")
    };
    for _ in 0..2 {
        assert!(step(), "there is a policy");
        assert!(work.join("fine").exists());
        assert!(!work.join(".pipelock/ci.yaml").exists());
    }
    // The control: without the boundary, the command can write the policy.
    let control = world.shell(&format!("cd {} && {POLICY}", work.display()));
    assert!(control.success(), "{control}");
    assert!(!step(), "the policy is ignored");
}
