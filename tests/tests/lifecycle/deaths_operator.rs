//! Actions of an operator, and the effects of an overloaded machine, on an active run.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the result of its run has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_tests::aftermath::{SOON, assert_silent, at_work, members, runs};
use egress_tests::{Process, Running, World, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Makes more attempts than the ring buffer has room for while the supervisor does not read it. Each attempt goes to
/// another port.
const FLOOD: &str = r"
touch ready; until [ -e go ]; do sleep 0.02; done
python3 - <<'END'
import socket
for attempt in range(30000):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: s.sendto(b'x', ('198.51.100.20', 1024 + attempt))
    except PermissionError: pass
    s.close()
END
touch flooded; until [ -e done ]; do sleep 0.02; done
";

/// Queries the stub resolver for more names than the resolver has synthetic addresses.
const NAMES: &str = r"
python3 - <<'END'
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('127.0.0.1', 53))
s.settimeout(5)
def ask(name):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))
    s.send(struct.pack('!6H', 1, 0x100, 1, 0, 0, 0) + labels + b'\0' + struct.pack('!2H', 1, 1))
    return s.recv(512)[3] & 15
assert ask('allowed.test') == 0
codes = [ask(f'n{number}.test') for number in range(65600)]
print('first', codes[0], 'last', codes[-1], 'refused', sum(code == 2 for code in codes))
END
curl -sS --noproxy '*' -o /dev/null http://allowed.test/ && echo served
";

/// Tries the network when the file `go` appears.
const TRIER: &str = "
touch ready; until [ -e go ]; do sleep 0.02; done
(echo x > /dev/udp/198.51.100.20/7000) 2>/dev/null && echo THROUGH
(echo x > /dev/tcp/198.51.100.20/80) 2>/dev/null && echo THROUGH
touch tried; while :; do sleep 0.1; done
";

/// Starts a run and waits until its command is ready. Returns the run with its directories and its cgroup.
fn started(world: &World, agent: &str, options: &[&str]) -> (Running, PathBuf, PathBuf, PathBuf) {
    let mut run = world.egress().allow(&["allowed.test"]);
    run = run.limit(Duration::from_mins(3));
    for option in options {
        run = run.arg(option);
    }
    let (running, packet, workdir) = run.script(agent).start();
    let (cgroup, _) = members(&at_work(world, &[], &workdir));
    (running, packet, workdir, cgroup)
}

fn json(packet: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(packet.join(name)).unwrap()).unwrap()
}

#[test]
fn stopped_supervisor_holds_the_boundary_and_names_the_loss() {
    let world = World::builder().own_state().build();
    let before = world.wire().snapshot();
    let control = world.shell("bash -c 'echo x > /dev/udp/198.51.100.20/7000'");
    assert!(control.success(), "{control}");
    world.wire().assert_moved(before);
    world.wait_for_quiet();
    let before = world.wire().snapshot();
    let (running, packet, workdir, _) = started(&world, FLOOD, &[]);
    running.signal(Signal::SIGSTOP);
    fs::write(workdir.join("go"), "").unwrap();
    wait_until("the agent has tried", Duration::from_mins(1), || {
        workdir.join("flooded").exists()
    });
    running.signal(Signal::SIGCONT);
    fs::write(workdir.join("done"), "").unwrap();
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(output.status, Some(0), "{output}");
    world.wire().assert_still(before);
    assert!(
        output
            .stderr
            .contains("kernel events found the ring buffer full"),
        "{output}"
    );
    let lost = json(&packet, "boundary.json")
        .pointer("/counters/ring_full")
        .and_then(Value::as_u64);
    assert!(lost.unwrap() > 1000, "{lost:?}");
}

#[test]
fn stopped_agent_ends_with_the_time_out() {
    for stopped in ["agent", "init"] {
        let world = World::builder().own_state().build();
        let script = "touch ready; while :; do sleep 0.1; done";
        let (running, packet, _, cgroup) = started(&world, script, &["--timeout", "3"]);
        let init = running.helper("__init");
        let processes = Process::in_cgroup(&cgroup.join("agent"));
        for process in processes {
            if (process == init) == (stopped == "init") && process.lives() {
                process.signal(Signal::SIGSTOP);
            }
        }
        let output = running.finish(Duration::from_secs(30));
        assert!(!output.timed_out, "{stopped}: {output}");
        assert_eq!(output.status, Some(124), "{stopped}: {output}");
        assert!(packet.join("packet.json").exists(), "{stopped}: {output}");
        assert_eq!(runs(&world), [] as [PathBuf; 0], "{stopped}");
    }
}

/// Claims: cgroups
#[test]
fn killed_or_removed_cgroup_ends_the_run() {
    for part in ["agent", "relay", "mediator", ""] {
        let world = World::builder().own_state().build();
        let script =
            "touch ready; while :; do curl -s -m 1 -o /dev/null http://allowed.test/; done";
        let (running, packet, _, cgroup) = started(&world, script, &[]);
        let dir = cgroup.join(part);
        // A cgroup that contains a process cannot be removed, not even by root.
        fs::remove_dir(&dir).unwrap_err();
        fs::write(dir.join("cgroup.kill"), "1").unwrap();
        // The run itself may remove the cgroup first.
        wait_until("it is removed", SOON, || {
            fs::remove_dir(&dir).is_ok() || !dir.exists() || part.is_empty()
        });
        let output = running.finish(SOON);
        assert_eq!(output.status, Some(125), "{part}: {output}");
        assert!(output.stderr.contains("is gone"), "{part}: {output}");
        assert!(packet.join("packet.json").exists(), "{part}: {output}");
        assert_silent(&world);
        assert_eq!(runs(&world), [] as [PathBuf; 0], "{part}");
        assert!(!cgroup.exists(), "{part}");
    }
}

#[test]
fn agent_in_another_cgroup_is_still_without_a_network() {
    let world = World::builder().own_state().build();
    let control = world.shell(
        "bash -c '(echo x > /dev/udp/198.51.100.20/7000) && (echo x > /dev/tcp/198.51.100.20/80) \
         && echo THROUGH'",
    );
    assert_eq!(control.stdout, "THROUGH\n", "{control}");
    world.wait_for_quiet();
    let before = world.wire().snapshot();
    let (running, _, workdir, cgroup) = started(&world, TRIER, &[]);
    let agents = Process::in_cgroup(&cgroup.join("agent"));
    let init = running.helper("__init");
    let elsewhere = cgroup.parent().unwrap().join("cgroup.procs");
    for agent in agents.iter().filter(|process| **process != init) {
        // A process that has ended by now was one of the command's short `sleep` processes.
        drop(fs::write(&elsewhere, agent.id().to_string()));
    }
    fs::write(workdir.join("go"), "").unwrap();
    wait_until("it has tried", SOON, || workdir.join("tried").exists());
    world.wire().assert_still(before);
    running.signal(Signal::SIGTERM);
    let output = running.finish(SOON);
    assert_eq!(output.stdout, "", "{output}");
    // When the first process of the pid namespace ends, all others end as well, even in other cgroups.
    wait_until("every process is gone", SOON, || {
        !agents.iter().any(|process| process.lives())
    });
    assert_eq!(runs(&world), [] as [PathBuf; 0], "{output}");
}

#[test]
fn known_names_still_work_when_the_addresses_run_out() {
    let world = World::new();
    let run = world.egress().allow(&["allowed.test"]);
    let run = run.limit(Duration::from_mins(3)).script(NAMES).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stdout, "first 0 last 2 refused 65\nserved\n", "{run}");
    let record = fs::read_to_string(run.packet.join("flows.jsonl")).unwrap();
    assert!(record.contains("n65599.test"), "a name is missing");
}
