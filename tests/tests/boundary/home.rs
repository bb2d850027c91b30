//! Programs in the caller's home, and the cache in the command's.
#![expect(
    clippy::expect_used,
    reason = "a test whose files cannot be written has failed"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_tests::aftermath::until_ready;
use egress_tests::{RunOutput, World};
use tempfile::TempDir;

/// Creates a home with a program, a key, and stored credentials that every user could read.
fn home() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir_in("/opt").expect("make a directory");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("open it");
    let home = dir.path().join("home");
    let program = ".local/share/claude/versions/1";
    for name in [
        ".local/bin",
        ".local/share/claude/versions",
        ".cargo/bin",
        ".m2",
    ] {
        fs::create_dir_all(home.join(name)).expect("make a directory of the home");
    }
    fs::write(home.join(program), "#!/bin/sh\necho the tool ran\n").expect("write a program");
    fs::set_permissions(home.join(program), Permissions::from_mode(0o755)).expect("allow it");
    symlink(home.join(program), home.join(".local/bin/claude")).expect("make a link");
    for name in [".m2/settings.xml", ".npmrc", ".cargo/credentials.toml"] {
        fs::write(home.join(name), "canary").expect("write a credential");
    }
    (dir, home)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set a mode");
}

/// Returns a script that uses the program, reads everything else in the home, and tries to write to the home.
fn agent(home: &Path) -> String {
    let home = home.display();
    format!(
        "claude; grep -rs canary {home}; cat {home}/.npmrc {home}/.m2/settings.xml {home}/.cargo/credentials.toml
        touch {home}/.local/bin/new {home}/new && echo written"
    )
}

/// Claims: home-tools*, caller-home
#[test]
fn programs_of_a_closed_home_run_and_nothing_else_of_it_is_there() {
    let world = World::new();
    let (_dir, home) = home();
    let key = home.join(".cargo/bin/signer.key");
    fs::rename(world.key("signer.key"), &key).expect("move the key");
    let path = format!("{}/.local/bin:/usr/bin:/bin", home.display());
    let run = |options: &[&str]| -> RunOutput {
        let run = world
            .egress()
            .allow(&[])
            .env("HOME", &home)
            .env("PATH", &path);
        let run = run.signed_with(&key);
        let run = options.iter().fold(run, |run, option| run.arg(*option));
        run.command(["bash", "-c", &agent(&home)]).run()
    };
    // An open home is visible, credentials included.
    set_mode(&home, 0o755);
    let open = run(&[]);
    assert!(open.stdout.contains("the tool ran"), "{open}");
    assert!(open.stdout.contains("canary"), "{open}");
    for mode in [0o700, 0o750] {
        set_mode(&home, mode);
        let closed = run(&[]);
        assert_eq!(closed.stdout, "the tool ran\n", "{closed}");
        let cargo = run_reading(&world, &home, &path, &key);
        assert!(cargo.stderr.contains("Permission denied"), "{cargo}");
        let shown = closed.json("boundary.json")["view"]["home_tools"].clone();
        let shown: Vec<PathBuf> = serde_json::from_value(shown).expect("the list of directories");
        let wanted = [".cargo/bin", ".local/bin", ".local/share/claude/versions"];
        assert_eq!(shown, wanted.map(|name| home.join(name)));
        let without = run(&["--no-home-tools"]);
        assert!(!without.stdout.contains("the tool ran"), "{without}");
    }
    let run = world
        .egress()
        .allow(&[])
        .env("HOME", &home)
        .env("PATH", &path);
    let run = run.arg("--no-home-tools").command(["claude"]).run();
    assert_eq!(run.status, Some(127), "{run}");
    let named = format!(
        "the command does not have permission to enter {}",
        home.display()
    );
    assert!(run.stderr.contains(&named), "{run}");
    assert!(run.stderr.contains("--no-home-tools hides"), "{run}");
}

/// Claims: home-tools
#[test]
fn error_names_the_closed_home_that_hides_a_program() {
    let world = World::new();
    let (_dir, home) = home();
    fs::create_dir(home.join("tools")).expect("make a directory of the home");
    let program = home.join("tools/x");
    fs::write(&program, "#!/bin/sh\necho the tool ran\n").expect("write a program");
    set_mode(&program, 0o755);
    set_mode(&home, 0o750);
    let named = format!(
        "the command does not have permission to enter {}",
        home.display()
    );
    let hint = format!(
        "the command can use only the program directories in {}, because other users have no permission to enter it; \
         put the directory of the program into PATH (sudo --preserve-env=PATH)",
        home.display()
    );
    let run = |path: &str| {
        let run = world.egress().allow(&[]).env("HOME", &home);
        run.env("PATH", path)
    };
    let script = format!("#!{}\n", program.display());
    let by_path = run("/usr/bin:/bin").command([program.as_os_str()]).run();
    // Without the directories of programs, the file view has the closed home itself.
    let whole = run("/usr/bin:/bin").arg("--no-home-tools");
    let whole = whole.file("script", &script);
    set_mode(&whole.directory().join("script"), 0o755);
    let whole = whole.command(["./script"]).run();
    assert_eq!(whole.status, Some(126), "{whole}");
    for text in [&named, "--no-home-tools hides", "script exists, but"] {
        assert!(whole.stderr.contains(text), "{text}: {whole}");
    }
    let by_script = run("/usr/bin:/bin").file("script", script);
    set_mode(&by_script.directory().join("script"), 0o755);
    let by_script = by_script.command(["./script"]).run();
    for run in [by_path, by_script] {
        assert_eq!(run.status, Some(127), "{run}");
        assert!(run.stderr.contains(&named), "{run}");
        assert!(run.stderr.contains(&hint), "{run}");
    }
    // A file that exists nowhere is not the home's fault.
    let missing = home.join("tools/missing");
    let missing = run("/usr/bin:/bin").command([missing.as_os_str()]).run();
    assert_eq!(missing.status, Some(127), "{missing}");
    assert!(
        !missing.stderr.contains("sudo --preserve-env=PATH"),
        "{missing}"
    );
    // The step in the hint works.
    let path = format!("{}/tools:/usr/bin:/bin", home.display());
    let shown = run(&path).command([program.as_os_str()]).run();
    assert_eq!(shown.stdout, "the tool ran\n", "{shown}");
}

/// Reads the private key of the run, which is in a directory that is shown.
fn run_reading(world: &World, home: &Path, path: &str, key: &Path) -> RunOutput {
    let run = world
        .egress()
        .allow(&[])
        .env("HOME", home)
        .env("PATH", path);
    run.signed_with(key)
        .command(["cat".as_ref(), key.as_os_str()])
        .run()
}

/// Claims: home-tools
#[test]
fn caller_of_sudo_has_a_home() {
    let world = World::new();
    let (_dir, home) = home();
    set_mode(&home, 0o750);
    let accounts = fs::read_to_string("/etc/passwd").expect("the accounts");
    let account = format!("egress-test:x:4242:4242::{}:/bin/sh\n", home.display());
    let passwd = world.dir().join("passwd");
    fs::write(&passwd, accounts + &account).expect("write accounts");
    // The mount exists only in the mount namespace of this world.
    let mounted = world.runner([
        "mount",
        "--bind",
        passwd.to_str().expect("UTF-8"),
        "/etc/passwd",
    ]);
    assert!(mounted.success(), "{mounted}");
    let run = || world.egress().allow(&[]).command(["claude"]);
    let without = run().run();
    assert_eq!(without.status, Some(127), "{without}");
    let with = run().env("SUDO_UID", "4242").env("SUDO_GID", "4242").run();
    assert_eq!(with.status, Some(0), "{with}");
    assert_eq!(with.stdout, "the tool ran\n", "{with}");
}

/// Claims: cache-apart*
#[test]
fn cache_is_kept_and_gives_nothing_else() {
    let world = World::new();
    let cache = world.dir().join("cache");
    fs::create_dir(&cache).expect("make the cache");
    chown(&cache, Some(4242), Some(4242)).expect("give it to a user");
    let run = |script: &str| {
        let run = world.egress().allow(&[]).arg("--cache").arg(&cache);
        run.command(["bash", "-c", script]).run()
    };
    let write = "for at in ~/.npm ~/.cache/pip ~/.cargo/registry ~/.m2/repository ~/go/pkg/mod; do
        mkdir -p $at; echo kept > $at/file; done";
    let read = "cat ~/.npm/file ~/.cache/pip/file ~/.cargo/registry/file ~/.m2/repository/file ~/go/pkg/mod/file";
    // Without the option, nothing is kept.
    let run_without = |script: &str| {
        world
            .egress()
            .allow(&[])
            .command(["bash", "-c", script])
            .run()
    };
    assert_eq!(run_without(write).status, Some(0));
    assert_eq!(run_without(read).stdout, "");
    let first = run(write);
    assert_eq!(first.status, Some(0), "{first}");
    let second = run(read);
    assert_eq!(second.stdout, "kept\n".repeat(5), "{second}");
    assert_eq!(
        second.json("boundary.json")["view"]["cache"],
        cache.to_str().expect("UTF-8")
    );
    // On the host, the files belong to the owner of the cache.
    let file = cache.join("files/npm/file").metadata().expect("the file");
    assert_eq!((file.uid(), file.gid()), (4242, 4242));
    // Root neither follows a link nor opens another file in place of a directory.
    let target = world.dir().join("target");
    fs::create_dir(&target).expect("make a directory");
    let hostile = run(&format!(
        "rm -rf ~/.cache/npm ~/.cache/cargo ~/.cache/go; ln -s {} ~/.cache/npm; ln -s npm/new ~/.cache/cargo
        mkfifo ~/.cache/go; chmod u+s ~/.cache/pip/file; ls {}",
        target.display(),
        cache.display()
    ));
    assert!(!hostile.stdout.contains("CACHEDIR.TAG"), "{hostile}");
    let after = run("true");
    assert_eq!(after.status, Some(0), "{after}");
    assert_eq!(fs::read_dir(&target).expect("the target").count(), 0);
    let pip = cache.join("files/pip/file").metadata().expect("the file");
    assert_eq!(pip.mode() & 0o6000, 0);
}

/// Claims: cache-apart
#[test]
fn directory_that_is_no_cache_is_refused() {
    let world = World::new();
    let refused = |path: &Path, status: i32, text: &str| {
        let run = world.egress().allow(&[]).arg("--cache").arg(path);
        let run = run.command(["echo", "RAN"]).run();
        assert_eq!(run.status, Some(status), "{run}");
        assert!(run.stderr.contains(text) && run.stdout.is_empty(), "{run}");
        assert!(!run.stderr.contains("idmapped"), "{run}");
    };
    let full = world.dir().join("full");
    fs::create_dir_all(full.join(".ssh")).expect("make a directory");
    chown(&full, Some(4242), Some(4242)).expect("give it to a user");
    refused(&full, 64, "egress did not create this directory as a cache");
    assert!(!full.join("files").exists());
    let file = world.dir().join("file");
    fs::write(&file, "").expect("write a file");
    refused(&file, 64, "it is not a directory");
    refused(
        &world.dir().join("no/where"),
        64,
        "cannot create the directory",
    );
    refused(world.dir(), 64, "contain each other");
    // Only one run at a time can use the cache.
    let cache = world.dir().join("cache");
    let run = world.egress().allow(&[]).arg("--cache").arg(&cache);
    let (running, _, workdir) = run.script("touch ready; sleep 60").start();
    until_ready(&workdir, Duration::from_secs(20));
    refused(&cache, 125, "another run uses this cache");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.finish(Duration::from_secs(20));
    let run = world.egress().allow(&[]).arg("--cache").arg(&cache);
    assert_eq!(run.command(["true"]).run().status, Some(0));
}
