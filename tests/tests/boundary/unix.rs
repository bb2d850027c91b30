//! The records of the kernel programs about Unix sockets, and the Unix sockets that a run opens on request.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use egress_tests::{Run, Trace, World};
use serde_json::Value;
use tempfile::TempDir;

/// Uses an address in the way that `kind` names, and ignores the result. With `wait`, the client stays for some
/// seconds, because a relative path is resolved in the directory of a process that exists.
const CLIENT: &str = r"
import socket, sys, time
for word in sys.argv[1:]:
    kind, address = word.split('=', 1)
    address = address.replace('@', '\0')
    try:
        if kind == 'stream':
            socket.socket(socket.AF_UNIX).connect(address)
        elif kind == 'wait':
            time.sleep(int(address))
        elif kind == 'datagram':
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect(address)
        else:
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', address)
    except OSError:
        pass
";

/// Claims: read-unix-paths, unix-addresses*, path-sockets
#[test]
fn every_use_of_an_address_is_in_the_record() {
    let world = World::new();
    let run = world
        .egress()
        .allow(&[])
        .file("client.py", CLIENT)
        .script(
            "python3 - << 'EOF'
import socket
for address in ['/tmp/own', 'relative', '\\0own']:
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
import subprocess
subprocess.run(['python3', 'client.py', 'stream=/tmp/own', 'stream=relative', 'stream=@own',
                'stream=/run/docker.sock', 'stream=/var/run/../run/docker.sock',
                'datagram=/run/systemd/journal/socket', 'send=/dev/log', 'send=/dev/log', 'send=/dev/log',
                'stream=/tmp/a\\n\\udcff\"', 'wait=3'], check=True)
EOF",
        )
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    for (hook, path, verdict) in [
        ("connect_unix", "/tmp/own", "local"),
        ("connect_unix", "relative", "local"),
        ("connect_unix", "@own", "local"),
        ("connect_unix", "/run/docker.sock", "unreachable"),
        ("connect_unix", "/var/run/../run/docker.sock", "unreachable"),
        ("connect_unix", "/run/systemd/journal/socket", "unreachable"),
        ("connect_unix", "/tmp/a\\n\\xff\\\"", "unreachable"),
        ("sendmsg_unix", "/dev/log", "unreachable"),
    ] {
        let fields = [
            ("hook", hook),
            ("path", path),
            ("verdict", verdict),
            ("protocol", "unix"),
            ("process", "python3"),
        ];
        run.assert_flow(&fields);
    }
    // Repeated uses are one row and a count.
    assert_eq!(
        run.flows(&[("source", "kernel"), ("path", "/dev/log")])
            .len(),
        1
    );
    run.assert_flow(&[
        ("source", "kernel_repeats"),
        ("path", "/dev/log"),
        ("count", "3"),
    ]);
    // The list of denied attempts contains attempts to reach sockets of the host, and no uses of the command's own
    // sockets.
    let denied = run.boundary("/denied").to_string();
    assert!(denied.contains("/run/docker.sock"), "{denied}");
    assert!(!denied.contains("own"), "{denied}");
    assert!(
        run.stderr.contains("3 x /dev/log by python3 (unix"),
        "{run}"
    );
}

/// Claims: unix-addresses
#[test]
fn the_record_names_the_witnesses() {
    let world = World::new();
    let run = world.egress().allow(&[]).script("true").run();
    assert_eq!(run.status, Some(0), "{run}");
    let attached = run.boundary("/programs/attached");
    let names: Vec<&str> = attached
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|program| program.get("name").and_then(Value::as_str))
        .collect();
    let unavailable = run.boundary("/programs/unavailable");
    // The kernel's version alone decides whether these programs are attached or listed as unavailable.
    let release = kernel_release();
    for name in ["agent_unix_connect", "agent_unix_sendmsg"] {
        assert_eq!(names.contains(&name), release >= (6, 7), "{names:?}");
        assert_eq!(
            unavailable.to_string().contains(name),
            release < (6, 7),
            "{unavailable}"
        );
    }
}

/// Returns the version of the running kernel.
fn kernel_release() -> (u32, u32) {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = text.split('.').map_while(|part| part.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Serves one socket of the host, and returns every message to its sender.
fn serve(path: &Path, mode: u32) {
    let listener = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = peer.unwrap();
            let mut said = [0; 5];
            if peer.read_exact(&mut said).is_ok() {
                peer.write_all(&said).unwrap();
            }
        }
    });
}

/// Exits with 0 only if the server of the socket answers.
const ASK: &str = "python3 - << EOF
import socket
client = socket.socket(socket.AF_UNIX)
client.settimeout(5)
client.connect('SOCKET')
client.sendall(b'hello')
assert client.recv(5) == b'hello'
EOF
";

/// Creates a directory in `parent` with this mode.
fn directory(parent: &str, mode: u32) -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("egress-test-")
        .tempdir_in(parent)
        .unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    dir
}

#[test]
fn one_socket_of_the_host_is_opened_by_name() {
    for (parent, enter, mode) in [
        ("/opt", 0o755, 0o600),
        ("/opt", 0o700, 0o666),
        ("/run", 0o700, 0o600),
        ("/tmp", 0o755, 0o666),
    ] {
        let world = World::new();
        let dir = directory(parent, enter);
        let (wanted, other) = (dir.path().join("wanted"), dir.path().join("other"));
        serve(&wanted, mode);
        serve(&other, mode);
        let ask = |path: &Path| ASK.replace("SOCKET", path.to_str().unwrap());
        world.assert_contained(Trace::None, &ask(&wanted));
        world.assert_contained(Trace::None, &ask(&other));

        let path = wanted.to_str().unwrap();
        let run = world
            .egress()
            .allow(&[])
            .arg("--allow-unix")
            .arg(path)
            .script(&format!(
                "({}) && echo wanted\n({}) 2> /dev/null && echo other\n\
                 rm -f {path} 2> /dev/null; chmod 777 {path} 2> /dev/null && echo changed; true",
                ask(&wanted),
                ask(&other)
            ))
            .run();
        assert_eq!(run.stdout, "wanted\n", "{parent}: {run}");
        assert!(wanted.exists());
        // The packet shows the socket in three places: in the list of allowed sockets, as an unsupported path of the
        // posture, and in a row for each use.
        assert_eq!(run.boundary("/allowed_unix/0/path"), path);
        let packet = run.json("packet.json");
        let open = packet.pointer("/posture/unsupported_paths").unwrap();
        let named = format!("unix:{path}");
        let names = open.as_array().unwrap();
        assert!(names.iter().any(|name| name == &named), "{open}");
        let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
        let explained = format!("Unix socket {path}");
        assert!(summary.contains(&explained), "{summary}");
        assert!(run.stderr.contains(path), "{run}");
        run.assert_flow(&[("path", path), ("verdict", "allowed_unix")]);
        let other = other.to_str().unwrap();
        run.assert_flow(&[("path", other), ("verdict", "unreachable")]);
    }
}

#[test]
fn the_hint_about_the_socket_of_a_service_works() {
    const SERVE: &str = "
import os, socket
os.umask(0)
server = socket.socket(socket.AF_UNIX)
server.bind('/run/docker.sock')
server.listen()
open('listens', 'w').close()
while True:
    peer = server.accept()[0]
    try:
        peer.sendall(peer.recv(5))
    except OSError:
        # A probe connects as well, and closes its connection at once.
        pass
    peer.close()
";
    let world = World::new();
    // The world has its own /run, so that the /run of the machine is not changed.
    let made = world.shell(
        "mkdir keep && mount --bind /run/egress keep && mount -t tmpfs -o mode=755 none /run &&
         mkdir /run/egress && mount --bind keep /run/egress",
    );
    assert!(made.success(), "{made}");
    let _service = world.background(["python3", "-c", SERVE]);
    let ask = ASK.replace("SOCKET", "/var/run/docker.sock");
    // The control: the same attempt on the host.
    let control = world.shell(&format!("until [ -e listens ]; do sleep 0.1; done; {ask}"));
    assert!(control.success(), "{control}");

    let denied = world.egress().allow(&[]).script(&ask).run();
    assert_eq!(denied.status, Some(1), "{denied}");
    let line = denied
        .stderr
        .lines()
        .find(|line| line.contains(" x /var/run/docker.sock by python3"))
        .unwrap_or_default();
    let (_, options) = line.split_once(" needs ").unwrap_or_default();
    assert_eq!(
        options, "--allow-unix /run/docker.sock --accept-risk docker_socket",
        "{denied}"
    );
    let run = world.egress().allow(&[]);
    let run = options.split(' ').fold(run, Run::arg);
    let allowed = run.script(&ask.replace("/var/run/", "/run/")).run();
    assert_eq!(allowed.status, Some(0), "{allowed}");
    assert_eq!(allowed.boundary("/allowed_unix/0/path"), "/run/docker.sock");
}

#[test]
fn path_that_is_not_a_socket_is_not_opened() {
    let world = World::new();
    let dir = directory("/opt", 0o755);
    let socket = dir.path().join("socket");
    serve(&socket, 0o666);
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    let absent = dir.path().join("absent");
    for (path, message) in [
        (file.as_path(), "not a Unix socket"),
        (dir.path(), "not a Unix socket"),
        (&link, "the path goes through a symbolic link"),
        (&absent, "cannot find the socket"),
        (Path::new("relative"), "absolute path"),
    ] {
        let run = world
            .egress()
            .allow(&[])
            .arg("--allow-unix")
            .arg(path)
            .script("echo ran")
            .run();
        assert_eq!(run.status, Some(64), "{run}");
        assert_eq!(run.stdout, "", "{run}");
        assert!(run.stderr.contains(message), "{run}");
    }
}
