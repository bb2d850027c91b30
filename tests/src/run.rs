//! One run of the built binary on the runner.
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Output, Running, program};
use crate::formats;
use crate::world::World;

/// Names the binary under test; `cargo xtask test` sets it.
const BINARY_VARIABLE: &str = "EGRESS_BIN";

/// A run to be completed and started.
#[derive(Debug)]
#[must_use = "a run does nothing until it is run"]
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

/// What the boundary is put around.
#[derive(Debug)]
enum Agent {
    Command(Vec<OsString>),
    Script(PathBuf),
}

/// What a run did and left.
#[derive(Debug)]
pub struct RunOutput {
    output: Output,
    /// The binary's packet directory; it exists only if a packet was written.
    pub packet: PathBuf,
    /// The agent's working directory.
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
    /// What a run that was only started did and left, once it has ended.
    pub fn of(output: Output, packet: PathBuf, workdir: PathBuf) -> Self {
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
            // The agent has an account of its own.
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

    /// Another program than the binary under test, which takes the same arguments.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

    /// The policy, as Pipelock's YAML.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn config(self, yaml: &str) -> Self {
        let path = self.dir.join("pipelock.yaml");
        fs::write(&path, yaml).expect("write the policy");
        self.arg("--config").arg(path)
    }

    /// A policy that lets these names through and nothing else.
    ///
    /// # Panics
    /// If it cannot be written.
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

    /// One more option of `egress run`.
    pub fn arg(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// One more variable of the caller's environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Signs with a key made beforehand, and so one that a reviewer can pin.
    pub fn signed_with(self, key: &Path) -> Self {
        self.arg("--signer-private-key").arg(key)
    }

    /// A file in the working directory.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.work().join(name), content).expect("write a file of the workspace");
        self
    }

    /// A directory for the agent to work in, instead of a fresh one.
    pub fn workdir(mut self, path: &Path) -> Self {
        self.workdir = Some(path.to_owned());
        self
    }

    /// A directory for the packet, instead of a fresh one.
    pub fn packet_dir(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.packet);
        self
    }

    /// The agent: a bash script, run by `--script`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn script(mut self, text: &str) -> Self {
        let path = self.work().join("agent.sh");
        fs::write(&path, text).expect("write the agent's script");
        self.agent = Some(Agent::Script(path));
        self
    }

    /// The agent: a command, run after `--`.
    pub fn command<S: Into<OsString>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.agent = Some(Agent::Command(argv.into_iter().map(Into::into).collect()));
        self
    }

    /// The longest that the run may take; a minute if nothing is said.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If the binary cannot start.
    pub fn run(self) -> RunOutput {
        let limit = self.limit;
        let (running, packet, workdir) = self.launch();
        RunOutput::of(running.finish(limit), packet, workdir)
    }

    /// Starts it: the running binary, its packet directory and the agent's working directory. What the
    /// agent writes there is seen at once, unless the run was given another way to see its workspace.
    ///
    /// # Panics
    /// If the binary cannot start.
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

    /// The directory that the agent will work in.
    pub fn directory(&self) -> PathBuf {
        self.work()
    }

    fn work(&self) -> PathBuf {
        self.workdir
            .clone()
            .unwrap_or_else(|| self.dir.join("work"))
    }
}

/// The binary under test.
///
/// # Panics
/// If nobody said which: a test of some other binary would prove nothing.
pub fn binary() -> PathBuf {
    env::var_os(BINARY_VARIABLE).map_or_else(
        || panic!("{BINARY_VARIABLE} is not set: use cargo xtask test"),
        PathBuf::from,
    )
}

impl World {
    /// A run of the built binary, to be completed and started.
    pub fn egress(&self) -> Run<'_> {
        Run::new(self, &self.next_run())
    }

    /// Runs another subcommand of the binary on the runner.
    ///
    /// # Panics
    /// If it cannot start.
    pub fn tool<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = program(binary());
        command.args(args).current_dir(self.dir());
        self.start(&mut command).finish(Duration::from_mins(1))
    }

    /// Makes a key pair with `egress keygen`; the public half lies beside it, as `.pub`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn key(&self, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        let made = self.tool(["keygen".as_ref(), "--out".as_ref(), path.as_os_str()]);
        assert!(made.success(), "{made}");
        path
    }
}
