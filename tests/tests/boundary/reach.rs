//! The kernel programs that judge the mediator's own sockets. Whatever the mediator decides about a host name, its
//! sockets do not reach the machine, its cloud platform, a network that is not public, or a port that is not allowed.
//! In these tests, programs in the mediator's cgroup act as a mediator that denies nothing.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the result of its run has failed"
)]

mod name_servers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_tests::evidence::{public_key_hex, second_verifier};
use egress_tests::{Judged, Output, Run, Running, World, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// Answers every connection and every datagram at any address of the runner.
const SERVICE: &str = "
import socket, sys, threading, time
port = int(sys.argv[1])
tcp = socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
udp.bind(('::', port))
def answer():
    while True:
        peer = udp.recvfrom(99)[1]
        udp.sendto(b'here', peer)
threading.Thread(target=answer, daemon=True).start()
while True:
    peer = tcp.accept()[0]
    peer.sendall(b'here')
    peer.close()
";

/// Contacts each given address in each way, and prints the attempts that were answered.
const CALLS: &str = r"
import socket, sys
def tcp(family, where, protocol=0):
    s = socket.socket(family, socket.SOCK_STREAM, protocol)
    s.settimeout(2)
    s.connect(where)
    return s
def fast_open(family, where):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(2)
    try: s.sendto(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', 0x20000000, where)
    except BlockingIOError: pass
    return s
def udp():
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(1)
    return s
def connected(family, where):
    s = udp()
    s.connect(where)
    s.send(b'x')
    return s
def sent(family, where):
    s = udp()
    s.sendto(b'x', where)
    return s
def gathered(family, where):
    s = udp()
    s.sendmsg([b'x'], [], 0, where)
    return s
ways = {
    'tcp': tcp, 'fast_open': fast_open, 'udp': connected, 'udp_sendto': sent, 'udp_sendmsg': gathered,
    'mptcp': lambda family, where: tcp(family, where, 262),
}
only = sys.argv[1].split(',')
for target in sys.argv[2:]:
    address, port = target.rsplit('/', 1)
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    for way in only:
        try:
            s = ways[way](family, (address, int(port)))
            if not way.startswith('udp') and port in ('80', '8080'): s.send(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
            if s.recv(9): print(way, address)
        except OSError as error:
            print(way, address, error, file=sys.stderr)
";

/// Addresses of the runner.
const OWN: [&str; 8] = [
    "203.0.113.2",
    "::ffff:203.0.113.2",
    "2001:db8:2::2",
    "127.0.0.1",
    "0.0.0.0",
    "::1",
    "::",
    "::ffff:127.0.0.1",
];

/// Addresses of the world's servers that are not public.
const NOT_PUBLIC: [&str; 12] = [
    "168.63.129.16",
    "169.254.169.254",
    "192.0.0.192",
    "192.0.0.8",
    "10.77.0.1",
    "::ffff:10.77.0.1",
    "fd77::1",
    "fd00:ec2::254",
    "64:ff9b::10.77.0.1",
    "64:ff9b:1:a4d:1:0:808:808",
    "2002:a4d:1::1",
    "64:ff9b::203.0.113.2",
];

/// Public addresses.
const PUBLIC: [&str; 3] = ["198.51.100.10", "::ffff:198.51.100.10", "2001:db8:1::10"];

/// A run whose command waits, with the packet directory and the workspace of the run.
struct Waiting {
    running: Running,
    packet: PathBuf,
    workdir: PathBuf,
}

impl Waiting {
    /// The run allows the port of the service, so that only the address decides.
    fn start(run: Run<'_>) -> Self {
        Self::start_and_end_with(run, "true")
    }

    fn start_and_end_with(run: Run<'_>, last: &str) -> Self {
        let run = run.arg("--allow-port").arg("6099");
        let script = &format!("touch ready; until [ -e done ]; do sleep 0.02; done; {last}");
        let (running, packet, workdir) = run.limit(Duration::from_mins(2)).script(script).start();
        wait_until("the command runs", SOON, || workdir.join("ready").exists());
        Self {
            running,
            packet,
            workdir,
        }
    }

    fn cgroup(&self) -> PathBuf {
        let found = self.running.cgroups();
        let mut found = found.into_iter();
        found.find(|dir| dir.ends_with("mediator")).unwrap()
    }

    fn end(self) -> (PathBuf, Output) {
        fs::write(self.workdir.join("done"), "").unwrap();
        let output = self.running.finish(SOON);
        (self.packet, output)
    }
}

/// Contacts the targets from `cgroup`, or from outside every cgroup of a run.
fn calls(world: &World, cgroup: Option<&Path>, ways: &str, targets: &[String]) -> Output {
    let program = world.dir().join("calls.py");
    fs::write(&program, CALLS).unwrap();
    let enter = cgroup.map(|dir| format!("echo $$ > {}/cgroup.procs;", dir.display()));
    world.shell(&format!(
        "{} python3 {} {ways} {}",
        enter.unwrap_or_default(),
        program.display(),
        targets.join(" ")
    ))
}

fn at(addresses: &[&str], port: u16) -> Vec<String> {
    let targets = addresses.iter();
    targets.map(|address| format!("{address}/{port}")).collect()
}

fn service(world: &World, port: u16) -> Running {
    let running = world.background(["python3", "-c", SERVICE, &port.to_string()]);
    wait_until("the service listens", SOON, || {
        let listening = world.shell(&format!("ss -Hltun sport = {port}"));
        listening.stdout.lines().count() >= 2
    });
    running
}

fn rows(packet: &Path, source: &str) -> Vec<Value> {
    let text = fs::read_to_string(packet.join("flows.jsonl")).unwrap();
    let rows = text.lines().map(|row| serde_json::from_str(row).unwrap());
    rows.filter(|row: &Value| row["source"] == source).collect()
}

/// Returns the number of denials that the rows of the flow log represent.
fn rows_counted(packet: &Path) -> u64 {
    let once = rows(packet, "kernel_mediator_denied").len() as u64;
    let repeats = rows(packet, "kernel_mediator_denied_repeats");
    let more = repeats.iter().map(|row| row["count"].as_u64().unwrap() - 1);
    once + more.sum::<u64>()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

/// Claims: special-addresses, gate-sockets, gate-denials
#[test]
fn mediators_sockets_reach_neither_the_machine_nor_its_platform() {
    const ALL: &str = "tcp,fast_open,udp,udp_sendto,udp_sendmsg,mptcp";
    let world = World::new();
    let _service = service(&world, 6099);
    let (own, others) = (at(&OWN, 6099), at(&NOT_PUBLIC, 80));
    let control = calls(&world, None, ALL, &own);
    assert_eq!(control.stdout.lines().count(), OWN.len() * 6, "{control}");
    let control = calls(&world, None, "tcp,mptcp", &others);
    assert_eq!(
        control.stdout.lines().count(),
        NOT_PUBLIC.len() * 2,
        "{control}"
    );

    let [key, boundary] = ["receipts", "boundary"].map(|name| world.key(name));
    let run = world.egress().allow(&["allowed.test"]).signed_with(&key);
    let run = run.arg("--boundary-key").arg(&boundary);
    let waiting = Waiting::start(run);
    let cgroup = waiting.cgroup();
    let refused = calls(&world, Some(&cgroup), ALL, &own);
    assert_eq!(refused.stdout, "", "{refused}");
    let refused = calls(&world, Some(&cgroup), ALL, &others);
    assert_eq!(refused.stdout, "", "{refused}");
    let (packet, output) = waiting.end();
    assert_eq!(output.status, Some(0), "{output}");

    let rows = rows(&packet, "kernel_mediator_denied");
    for (addresses, reason) in [(OWN.as_slice(), "own_address"), (&NOT_PUBLIC, "")] {
        for address in addresses {
            let shown = address.trim_start_matches("::ffff:");
            for (protocol, verdict) in [("tcp", "denied"), ("udp", "denied"), ("udp", "probe")] {
                let is_of = |row: &&Value| {
                    let row_of = |name| text(row, name);
                    let dst: Option<std::net::IpAddr> = row_of("dst").parse().ok();
                    dst == shown.parse().ok()
                        && row_of("protocol") == protocol
                        && row_of("verdict") == verdict
                        && (reason.is_empty()
                            || row_of("reason") == reason
                            || address.contains("0.0")
                            || *address == "::")
                };
                assert!(
                    rows.iter().any(|row| is_of(&row)),
                    "{address} {protocol} {verdict}: {rows:#?}"
                );
            }
        }
    }
    let reasons: Vec<&str> = rows.iter().map(|row| text(row, "reason")).collect();
    for reason in [
        "own_address",
        "platform_address",
        "not_public",
        "socket_type",
    ] {
        assert!(reasons.contains(&reason), "{reason}: {reasons:?}");
    }
    // The rows match the schema and each other. The mediator sent nothing that would need a receipt.
    let judged = Judged::new(&packet, &key, &boundary);
    assert_eq!(judged.grade(), "kernel_enforced", "{judged}");
    let [key, boundary] = [key, boundary].map(|key| public_key_hex(&key));
    let second = second_verifier(&key, &boundary, &[&packet]);
    assert!(second.stdout.contains("\"kernel_enforced\""), "{second}");
    // Verification detects a removed row.
    let counted = fs::read_to_string(packet.join("boundary.json")).unwrap();
    let counted: Value = serde_json::from_str(&counted).unwrap();
    let all = rows_counted(&packet);
    assert_eq!(counted["counters"]["mediator_denied"], all);
}

/// Claims: gate-maps*
#[test]
fn mediators_sockets_reach_public_addresses_and_what_the_policy_lists() {
    let world = World::new();
    let _service = service(&world, 6099);
    let run = world.egress().config(
        "mode: strict\napi_allowlist: [allowed.test]\ntrusted_domains: [corp.test]\n\
         ssrf: {ip_allowlist: ['203.0.113.2/32', '::1/128', '169.254.0.0/16', 192.0.0.8/32]}\n",
    );
    let waiting = Waiting::start(run);
    let cgroup = waiting.cgroup();
    let answered = |addresses: &[&str], port| {
        let called = calls(&world, Some(&cgroup), "tcp", &at(addresses, port));
        let lines = called.stdout.lines();
        let all = lines.map(|line| line.trim_start_matches("tcp ").to_owned());
        all.collect::<Vec<_>>()
    };
    assert_eq!(answered(&PUBLIC, 80), PUBLIC);
    let own = ["203.0.113.2", "::ffff:203.0.113.2", "::1"];
    assert_eq!(answered(&OWN, 6099), own);
    // Addresses that the policy lists are reachable, even in private networks, unless they belong to the cloud
    // platform.
    let opened = ["192.0.0.8", "10.77.0.1", "::ffff:10.77.0.1", "fd77::1"];
    let found = answered(&NOT_PUBLIC, 80);
    for address in opened {
        assert!(
            found.iter().any(|found| found == address),
            "{address}: {found:?}"
        );
    }
    for address in [
        "168.63.129.16",
        "169.254.169.254",
        "192.0.0.192",
        "fd00:ec2::254",
        "64:ff9b::203.0.113.2",
    ] {
        assert!(!found.iter().any(|found| found == address), "{address}");
    }
    let (_, output) = waiting.end();
    assert_eq!(output.status, Some(0), "{output}");
}

/// Claims: ports, gate-maps
#[test]
fn mediators_connections_reach_only_ports_that_the_run_opens() {
    const LISTED: &str = "2001:db8:1::20";
    let world = World::new();
    let run = world.egress().config(&format!(
        "mode: strict\napi_allowlist: [allowed.test]\nssrf: {{ip_allowlist: ['{LISTED}/128']}}\n"
    ));
    let waiting = Waiting::start(run);
    let cgroup = waiting.cgroup();
    let answered = |cgroup, addresses: &[&str], port| {
        let called = calls(&world, cgroup, "tcp", &at(addresses, port));
        called.stdout.lines().count()
    };
    for (addresses, port, inside) in [
        (&PUBLIC[..], 80, PUBLIC.len()),
        (&PUBLIC, 8080, 0),
        (&[LISTED], 8080, 1),
    ] {
        assert_eq!(answered(None, addresses, port), addresses.len(), "{port}");
        let found = answered(Some(cgroup.as_path()), addresses, port);
        assert_eq!(found, inside, "{addresses:?} {port}");
    }
    let (packet, output) = waiting.end();
    assert_eq!(output.status, Some(0), "{output}");
    let rows = rows(&packet, "kernel_mediator_denied");
    for hook in ["connect4", "connect6"] {
        let is_of = |row: &Value| {
            text(row, "hook") == hook
                && row["port"] == 8080
                && text(row, "reason") == "port_not_allowed"
                && text(row, "verdict") == "denied"
        };
        assert!(rows.iter().any(is_of), "{hook}: {rows:#?}");
    }
}

/// Claims: special-addresses, gate-updates, new-address, accepted-pass*
#[test]
fn address_that_the_machine_gets_during_the_run_is_its_own() {
    const LATER: &str = "198.51.100.77";
    let world = World::new();
    let _service = service(&world, 6099);
    let request = "curl -sS -o /dev/null -w '%{http_code}' --noproxy '*' http://allowed.test/";
    let run = world.egress().allow(&["allowed.test"]);
    let waiting = Waiting::start_and_end_with(run, request);
    let cgroup = waiting.cgroup();
    // Until this point, the address belongs to a host outside the machine, where nothing listens on this port.
    let before = calls(&world, Some(&cgroup), "tcp", &at(&[LATER], 6099));
    assert!(before.stderr.contains("refused"), "{before}");
    // The supervisor has not read the machine's addresses again at this point. Only the loopback interface shows that
    // the address is the machine's own.
    let program = world.dir().join("calls.py");
    let at_once = world.shell(&format!(
        "ip address add {LATER}/32 dev lo; (echo $BASHPID > {}/cgroup.procs; exec python3 {} tcp,fast_open,udp {LATER}/6099)",
        cgroup.display(),
        program.display()
    ));
    assert_eq!(at_once.stdout, "", "{at_once}");
    let control = calls(&world, None, "tcp,udp", &at(&[LATER], 6099));
    assert_eq!(control.stdout.lines().count(), 2, "{control}");
    wait_until("the supervisor has read the addresses", SOON, || {
        let later = calls(&world, Some(&cgroup), "tcp", &at(&[LATER], 6099));
        assert_eq!(later.stdout, "", "{later}");
        later.stderr.contains("not permitted")
    });
    let (packet, output) = waiting.end();
    assert_eq!(output.status, Some(0), "{output}");
    // The kernel does not deny the packets of the connection that the mediator accepted from the relay, although these
    // packets also leave through the loopback interface.
    assert_eq!(output.stdout, "200", "{output}");
    let rows = rows(&packet, "kernel_mediator_denied");
    for hook in ["skb_egress", "connect4"] {
        let is_of = |row: &Value| {
            text(row, "hook") == hook
                && text(row, "dst") == LATER
                && text(row, "reason") == "own_address"
        };
        assert!(rows.iter().any(is_of), "{hook}: {rows:#?}");
    }
}

/// Redirects connections to an address to the machine itself, with a rule of `nf_tables`
/// (`linux/netfilter/nf_tables.h`).
const REDIRECT: &str = "
import socket, struct, sys
def attr(kind, data): return struct.pack('HH', 4 + len(data), kind) + data + bytes(-len(data) % 4)
def nest(kind, *parts): return attr(kind | 0x8000, b''.join(parts))
def number(kind, value): return attr(kind, struct.pack('>i', value))
def name(kind, text): return attr(kind, text.encode() + bytes(1))
def expression(kind, *parts): return nest(1, name(1, kind), nest(2, *parts))
def message(kind, family, subsystem, *parts):
    body = struct.pack('>BBH', family, 0, subsystem) + b''.join(parts)
    return struct.pack('IHHII', 16 + len(body), kind, 0x405, kind, 0) + body
rule = nest(4,
    expression('payload', number(1, 1), number(2, 1), number(3, 16), number(4, 4)),
    expression('cmp', number(1, 1), number(2, 0), nest(3, attr(1, socket.inet_aton(sys.argv[1])))),
    expression('redir'))
batch = b''.join([
    message(16, 0, 10),
    message(0xa00, 2, 0, name(1, 't')),
    message(0xa03, 2, 0, name(1, 't'), name(3, 'c'), nest(4, number(1, 3), number(2, -100)), name(7, 'nat')),
    message(0xa06, 2, 0, name(1, 't'), name(2, 'c'), rule),
    message(17, 0, 10)])
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
netlink.settimeout(5)
netlink.send(batch)
for _ in range(3):
    error = struct.unpack_from('i', netlink.recv(1 << 16), 16)[0]
    if error: sys.exit(f'error {error}')
";

/// Claims: redirected-pass
#[test]
fn what_the_host_redirects_to_itself_passes() {
    const ELSEWHERE: &str = "198.51.100.77";
    let world = World::new();
    let _service = service(&world, 6099);
    let waiting = Waiting::start(world.egress().allow(&["allowed.test"]));
    let cgroup = waiting.cgroup();
    let call = || calls(&world, Some(&cgroup), "tcp", &at(&[ELSEWHERE], 6099));
    let before = call();
    assert_eq!(before.stdout, "", "{before}");
    let program = world.dir().join("redirect.py");
    fs::write(&program, REDIRECT).unwrap();
    let redirected = world.shell(&format!("python3 {} {ELSEWHERE}", program.display()));
    assert!(redirected.success(), "{redirected}");
    let after = call();
    assert_eq!(after.stdout, format!("tcp {ELSEWHERE}\n"), "{after}");
    // The machine's own address is denied as before.
    let own = calls(&world, Some(&cgroup), "tcp", &at(&["127.0.0.1"], 6099));
    assert_eq!(own.stdout, "", "{own}");
    let (packet, output) = waiting.end();
    assert_eq!(output.status, Some(0), "{output}");
    let denied = rows(&packet, "kernel_mediator_denied");
    assert!(
        !denied.iter().any(|row| text(row, "dst") == ELSEWHERE),
        "{denied:#?}"
    );
    assert!(
        denied.iter().any(|row| text(row, "dst") == "127.0.0.1"),
        "{denied:#?}"
    );
}
