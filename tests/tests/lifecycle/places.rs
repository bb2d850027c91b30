//! Tests the argument, the cgroup, the namespaces, the open files, and the keys of each process of a run.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the result of its run has failed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egress_tests::aftermath::{SOON, at_work, members};
use egress_tests::{Process, World};

const AGENT: &str = "touch ready; until [ -e done ]; do sleep 0.05; done";

/// Returns the 32 bytes from which a private key is derived.
fn seed(key: &Path) -> Vec<u8> {
    let text = fs::read_to_string(key).unwrap();
    let bytes = STANDARD.decode(text.lines().nth(1).unwrap()).unwrap();
    bytes.get(..32).unwrap().to_vec()
}

/// Returns whether the writable memory of a process contains these bytes.
fn remembers(process: Process, bytes: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{}/maps", process.id())).unwrap();
    let memory = fs::File::open(format!("/proc/{}/mem", process.id())).unwrap();
    let writable = maps.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let range = number(start)?..number(end)?;
        words.next()?.starts_with("rw").then_some(range)
    });
    writable.into_iter().any(|range| {
        let length = usize::try_from(range.end - range.start).unwrap();
        let mut content = vec![0; length.min(64 << 20)];
        // The memory of a device cannot be read.
        let read = memory.read_at(&mut content, range.start).unwrap_or(0);
        content.truncate(read);
        content.windows(bytes.len()).any(|part| part == bytes)
    })
}

/// Returns the names of the open files that end in `suffix`.
fn open_files(process: Process, suffix: &str) -> BTreeSet<String> {
    let links = fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
    let links = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    let names = links.map(|link| link.display().to_string());
    names.filter(|name| name.ends_with(suffix)).collect()
}

/// Claims: process-supervisor*, process-init*, process-command*, process-relay*, process-mediator*, hidden-argument*, cgroups*, init-in-its-cgroup*, who-writes*, boundary-key*
#[test]
fn each_process_has_its_argument_place_files_and_key() {
    let world = World::builder().own_state().build();
    let [key, boundary] = ["receipts", "boundary"].map(|name| world.key(name));
    let run = world.egress().allow(&["allowed.test"]).signed_with(&key);
    let run = run.arg("--boundary-key").arg(&boundary).script(AGENT);
    let (running, packet, workdir) = run.start();
    let (cgroup, _) = members(&at_work(&world, &[], &workdir));
    let supervisor = running.process();
    assert_eq!(supervisor.argument(1).unwrap(), b"run");
    let [init, relay, mediator] =
        ["__init", "__relay", "__mediator"].map(|stage| running.helper(stage));

    let of = |part: &str| Process::in_cgroup(&cgroup.join(part));
    let agents = of("agent");
    assert!(agents.contains(&init), "{agents:?}");
    assert_eq!((of("relay"), of("mediator")), (vec![relay], vec![mediator]));
    let commands: Vec<_> = agents.into_iter().filter(|one| *one != init).collect();
    let first = *commands.iter().min_by_key(|one| one.id()).unwrap();
    assert_eq!(first.argument(0).unwrap(), b"bash");
    let status = fs::read_to_string(format!("/proc/{}/status", first.id())).unwrap();
    assert!(
        status.contains(&format!("\nPPid:\t{}\n", init.id())),
        "{status}"
    );

    let host = supervisor.namespaces();
    assert_eq!(host.len(), 6);
    assert_eq!(
        [relay.namespaces(), mediator.namespaces()],
        [host.clone(), host.clone()]
    );
    assert!(
        init.namespaces().is_disjoint(&host),
        "{:?}",
        init.namespaces()
    );
    assert_eq!(first.namespaces(), init.namespaces());

    // No other process has the flow log or the evidence open.
    let all = [supervisor, init, first, relay, mediator];
    let holds = |suffix: &str| all.map(|process| open_files(process, suffix).len());
    assert_eq!(holds("/flows.jsonl"), [1, 0, 0, 0, 0]);
    assert_eq!(holds("-0.jsonl"), [0, 0, 0, 0, 1]);

    // The control: the search finds the key of the receipts in the mediator's memory.
    assert!(remembers(mediator, &seed(&key)));
    let knows = all.map(|process| remembers(process, &seed(&boundary)));
    assert_eq!(knows, [true, false, false, false, false]);

    fs::write(workdir.join("done"), "").unwrap();
    let output = running.finish(SOON);
    assert_eq!(output.status, Some(0), "{output}");
    drop(packet);
}
