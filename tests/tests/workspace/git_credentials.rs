//! Credentials in git's files: which of them the command sees, and how an earlier run could mislead the search for
//! them.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use egress_tests::changes::{apply, assert_ran, assert_refused, outcome};
use egress_tests::{Output, World};

/// A repository of an ordinary user, with a credential in each place where git or a related tool stores one.
const PLANTS: &str = r#"set -e
cd "$WORK"; git init -q -b main; git config user.name n; git config user.email e@example.test
printf '[core]\n\tx = 1\n' > tracked; git add tracked; git commit -qm one
put() { mkdir -p "$(dirname "$1")"; cat >> "$1"; }
put .git/config <<'END'
[http]
	extraHeader = AUTHORIZATION: basic mk01x
	proxy = http://u:mk02x@proxy.test:3128
	cookieFile = .cookies
	sslKey = key.pem
[http "https://a.test/"]
	extraheader = PRIVATE-TOKEN: \
  mk03x
[http.old] extraheader = "X-Key: mk04x"
[remote "a"]
	url = https://x-access-token:mk05x@a.test/a/b
	pushurl = https://mk06x@a.test/a/b
	proxy = http://mk07x@proxy.test/
	fetch = +refs/heads/*:refs/remotes/a/*
[remote "b"]
	url = https://\
mk08x@b.test/a/b
	url = "https://u:mk09\
x@b.test/a/b"
	url = https://b.test/a/b?private_token=mk10x
	url = https://u:a/mk11x@b.test/a/b
	url = mk12x:mk13x@b.test:a/b
	token = mk14x
[url "https://mk15x@c.test/"]
	insteadOf = https://c.test/
[url "https:/\/mk16x@d.test/"]
	insteadOf = https://d.test/
[credential]
	helper = "!f() { echo password=mk17x; }; f"
	helper = store --file=.creds
[credential "https://e.test"]
	username = mk18x
[core]
	sshCommand = sshpass -p mk19x ssh
	askPass = echo mk20x
	gitProxy = proxy mk21x
[sendemail]
	smtpPass = mk22x
[github]
	token = mk23x
[gitlab "https://f.test"] token = mk24x
[imap]
	pass = mk25x
	tunnel = ssh -q mk26x
# extraheader = mk27x
[pack] threads = 1 ; mk28x
[alias]
	up = "!curl -H 'Authorization: token mk29x' https://g.test"
[submodule "sub"]
	url = https://mk30x@g.test/sub
	update = !mk31x
[filter "f"]
	clean = f --key mk32x
[lfs]
	url = https://u:mk33x@h.test/lfs
[receive]
	certNonceSeed = mk34x
[push]
	pushOption = token=mk35x
[include]
	path = ../inc
[includeIf "gitdir:/"]
	path = ~/inc
END
put inc <<< $'[http]\n\textraheader = mk36x\n[include] path = inc2'
put inc2 <<< $'[acme]\n\tkey = mk37x'
put "$CALLER/inc" <<< $'[http]\n\textraheader = mk38x'
put .cookies <<< $'a.test\tFALSE\t/\tTRUE\t0\tsession\tmk39x'
put key.pem <<< 'mk40x'
put .creds <<< 'https://u:mk41x@a.test'
put .git-credentials <<< 'https://u:mk42x@a.test'
put .git/credentials <<< 'https://u:mk43x@a.test'
put .git/config.lock <<< $'[http]\n\textraheader = mk44x'
put .git/config.bak <<< $'[core]\n\tbroken$\nextraheader = mk45x'
put .git/config.worktree <<< $'[http]\n\textraheader = mk46x'
put .git/worktrees/t/config.worktree <<< $'[http]\n\textraheader = mk47x'
put .git/modules/a/b/config <<< $'[remote "o"]\n\turl = https://mk48x@a.test/'; cp .git/HEAD .git/modules/a/b/
put .git/remotes/old/one <<< 'URL: https://mk49x@a.test/'
put .git/branches/old <<< 'https://mk50x@a.test/#main'
put .git/FETCH_HEAD <<< $'0123456789012345678901234567890123456789\t\tbranch \'x\' of https://mk51x@a.test/b'
put .git/MERGE_MSG <<< "Merge branch 'x' of https://u:mk52x@a.test/b"
put .git/logs/HEAD <<< $'0000000000000000000000000000000000000000 0123456789012345678901234567890123456789 n <e@x> 1 +0000\tpull https://mk53x@a.test/ main'
put .git/logs/refs/heads/feature/x <<< $'0000000000000000000000000000000000000000 0123456789012345678901234567890123456789 n <e@x> 1 +0000\tclone: from https://mk54x@a.test/'
put .gitmodules <<< $'# kept\n[submodule "sub"]\n\tpath = sub\n\turl = https://mk55x@g.test/sub'
put .lfsconfig <<< $'[lfs]\n\turl = https://u:mk56x@h.test/lfs'
git init -q nested/repo; put nested/repo/.git/config <<< $'[http]\n\textraheader = mk57x'
git init -q --bare bare; put bare/config <<< $'[http]\n\textraheader = mk58x'
chmod 755 "$CALLER"; chmod 644 "$CALLER/inc"
chown -R 1000:1000 . "$CALLER"
"#;
/// Number of planted credentials.
const PLANTED: usize = 58;

/// Searches for the credentials in all files and in git's output. The search also finds credentials in continued lines.
const LOOKS: &str = r#"
cd "$WORK"
{ cat "$CALLER/inc"; find . -type f -exec cat {} +; git config --list; git remote -v; } 2> /dev/null |
    tr -d '\\\n"\000' | grep -aoE 'mk[0-9][0-9]x' | sort -u
"#;

fn markers(output: &Output) -> BTreeSet<&str> {
    let lines = output.stdout.lines();
    lines.filter(|line| line.starts_with("mk")).collect()
}

/// Claims: git-tokens, git-configuration, git-modules, git-logs, git-stores, git-credentials*
#[test]
fn no_credential_of_git_is_shown() {
    let world = World::new();
    for mode in ["apply", "direct", "copy"] {
        let temp = tempfile::tempdir_in("/opt").unwrap();
        let run = world.egress().allow(&[]);
        let work = run.directory();
        let variables = format!(
            "export WORK={} CALLER={}\n",
            work.display(),
            temp.path().display()
        );
        let made = world.shell(&format!("{variables}{PLANTS}"));
        assert!(made.success(), "{made}");
        let file = world.dir().join("looks.sh");
        fs::write(&file, format!("{variables}{LOOKS}")).unwrap();
        let control = world.shell(&format!(
            "HOME={} setpriv --reuid 1000 --regid 1000 --clear-groups bash {}",
            temp.path().display(),
            file.display()
        ));
        assert_eq!(markers(&control).len(), PLANTED, "{control}");

        let before = contents(&work);
        let script = format!(
            "{variables}{LOOKS}
             git config --get-all remote.a.url; git config submodule.sub.url; git config http.proxy
             git config pack.threads; git -C nested/repo status --short; cat .gitmodules
             [ {mode} = direct ] || {{ echo mine >> .gitmodules; echo 2 > tracked; git commit -qam two; }}
             echo DONE"
        );
        let run = run
            .env("HOME", temp.path())
            .arg("--workspace")
            .arg(mode)
            .script(&script)
            .run();
        assert_eq!(run.status, Some(0), "{mode}: {run}");
        assert_eq!(markers(&run), BTreeSet::new(), "{mode}: {run}");
        // The rest of the configuration is visible and works.
        for shown in [
            "\nhttps://a.test/a/b\nhttps://g.test/sub\nhttp://proxy.test:3128\n1\n",
            "# kept\n[submodule \"sub\"]\n\tpath = sub\n",
            "DONE\n",
        ] {
            assert!(format!("\n{}", run.stdout).contains(shown), "{mode}: {run}");
        }
        for (path, content) in before {
            let is_data = path.ends_with("tracked")
                || path.ends_with("index")
                || path.ends_with("COMMIT_EDITMSG");
            let is_ref = path.to_string_lossy().contains("/refs/heads/main");
            if mode != "apply" || !(is_data || is_ref) {
                assert_eq!(
                    fs::read(&path).unwrap(),
                    content,
                    "{mode}: {}",
                    path.display()
                );
            }
        }
        if mode == "apply" {
            assert_refused(&run, ".gitmodules", "protected");
            assert_eq!(outcome(&run, "tracked").0, "applied", "{run}");
        }
        for entry in fs::read_dir(&run.packet).unwrap() {
            let text = fs::read(entry.unwrap().path()).unwrap();
            let text = String::from_utf8_lossy(&text);
            for number in 1..=PLANTED {
                assert!(
                    !text.contains(&format!("mk{number:02}x")),
                    "{mode}: {number}"
                );
            }
        }
    }
}

/// Returns every file below a directory with its content.
fn contents(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                files.push((path, content));
            }
        }
    }
    files
}

/// Host files that every program needs. The forged configuration includes these files.
const HOST: &str = "/etc/ssl/certs/ca-certificates.crt /usr/bin/git /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1";

/// Returns a script that creates a directory with the file `HEAD`, so that it looks like a git directory.
fn forgery() -> String {
    format!(
        r"mkdir x && cd x && echo 'ref: refs/heads/main' > HEAD
        for file in {HOST} /etc/shadow /etc/sudoers; do printf '[include]\n\tpath = %s\n' $file; done > config
        echo '[include] path = c0' >> config
        printf '[include] path = c1\n' > c0
        echo DONE"
    )
}

/// Claims: git-includes*
#[test]
fn files_that_a_run_leaves_hide_nothing_from_the_next() {
    let sizes = format!("stat -L -c '%n %s' {HOST} 2>/dev/null; echo DONE");
    let world = World::new();
    let host = world.shell(&sizes);
    assert!(host.stdout.lines().count() >= 4, "{host}");
    let first = apply(&world).script(&forgery()).run();
    assert_ran(&first);
    assert_eq!(outcome(&first, "x").0, "applied", "{first}");
    assert!(first.workdir.join("x/config").exists() && first.workdir.join("x/c0").exists());
    // The test itself writes the rest of the chain of includes. A run could write this part too, but that would take
    // half a minute.
    for number in 1..25_000 {
        let text = format!("[include] path = c{}\n", number + 1);
        fs::write(first.workdir.join(format!("x/c{number}")), text).unwrap();
    }

    let again = |why: &str| {
        let run = apply(&world).workdir(&first.workdir).script(&sizes).run();
        assert_ran(&run);
        assert_eq!(run.stdout, host.stdout, "{why}: {run}");
        let boundary = run.json("boundary.json");
        let hidden = boundary["credentials"]["hidden"]
            .as_array()
            .unwrap()
            .clone();
        hidden
            .iter()
            .map(|one| one["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(again("a forgery"), Vec::<String>::new());
    // The same includes are now in a real git directory, which a run cannot create. The workspace files that these
    // includes name are hidden.
    let made = world.shell(&format!(
        "cd {} && git init -q . && sed 's#path = c0#path = ../x/c0#' x/config >> .git/config && printf '[include] path = ../token\n' >> .git/config &&
         printf '[http] extraheader = x\n' > token",
        first.workdir.display()
    ));
    assert!(made.success(), "{made}");
    let token = first.workdir.join("token").display().to_string();
    assert_eq!(again("a repository"), [token]);
}

/// Claims: read-git-files*
#[test]
fn a_link_or_a_pipe_is_not_read_for_a_repository() {
    let world = World::new();
    let run = apply(&world);
    let work = run.directory();
    let secret = tempfile::tempdir_in("/opt").unwrap();
    fs::set_permissions(secret.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let made = world.shell(&format!(
        "set -e; cd {}; printf '[acme \"internal\"] key = x\n' > {secret}/config
         git init -q a; rm a/.git/config; ln -s {secret}/config a/.git/config
         git init -q b; rm b/.git/config; mkfifo b/.git/config; mkfifo b/.git/FETCH_HEAD
         mkdir c; printf 'gitdir: {secret}\n' > c/.git
         git init -q d; printf '[include]\n\tpath = {secret}/config\n\tpath = /dev/zero\n\tpath = /proc/kmsg\n' >> d/.git/config
         ln -s / e; ln -s loop loop",
        work.display(),
        secret = secret.path().display()
    ));
    assert!(made.success(), "{made}");
    // The control: a program that follows the links can read the file.
    for path in ["a/.git/config", "c/.git"] {
        assert!(fs::metadata(work.join(path)).is_ok(), "{path}");
    }
    assert!(
        fs::read_to_string(work.join("a/.git/config"))
            .unwrap()
            .contains("internal")
    );
    let run = run.script("echo DONE").run();
    assert_ran(&run);
    assert!(!run.stderr.contains("acme"), "{run}");
    let boundary = run.json("boundary.json");
    assert_eq!(
        boundary["credentials"]["hidden"],
        serde_json::json!([]),
        "{run}"
    );
}
