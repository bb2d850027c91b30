//! The builder of worlds.
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

/// A runner, an internet and the wire between them. Dropping it removes all of it; if the test is
/// killed, the kernel does.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: the servers first, the files that mounts refer to last.
    internet: Internet,
    wire: Wire,
    authority: Authority,
    peers: Arc<Namespaces>,
    runner: Namespaces,
    dir: TempDir,
    runs: AtomicU32,
}

/// What a world is to be like.
#[derive(Debug)]
pub struct Builder {
    families: Families,
    resolv_conf: Option<String>,
    state: State,
}

/// Where the runs of a world keep their state.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Where those of the whole machine do.
    Shared,
    /// In a directory of the world's own.
    Own,
    /// In a file system of the world's own, with this option of its size.
    Limited(String),
}

/// Where runs keep their state.
const STATE_DIR: &str = "/run/egress";

/// Where Debian's programs look for authorities.
const TRUST_STORE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How long one program may take unless the test says otherwise.
const LIMIT: Duration = Duration::from_mins(1);

impl World {
    /// A world with both address families.
    ///
    /// # Panics
    /// If it cannot be made; without root it never can.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A world that differs from the usual one.
    pub fn builder() -> Builder {
        Builder {
            families: Families::Both,
            resolv_conf: None,
            state: State::Shared,
        }
    }

    /// The counter on the wire.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The requests that reached a server, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.internet.journal.requests()
    }

    /// The questions that reached the name server, oldest first.
    pub fn queries(&self) -> Vec<Query> {
        self.internet.journal.queries()
    }

    /// What reached the sinks, in the order in which connections ended.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.internet.journal.arrivals()
    }

    /// Bytes of bodies and WebSocket messages that reached the servers, by the name that the client used.
    pub fn received(&self) -> BTreeMap<String, u64> {
        self.internet.journal.received()
    }

    /// A directory that lasts as long as the world and everyone may read.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory that servers show under `/files/`.
    pub fn files(&self) -> PathBuf {
        self.dir().join("files")
    }

    /// Where runs keep their state, in a world whose state is its own.
    pub fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// The certificate of the world's authority, PEM.
    pub fn authority(&self) -> PathBuf {
        self.dir().join("etc/authority.pem")
    }

    /// Runs a program on the runner as root, without any boundary, and waits for it.
    ///
    /// # Panics
    /// If it cannot start.
    pub fn runner<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Output {
        self.background(argv).finish(LIMIT)
    }

    /// Starts a program on the runner as root, without any boundary.
    ///
    /// # Panics
    /// If it cannot start.
    pub fn background<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Running {
        let mut argv = argv.into_iter();
        let mut command = program(argv.next().expect("a program"));
        command.args(argv).current_dir(self.dir());
        self.start(&mut command)
    }

    /// Starts a program among the peers: what it listens at is reached by every name of the world.
    ///
    /// # Panics
    /// If it cannot start.
    pub fn peer<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Running {
        let mut argv = argv.into_iter();
        let mut command = program(argv.next().expect("a program"));
        command.args(argv).current_dir(self.dir());
        self.peers
            .inside(|| Running::start(&mut command))
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// A certificate of the world's authority for `name`, with its key: `NAME.pem`, `NAME.key`.
    ///
    /// # Panics
    /// If it cannot be made.
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
    /// If it cannot start.
    pub fn shell(&self, script: &str) -> Output {
        self.runner(["bash", "-c", script])
    }

    /// Starts `command` on the runner. Its environment is completed by what points programs to the
    /// world's authority.
    ///
    /// # Panics
    /// If it cannot start.
    pub fn start(&self, command: &mut Command) -> Running {
        for variable in ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"] {
            command.env(variable, TRUST_STORE);
        }
        self.runner
            .inside(|| Running::start(command))
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// Runs `work` on a thread on the runner: sockets that it makes are the runner's.
    pub fn on_runner<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.runner.inside(work)
    }

    /// A directory of the next run's own, which is not there yet.
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
    /// No IPv6 anywhere.
    #[must_use]
    pub fn without_ipv6(mut self) -> Self {
        self.families = Families::V4;
        self
    }

    /// The runner's /etc/resolv.conf, instead of one that names the world's name server.
    #[must_use]
    pub fn resolv_conf(mut self, text: &str) -> Self {
        self.resolv_conf = Some(text.to_owned());
        self
    }

    /// Runs keep their state where no other world sees it, so that nobody else clears it away.
    #[must_use]
    pub fn own_state(mut self) -> Self {
        self.state = State::Own;
        self
    }

    /// The same on a file system of this size, in the words of mount(8).
    #[must_use]
    pub fn small_state(mut self, size: &str) -> Self {
        self.state = State::Limited(format!("size={size}"));
        self
    }

    /// Makes the world.
    ///
    /// # Panics
    /// If it cannot be made; without root it never can.
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
        // The agent has an account of its own.
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

    /// Writes the runner's own files: each with the path at which the runner sees it.
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

impl State {
    /// Mounts `dir` where runs keep their state. User ids are still allotted for the whole machine.
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

/// Mounts each file over its target, in this thread's own mount namespace.
fn hide_behind(files: &[(PathBuf, &str)]) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for (file, target) in files {
        // A machine without a trust store still has the variables.
        if Path::new(target).exists() {
            mount(Some(file), *target, none, MsFlags::MS_BIND, none)?;
        }
    }
    Ok(())
}
