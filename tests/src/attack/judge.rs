//! Runs one technique in its own world, behind the boundary and without one, and judges the result.
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use serde_json::{Value, json};

use super::technique::{Layer, Oracle, Technique};
use crate::command::{Output, if_there, program};
use crate::topology::INTERNET;
use crate::wire::Snapshot;
use crate::world::World;

/// The verdict on a technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The technique was stopped, and recorded if a hook could record it.
    Contained,
    /// The technique succeeded.
    Reachable,
    /// The technique was stopped, but the record does not show it.
    Unseen,
    /// The technique fails without a boundary as well, so the test proves nothing.
    ControlFailed,
    /// The attempt did not take place.
    Broken,
}

impl Verdict {
    /// Returns the printed word for the verdict.
    pub fn word(self) -> &'static str {
        match self {
            Self::Contained => "contained",
            Self::Reachable => "reachable",
            Self::Unseen => "unseen",
            Self::ControlFailed => "control failed",
            Self::Broken => "broken",
        }
    }
}

/// The result of a technique.
#[derive(Clone, Debug)]
pub struct Result {
    /// The verdict.
    pub verdict: Verdict,
    /// The expected verdict for the layers that the boundary had.
    pub expected: Verdict,
    /// Whether the flow log shows the attempt. `None` if no hook can record the attempt.
    pub seen: Option<bool>,
    /// The last output of the attempt.
    pub detail: String,
    /// Details for an unexpected verdict.
    pub account: String,
}

impl Result {
    /// Returns the row of the table as JSON.
    pub fn row(&self, technique: &Technique) -> Value {
        let stops: Vec<&str> = technique.stops.iter().map(|layer| layer.name()).collect();
        json!({
            "technique": technique.name,
            "stops": stops,
            "result": self.verdict.word(),
            "expected": self.expected.word(),
            "seen": self.seen,
            "detail": self.detail,
        })
    }
}

/// The common start of all scripts: Python with the modules that most attempts need.
const COMMON: &str = r#"
python() {
    python3 -c "
import ctypes, errno, os, platform, socket, struct, subprocess, sys, threading, time
def refused(kind, error, trace):
    name = errno.errorcode.get(getattr(error, 'errno', None), kind.__name__)
    print('refused:', name, str(error).splitlines()[:1])
    os._exit(1)
sys.excepthook = refused
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
kept = []
def at(data):
    kept.append(ctypes.create_string_buffer(data, len(data) + 1))
    return ctypes.addressof(kept[-1])
def call(x86, arm, *arguments):
    number = {'x86_64': x86, 'aarch64': arm}[platform.machine()]
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
case = sys.argv[1] if len(sys.argv) > 1 else ''
def talk(where, *steps):
    # Sends each step and waits for an answer; a step that is not bytes starts TLS with this server name.
    import ssl
    got = b''
    try:
        s = socket.create_connection(where, 5)
        for step in steps:
            s.settimeout(3)
            if isinstance(step, bytes): s.sendall(step); got += s.recv(65536)
            else: s = ssl._create_unverified_context().wrap_socket(s, server_hostname=step or None)
    except (OSError, ValueError) as error: print('refused:', errno.errorcode.get(getattr(error, 'errno', None), error))
    return got
proxy = ('127.0.0.1', 3128)
$(cat)" "$@"
}
"#;

/// Runs the technique. `without` is the layer that is left out of the boundary. With `without`, there is no control,
/// because the run with all layers already has the same control.
///
/// # Panics
/// Panics if the world cannot be created.
pub fn run(technique: &Technique, without: Option<Layer>) -> Result {
    let world = World::new();
    let place = tempfile::Builder::new()
        .prefix("egress-attack-")
        .tempdir_in("/opt")
        .expect("make a directory that every user can see");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("open it");
    let scene = Scene {
        world: &world,
        technique,
        place: place.path(),
        canary: format!(
            "canary-{}",
            place.path().display().to_string().replace('/', "")
        ),
    };
    scene.play(without)
}

struct Scene<'a> {
    world: &'a World,
    technique: &'a Technique,
    place: &'a Path,
    canary: String,
}

/// The state of the counters before an attempt.
struct Before {
    wire: Snapshot,
    requests: usize,
}

impl Scene<'_> {
    fn play(&self, without: Option<Layer>) -> Result {
        let mut background = None;
        if self.technique.script.contains("\nserve()") {
            background = Some(self.world.start(&mut self.shell("serve")));
            self.world.shell(&format!(
                "for i in {{1..500}}; do [ -e {}/ready ] && exit; sleep 0.01; done; exit 1",
                self.world.dir().display()
            ));
        }
        if self.technique.script.contains("\nstage()") {
            let staged = self.world.start(&mut self.shell("stage")).finish(LIMIT);
            if !staged.success() {
                return Self::broken(format!("the stage: {staged}"));
            }
        }
        let result = self.attack(without);
        if let Some(running) = background {
            // Ends the process and its children, because the children keep its pipes open.
            if_there(killpg(running.pid(), Signal::SIGKILL));
            running.finish(LIMIT);
        }
        result
    }

    fn attack(&self, without: Option<Layer>) -> Result {
        let technique = self.technique;
        self.world.wait_for_quiet();
        let before = self.before();
        let policy = json!({
            "mode": "strict",
            "api_allowlist": technique.allow,
            "ssrf": {"ip_allowlist": technique.open},
        });
        // JSON is valid YAML.
        let mut run = self.world.egress().config(&policy.to_string());
        run = run.limit(LIMIT);
        for option in &technique.options {
            run = run.arg(self.filled(option));
        }
        for (name, value) in &technique.env {
            run = run.env(name, self.filled(value));
        }
        if technique.script.contains("\nwrap()") {
            run = run.binary(&self.wrapper());
        }
        if let Some(layer) = without {
            run = run.env("EGRESS_TEST_WITHOUT", layer.name());
        }
        let output = run.script(&self.attempt("attempt")).run();
        if !output.packet.join("flows.jsonl").exists() {
            return Self::broken(format!("no packet: {}", *output));
        }
        let reached = self.reached(&before, &output);
        let fields: Vec<(&str, &str)> = technique
            .seen
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let seen = (!fields.is_empty()).then(|| !output.flows(&fields).is_empty());
        let flows = output.lines("flows.jsonl");
        let detail = words(&output.stdout);
        let mut result = Result {
            verdict: match (reached, seen) {
                (true, _) => Verdict::Reachable,
                (false, Some(false)) => Verdict::Unseen,
                (false, _) => Verdict::Contained,
            },
            expected: expected(technique, without),
            seen,
            detail,
            account: format!("with the boundary: {}\n{flows:#?}", *output),
        };
        let ran = output.stdout.contains("\nATTEMPT ");
        if !ran || (without.is_none() && output.status != Some(0)) {
            result.verdict = Verdict::Broken;
        }
        if without.is_none() && result.verdict != Verdict::Broken {
            let (through, control) = self.control();
            if !through {
                result.verdict = Verdict::ControlFailed;
                result.account = format!("{}\nwithout a boundary: {control}", result.account);
            }
        }
        result
    }

    /// Makes the same attempt without a boundary, and returns whether it succeeded.
    fn control(&self) -> (bool, Output) {
        self.world.wait_for_quiet();
        let witness = self.world.dir().join("witness");
        fs::write(&witness, "").expect("clear the witness");
        let before = self.before();
        let function = if self.technique.script.contains("\ncontrol()") {
            "control"
        } else {
            "attempt"
        };
        let text = self.attempt(function);
        let work = self.world.dir().join("control");
        fs::create_dir(&work).expect("make the control's directory");
        fs::set_permissions(&work, fs::Permissions::from_mode(0o777)).expect("open it");
        let mut command = if self.technique.unprivileged {
            let mut command = program("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "bash"]);
            command
        } else {
            program("bash")
        };
        for (name, value) in &self.technique.env {
            command.env(name, self.filled(value));
        }
        command.args(["-c", &text]).current_dir(&work);
        let output = self.world.start(&mut command).finish(LIMIT);
        (self.reached(&before, &output), output)
    }

    fn before(&self) -> Before {
        Before {
            wire: self.world.wire().snapshot(),
            requests: self.world.requests().len(),
        }
    }

    fn reached(&self, before: &Before, output: &Output) -> bool {
        match self.technique.oracle {
            Oracle::Wire => !self.world.wire().since(before.wire).is_empty(),
            Oracle::Request => {
                let allowed: [IpAddr; 2] = [INTERNET.allowed.into(), INTERNET.allowed_v6.into()];
                self.world
                    .requests()
                    .iter()
                    .skip(before.requests)
                    .any(|request| {
                        let host = request.host.as_deref().unwrap_or_default();
                        let sni = request.sni.as_deref().unwrap_or("allowed.test");
                        !allowed.contains(&request.server.ip().to_canonical())
                            || host.split(':').next() != Some("allowed.test")
                            || sni != "allowed.test"
                            || request.target.contains("evil")
                    })
            }
            Oracle::Canary => {
                let witness = self.world.dir().join("witness");
                output.stdout.contains(&self.canary)
                    || fs::metadata(witness).is_ok_and(|file| file.len() > 0)
            }
            Oracle::Call => output.stdout.contains("\nATTEMPT 0\n"),
            Oracle::Script => {
                let said = format!("{}{}", output.stdout, output.stderr);
                fs::write(self.world.dir().join("said"), said).expect("write the output");
                let mut command = self.shell("reached");
                self.world.start(&mut command).finish(LIMIT).success()
            }
        }
    }

    /// Returns a shell on the runner that calls `function` of the script. The environment of the shell contains the
    /// canary.
    fn shell(&self, function: &str) -> std::process::Command {
        let text = format!("{}\n{function} {}", self.text(), self.technique.case);
        let mut command = program("bash");
        command
            .args(["-c", &text])
            .env("CANARY", &self.canary)
            .env("EGRESS", crate::run::binary())
            .current_dir(self.world.dir());
        command
    }

    /// Returns the script for the command, with a call of `function`. The script prints a line at its end, which shows
    /// that it ran to the end.
    fn attempt(&self, function: &str) -> String {
        format!(
            "{}\n( {function} {} )\nstatus=$?\necho; echo ATTEMPT $status\nexit 0\n",
            self.text(),
            self.technique.case
        )
    }

    fn text(&self) -> String {
        let (dir, place) = (self.world.dir().display(), self.place.display());
        format!(
            "DIR={dir}\nPLACE={place}\nWITNESS={dir}/witness\n{COMMON}\n{}",
            self.technique.script
        )
    }

    fn filled(&self, option: &str) -> String {
        option
            .replace("$DIR", &self.world.dir().display().to_string())
            .replace("$PLACE", &self.place.display().to_string())
            .replace("$CANARY", &self.canary)
    }

    /// Writes a program that calls `wrap` and then executes the binary under test.
    fn wrapper(&self) -> PathBuf {
        let path = self.world.dir().join("wrapper");
        let text = format!(
            "#!/bin/bash\n{}\nwrap {}\nexec {} \"$@\"\n",
            self.text(),
            self.technique.case,
            crate::run::binary().display()
        );
        fs::write(&path, text).expect("write the wrapper");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it a program");
        path
    }

    fn broken(account: String) -> Result {
        Result {
            verdict: Verdict::Broken,
            expected: Verdict::Contained,
            seen: None,
            detail: String::new(),
            account,
        }
    }
}

/// Time limit of each program of a technique.
const LIMIT: Duration = Duration::from_mins(1);

/// Derives the expected verdict from the layers in the script. If the only layer that stops a technique is left out,
/// the technique succeeds. If one of several such layers is left out, the technique is still stopped. Without the
/// kernel programs, the kernel's rows are missing.
fn expected(technique: &Technique, without: Option<Layer>) -> Verdict {
    let Some(layer) = without else {
        return Verdict::Contained;
    };
    if technique.stops == [layer] {
        Verdict::Reachable
    } else if layer == Layer::Ebpf && technique.is_seen_by_kernel() {
        Verdict::Unseen
    } else {
        Verdict::Contained
    }
}

/// Returns the last line that the attempt printed.
fn words(stdout: &str) -> String {
    stdout
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("refused: "))
        .unwrap_or_default()
        .chars()
        .take(60)
        .collect()
}
