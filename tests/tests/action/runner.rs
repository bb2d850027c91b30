//! A machine with a runner on it: a checkout of the project, an ordinary user who may use `sudo`, and
//! `act`. All of it lies in the world's directory and its mount namespace.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use egress_tests::{Output, World, binary};

/// The user's number; nobody has it.
const UID: u32 = 64_242;

/// The project.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// A program that `cargo xtask test` installed for the project alone.
pub(crate) fn tool(name: &str) -> PathBuf {
    let tools = std::env::var_os("EGRESS_TOOLS");
    let tools = tools.expect("EGRESS_TOOLS is not set: use cargo xtask test");
    let path = PathBuf::from(tools).join("bin").join(name);
    assert!(path.is_file(), "{} is not installed", path.display());
    path
}

/// The machine.
pub(crate) struct Runner {
    pub(crate) world: World,
}

/// What a workflow did.
pub(crate) struct Log(pub(crate) Output);

impl Runner {
    pub(crate) fn new() -> Self {
        let runner = Self {
            world: World::new(),
        };
        let dir = runner.world.dir();
        for name in ["bin", "home", "checkout"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        for (from, name) in [(binary(), "egress"), (tool("act"), "act")] {
            let to = dir.join("bin").join(name);
            fs::copy(from, &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
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
            chown -R {UID}:{UID} home checkout",
            dir = dir.display(),
            project = project.display(),
        );
        let made = runner.world.shell(&script);
        assert!(made.success(), "{made}");
        runner
    }

    /// A path in the world's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.world.dir().join(name)
    }

    /// A key pair that the user may read.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        let key = self.world.key(name);
        for path in [key.clone(), key.with_extension("key.pub")] {
            std::os::unix::fs::chown(path, Some(UID), Some(UID)).unwrap();
        }
        key
    }

    /// Writes a file of the checkout, in the name of the user. `act` takes what lies there, committed or not.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path("checkout").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let made = self.user(
            &format!("git -C '{0}/checkout' add -A", self.world.dir().display()),
            &[],
        );
        assert!(made.success(), "{made}");
    }

    /// Runs a shell script as the user.
    pub(crate) fn user(&self, script: &str, variables: &[(&str, &str)]) -> Output {
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

    /// Runs a workflow of the tests, one job of it if it is named.
    pub(crate) fn act(&self, workflow: &str, job: Option<&str>, variables: &[(&str, &str)]) -> Log {
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

    /// Runs the workflow of one step.
    pub(crate) fn step(&self, variables: &[(&str, &str)]) -> Log {
        let binary = self.path("bin/egress").display().to_string();
        let mut all = vec![("BINARY", binary.as_str())];
        all.extend(variables);
        self.act("step", None, &all)
    }
}

impl Log {
    pub(crate) fn text(&self) -> &str {
        &self.0.stdout
    }

    /// Annotations of a level, as the runner understood them.
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

    pub(crate) fn errors(&self) -> Vec<&str> {
        self.annotations("❗", "error")
    }

    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.annotations("🚧", "warning")
    }

    #[track_caller]
    pub(crate) fn assert_success(&self) {
        assert!(self.0.success(), "{}", self.0);
    }

    /// The workflow failed, with one error and this in it.
    #[track_caller]
    pub(crate) fn assert_one_error(&self, wanted: &str) {
        assert!(!self.0.success(), "{}", self.0);
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "{errors:#?}\n{}", self.0);
        assert!(errors.concat().contains(wanted), "{errors:#?}\n{}", self.0);
    }
}
