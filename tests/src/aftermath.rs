//! Checks the processes, files, and network packets that a run leaves behind after an abnormal termination.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::World;
use crate::command::{Output, Running};
use crate::evidence::verify;
use crate::processes::{Process, wait_until};

/// Time limit for anything that should happen at once, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(15);
/// How long the wire must stay silent.
const SILENCE: Duration = Duration::from_millis(400);
/// Size limit of a network packet without payload: Ethernet, IPv6, and TCP with all options.
const BARE_PACKET: usize = 14 + 40 + 60;

/// Lists the directories of runs in the state directory of the world.
///
/// # Panics
/// Panics if the state directory cannot be listed.
pub fn runs(world: &World) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(world.state())
        .expect("list the state")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("lock").exists())
        .collect();
    found.sort();
    found
}

/// Waits until the command of a run in `workdir` has reported that it is ready.
///
/// # Panics
/// Panics if the command is not ready within this time.
pub fn until_ready(workdir: &Path, within: Duration) {
    wait_until("the agent is at work", within, || {
        workdir.join("ready").exists()
    });
}

/// Fills the small file system of the world's state while a command is at work. Returns the `boundary.json` of the run,
/// which must end before evidence is lost.
///
/// # Panics
/// Panics if the run ends with another status or for another reason.
pub fn full_disk_ends(world: &World, run: (Running, PathBuf, PathBuf)) -> String {
    let (running, packet, workdir) = run;
    until_ready(&workdir, SOON);
    let filled = world.shell(&format!(
        "dd if=/dev/zero of={}/fill bs=64k 2>&1; true",
        world.state().display()
    ));
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(output.status, Some(125), "{output}\n{filled}");
    let boundary = fs::read_to_string(packet.join("boundary.json")).expect("read the record");
    assert!(
        boundary.contains("is full, so evidence would be lost"),
        "{boundary}"
    );
    boundary
}

/// Waits until the command of a run in `workdir` has reported that it is ready, and the supervisor supervises it.
/// Returns the directory of the run. `before` lists the directories of other runs.
///
/// # Panics
/// Panics if the command or the supervisor is not ready in time, or if there is more than one new run.
pub fn at_work(world: &World, before: &[PathBuf], workdir: &Path) -> PathBuf {
    until_ready(workdir, SOON);
    let mut new = runs(world);
    new.retain(|dir| !before.contains(dir));
    let [dir] = <[_; 1]>::try_from(new).expect("one run");
    // The command may be ready before the supervisor supervises it.
    wait_until("the supervisor is at work", SOON, || {
        dir.join("flows.jsonl").exists()
    });
    dir
}

/// Returns the cgroup of the run in `dir`, and the processes in it.
///
/// # Panics
/// Panics if the run has no cgroup.
pub fn members(dir: &Path) -> (PathBuf, Vec<Process>) {
    let cgroup = fs::read_to_string(dir.join("cgroup")).expect("read the name of the cgroup");
    let processes = Process::in_cgroup(Path::new(&cgroup));
    (cgroup.into(), processes)
}

/// Returns the namespaces that a run created. The namespaces are held open, because the kernel reuses the number of a
/// removed namespace, possibly for a namespace of a test that runs at the same time.
///
/// # Panics
/// Panics if the run has ended.
pub fn own_namespaces(running: &Running) -> BTreeMap<String, File> {
    let host = running.process().namespaces();
    let inside = running.helper("__init").held_namespaces();
    inside
        .into_iter()
        .filter(|(name, _)| !host.contains(name))
        .collect()
}

/// Fails unless these processes end, and their namespaces and mounts disappear.
///
/// # Panics
/// Panics if a process, a namespace, or a mount remains.
#[track_caller]
pub fn assert_gone(
    world: &World,
    processes: &[Process],
    namespaces: &BTreeMap<String, File>,
    dir: &Path,
) {
    wait_until("every process of the run is gone", SOON, || {
        !processes.iter().any(|process| process.lives())
    });
    wait_until("nothing lives in a namespace of the run", SOON, || {
        let alive = Process::all().into_iter().flat_map(Process::namespaces);
        !alive
            .into_iter()
            .any(|namespace| namespaces.contains_key(&namespace))
    });
    let id = dir.file_name().unwrap_or_default().to_string_lossy();
    let mounts = || fs::read_to_string("/proc/thread-self/mountinfo").expect("read the mounts");
    for mounts in [mounts(), world.on_runner(mounts)] {
        assert!(!mounts.contains(&*id), "{mounts}");
    }
}

/// Fails if a network packet with data or for a new connection leaves, or if the wire does not become silent.
///
/// # Panics
/// Panics if a network packet of these kinds leaves, or the wire does not become silent.
#[track_caller]
pub fn assert_silent(world: &World) {
    let wire = world.wire();
    let start = wire.snapshot();
    let mut last = start;
    let mut since = Instant::now();
    // Network packets that were in flight when the sockets were closed are still answered.
    wait_until("the wire is silent", SOON, || {
        if !wire.since(last).is_empty() {
            last = wire.snapshot();
            since = Instant::now();
        }
        since.elapsed() > SILENCE
    });
    for packet in wire.since(start) {
        assert!(
            packet.protocol == 6 && packet.length <= BARE_PACKET,
            "left after the run had ended: {packet}"
        );
    }
}

/// Runs `egress verify` on a packet or on evidence, with the public half of `key`.
pub fn verdict(path: &Path, key: &Path) -> Output {
    let mut public = key.as_os_str().to_owned();
    public.push(".pub");
    verify(&[path.as_os_str(), "--key".as_ref(), &public])
}
