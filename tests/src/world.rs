//! Builds the worlds of the end-to-end tests.
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::unistd::{Uid, gethostname};
use tempfile::TempDir;

use crate::command::{Output, Running, program};
use crate::internet::Internet;
use crate::internet::journal::{Arrival, Query, Request};
use crate::internet::tls::Authority;
use crate::namespaces::Namespaces;
use crate::topology::{Families, INTERNET, join};
use crate::wire::Wire;

#[cfg(test)]
mod tests;

/// A runner, an internet, and the wire between them. Dropping the value removes everything. If the test is killed, the
/// kernel removes everything.
#[derive(Debug)]
pub struct World {
    // The fields are dropped in this order: the servers first, and the files that mounts refer to last.
    internet: Internet,
    wire: Wire,
    authority: Authority,
    peers: Arc<Namespaces>,
    runner: Namespaces,
    dir: TempDir,
    runs: AtomicU32,
}

/// The options of a world.
#[derive(Debug)]
pub struct Builder {
    families: Families,
    resolv_conf: Option<String>,
    state: WorldState,
}

/// The location of the state directory of a world's runs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum WorldState {
    /// The state directory of the whole machine.
    Shared,
    /// A directory of the world.
    Own,
    /// A file system of the world with a size limit. The text is the `size` option of mount(8).
    Limited(String),
}

/// Path of the state directory of runs.
const STATE_DIR: &str = "/run/egress";

/// Path of Debian's certificate bundle.
const TRUST_STORE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Default time limit of a program.
const LIMIT: Duration = Duration::from_mins(1);

impl World {
    /// Creates a world with both address families.
    ///
    /// # Panics
    /// Panics if the world cannot be created, for example without root.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for a world with other options.
    pub fn builder() -> Builder {
        Builder {
            families: Families::Both,
            resolv_conf: None,
            state: WorldState::Shared,
        }
    }

    /// Returns the counter at the wire.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Returns the requests that reached a server, the oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.internet.journal.requests()
    }

    /// Returns the queries that reached the name server, the oldest first.
    pub fn queries(&self) -> Vec<Query> {
        self.internet.journal.queries()
    }

    /// Returns the data that reached the sinks, in the order in which the connections ended.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.internet.journal.arrivals()
    }

    /// Returns the number of bytes of bodies and WebSocket messages that reached the servers, by the host name that the
    /// client used.
    pub fn received(&self) -> BTreeMap<String, u64> {
        self.internet.journal.received()
    }

    /// Returns a directory that exists as long as the world and that everyone can read.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the directory that servers provide under `/files/`.
    pub fn files(&self) -> PathBuf {
        self.dir().join("files")
    }

    /// Returns the directory that is mounted as the state directory, in a world that has its own.
    pub fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// Returns the path of the certificate of the world's authority, in PEM form.
    pub fn authority(&self) -> PathBuf {
        self.dir().join("etc/authority.pem")
    }

    /// Runs a program on the runner as root, without any boundary, and waits for it.
    ///
    /// # Panics
    /// Panics if the program cannot start.
    pub fn runner<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Output {
        self.background(argv).finish(LIMIT)
    }

    /// Starts a program on the runner as root, without any boundary.
    ///
    /// # Panics
    /// Panics if the program cannot start.
    pub fn background<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Running {
        let mut argv = argv.into_iter();
        let mut command = program(argv.next().expect("a program"));
        command.args(argv).current_dir(self.dir());
        self.start(&mut command)
    }

    /// Starts a program in the namespace of the servers. Every name of the world resolves to an address at which the
    /// program can listen.
    ///
    /// # Panics
    /// Panics if the program cannot start.
    pub fn peer<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Running {
        let mut argv = argv.into_iter();
        let mut command = program(argv.next().expect("a program"));
        command.args(argv).current_dir(self.dir());
        self.peers
            .inside(|| Running::start(&mut command))
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// Issues a certificate for `name`, signed by the world's authority. Returns the file of the certificate and the
    /// file of its key, `NAME.pem` and `NAME.key`.
    ///
    /// # Panics
    /// Panics if the certificate cannot be issued.
    pub fn certificate(&self, name: &str) -> [PathBuf; 2] {
        let (certificate, key) = self.authority.issue(name).expect("issue a certificate");
        [("pem", certificate), ("key", key)].map(|(kind, text)| {
            let path = self.dir().join(format!("{name}.{kind}"));
            fs::write(&path, text).expect("write a certificate");
            path
        })
    }

    /// Runs a bash script on the runner as root, without any boundary, and waits for it.
    ///
    /// # Panics
    /// Panics if the program cannot start.
    pub fn shell(&self, script: &str) -> Output {
        self.runner(["bash", "-c", script])
    }

    /// Starts `command` on the runner. Sets the environment variables that name the certificate of the world's
    /// authority.
    ///
    /// # Panics
    /// Panics if the program cannot start.
    pub fn start(&self, command: &mut Command) -> Running {
        for variable in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"] {
            command.env(variable, TRUST_STORE);
        }
        self.runner
            .inside(|| Running::start(command))
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// Runs `work` on a thread on the runner, so that its sockets belong to the runner.
    pub fn on_runner<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.runner.inside(work)
    }

    /// Returns a path for the directory of the next run, which does not exist yet.
    pub(crate) fn next_run(&self) -> PathBuf {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        self.dir().join(format!("run-{number}"))
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Disables IPv6.
    #[must_use]
    pub fn without_ipv6(mut self) -> Self {
        self.families = Families::V4;
        self
    }

    /// Sets the runner's /etc/resolv.conf, instead of one with the world's name server.
    #[must_use]
    pub fn resolv_conf(mut self, text: &str) -> Self {
        self.resolv_conf = Some(text.to_owned());
        self
    }

    /// Gives the world its own state directory, so that no other world removes the runs in it.
    #[must_use]
    pub fn own_state(mut self) -> Self {
        self.state = WorldState::Own;
        self
    }

    /// Gives the world its own state directory on a file system of this size, in the syntax of mount(8).
    #[must_use]
    pub fn small_state(mut self, size: &str) -> Self {
        self.state = WorldState::Limited(format!("size={size}"));
        self
    }

    /// Creates the world.
    ///
    /// # Panics
    /// Panics if the world cannot be created, for example without root.
    pub fn build(self) -> World {
        assert!(
            Uid::effective().is_root(),
            "the end-to-end tests need root: cargo xtask test"
        );
        self.try_build().expect("make a world")
    }

    fn try_build(&self) -> io::Result<World> {
        let authority = Authority::new().map_err(io::Error::other)?;
        let dir = tempfile::Builder::new().prefix("egress-world-").tempdir()?;
        // The command has its own account, so everyone must be able to enter the directory.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(dir.path().join("etc"))?;
        fs::create_dir(dir.path().join("files"))?;
        let mounts = self.files(dir.path(), &authority.pem)?;

        let peers = Arc::new(Namespaces::new_net()?);
        let state = dir.path().join("state");
        fs::create_dir(&state)?;
        let runner = Namespaces::new_net_and_mount(|| {
            hide_behind(&mounts)?;
            self.state.place(&state)
        })?;
        join(&runner, &peers, self.families)?;
        let wire = Wire::new(&runner, &peers)?;
        let internet = Internet::start(
            Arc::clone(&peers),
            self.families,
            authority.clone(),
            dir.path().join("files"),
        )?;
        Ok(World {
            internet,
            authority,
            peers,
            wire,
            runner,
            dir,
            runs: AtomicU32::new(0),
        })
    }

    /// Writes the files that replace files on the runner. Returns each file with the path that it replaces.
    fn files(&self, dir: &Path, authority: &str) -> io::Result<Vec<(PathBuf, &'static str)>> {
        let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
        if let Ok(name) = gethostname() {
            writeln!(hosts, "127.0.1.1 {}", name.to_string_lossy()).map_err(io::Error::other)?;
        }
        let resolv_conf = self
            .resolv_conf
            .clone()
            .unwrap_or_else(|| format!("nameserver {}\n", INTERNET.resolver));
        let mut files = Vec::new();
        for (name, text, target) in [
            ("resolv.conf", resolv_conf.as_str(), "/etc/resolv.conf"),
            ("hosts", &hosts, "/etc/hosts"),
            ("authority.pem", authority, TRUST_STORE),
        ] {
            let path = dir.join("etc").join(name);
            fs::write(&path, text)?;
            files.push((path, target));
        }
        Ok(files)
    }
}

impl WorldState {
    /// Mounts `dir` as the state directory. User ids are still leased for the whole machine.
    fn place(&self, dir: &Path) -> io::Result<()> {
        let none: Option<&str> = None;
        match self {
            Self::Shared => return Ok(()),
            Self::Own => {}
            Self::Limited(size) => {
                let size = Some(size.as_str());
                mount(none, dir, Some("tmpfs"), MsFlags::empty(), size)?;
                fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
            }
        }
        let machine = Path::new(STATE_DIR).join("users");
        let users = dir.join("users");
        fs::create_dir_all(&machine)?;
        fs::create_dir(&users)?;
        mount(Some(&machine), &users, none, MsFlags::MS_BIND, none)?;
        let whole = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(dir), STATE_DIR, none, whole, none)?;
        Ok(())
    }
}

/// Mounts each file over its path on the runner, in the mount namespace of this thread.
fn hide_behind(files: &[(PathBuf, &str)]) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for (file, target) in files {
        // On a machine without a trust store, only the environment variables name the certificate.
        if Path::new(target).exists() {
            mount(Some(file), *target, none, MsFlags::MS_BIND, none)?;
        }
    }
    Ok(())
}
