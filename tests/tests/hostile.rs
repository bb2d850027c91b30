//! What an agent may try that no other file of these tests does. Every attempt works outside the boundary.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use egress_tests::{RunOutput, Trace, World};

/// A Python program as an attempt.
fn python(program: &str) -> String {
    format!("python3 - <<'EOF'\nimport ctypes, os, socket, struct, sys\n{program}\nEOF")
}

/// Ways to make a file that gives its owner's rights to whoever executes it; prints those that worked.
const GIVERS: &str = r"
libc = ctypes.CDLL(None, use_errno=True)
def made(name):
    path = f'{os.getcwd()}/{name}'
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o755))
    return path
def opened():
    os.close(os.open('opened', os.O_CREAT | os.O_WRONLY, 0o4755))
def opened_by_structure():
    how = struct.pack('QQQ', os.O_CREAT | os.O_WRONLY, 0o4755, 0)
    if libc.syscall(437, -100, f'{os.getcwd()}/openat2'.encode(), how, 24) < 0: raise OSError
def temporary():
    file = os.open('.', os.O_TMPFILE | os.O_WRONLY, 0o4755)
    os.link(f'/proc/self/fd/{file}', 'temporary', follow_symlinks=True)
def by_path(): os.chmod(made('chmod'), 0o4755)
def by_group(): os.chmod(made('group'), 0o2755)
def by_descriptor(): os.fchmod(os.open(made('fchmod'), os.O_RDONLY), 0o4755)
def by_directory():
    if libc.syscall(268, -100, made('fchmodat').encode(), 0o4755): raise OSError
def by_directory_and_flags():
    if libc.syscall(452, -100, made('fchmodat2').encode(), 0o4755, 0): raise OSError
def as_node(): os.mknod('node', 0o104755)
for way in [opened, opened_by_structure, temporary, by_path, by_group, by_descriptor, by_directory,
            by_directory_and_flags, as_node]:
    try: way()
    except OSError: pass
";

#[test]
fn files_that_give_their_owners_rights() {
    let special = |dir: &std::path::Path| {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.metadata().unwrap().mode() & 0o6000 != 0)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let world = World::new();
    let outside = world.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    let script = python(GIVERS);
    let control = world.shell(&format!("cd {} && {script}", outside.display()));
    assert!(control.success(), "{control}");
    assert!(special(&outside).len() >= 8, "{:?}", special(&outside));
    // In the workspace they would belong to its owner, who may be root.
    let run = world.egress().allow(&[]).script(&script).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(special(&run.workdir), Vec::<String>::new());
}

#[test]
fn what_mounts_inside_the_workspace_hide() {
    let world = World::new();
    let run = world.egress().allow(&[]);
    let work = run.directory();
    fs::create_dir(work.join("dir")).unwrap();
    fs::write(work.join("dir/secret"), "canary\n").unwrap();
    fs::write(work.join("file"), "canary\n").unwrap();
    let read = format!("cd {} && cat file dir/secret", work.display());
    let control = world.shell(&read);
    assert_eq!(control.stdout, "canary\ncanary\n", "{control}");
    let hidden = world.shell(&format!(
        "cd {} && mount --bind /dev/null file && mount -t tmpfs none dir",
        work.display()
    ));
    assert!(hidden.success(), "{hidden}");
    let run = run
        .script(&format!("{read}; cat dir/secret; echo x > file; true"))
        .run();
    assert_eq!((run.status, run.stdout.as_str()), (Some(0), ""), "{run}");
    assert!(
        world
            .shell(&format!("umount {0}/dir {0}/file", work.display()))
            .success()
    );
    assert_eq!(fs::read_to_string(work.join("file")).unwrap(), "canary\n");
}

/// Fails if the attempt says `THROUGH`.
#[track_caller]
fn assert_refused(run: &RunOutput) {
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!run.stdout.contains("THROUGH"), "{run}");
}

#[test]
fn packet_sockets_of_old() {
    // The kernel makes a socket of AF_PACKET of this one.
    World::new().assert_contained(
        Trace::None,
        &python("socket.socket(socket.AF_INET, 10, 0x300)"),
    );
}

#[test]
fn namespaces_by_every_call() {
    let world = World::new();
    for call in [
        "libc.unshare(0x10000000)",
        "libc.syscall(272, 0x10000000 | 0x40000000)",
        "libc.setns(os.open('/proc/self/ns/net', os.O_RDONLY), 0)",
        "libc.mount(b'none', b'/mnt', b'tmpfs', 0, None)",
        "min(0, libc.syscall(428, -100, b'/', 1))",
        "min(0, libc.syscall(430, b'tmpfs', 0))",
        "min(0, libc.syscall(323, 1))",
    ] {
        world.assert_contained(
            Trace::None,
            &python(&format!(
                "libc = ctypes.CDLL(None, use_errno=True)\nsys.exit({call} != 0)"
            )),
        );
    }
}

#[test]
fn links_addresses_and_routes() {
    let world = World::new();
    for change in [
        "ip addr add 192.0.2.77/32 dev lo",
        "ip route add 192.0.2.128/25 dev lo",
        "ip link set lo mtu 1400",
    ] {
        world.assert_contained(Trace::None, change);
    }
}

#[test]
fn settings_of_the_kernel() {
    let world = World::new();
    let attempt = "for file in /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/core_pattern \
         /proc/sysrq-trigger /proc/1/oom_score_adj /proc/1/mem /sys/power/state /sys/kernel/mm/ksm/run; do
             ( : >> $file ) 2> /dev/null && echo THROUGH $file
         done
         find /sys -maxdepth 3 -writable -type f 2> /dev/null | sed 's/^/THROUGH /'
         find / -xdev -name 'cgroup.procs' 2> /dev/null | sed 's/^/THROUGH /'
         true";
    let control = world.shell("( : >> /proc/sys/kernel/core_pattern ) && test -w /proc/1/mem");
    assert!(control.success(), "{control}");
    assert_refused(&world.egress().allow(&[]).script(attempt).run());
}

#[test]
fn names_in_other_spellings() {
    let world = World::new();
    // Each of them is asked of the proxy and leads elsewhere, or nowhere, than to the name on the list.
    let program = r"
import ssl
def ask(target, host, method='GET'):
    stream = socket.create_connection(('127.0.0.1', 3128), 10)
    stream.sendall(b'%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' % (method.encode(), target, host))
    status = stream.recv(4096).split(b' ')[1:2]
    if status != [b'200']: return
    if method == 'CONNECT':
        # The relay says yes to any, and judges when it knows what the tunnel is for.
        try: ssl._create_unverified_context().wrap_socket(stream, server_hostname=host.decode().split(':443')[0])
        except (OSError, ValueError): return
    print('THROUGH', target, host)
hosts = [b'denied.test', b'allowed.test.denied.test', b'denied.test\x00.allowed.test', b'198.51.100.20', b'3325256724',
         b'0xc6336414', b'0306.063.0144.024', b'198.51.25620', b'[::ffff:198.51.100.20]', b'[2001:db8:1::20]',
         b'[fe80::1%25lo]', b'allowed.test@denied.test', b'denied.test#allowed.test', b'denied.test%2eallowed.test',
         b'denied.test\\.allowed.test', b'xallowed.test', b'allowed.test:80@denied.test', b'127.0.0.1', b'0', b'localhost']
for host in hosts:
    for named in {host, b'allowed.test'}:
        ask(b'http://' + host + b'/', named)
    ask(host + b':443', host + b':443', 'CONNECT')
for host in hosts[:1]:
    ask(b'http://allowed.test/', host)
    ask(b'//denied.test/', b'allowed.test'), ask(b'/http://denied.test/', b'allowed.test')
for path in [b'/health', b'//health', b'/%68ealth', b'/x/../health', b'/metrics', b'/fetch?url=http://denied.test/',
             b'/ws?url=ws://denied.test/', b'/api/v1/', b'*']:
    ask(path, b'allowed.test'), ask(path, b'127.0.0.1:3128'), ask(b'http://127.0.0.1' + path, b'127.0.0.1')
";
    world.wait_for_quiet();
    let start = world.wire().snapshot();
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .script(&python(program))
        .run();
    assert_refused(&run);
    world.wire().assert_still(start);
    let control = world.shell("curl -sSf http://198.51.100.20/ && curl -sSf http://denied.test/");
    assert!(control.success(), "{control}");
}

#[test]
fn second_requests_and_smuggled_ones() {
    let world = World::new();
    let program = r"
good = b'GET /first HTTP/1.1\r\nHost: allowed.test\r\n\r\n'
evil = b'GET /evil HTTP/1.1\r\nHost: denied.test\r\nConnection: close\r\n\r\n'
length = str(len(evil)).encode()
post = b'POST /first HTTP/1.1\r\nHost: allowed.test\r\n'
for first in [
    good,
    post + b'Content-Length: 0\r\nContent-Length: ' + length + b'\r\n\r\n',
    post + b'Content-Length: ' + length + b'\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    post + b'Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n',
    post + b'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n',
    post + b'Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n',
    post + b'Content-Length: +0\r\n\r\n',
    b'GET /first HTTP/1.1\r\nHost: allowed.test\r\nX: y\n\n',
    b'GET /first HTTP/1.1\r\nHost: allowed.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n',
    b'GET /first HTTP/1.1\r\nHost: allowed.test\r\nHost: denied.test\r\n\r\n',
    b'CONNECT allowed.test:443 HTTP/1.1\r\nHost: allowed.test:443\r\n\r\n',
]:
    for port, name in [(80, 'allowed.test'), (3128, '127.0.0.1')]:
        text = (first + evil).replace(b' /', b' http://allowed.test/') if port == 3128 else first + evil
        stream = socket.create_connection((name, port), 10)
        stream.settimeout(10)
        try:
            stream.sendall(text)
            while stream.recv(4096): pass
        except OSError: pass
";
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .script(&python(program))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let requests = world.requests();
    assert!(!requests.is_empty(), "{run}");
    for request in requests {
        assert_eq!(request.host.as_deref(), Some("allowed.test"), "{request:?}");
    }
    let control = world.shell("curl -sSf http://denied.test/evil; true");
    assert!(control.success(), "{control}");
    assert!(
        world
            .requests()
            .iter()
            .any(|request| request.host.as_deref() == Some("denied.test"))
    );
}

#[test]
fn addresses_rewritten_during_the_call() {
    let world = World::new();
    let program = r"
import threading
libc = ctypes.CDLL(None, use_errno=True)
sys.setswitchinterval(1e-6)
local = struct.pack('!HH4s8x', 0, 9, socket.inet_aton('127.0.0.1'))
far = struct.pack('!HH4s8x', 0, 7000, socket.inet_aton('198.51.100.20'))
buffer = ctypes.create_string_buffer(16)
stop = False
def flip():
    while not stop:
        for address in (local, far): ctypes.memmove(buffer, struct.pack('=H', 2) + address[2:], 16)
threading.Thread(target=flip).start()
stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(ROUNDS):
    libc.sendto(stream.fileno(), b'x', 1, 0, buffer, 16)
    again = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if libc.connect(again.fileno(), buffer, 16) == 0: libc.send(again.fileno(), b'x', 1, 0x4000)
    again.close()
stop = True
";
    let start = world.wire().snapshot();
    let attempt = python(&program.replace("ROUNDS", "3000"));
    let run = world.egress().allow(&[]).script(&attempt).run();
    assert_eq!(run.status, Some(0), "{run}");
    world.wire().assert_still(start);
    let control = world.shell(&python(&program.replace("ROUNDS", "3000")));
    assert!(control.success(), "{control}");
    world.wire().assert_moved(start);
}

#[test]
fn words_for_the_callers_terminal_and_runner() {
    let world = World::new();
    let run = world.egress().allow(&[]).file(
        "ask.py",
        r"
import ctypes, socket
libc = ctypes.CDLL(None)
for name in [b'\x1b]0;owned\x07', b'\n::error::owned', b'|<b>`owned`']:
    libc.prctl(15, name, 0, 0, 0)
    try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.20', 7000))
    except OSError: pass
",
    );
    let run = run
        .script("python3 ask.py; curl -s --noproxy '*' 'http://x.test/%0A::error::owned' || true")
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    let flows = fs::read_to_string(run.packet.join("flows.jsonl")).unwrap();
    let summary = fs::read_to_string(run.packet.join("summary.md")).unwrap();
    // It is in the record, and does nothing there.
    assert!(flows.contains("owned"), "{flows}");
    for text in [&run.stderr, &summary, &flows] {
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{7}'),
            "{text}"
        );
        assert!(
            !text.lines().any(|line| line.trim_start().starts_with("::")),
            "{text}"
        );
    }
}

#[test]
fn keys_of_the_workspace_under_another_path() {
    let world = World::new();
    let run = world.egress();
    let work = run.directory();
    let key = world.key("signing.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    // A second way to the workspace, and a link to it.
    let dir = tempfile::Builder::new()
        .prefix("egress-test-")
        .tempdir_in("/opt")
        .unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    std::os::unix::fs::symlink(&work, dir.path().join("link")).unwrap();
    fs::copy(&key, work.join("signing.key")).unwrap();
    let other = dir.path().join("other");
    let made = world.shell(&format!(
        "mount --bind {} {}",
        work.display(),
        other.display()
    ));
    assert!(made.success(), "{made}");
    let read = format!(
        "cat {0}/other/signing.key {0}/link/signing.key",
        dir.path().display()
    );
    assert!(world.shell(&read).success());
    let run = run
        .allow(&[])
        .signed_with(&work.join("signing.key"))
        .script(&format!(
            "{read}; cat signing.key; echo x > {0}/other/made; ln signing.key copy; true",
            dir.path().display()
        ))
        .run();
    assert_eq!((run.status, run.stdout.as_str()), (Some(0), ""), "{run}");
    assert!(!work.join("made").exists());
    assert!(!work.join("copy").exists());
}
