//! Starts a run of the built binary on the runner.
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Output, Running, program};
#[cfg(feature = "schemas")]
use crate::formats;
use crate::world::World;

/// Variable with the binary under test, which `cargo xtask test` sets.
const BINARY_VARIABLE: &str = "EGRESS_BIN";

/// A run that is not yet started.
#[derive(Debug)]
#[must_use = "a run does nothing until it is started"]
pub struct Run<'a> {
    world: &'a World,
    dir: PathBuf,
    options: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    agent: Option<Agent>,
    workdir: Option<PathBuf>,
    packet: PathBuf,
    limit: Duration,
    binary: Option<PathBuf>,
}

/// The command that a run executes.
#[derive(Debug)]
enum Agent {
    Command(Vec<OsString>),
    Script(PathBuf),
}

/// The result of a run.
#[derive(Debug)]
pub struct RunOutput {
    output: Output,
    /// The packet directory, which exists only if a packet was written.
    pub packet: PathBuf,
    /// Working directory of the command.
    pub workdir: PathBuf,
}

impl Deref for RunOutput {
    type Target = Output;

    fn deref(&self) -> &Output {
        &self.output
    }
}

impl fmt::Display for RunOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.output.fmt(f)
    }
}

impl RunOutput {
    /// Returns the result of a run that was started by [`Run::start`] and has ended.
    pub fn of(output: Output, packet: PathBuf, workdir: PathBuf) -> Self {
        #[cfg(feature = "schemas")]
        formats::check(&packet);
        Self {
            output,
            packet,
            workdir,
        }
    }
}

impl<'a> Run<'a> {
    fn new(world: &'a World, dir: &Path) -> Self {
        for path in [dir.to_owned(), dir.join("work")] {
            fs::create_dir(&path).expect("make a directory of the run");
            // The command has its own account, so everyone must be able to enter the directory.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .expect("open a directory of the run");
        }
        Self {
            world,
            dir: dir.to_owned(),
            options: Vec::new(),
            environment: Vec::new(),
            agent: None,
            workdir: None,
            packet: dir.join("packet"),
            limit: Duration::from_mins(1),
            binary: None,
        }
    }

    /// Uses another program with the same arguments instead of the binary under test.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

    /// Sets the policy as Pipelock's YAML.
    ///
    /// # Panics
    /// Panics if the policy cannot be written.
    pub fn config(self, yaml: &str) -> Self {
        let path = self.dir.join("pipelock.yaml");
        fs::write(&path, yaml).expect("write the policy");
        self.arg("--config").arg(path)
    }

    /// Sets a policy that allows only these names.
    ///
    /// # Panics
    /// Panics if the policy cannot be written.
    pub fn allow(self, names: &[&str]) -> Self {
        let mut yaml = "mode: strict\napi_allowlist:\n".to_owned();
        for name in names {
            yaml.push_str("  - \"");
            yaml.push_str(name);
            yaml.push_str("\"\n");
        }
        if names.is_empty() {
            "mode: strict\napi_allowlist: []\n".clone_into(&mut yaml);
        }
        self.config(&yaml)
    }

    /// Adds an option of `egress run`.
    pub fn arg(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Adds a variable to the caller's environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Signs with an existing key, which a reviewer can pin.
    pub fn signed_with(self, key: &Path) -> Self {
        self.arg("--signer-private-key").arg(key)
    }

    /// Writes a file in the working directory.
    ///
    /// # Panics
    /// Panics if the file cannot be written.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.work().join(name), content).expect("write a file of the workspace");
        self
    }

    /// Sets the working directory of the command, instead of a new one.
    pub fn workdir(mut self, path: &Path) -> Self {
        self.workdir = Some(path.to_owned());
        self
    }

    /// Sets the packet directory, instead of a new one.
    pub fn packet_dir(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.packet);
        self
    }

    /// Sets the command: a bash script for `--script`.
    ///
    /// # Panics
    /// Panics if the script cannot be written.
    pub fn script(mut self, text: &str) -> Self {
        let path = self.work().join("agent.sh");
        fs::write(&path, text).expect("write the agent's script");
        self.agent = Some(Agent::Script(path));
        self
    }

    /// Sets the command: words after `--`.
    pub fn command<S: Into<OsString>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.agent = Some(Agent::Command(argv.into_iter().map(Into::into).collect()));
        self
    }

    /// Sets the time limit of the run. The default is a minute.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the binary to its end.
    ///
    /// # Panics
    /// Panics if the binary cannot start.
    pub fn run(self) -> RunOutput {
        let limit = self.limit;
        let (running, packet, workdir) = self.launch();
        RunOutput::of(running.finish(limit), packet, workdir)
    }

    /// Starts the binary. Returns the running program, the packet directory, and the working directory of the command.
    /// Files that the command writes appear in the working directory at once, unless `--workspace` is set.
    ///
    /// # Panics
    /// Panics if the binary cannot start.
    pub fn start(mut self) -> (Running, PathBuf, PathBuf) {
        if !self.options.iter().any(|option| option == "--workspace") {
            self = self.arg("--workspace").arg("direct");
        }
        self.launch()
    }

    fn launch(self) -> (Running, PathBuf, PathBuf) {
        let workdir = self.work();
        let mut command = program(self.binary.clone().unwrap_or_else(binary));
        command
            .current_dir(&workdir)
            .arg("run")
            .arg("--workdir")
            .arg(&workdir)
            .arg("--packet-dir")
            .arg(&self.packet)
            .args(&self.options)
            .envs(self.environment);
        match self.agent {
            Some(Agent::Script(path)) => command.arg("--script").arg(path),
            Some(Agent::Command(argv)) => command.arg("--").args(argv),
            None => &mut command,
        };
        (self.world.start(&mut command), self.packet, workdir)
    }

    /// Returns the working directory of the command.
    pub fn directory(&self) -> PathBuf {
        self.work()
    }

    fn work(&self) -> PathBuf {
        self.workdir
            .clone()
            .unwrap_or_else(|| self.dir.join("work"))
    }
}

/// Returns the path of the binary under test.
///
/// # Panics
/// Panics if the variable is not set, because a test of another binary would prove nothing.
pub fn binary() -> PathBuf {
    env::var_os(BINARY_VARIABLE).map_or_else(
        || panic!("{BINARY_VARIABLE} is not set: use cargo xtask test"),
        PathBuf::from,
    )
}

impl World {
    /// Returns a run of the built binary that is not yet started.
    pub fn egress(&self) -> Run<'_> {
        Run::new(self, &self.next_run())
    }

    /// Runs another subcommand of the binary on the runner.
    ///
    /// # Panics
    /// Panics if the binary cannot start.
    pub fn tool<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = program(binary());
        command.args(args).current_dir(self.dir());
        self.start(&mut command).finish(Duration::from_mins(1))
    }

    /// Generates a key pair with `egress keygen`, and returns the path of the private key. The public key has the same
    /// path with the suffix `.pub`.
    ///
    /// # Panics
    /// Panics if the key pair cannot be generated.
    pub fn key(&self, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        let made = self.tool(["keygen".as_ref(), "--out".as_ref(), path.as_os_str()]);
        assert!(made.success(), "{made}");
        path
    }
}
