//! Alternates work inside and outside the boundary, so that the load of the machine affects both sides of a ratio
//! equally.
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use egress_tests::{Run, Running, World};

use crate::{Result, text};

/// Time limit of one piece of work.
const LIMIT: Duration = Duration::from_mins(2);

/// Copies this program into the workspace of the run as `bench`, because the command may not be able to read the
/// project's directory.
pub(crate) fn with_program(run: Run<'_>) -> Result<Run<'_>> {
    let program = std::env::current_exe().and_then(fs::read).map_err(text)?;
    let path = run.directory().join("bench");
    let run = run.file("bench", program);
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(text)?;
    Ok(run)
}

/// A run whose command waits for its turns.
pub(crate) struct Inside<'a> {
    world: &'a World,
    running: Running,
    dir: PathBuf,
    turns: u32,
}

impl<'a> Inside<'a> {
    /// Starts the run.
    pub(crate) fn start(world: &'a World) -> Result<Self> {
        let run = with_program(world.egress().allow(&["allowed.test"]).limit(LIMIT))?;
        let (running, _, dir) = run.command(["./bench", "agent", "turns"]).start();
        wait_for(&dir.join("ready"))?;
        Ok(Self {
            world,
            running,
            dir,
            turns: 0,
        })
    }

    /// Makes the command do `work`, and returns the time of the work. `work` holds the arguments of `agent::work`.
    pub(crate) fn inside(&mut self, work: &str) -> Result<Duration> {
        let turn = self.turns;
        self.turns += 1;
        write(&self.dir, &format!("go-{turn}"), work)?;
        let done = self.dir.join(format!("done-{turn}"));
        wait_for(&done)?;
        time(&fs::read_to_string(done).map_err(text)?)
    }

    /// Does `work` on the runner without the boundary.
    pub(crate) fn outside(&self, work: &str) -> Result<Duration> {
        let program = self.dir.join("bench");
        let words = ["agent", "work"].into_iter().chain(work.split(' '));
        let output = self
            .world
            .runner(std::iter::once(program.as_os_str()).chain(words.map(AsRef::as_ref)));
        time(&output.stdout).map_err(|error| format!("{error}: {output}"))
    }

    /// Does `work` in the relay's cgroup, because only processes in this cgroup can connect to the mediator.
    pub(crate) fn as_relay(&self, work: &str) -> Result<Duration> {
        let cgroups = self.running.cgroups();
        let relay = cgroups.iter().find(|dir| dir.ends_with("relay"));
        let relay = relay.ok_or("the relay has no cgroup")?;
        let program = self.dir.join("bench");
        let output = self.world.shell(&format!(
            "echo $$ > {}/cgroup.procs && exec {} agent work {work}",
            relay.display(),
            program.display()
        ));
        time(&output.stdout).map_err(|error| format!("{error}: {output}"))
    }

    /// Ends the command, and with it the run.
    pub(crate) fn end(self) -> Result<()> {
        write(&self.dir, &format!("go-{}", self.turns), "end")?;
        let output = self.running.finish(LIMIT);
        if output.success() {
            Ok(())
        } else {
            Err(output.to_string())
        }
    }
}

/// Does the requested work until the command is requested to end. This function runs as the command.
pub(crate) fn take_turns(work: impl Fn(&str) -> Result<Duration>) -> Result<()> {
    let here = Path::new(".");
    write(here, "ready", "")?;
    for turn in 0.. {
        let go = here.join(format!("go-{turn}"));
        wait_for(&go)?;
        let words = fs::read_to_string(go).map_err(text)?;
        if words == "end" {
            break;
        }
        let result = match work(&words) {
            Ok(took) => took.as_nanos().to_string(),
            Err(error) => error,
        };
        write(here, &format!("done-{turn}"), &result)?;
    }
    Ok(())
}

fn time(result: &str) -> Result<Duration> {
    let result = result.trim();
    result
        .parse()
        .map(Duration::from_nanos)
        .map_err(|error| format!("{result:?}: {error}"))
}

/// Writes a file and then renames it into place, so that no reader gets an incomplete file.
fn write(dir: &Path, name: &str, content: &str) -> Result<()> {
    let unfinished = dir.join(format!(".{name}"));
    let written: io::Result<()> =
        fs::write(&unfinished, content).and_then(|()| fs::rename(&unfinished, dir.join(name)));
    written.map_err(text)
}

fn wait_for(path: &Path) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !path.exists() {
        if Instant::now() > deadline {
            return Err(format!("{} never came", path.display()));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
