//! Credentials of widely used tools, and private keys of egress, in the workspace and in homes.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use egress_tests::changes::{assert_refused, outcome};
use egress_tests::{Output, RunOutput, World};

/// Files of a workspace in which a tool keeps a credential.
const FILES: [(&str, &str); 11] = [
    (
        ".aws/credentials",
        "[default]\naws_secret_access_key = mk01x\n",
    ),
    (
        ".docker/config.json",
        "{\"auths\": {\"r.test\": {\"auth\": \"mk02x\"}}}\n",
    ),
    (".netrc", "machine a.test login u password mk03x\n"),
    (
        ".npmrc",
        "registry=https://r.test/\n//r.test/:_authToken=mk04x\n",
    ),
    (".ssh/any", "-----BEGIN OPENSSH PRIVATE KEY-----\nmk05x\n"),
    ("a/b/c/gradle.properties", "signing.password=mk06x\n"),
    ("conf/pypirc", "[pypi]\npassword = mk07x\n"),
    ("deploy/id_ed25519", "-----BEGIN PRIVATE KEY-----\nmk08x\n"),
    ("gha-creds-1.json", "{\"private_key\": \"mk09x\"}\n"),
    (
        "nuget.config",
        "<add key=\"ClearTextPassword\" value=\"mk10x\" />\n",
    ),
    (
        "settings.xml",
        "<settings><server><password>mk11x</password></server></settings>\n",
    ),
];
/// Files that have the name of such a file, but no credential.
const HARMLESS: [(&str, &str); 3] = [
    (".ssh/config", "Host vis1x\n"),
    (
        "a/.npmrc",
        "registry=https://vis2x.test/\n//r.test/:_authToken=${NPM_TOKEN}\n",
    ),
    ("gradle.properties", "org.gradle.jvmargs=vis3x\n"),
];

/// Prints the marks in all files of the working directory.
const LOOKS: &str =
    "find . -type f -exec cat {} + 2>/dev/null | grep -aoE 'mk[0-9]+x|vis[0-9]x' | sort -u\n";

/// Tries to change, remove, and move the files, and directories above them.
const WRITES: &str = "exec 2>/dev/null
    for file in FILES; do
        echo lost > $file; echo lost >> $file; ln $file linked; ln -f a/.npmrc $file; mv a/.npmrc $file; rm -f $file
        mv $file moved
    done
    rm -rf deploy .docker .ssh; ln -s / .netrc; mv .aws elsewhere; cat elsewhere/credentials\n";

fn make(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn marks(output: &Output) -> BTreeSet<&str> {
    let lines = output.stdout.lines();
    lines
        .filter(|line| line.starts_with("mk") || line.starts_with("vis"))
        .collect()
}

/// Returns the paths in a list of `boundary.json` about credentials, without `dir`.
fn named(run: &RunOutput, list: &str, dir: &Path) -> Vec<String> {
    let boundary = run.json("boundary.json");
    let rows = boundary.pointer(&format!("/credentials/{list}")).unwrap();
    let rows = rows.as_array().unwrap();
    let paths = rows
        .iter()
        .map(|row| row["path"].as_str().or(row.as_str()).unwrap());
    let below = paths.filter_map(|path| Path::new(path).strip_prefix(dir).ok());
    below.map(|path| path.display().to_string()).collect()
}

/// Runs a script as an ordinary user, without a boundary.
fn as_user(world: &World, uid: u32, dir: &Path, script: &str) -> Output {
    let file = world.dir().join("control.sh");
    fs::write(&file, script).unwrap();
    world.shell(&format!(
        "cd {} && setpriv --reuid {uid} --regid {uid} --clear-groups bash {}",
        dir.display(),
        file.display()
    ))
}

/// Claims: credential-files*, shown-credentials
#[test]
fn credentials_of_the_workspace_are_hidden_and_not_lost() {
    let world = World::new();
    let all: BTreeSet<String> = (1..=FILES.len())
        .map(|number| format!("mk{number:02}x"))
        .collect();
    let visible = BTreeSet::from(["vis1x", "vis2x", "vis3x"]);
    let writes = WRITES.replace("FILES", &FILES.map(|(name, _)| name).join(" "));
    for mode in ["apply", "discard", "direct", "copy", "read-only"] {
        let run = world.egress().allow(&[]).arg("--workspace").arg(mode);
        let work = run.directory();
        make(&work, &FILES);
        make(&work, &HARMLESS);
        // git tracks some of the files, which makes no difference.
        let made = world.shell(&format!(
            "cd {} && ln -s conf/pypirc .pypirc && git init -q . && git add .npmrc a/.npmrc && chown -R 1000:1000 .",
            work.display()
        ));
        assert!(made.success(), "{made}");
        let control = as_user(&world, 1000, &work, LOOKS);
        let found: BTreeSet<String> = marks(&control).into_iter().map(str::to_owned).collect();
        assert!(all.is_subset(&found), "{control}");
        let before = FILES.map(|(name, _)| work.join(name).metadata().unwrap());

        // Without a separate store, a moved directory takes the hidden file and its cover with it.
        let back = if mode == "direct" {
            "mv elsewhere .aws"
        } else {
            ""
        };
        let script = format!(
            "cat {}; {LOOKS}{writes}{LOOKS}{back}",
            FILES.map(|(name, _)| name).join(" ")
        );
        let run = run.command(["bash", "-c", &script]).run();
        assert_eq!(run.status, Some(0), "{mode}: {run}");
        assert_eq!(marks(&run), visible, "{mode}: {run}");
        for ((name, text), before) in FILES.iter().zip(before) {
            assert_eq!(
                fs::read_to_string(work.join(name)).unwrap(),
                *text,
                "{mode}: {name}"
            );
            let after = work.join(name).metadata().unwrap();
            assert_eq!(
                (after.ino(), after.mode(), after.uid()),
                (before.ino(), before.mode(), before.uid())
            );
        }
        let names = FILES.map(|(name, _)| name.to_owned());
        assert_eq!(named(&run, "hidden", &work), names, "{mode}: {run}");
        assert_eq!(named(&run, "shown", &work), [""; 0]);
        assert!(
            run.stderr.contains(".npmrc (the whole file)"),
            "{mode}: {run}"
        );
        // One line names all hidden files.
        assert_eq!(run.stderr.matches("may hold").count(), 1, "{mode}: {run}");
        if mode == "apply" {
            assert_refused(&run, ".npmrc", "protected");
            assert_refused(&run, "gha-creds-1.json", "protected");
        }
        for entry in fs::read_dir(&run.packet).unwrap() {
            let text = fs::read(entry.unwrap().path()).unwrap();
            let text = String::from_utf8_lossy(&text);
            assert!(
                !all.iter().any(|mark| text.contains(mark)),
                "{mode}: {text}"
            );
        }
    }
}

/// Claims: shown-credentials*
#[test]
fn caller_shows_a_file_by_name_and_nothing_else() {
    let world = World::new();
    let key = world.key("signer.key");
    let run = |options: &[&str]| {
        let run = world.egress().allow(&[]).signed_with(&key);
        let work = run.directory();
        make(&work, &FILES);
        std::os::unix::fs::symlink("conf/pypirc", work.join(".pypirc")).unwrap();
        fs::create_dir(work.join("plain")).unwrap();
        let run = run.arg("--boundary-key").arg(world_key(&world, &work));
        let run = options.iter().fold(run, |run, option| run.arg(*option));
        let script = format!("{LOOKS} cat boundary.key; echo added >> .npmrc");
        run.command(["bash", "-c", &script]).run()
    };
    let without = run(&[]);
    assert_eq!(marks(&without), BTreeSet::new(), "{without}");
    assert_refused(&without, ".npmrc", "protected");

    let shown = run(&[
        "--show-credential",
        ".npmrc",
        "--show-credential",
        ".aws",
        "--show-credential",
        "plain",
    ]);
    assert_eq!(marks(&shown), BTreeSet::from(["mk01x", "mk04x"]), "{shown}");
    assert_eq!(
        named(&shown, "shown", &shown.workdir),
        [".aws/credentials", ".npmrc"]
    );
    assert!(
        shown
            .stderr
            .contains("shown to the command by --show-credential"),
        "{shown}"
    );
    let unused = format!(
        "--show-credential {}/plain changed nothing",
        shown.workdir.display()
    );
    assert!(shown.stderr.contains(&unused), "{shown}");
    assert_eq!(outcome(&shown, ".npmrc").0, "applied", "{shown}");
    // The key of the run stays hidden, even though the option names the whole workspace.
    let everything = run(&["--show-credential", "."]);
    assert!(marks(&everything).len() >= 10, "{everything}");
    let secret = fs::read_to_string(everything.workdir.join("boundary.key")).unwrap();
    assert!(
        !everything.stdout.contains(secret.lines().nth(1).unwrap()),
        "{everything}"
    );

    let missing = run(&["--show-credential", "nowhere"]);
    assert_eq!(missing.status, Some(64), "{missing}");
    assert!(
        missing
            .stderr
            .contains("--show-credential nowhere: cannot find the path"),
        "{missing}"
    );
}

/// Generates a key in a workspace.
fn world_key(world: &World, work: &Path) -> PathBuf {
    let made = world.key("made.key");
    let path = work.join("boundary.key");
    fs::rename(&made, &path).unwrap();
    fs::remove_file(world.dir().join("made.key.pub")).unwrap();
    path
}

/// Claims: own-keys*
#[test]
fn keys_that_a_run_does_not_use_are_hidden() {
    let world = World::new();
    let run = |options: &[&str]| {
        let run = world.egress().allow(&[]).arg("--mode").arg("audit");
        let work = run.directory();
        for name in ["signer.key", "boundary.key"] {
            let made = world.tool([
                "keygen".as_ref(),
                "--out".as_ref(),
                work.join(name).as_os_str(),
            ]);
            assert!(made.success(), "{made}");
        }
        let run = options.iter().fold(run, |run, option| run.arg(*option));
        run.command(["cat", "signer.key", "boundary.key", "signer.key.pub"])
            .run()
    };
    // The control: the option shows one of the keys.
    let control = run(&["--show-credential", "signer.key"]);
    assert_eq!(
        control
            .stdout
            .matches("pipelock-ed25519-private-v1")
            .count(),
        1,
        "{control}"
    );
    let hidden = run(&[]);
    assert_eq!(hidden.status, Some(0), "{hidden}");
    assert_eq!(
        hidden.stdout.matches("pipelock-ed25519-private-v1").count(),
        0,
        "{hidden}"
    );
    assert!(
        hidden.stdout.contains("pipelock-ed25519-public-v1"),
        "{hidden}"
    );
    assert_eq!(
        named(&hidden, "hidden", &hidden.workdir),
        ["boundary.key", "signer.key"]
    );
    assert!(
        hidden
            .stderr
            .contains("signer.key (a private key of egress)"),
        "{hidden}"
    );
}

/// Claims: credential-files, own-keys
#[test]
fn credentials_of_an_open_home_and_beside_programs_are_hidden() {
    let world = World::new();
    let top = tempfile::tempdir_in("/opt").unwrap();
    set_mode(top.path(), 0o755);
    let home = top.path().join("home");
    make(&home, &FILES);
    make(&home, &HARMLESS);
    make(&home, &[(".config/gh/hosts.yml", "oauth_token: mk12x\n")]);
    make(&home, &[(".local/bin/tool", "#!/bin/sh\necho vis9x\n")]);
    set_mode(&home.join(".local/bin/tool"), 0o755);
    let key = world.key("other.key");
    let beside = home.join(".local/bin/release");
    fs::copy(&key, &beside).unwrap();
    set_mode(&beside, 0o644);
    let secret = fs::read_to_string(&key).unwrap();
    let secret = secret.lines().nth(1).unwrap();

    let looks = format!(
        "cd {}; {LOOKS} .local/bin/tool; cat .local/bin/release",
        home.display()
    );
    let run = |options: &[&str]| {
        let run = world.egress().allow(&[]).env("HOME", &home);
        let run = options.iter().fold(run, |run, option| run.arg(*option));
        run.command(["bash", "-c", &looks]).run()
    };
    set_mode(&home, 0o755);
    let control = as_user(&world, 65534, &home, &looks);
    assert_eq!(marks(&control).len(), 12 + 4, "{control}");
    assert!(control.stdout.contains(secret), "{control}");
    let open = run(&[]);
    // Files with no fixed directory are searched for only at the top of a home.
    let visible = [
        "mk06x", "mk07x", "mk08x", "vis1x", "vis2x", "vis3x", "vis9x",
    ];
    assert_eq!(marks(&open), BTreeSet::from(visible), "{open}");
    assert!(!open.stdout.contains(secret), "{open}");
    let names = named(&open, "hidden", &home);
    assert!(
        names.contains(&".config/gh/hosts.yml".into())
            && names.contains(&".local/bin/release".into()),
        "{open}"
    );
    assert!(!names.iter().any(|name| name == "a/.npmrc"), "{open}");

    // In a closed home, only the directories of programs are visible. The control is the option.
    set_mode(&home, 0o750);
    let tools = format!(
        "cd {}; cat .local/bin/release; .local/bin/tool",
        home.display()
    );
    let run = |options: &[&str]| {
        let run = world.egress().allow(&[]).env("HOME", &home);
        let run = options.iter().fold(run, |run, option| run.arg(*option));
        run.command(["bash", "-c", &tools]).run()
    };
    let path = beside.to_str().unwrap();
    let control = run(&["--show-credential", path]);
    assert!(control.stdout.contains(secret), "{control}");
    let closed = run(&[]);
    assert_eq!(closed.stdout, "vis9x\n", "{closed}");
    assert_eq!(
        named(&closed, "hidden", &home),
        [".local/bin/release"],
        "{closed}"
    );
    // The option does not grant a permission.
    let npmrc = home.join(".npmrc");
    let shown = world
        .egress()
        .allow(&[])
        .env("HOME", &home)
        .arg("--show-credential")
        .arg(&npmrc);
    let shown = shown.command(["cat".as_ref(), npmrc.as_os_str()]).run();
    assert!(
        shown.status != Some(0) && shown.stdout.is_empty(),
        "{shown}"
    );
}
