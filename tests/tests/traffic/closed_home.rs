//! Clients of a user whose home has the mode 0750 and who starts egress with `sudo`. Each client works without the
//! boundary, and then behind it as `docs/clients.md` states.
#![expect(
    clippy::expect_used,
    reason = "a test whose files cannot be made has failed"
)]
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use egress_tests::clients::{SETTINGS, publish_packages};
use egress_tests::closed_home::{ClosedHome, UID};
use egress_tests::{Run, RunOutput, World};

/// A client, its task, and the expected result.
#[derive(Debug)]
struct Client<'a> {
    /// Row of the client in `docs/clients.md`.
    row: &'a str,
    files: &'a [(&'a str, &'a str)],
    script: &'a str,
    prints: &'a str,
    /// Script of the user in the same directory, after the client has ended. The script prints the same text.
    after: &'a str,
}

impl Client<'_> {
    /// Runs the client without the boundary, and then behind it. After each, the user uses the result. Returns the run
    /// and its directory.
    fn check<'a>(
        &self,
        home: &ClosedHome<'a>,
        options: impl FnOnce(Run<'a>) -> Run<'a>,
    ) -> (RunOutput, PathBuf) {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
        let docs = fs::read_to_string(docs).expect("read docs/clients.md");
        assert!(
            docs.contains(self.row),
            "not in docs/clients.md: {}",
            self.row
        );
        let script = format!("set -e\n{SETTINGS}\n{}", self.script);
        let control = home.project("control", self.files);
        let without = home.shell(&control, &script);
        assert!(without.success(), "without a boundary: {without}");
        assert_eq!(without.stdout, self.prints, "without a boundary: {without}");

        let project = home.project("project", self.files);
        let run = options(home.sudo(&project));
        let run = run.command(["bash", "-c", &script]).run();
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(run.stdout, self.prints, "{run}");
        for directory in [&control, &project] {
            let after = home.shell(directory, &format!("set -e\n{}", self.after));
            assert_eq!(
                after.stdout,
                self.prints,
                "{}: {after}",
                directory.display()
            );
        }
        (run, project)
    }
}

/// Allows the world's server of packages.
fn packages(run: Run<'_>) -> Run<'_> {
    run.allow(&["allowed.test"])
}

#[test]
fn git_clones_by_the_smart_protocol() {
    let world = World::new();
    publish_packages(&world);
    let home = ClosedHome::new(&world);
    let secret = home
        .project("private", &[("secret", "canary")])
        .join("secret");
    let (_, project) = Client {
        row: "| git | clone over `https://`, smart protocol | none | The user owns the clone and pulls into it. |",
        files: &[],
        script: "git clone -q https://allowed.test/git/repository.git clone && cat clone/greeting",
        prints: "hello\n",
        after: "git -C clone pull -q && git -C clone status --porcelain && cat clone/greeting",
    }
    .check(&home, packages);
    let packs = world.requests();
    let packs = packs.iter().filter(|request| {
        request.method == "POST" && request.target == "/git/repository.git/git-upload-pack"
    });
    assert!(packs.count() >= 2, "{:?}", world.requests());
    let clone = project
        .join("clone/.git/config")
        .metadata()
        .expect("the clone");
    assert_eq!(clone.uid(), UID);

    // The home is closed to the command.
    let read = format!("cat {}", secret.display());
    assert_eq!(home.shell(&project, &read).stdout, "canary");
    let run = packages(home.sudo(&project));
    let run = run.command(["bash", "-c", &read]).run();
    assert_eq!(run.stdout, "", "{run}");
    assert_ne!(run.status, Some(0), "{run}");
}

#[test]
fn pip_installs_into_a_venv_that_the_user_keeps() {
    let world = World::new();
    publish_packages(&world);
    let home = ClosedHome::new(&world);
    let (_, project) = Client {
        row: "| pip | install into a venv | none | The user's Python in the venv imports the package. |",
        files: &[],
        script: "python3 -m venv venv
            venv/bin/pip install -q --disable-pip-version-check \\
                --index-url https://allowed.test/files/simple/ hello-egress
            venv/bin/python -c 'import hello_egress'",
        prints: "hello\n",
        after: "venv/bin/python -c 'import hello_egress'",
    }
    .check(&home, packages);
    let python = project
        .join("venv/bin/python3")
        .symlink_metadata()
        .expect("the venv");
    assert!(python.is_symlink());
    assert_eq!(python.uid(), UID);
}
