//! A command's use of kernel tables that all users share is limited. The attempts use slightly more than a quarter of a
//! table, so that the machine keeps the rest.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use egress_tests::{Output, RunOutput, World, wait_until};

/// Starts processes that take up to the requested number of entries of a table, and prints how many they took.
const TAKES: &str = r"
import ctypes, os, resource, signal, socket, sys, time
kind, wanted = sys.argv[1], int(sys.argv[2])
each = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (each, each))
each = min(each - 100, 15000)
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
def mapped():
    # The file of a mapping stays open without a descriptor (one of an overlay is not in the kernel's number).
    fd = os.open(path, os.O_RDONLY)
    if libc.mmap(None, ctypes.c_size_t(4096), 1, 2, fd, ctypes.c_long(0)) == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), 'mmap')
    os.close(fd)
take = {
    'files': lambda: os.open('/dev/null', os.O_RDONLY),
    'mappings': mapped,
    'sockets': lambda: socket.socket(socket.AF_UNIX),
}[kind]
path = '/dev/shm/egress-shares-%d' % os.getpid()
with open(path, 'wb') as file: file.write(bytes(4096))
read, write = os.pipe()
children = []
for at in range(0, wanted, each):
    pid = os.fork()
    if pid == 0:
        held = [take() for _ in range(min(each, wanted - at))]
        os.write(write, b'%8d' % len(held))
        time.sleep(60)
        os._exit(0)
    children.append(pid)
os.close(write)
print(sum(int(os.read(read, 8)) for _ in children), flush=True)
time.sleep(int(sys.argv[3]))
os.unlink(path)
for pid in children: os.kill(pid, signal.SIGKILL)
";

/// Returns the run's share of a table, as the packet states it.
fn share(run: &RunOutput, what: &str) -> u64 {
    run.boundary(&format!("/limits/shares/{what}"))
        .as_u64()
        .unwrap()
}

/// Takes `wanted` entries of the table `kind` inside the boundary, and keeps them for `stay` seconds.
fn take(world: &World, kind: &str, wanted: u64, stay: &str) -> RunOutput {
    let wanted = wanted.to_string();
    world
        .egress()
        .allow(&[])
        .command(["python3", "-c", TAKES, kind, &wanted, stay])
        .limit(Duration::from_mins(2))
        .run()
}

/// Does the same as [`take`] without the boundary.
fn take_outside(world: &World, kind: &str, wanted: u64) -> Output {
    let script = world.dir().join("takes.py");
    fs::write(&script, TAKES).unwrap();
    world.shell(&format!("python3 {} {kind} {wanted} 0", script.display()))
}

/// Fails unless a command can use less than its share of a table, and the use of more ends the run with a reason.
#[track_caller]
fn assert_bounded(kind: &str, what: &str, said: &str) {
    let _turn = crate::turn();
    let world = World::new();
    let little = take(&world, kind, 1000, "0");
    assert_eq!(
        (little.status, little.stdout.as_str()),
        (Some(0), "1000\n"),
        "{little}"
    );
    let most = share(&little, what);
    let more = most + most / 20;
    let outside = take_outside(&world, kind, more);
    assert_eq!(outside.stdout, format!("{more}\n"), "{outside}");

    let run = take(&world, kind, more, "15");
    assert_eq!(run.status, Some(125), "{run}");
    let text = format!("the command used more than {most} {said}");
    let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
    assert!(run.stderr.contains(&text), "{run}");
    assert!(summary.contains(&text), "{summary}");
}

/// Claims: shared-tables*, table-files*, supervise-shares*, open-files*
#[test]
fn files_of_all_processes_together() {
    assert_bounded("files", "files", "open files");
}

/// Claims: table-files
#[test]
fn files_that_are_mapped_and_not_open() {
    assert_bounded("mappings", "files", "open files");
}

/// Claims: table-sockets, open-files
#[test]
fn sockets_of_any_family() {
    assert_bounded("sockets", "sockets", "sockets");
}

/// Fills connections to itself that are not read, until TCP uses this many bytes on the machine or gets no more memory.
/// Prints which of the two happened.
const FILLS: &str = r"
import socket, sys, time
wanted, page = int(sys.argv[1]), 4096
def taken():
    line = next(line for line in open('/proc/net/sockstat') if line.startswith('TCP:'))
    return int(line.split()[-1]) * page
before, ends = taken(), []
listener = socket.create_server(('127.0.0.1', 0), backlog=500)
deadline = time.monotonic() + 20
for _ in range(400):
    sender = socket.create_connection(listener.getsockname())
    receiver = listener.accept()[0]
    for end in (sender, receiver):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        ends.append(end)
    for end in (sender, receiver):
        try:
            for _ in range(1000): end.send(bytes(1 << 16))
        except BlockingIOError: pass
    if taken() - before > wanted or time.monotonic() > deadline: break
print('more' if taken() - before > wanted else 'less', flush=True)
time.sleep(1)
";

/// Claims: table-tcp, open-files
#[test]
fn memory_of_tcp() {
    let _turn = crate::turn();
    let world = World::new();
    let fill = |wanted: u64| {
        let wanted = wanted.to_string();
        let run = world.egress().allow(&[]);
        run.command(["python3", "-c", FILLS, &wanted]).run()
    };
    let little = fill(1 << 20);
    assert_eq!(
        (little.status, little.stdout.as_str()),
        (Some(0), "more\n"),
        "{little}"
    );
    let most = share(&little, "tcp_bytes");
    let more = most + most / 20;
    let script = world.dir().join("fills.py");
    fs::write(&script, FILLS).unwrap();
    let outside = world.shell(&format!("python3 {} {more}", script.display()));
    assert_eq!(outside.stdout, "more\n", "{outside}");

    // With the memory controller of cgroup v1, the kernel enforces the limit and the command continues.
    if little.json("boundary.json")["limits"]["memory"]["reached"]["held_by"] == "cgroup v1" {
        let held = fill(more);
        assert_eq!(
            (held.status, held.stdout.as_str()),
            (Some(0), "less\n"),
            "{held}"
        );
        let gone = world.shell("umount /sys/fs/cgroup/memory");
        assert!(gone.success(), "{gone}");
    }
    // Without this controller, the supervisor counts the memory.
    let run = fill(more);
    assert_eq!(run.status, Some(125), "{run}");
    let text = format!("the command used more than {most} bytes of TCP memory");
    assert!(run.stderr.contains(&text), "{run}");
}

/// Takes all inotify instances and pipe buffers that its user may have, prints their numbers, and keeps them.
const HOLDS: &str = r"
import ctypes, fcntl, os, time
libc = ctypes.CDLL(None)
while libc.inotify_init() >= 0: pass
pipes = []
try:
    while True:
        pipes.append(os.pipe())
        fcntl.fcntl(pipes[-1][1], 1031, 1 << 20)
except PermissionError: pass
open('held', 'w').write(str(len(pipes)))
time.sleep(60)
";

/// Takes one inotify instance and one pipe buffer.
const NEEDS: &str = r"
import ctypes, fcntl, os
assert ctypes.CDLL(None).inotify_init() >= 0
fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)
";

/// Claims: table-per-user, user-ids*
#[test]
fn what_the_kernel_counts_by_user_is_the_runs_own() {
    let _turn = crate::turn();
    let world = World::new();
    let files = world.files();
    for (name, text) in [("holds.py", HOLDS), ("needs.py", NEEDS)] {
        fs::write(files.join(name), text).unwrap();
    }
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let needs = || world.shell(&format!("{user} python3 {}/needs.py", files.display()));
    let free = needs();
    assert!(free.success(), "{free}");
    // The control: without the boundary, one program takes all instances and buffers, and another program of the same
    // user gets none.
    let place = world.dir().join("place");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    let line = format!(
        "cd {} && exec {user} python3 {}/holds.py",
        place.display(),
        files.display()
    );
    let wait_for = |dir: &Path| {
        wait_until("everything is held", Duration::from_secs(30), || {
            dir.join("held").exists()
        });
    };
    let same = world.background(["bash", "-c", &line]);
    wait_for(&place);
    let none = needs();
    assert!(!none.success(), "{none}");
    drop(same);

    let run = world.egress().allow(&[]);
    let (running, _packet, workdir) = run.command(["python3", "-c", HOLDS]).start();
    wait_for(&workdir);
    let free = needs();
    assert!(free.success(), "{free}");
    drop(running);
}

/// Claims: table-processes*, table-files
#[test]
fn limits_that_the_caller_sets_are_no_larger_than_a_share() {
    let _turn = crate::turn();
    let world = World::new();
    let run = world
        .egress()
        .allow(&[])
        .arg("--max-processes=4194304")
        .arg("--max-open-files=1048576")
        .script("ulimit -Hu; ulimit -Hn")
        .run();
    let limits = run.json("boundary.json")["limits"].clone();
    let number = |path: &str| -> u64 {
        let text = fs::read_to_string(path).unwrap();
        text.trim().parse().unwrap()
    };
    let ids = number("/proc/sys/kernel/pid_max").min(number("/proc/sys/kernel/threads-max"));
    assert_eq!(limits["processes"]["most"], (ids / 4).min(4_194_304));
    let files = number("/proc/sys/fs/file-max");
    assert_eq!(limits["open_files"]["most"], (files / 16).min(1_048_576));
    // The command has these limits, unless the limits of the caller were lower.
    let hard = world.shell("ulimit -Hu; ulimit -Hn").stdout;
    let parse = |text: &str| -> Vec<u64> {
        let lines = text.lines();
        lines.map(|line| line.parse().unwrap_or(u64::MAX)).collect()
    };
    let (own, callers) = (parse(&run.stdout), parse(&hard));
    for (at, limit) in ["processes", "open_files"].into_iter().enumerate() {
        let most = limits[limit]["most"].as_u64().unwrap();
        assert_eq!(own[at], most.min(callers[at]), "{limit}: {run}");
    }
}
