//! A machine with a workflow runner. The machine has a checkout of the project, a user with `sudo`, and `act`. All
//! files of the machine are in the world's directory and in the world's mount namespace.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Output, Running};
use crate::processes::wait_until;
use crate::run::binary;
use crate::world::World;

/// Python program that stands in for a container engine, at the usual path of the engine's socket.
const ENGINE: &str = r"
import os, socket
os.umask(0)
engine = socket.socket(socket.AF_UNIX)
engine.bind('/run/docker.sock')
engine.listen()
open('engine', 'w').close()
while True:
    peer, _ = engine.accept()
    peer.recv(4096)
    peer.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK')
    peer.close()
";

/// Time limit for the start of the stand-in.
const ENGINE_WITHIN: Duration = Duration::from_secs(20);

/// Id of the runner's user. No other user has this id.
const UID: u32 = 64_242;

/// Returns the directory of the project.
///
/// # Panics
/// Panics if the directory does not exist.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("prepare the runner's machine")
        .to_owned()
}

/// Returns the path of a program that `cargo xtask test` installed for the project.
///
/// # Panics
/// Panics if the program does not exist.
pub fn tool(name: &str) -> PathBuf {
    let tools = std::env::var_os("EGRESS_TOOLS");
    let tools = tools.expect("EGRESS_TOOLS is not set: use cargo xtask test");
    let path = PathBuf::from(tools).join("bin").join(name);
    assert!(path.is_file(), "{} is not installed", path.display());
    path
}

/// A machine with a workflow runner.
#[derive(Debug)]
pub struct Runner {
    // The engine is dropped first, because it runs in the world.
    _engine: Running,
    /// World of the machine.
    pub world: World,
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

/// The result of a workflow.
#[derive(Debug)]
pub struct Log(Output);

impl Runner {
    /// Creates a machine with a checkout of the project and of its test workflows.
    ///
    /// # Panics
    /// Panics if the machine cannot be created.
    pub fn new() -> Self {
        let world = World::new();
        // The world has its own /run, so that the /run of the machine is not changed.
        let made = world.shell(
            "mkdir keep && mount --bind /run/egress keep && mount -t tmpfs -o mode=755 none /run &&
             mkdir /run/egress && mount --bind keep /run/egress",
        );
        assert!(made.success(), "{made}");
        let engine = world.background(["python3", "-c", ENGINE]);
        wait_until("the container engine listens", ENGINE_WITHIN, || {
            world.dir().join("engine").exists()
        });
        let runner = Self {
            world,
            _engine: engine,
        };
        let dir = runner.world.dir();
        for name in ["bin", "home", "checkout"] {
            fs::create_dir(dir.join(name)).expect("prepare the runner's machine");
        }
        for (from, name) in [(binary(), "egress"), (tool("act"), "act")] {
            let to = dir.join("bin").join(name);
            fs::copy(from, &to).expect("prepare the runner's machine");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))
                .expect("prepare the runner's machine");
        }
        let project = project();
        let script = format!(
            "set -eu
            cd '{dir}'
            cp -r '{project}'/action.yml '{project}'/verify '{project}'/scripts '{project}'/dist checkout
            cp '{project}/Cargo.toml' checkout
            mkdir -p checkout/.github/workflows checkout/ci
            cp '{project}'/tests/workflows/*.yml checkout/.github/workflows
            cp '{project}'/tests/agents/*.sh checkout/ci
            cd checkout
            git init -q
            git add -A
            git -c user.name=t -c user.email=t@t.test commit -qm checkout
            git remote add origin https://git.test/owner/name.git
            cd ..
            cp /etc/passwd /etc/group /etc/sudoers etc
            echo 'runner:*:{UID}:{UID}::{dir}/home:/bin/bash' >> etc/passwd
            echo 'runner:x:{UID}:' >> etc/group
            echo 'runner ALL=(ALL) NOPASSWD: ALL' >> etc/sudoers
            chmod 0440 etc/sudoers
            for name in passwd group sudoers; do mount --bind etc/$name /etc/$name; done
            # `act` loses the last lines of a step that fails on its terminal; without one it uses pipes.
            mount --bind /dev/null /dev/ptmx
            chown -R {UID}:{UID} home checkout",
            dir = dir.display(),
            project = project.display(),
        );
        let made = runner.world.shell(&script);
        assert!(made.success(), "{made}");
        runner
    }

    /// Returns a path in the world's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.world.dir().join(name)
    }

    /// Generates a key pair that the user can read.
    ///
    /// # Panics
    /// Panics if the key pair cannot be generated.
    pub fn key(&self, name: &str) -> PathBuf {
        let key = self.world.key(name);
        for path in [key.clone(), key.with_extension("key.pub")] {
            std::os::unix::fs::chown(path, Some(UID), Some(UID))
                .expect("prepare the runner's machine");
        }
        key
    }

    /// Writes a file of the checkout as the runner's user. `act` uses the files of the checkout, committed or not.
    ///
    /// # Panics
    /// Panics if the file cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path("checkout").join(name);
        fs::create_dir_all(path.parent().expect("prepare the runner's machine"))
            .expect("prepare the runner's machine");
        fs::write(&path, text).expect("prepare the runner's machine");
        let made = self.user(
            &format!("git -C '{0}/checkout' add -A", self.world.dir().display()),
            &[],
        );
        assert!(made.success(), "{made}");
    }

    /// Runs a shell script as the runner's user.
    ///
    /// # Panics
    /// Panics if the shell cannot start.
    pub fn user(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        let id = format!("--reuid={UID}");
        let group = format!("--regid={UID}");
        let home = self.path("home");
        let mut words = vec![
            "chown".to_owned(),
            "-R".into(),
            format!("{UID}:{UID}"),
            self.path("checkout").display().to_string(),
        ];
        let owned = self.world.runner(&words);
        assert!(owned.success(), "{owned}");
        words = ["setpriv", &id, &group, "--clear-groups", "env"]
            .map(str::to_owned)
            .to_vec();
        words.push(format!("HOME={}", home.display()));
        words.extend(["USER=runner", "LOGNAME=runner"].map(str::to_owned));
        words.extend(
            variables
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        words.extend(["bash", "-c", script].map(str::to_owned));
        self.world.runner(&words)
    }

    /// Runs the test workflow `workflow`, or only its job `job`.
    pub fn act(&self, workflow: &str, job: Option<&str>, variables: &[(&str, &str)]) -> Log {
        let dir = self.world.dir().display();
        let job = job.map_or_else(String::new, |job| format!("-j {job}"));
        let mut script = format!(
            "cd '{dir}/checkout' && '{dir}/bin/act' push -W .github/workflows/{workflow}.yml {job} \
             -P ubuntu-latest=-self-hosted --no-cache-server --env EGRESS_BIN='{dir}/bin/egress' --env WORLD='{dir}'"
        );
        for (name, value) in variables {
            script.extend([" --env ", name, "='", value, "'"]);
        }
        Log(self.user(&format!("{script} 2>&1"), &[]))
    }

    /// Runs the test workflow that has one step.
    pub fn step(&self, variables: &[(&str, &str)]) -> Log {
        let binary = self.path("bin/egress").display().to_string();
        let mut all = vec![("BINARY", binary.as_str())];
        all.extend(variables);
        self.act("step", None, &all)
    }
}

impl Log {
    /// Returns the result of `act`.
    pub fn output(&self) -> &Output {
        &self.0
    }

    /// Returns the log of `act`.
    pub fn text(&self) -> &str {
        &self.0.stdout
    }

    /// Returns the annotations with this level, as the runner parsed them.
    fn annotations(&self, sign: &str, level: &str) -> Vec<&str> {
        let lines = self.text().lines();
        lines
            .filter(|line| line.contains(sign) && line.contains(&format!("::{level}")))
            .map(|line| {
                line.rsplit_once("title=egress::")
                    .map_or(line, |(_, text)| text)
            })
            .collect()
    }

    /// Returns the errors, as the runner parsed them.
    pub fn errors(&self) -> Vec<&str> {
        self.annotations("❗", "error")
    }

    /// Returns the warnings, as the runner parsed them.
    pub fn warnings(&self) -> Vec<&str> {
        self.annotations("🚧", "warning")
    }

    /// Fails unless the workflow succeeded.
    ///
    /// # Panics
    /// Panics with the log if the workflow did not succeed.
    #[track_caller]
    pub fn assert_success(&self) {
        assert!(self.0.success(), "{}", self.0);
    }

    /// Fails unless the workflow failed with one error that contains this text.
    ///
    /// # Panics
    /// Panics if the workflow succeeded, or has another error or several.
    #[track_caller]
    pub fn assert_one_error(&self, wanted: &str) {
        assert!(!self.0.success(), "{}", self.0);
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "{errors:#?}\n{}", self.0);
        assert!(errors.concat().contains(wanted), "{errors:#?}\n{}", self.0);
    }
}
