//! The mediator as a process of a run: its plan, privileges, control socket, and end. All tests need root, because the
//! process drops root's privileges.
use egress_mediator::plan::{MediatorPlan, Status};
use egress_policy::runtime::{OwnedKeys, build, policy_hash};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, shutdown, socketpair,
};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const UID: u32 = 64_001;
const PATIENCE: Duration = Duration::from_secs(10);

/// A mediator's process, and the supervisor's end of its control socket.
struct Process {
    child: Child,
    control: OwnedFd,
    address: std::net::SocketAddr,
    evidence: PathBuf,
    yaml: String,
    _directory: TempDir,
}

impl Process {
    /// Starts the mediator as the supervisor does. Returns `None` without root, unless root is required.
    fn start(prepare: impl FnOnce(&mut MediatorPlan)) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            let is_required = std::env::var_os("EGRESS_TEST_REQUIRE").is_some();
            assert!(
                !is_required,
                "root is required, because the process drops root's privileges"
            );
            println!("skipped: needs root");
            return None;
        }
        let _inheriting = crate::inheriting();
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let evidence = directory.path().join("evidence");
        fs::create_dir(&evidence).unwrap();
        chown(&evidence, Some(UID), Some(UID)).unwrap();
        let owned = OwnedKeys {
            listen: String::from("127.0.0.1:8888"),
            agent_identity: String::from("ci-agent"),
            evidence_dir: String::from("/run/egress/r/evidence"),
            signing_key_path: String::from("/run/egress/r/key"),
        };
        let yaml = build(None, &owned).unwrap().yaml;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut plan = MediatorPlan {
            uid: UID,
            gid: UID,
            listener_fd: listener.as_raw_fd(),
            policy_yaml: yaml.clone(),
            signing_seed_hex: "42".repeat(32),
            evidence_dir: evidence.clone(),
            recorder_session: format!("proxy.run.{}", "ab".repeat(16)),
            run_nonce: "cd".repeat(16),
            agent_identity: String::from("ci-agent"),
            heartbeat_seconds: 60,
            mark: String::from("ab"),
            redaction_key: egress_policy::redact::Key::new("k"),
            posture: None,
        };
        prepare(&mut plan);
        let file = memfd_create("plan", MFdFlags::MFD_CLOEXEC).unwrap();
        File::from(file.try_clone().unwrap())
            .write_all(&serde_json::to_vec(&plan).unwrap())
            .unwrap();
        let (control, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        keep_over_exec(&file);
        keep_over_exec(&theirs);
        keep_over_exec(&listener);
        #[expect(
            clippy::disallowed_methods,
            reason = "the supervisor's way of starting it is not under test"
        )]
        let child = Command::new(env!("CARGO_BIN_EXE_egress"))
            .arg("__mediator")
            .arg(file.as_raw_fd().to_string())
            .arg(theirs.as_raw_fd().to_string())
            .env_clear()
            .spawn()
            .unwrap();
        Some(Self {
            child,
            control,
            address: listener.local_addr().unwrap(),
            evidence,
            yaml,
            _directory: directory,
        })
    }

    fn status(&self) -> Status {
        let mut buffer = [0; 4096];
        let count = recv(self.control.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        serde_json::from_slice(&buffer[..count]).unwrap()
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the mediator does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn entries(&self) -> Vec<Value> {
        let name = format!("evidence-proxy.run.{}-0.jsonl", "ab".repeat(16));
        let text = fs::read_to_string(self.evidence.join(name)).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process has already ended unless a check has failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn keep_over_exec(fd: &impl AsFd) {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
}

enum Stop {
    Control,
    Signal,
}

/// Claims: hidden-argument, process-mediator
#[test]
fn stop_by_the_control_socket_is_clean() {
    stopped(&Stop::Control);
}

#[test]
fn stop_by_sigterm_is_clean() {
    stopped(&Stop::Signal);
}

fn stopped(stop: &Stop) {
    let Some(mut process) = Process::start(|_| {}) else {
        return;
    };
    assert_eq!(process.status(), Status::Ready);
    let pid = process.child.id();
    let facts = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in [
        format!("Uid:\t{UID}\t{UID}\t{UID}\t{UID}"),
        format!("Gid:\t{UID}\t{UID}\t{UID}\t{UID}"),
        String::from("CapEff:\t0000000000000000"),
        String::from("CapBnd:\t0000000000000000"),
        String::from("NoNewPrivs:\t1"),
    ] {
        assert!(facts.contains(&line), "{line} is not in {facts}");
    }
    let health = process.ask("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(health.contains("\"status\":\"healthy\""), "{health}");
    let denied = process.ask("CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(denied.starts_with("HTTP/1.1 403"), "{denied}");
    let signal = |signal| {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap());
        kill(pid, signal).unwrap();
    };
    // The mediator ignores signals that a terminal sends to all processes, because the supervisor handles them.
    signal(Signal::SIGINT);
    signal(Signal::SIGHUP);
    let health = process.ask("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(health.contains("\"status\":\"healthy\""), "{health}");
    match stop {
        Stop::Control => shutdown(process.control.as_raw_fd(), Shutdown::Write).unwrap(),
        Stop::Signal => signal(Signal::SIGTERM),
    }
    let started = Instant::now();
    assert_eq!(process.wait().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10));
    let entries = process.entries();
    let kinds: Vec<&str> = entries
        .iter()
        .map(|entry| entry["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "action_receipt",
            "action_receipt",
            "action_receipt",
            "transcript_root",
            "checkpoint"
        ]
    );
    for entry in &entries[..3] {
        let record = &entry["detail"]["action_record"];
        assert_eq!(record["policy_hash"], policy_hash(&process.yaml).as_str());
        assert_eq!(record["run_nonce"], "cd".repeat(16).as_str());
    }
}

#[test]
fn malformed_policy_is_reported() {
    let Some(mut process) = Process::start(|plan| {
        plan.policy_yaml = String::from("mode: strict\ndlp: {}\n");
    }) else {
        return;
    };
    let Status::Failed { error } = process.status() else {
        panic!("it must not be ready");
    };
    assert_eq!(
        error,
        "cannot use the runtime policy: policy line 2: `dlp` is not implemented by the built-in mediator; use --mediator pipelock"
    );
    assert_eq!(process.wait().code(), Some(1));
}

#[test]
fn evidence_file_that_exists_is_reported() {
    let Some(mut process) = Process::start(|plan| {
        let name = format!("evidence-{}-0.jsonl", plan.recorder_session);
        File::create(plan.evidence_dir.join(name)).unwrap();
    }) else {
        return;
    };
    let Status::Failed { error } = process.status() else {
        panic!("it must not be ready");
    };
    assert!(error.contains("File exists"), "{error}");
    assert_eq!(process.wait().code(), Some(1));
}

#[test]
fn full_disk_is_reported() {
    let mut mounted = PathBuf::new();
    let Some(mut process) = Process::start(|plan| {
        mounted.clone_from(&plan.evidence_dir);
        let options = format!("size=16k,uid={UID},mode=0700");
        let none = MsFlags::empty();
        mount(
            Some("tmpfs"),
            &mounted,
            Some("tmpfs"),
            none,
            Some(options.as_str()),
        )
        .unwrap();
    }) else {
        return;
    };
    assert_eq!(process.status(), Status::Ready);
    let request = "CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let full = (0..100).any(|_| process.ask(request).contains("receipt_emission_failed"));
    assert!(full, "the disk does not fill");
    let Status::Failed { error } = process.status() else {
        panic!("it must have failed");
    };
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(process.wait().code(), Some(1));
    assert!(process.entries().len() > 3);
    umount2(&mounted, MntFlags::MNT_DETACH).unwrap();
}
