//! A command's use of the machine is limited, and the run reports each limit that the command reaches.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use egress_tests::{RunOutput, World};

/// Fails unless standard error and the summary both report the limit with the text `said`.
#[track_caller]
fn assert_named(run: &RunOutput, said: &str) {
    let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
    assert!(run.stderr.contains(said), "{run}");
    assert!(summary.contains(said), "{summary}\n{run}");
}

/// Fails if a cgroup of the run is left in any hierarchy.
#[track_caller]
fn assert_nothing_left(run: &RunOutput) {
    let boundary = run.json("boundary.json");
    let id = boundary.get("run_id").and_then(|id| id.as_str()).unwrap();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        // A cgroup that disappears during the listing belongs to another run.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                assert!(
                    !path.to_string_lossy().contains(id),
                    "{} was left",
                    path.display()
                );
                open.push(path);
            }
        }
    }
}

/// Starts up to a thousand children that keep running. Stops at the first child that cannot be started.
const FORKS: &str = r"
import os, signal, sys, time
children = []
try:
    for _ in range(1000):
        pid = os.fork()
        if pid == 0:
            time.sleep(30)
            os._exit(0)
        children.append(pid)
except OSError as error:
    print(error.strerror)
print(len(children))
for pid in children:
    os.kill(pid, signal.SIGKILL)
";

/// Claims: table-processes, limit-processes*
#[test]
fn processes_are_limited() {
    let _turn = crate::turn();
    let world = World::new();
    let free = world
        .egress()
        .allow(&[])
        .command(["python3", "-c", FORKS])
        .run();
    assert_eq!(free.stdout, "1000\n", "{free}");
    assert!(!free.stderr.contains("limit reached"), "{free}");
    assert_eq!(
        free.json("boundary.json")["limits"]["processes"]["reached"]["times"],
        0
    );

    let run = world
        .egress()
        .allow(&[])
        .arg("--max-processes")
        .arg("100")
        .command(["python3", "-c", FORKS])
        .run();
    let mut lines = run.stdout.lines();
    assert_eq!(
        lines.next(),
        Some("Resource temporarily unavailable"),
        "{run}"
    );
    let started: u32 = lines.next().unwrap().parse().unwrap();
    assert!((90..100).contains(&started), "{run}");
    // The command handles the error itself, so it can exit with 0.
    assert_eq!(run.status, Some(0), "{run}");
    assert_named(&run, "100 processes at a time (--max-processes)");
    assert_nothing_left(&run);
}

/// Claims: collect-agent*
#[test]
fn fork_bomb_ends_with_the_run() {
    let _turn = crate::turn();
    let world = World::new();
    let run = world
        .egress()
        .allow(&[])
        .arg("--max-processes")
        .arg("200")
        .arg("--timeout")
        .arg("2")
        .command([
            "bash",
            "-c",
            "bomb() { bomb | bomb & }; bomb; wait; sleep 60",
        ])
        .limit(Duration::from_secs(40))
        .run();
    assert!(!run.timed_out, "{run}");
    assert_eq!(run.status, Some(124), "{run}");
    assert_named(&run, "200 processes at a time (--max-processes)");
    assert_named(&run, "run time (--timeout)");
    assert_nothing_left(&run);
    // The machine still starts programs.
    assert!(world.shell("true").success());
}

/// Uses 400 MiB of memory in several processes.
const TAKES: &str = r"
import os, sys
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        b = bytearray(100 << 20)
        for at in range(0, len(b), 4096):
            b[at] = 1
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

#[test]
fn without_controllers_each_process_has_limits_of_its_own() {
    let _turn = crate::turn();
    let world = World::new();
    // If cgroup v1 has the controllers but they are not mounted, nothing limits all processes together.
    let gone = world.shell("cd /sys/fs/cgroup && umount pids memory");
    assert!(gone.success(), "{gone}");
    let limited = |option: &str, most: &str, script: &str| {
        let run = world.egress().allow(&[]).arg(option).arg(most);
        run.command(["python3", "-c", script]).run()
    };
    let run = limited("--max-processes", "100", FORKS);
    assert!(
        run.stdout.starts_with("Resource temporarily unavailable\n"),
        "{run}"
    );
    let held = |run: &RunOutput, what: &str| {
        let limits = &run.json("boundary.json")["limits"];
        limits[what]["reached"].clone()
    };
    let reached = held(&run, "processes");
    assert_eq!(
        reached["held_by"], "RLIMIT_NPROC of the agent's user",
        "{reached}"
    );
    assert!(reached["times"].is_null(), "{reached}");

    // A program whose allocation fails ends with an error.
    let run = limited("--max-memory", "64M", TAKES);
    assert!(!run.stdout.contains('0'), "{run}");
    assert_eq!(run.stderr.matches("MemoryError").count(), 4, "{run}");
    let reached = held(&run, "memory");
    assert_eq!(
        reached["held_by"], "RLIMIT_DATA of each process",
        "{reached}"
    );
    assert_nothing_left(&run);
}

/// Claims: table-memory, out-of-memory, limit-memory*
#[test]
fn memory_is_limited_for_all_processes_together() {
    let _turn = crate::turn();
    let world = World::new();
    let free = world
        .egress()
        .allow(&[])
        .command(["python3", "-c", TAKES])
        .run();
    assert_eq!(free.stdout, "0\n0\n0\n0\n", "{free}");
    let most = free.json("boundary.json")["limits"]["memory"]["most"]
        .as_u64()
        .unwrap();
    assert!(most > 1 << 28, "{most}");

    let limited = |script: &str| {
        world
            .egress()
            .allow(&[])
            .arg("--max-memory")
            .arg("64M")
            .command(["python3", "-c", script])
            .run()
    };
    let run = limited(TAKES);
    assert_eq!(run.stdout, "-9\n-9\n-9\n-9\n", "{run}");
    assert_eq!(run.status, Some(0), "{run}");
    assert_named(
        &run,
        "67108864 bytes of memory (--max-memory); processes killed for it: 4",
    );
    assert_nothing_left(&run);

    // The command itself is killed, and the exit status shows that.
    let run = limited("b = bytearray(200 << 20)\nfor at in range(0, len(b), 4096): b[at] = 1");
    assert_eq!(run.status, Some(137), "{run}");
    assert_named(&run, "(--max-memory)");

    // Files in a tmpfs use memory that the end of a process does not free. The kernel kills the writer, and then init
    // if it needs more memory. In both cases, the run ends and reports the reason.
    let run = world
        .egress()
        .allow(&[])
        .arg("--max-memory")
        .arg("64M")
        .command(["dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=200"])
        .run();
    match run.status {
        Some(137) => {}
        Some(125) => assert!(
            run.stderr
                .contains("the boundary's init is gone (ended by SIGKILL)"),
            "{run}"
        ),
        _ => panic!("{run}"),
    }
    assert_named(&run, "(--max-memory)");
    assert_nothing_left(&run);
}

/// Claims: limit-scratch*
#[test]
fn scratch_space_is_limited() {
    let _turn = crate::turn();
    let world = World::new();
    let script = "for dir in /tmp /dev/shm /var/tmp /run/lock ~; do
                    head -c 8M /dev/zero > $dir/file 2> /dev/null; stat -c %s $dir/file
                  done";
    let free = world.egress().allow(&[]).script(script).run();
    assert_eq!(free.stdout, "8388608\n".repeat(5), "{free}");
    assert!(!free.stderr.contains("limit reached"), "{free}");
    let run = world
        .egress()
        .allow(&[])
        .arg("--max-scratch")
        .arg("4M")
        .script(script)
        .run();
    assert_eq!(run.stdout, "4194304\n".repeat(5), "{run}");
    for path in [
        "/tmp",
        "/dev/shm",
        "/var/tmp",
        "/run",
        "/home/pipelock-agent",
    ] {
        assert_named(
            &run,
            &format!("limit reached: {path} is full (--max-scratch)"),
        );
    }
    let full = run.json("boundary.json")["limits"]["scratch"]["full_at_the_end"].clone();
    assert_eq!(full.as_array().unwrap().len(), 5, "{full}");
}

#[test]
fn open_files_are_limited() {
    let _turn = crate::turn();
    let world = World::new();
    let script = r"
import resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = []
try:
    for _ in range(5000):
        held.append(open('/dev/null'))
except OSError as error:
    print(error.strerror)
print(len(held))
";
    let free = world
        .egress()
        .allow(&[])
        .command(["python3", "-c", script])
        .run();
    assert_eq!(free.stdout, "5000\n", "{free}");
    let run = world
        .egress()
        .allow(&[])
        .arg("--max-open-files")
        .arg("100")
        .command(["python3", "-c", script])
        .run();
    assert_eq!(run.stdout, "Too many open files\n97\n", "{run}");
    assert_eq!(
        run.json("boundary.json")["limits"]["open_files"]["most"],
        100
    );
}

/// Tries `count` different destinations, all of which are denied.
fn flood(count: u32) -> String {
    format!(
        r"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range({count}):
    try:
        s.sendto(b'x', ('198.51.%d.%d' % (n // 250 % 250, n % 250 + 1), 1 + n % 60000))
    except OSError:
        pass
print('flooded')
"
    )
}

/// Claims: supervise-evidence*, limit-evidence
#[test]
fn flood_that_fills_the_record_ends_the_run() {
    let _turn = crate::turn();
    let world = World::new();
    let before = world.wire().snapshot();
    let free = world
        .egress()
        .allow(&[])
        .command(["python3", "-c", &flood(3000)])
        .run();
    assert_eq!(
        (free.status, free.stdout.as_str()),
        (Some(0), "flooded\n"),
        "{free}"
    );
    let length = fs::metadata(free.packet.join("flows.jsonl")).unwrap().len();
    assert!(length > 512 << 10, "{length}");

    let run = world
        .egress()
        .allow(&[])
        .arg("--max-evidence")
        .arg("512K")
        .command([
            "bash",
            "-c",
            "while :; do python3 -c \"$0\"; done",
            &flood(3000),
        ])
        .run();
    assert_eq!(run.status, Some(125), "{run}");
    assert_named(
        &run,
        "receipts and flow log reached 524288 bytes (--max-evidence)",
    );
    // The packet contains all rows that were recorded, and their chain is valid.
    let length = fs::metadata(run.packet.join("flows.jsonl")).unwrap().len();
    assert!(length > 512 << 10, "{length}");
    let packet = run.packet.to_string_lossy().into_owned();
    let verified = world.tool(["verify", packet.as_str(), "--allow-unpinned"]);
    assert!(!verified.stdout.contains("flows."), "{verified}");
    world.wire().assert_still(before);
}

#[test]
fn sizes_are_read_with_their_units() {
    let _turn = crate::turn();
    let world = World::new();
    for (option, value) in [
        ("--max-memory", "12X"),
        ("--max-memory", "1K"),
        ("--max-scratch", "-4M"),
        ("--max-evidence", "99999999T"),
        ("--max-processes", "1"),
        ("--max-open-files", "3"),
    ] {
        let run = world
            .egress()
            .allow(&[])
            .arg(format!("{option}={value}"))
            .command(["true"])
            .run();
        assert_eq!(run.status, Some(64), "{option} {value}: {run}");
        assert!(run.stderr.contains(option), "{run}");
    }
}

/// Claims: table-memory*
#[test]
fn objects_of_the_kernel_count_as_memory_of_the_run() {
    const TAKES: &str = r"
import os, resource, socket, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = []
def fill(write):
    try:
        while True: write(bytes(1 << 16))
    except BlockingIOError: pass
def pipes():
    for _ in range(1500):
        ends = os.pipe()
        os.set_blocking(ends[1], False)
        fill(lambda piece: os.write(ends[1], piece))
def sockets():
    for _ in range(600):
        ends = socket.socketpair()
        held.append(ends)
        ends[0].setblocking(False)
        fill(ends[0].send)
def inodes():
    for number in range(100_000): os.mkdir('/tmp/d%d' % number)
{'pipes': pipes, 'sockets': sockets, 'inodes': inodes}[sys.argv[1]]()
print('done')
";
    let _turn = crate::turn();
    let world = World::new();
    for kind in ["pipes", "sockets", "inodes"] {
        let run = || world.egress().allow(&[]);
        let free = run().command(["python3", "-c", TAKES, kind]).run();
        assert_eq!(free.stdout, "done\n", "{kind}: {free}");
        let limited = run().arg("--max-memory").arg("64M");
        let limited = limited.command(["python3", "-c", TAKES, kind]).run();
        assert_eq!(limited.stdout, "", "{kind}: {limited}");
        // If the end of a process does not free the memory, init may be killed as well.
        assert!(
            matches!(limited.status, Some(125 | 137)),
            "{kind}: {limited}"
        );
        assert_named(&limited, "(--max-memory)");
        assert_nothing_left(&limited);
    }
}
