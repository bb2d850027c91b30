//! Host names, address families, and standard streams, as the command sees them.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_tests::{INTERNET, World, binary, wait_until};
use serde_json::Value;

const PLAIN: &str = "unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy\n";

/// A run that a shell starts. A caller's shell can change the streams and the descriptors that the run inherits.
struct ByShell {
    line: String,
    packet: PathBuf,
}

impl ByShell {
    /// Prepares a run of `script` that allows `allowed.test`.
    fn new(world: &World, script: &str) -> Self {
        let run = world
            .egress()
            .allow(&["allowed.test"])
            .file("agent.sh", script);
        let work = run.directory();
        let packet = work.with_file_name("packet");
        let line = format!(
            "{} run --config {} --workdir {} --packet-dir {} -- bash agent.sh",
            binary().display(),
            work.with_file_name("pipelock.yaml").display(),
            work.display(),
            packet.display()
        );
        Self { line, packet }
    }

    fn boundary(&self, pointer: &str) -> Value {
        let text = fs::read(self.packet.join("boundary.json")).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        document.pointer(pointer).unwrap().clone()
    }
}

/// Claims: search-domains*
#[test]
fn host_name_with_a_dot_and_search_domains() {
    // Every name below `more.test` exists, so a search would find another machine.
    let world = World::builder()
        .resolv_conf(&format!(
            "nameserver {}\nsearch more.test corp.test\noptions ndots:5\n",
            INTERNET.resolver
        ))
        .build();
    let control = world.shell("curl -sSf http://allowed.test/");
    assert!(control.success(), "{control}");
    let elsewhere = world.requests().pop().unwrap().server.ip();
    assert_ne!(elsewhere, INTERNET.allowed);
    assert_ne!(elsewhere, INTERNET.allowed_v6);

    let queries_before = world.queries().len();
    let run = ByShell::new(
        &world,
        &format!(
            "{PLAIN}uname -n
             getent hosts $(uname -n) > /dev/null && echo own name resolves
             curl -sSf http://allowed.test/
             python3 -c 'import socket; print(socket.gethostbyname(socket.gethostname()))'"
        ),
    );
    let output = world.shell(&format!(
        "unshare --uts bash -c 'echo builder.corp.test > /proc/sys/kernel/hostname; exec {}'",
        run.line
    ));
    assert_eq!(
        output.stdout, "builder\nown name resolves\nhello from allowed.test\n127.0.0.1\n",
        "{output}"
    );
    let server = world.requests().pop().unwrap().server.ip();
    assert!(server == INTERNET.allowed || server == INTERNET.allowed_v6);
    // The name server received exactly this name and no other.
    let queries = world.queries();
    assert!(queries.len() > queries_before);
    assert!(
        queries[queries_before..]
            .iter()
            .all(|query| query.name == "allowed.test"),
        "{queries:?}"
    );
}

#[test]
fn runner_without_ipv6() {
    let world = World::builder().without_ipv6().build();
    let run = world
        .egress()
        .allow(&["allowed.test"])
        .script(&format!(
            "{PLAIN}curl -sSf4 http://allowed.test/ && curl -sSf http://allowed.test/"
        ))
        .run();
    assert_eq!(run.stdout, "hello from allowed.test\n".repeat(2), "{run}");
}

/// Starts a program that cannot set an option of IPv6 sockets and therefore cannot create the listener on `::1`. For
/// this program, the machine has no IPv6.
const WITHOUT_IPV6_LISTENER: &str = r"
import ctypes, os, platform, struct, sys
setsockopt = {'x86_64': 54, 'aarch64': 208}[platform.machine()]
def op(code, jt, jf, k):
    return struct.pack('HBBI', code, jt, jf, k)
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
program = b''.join([
    op(LOAD, 0, 0, 0), op(EQUAL, 0, 5, setsockopt),
    op(LOAD, 0, 0, 24), op(EQUAL, 0, 3, 41),   # IPPROTO_IPV6
    op(LOAD, 0, 0, 32), op(EQUAL, 0, 1, 26),   # IPV6_V6ONLY
    op(RETURN, 0, 0, 0x00050000 | 92),         # ENOPROTOOPT
    op(RETURN, 0, 0, 0x7fff0000),
])
buffer = ctypes.create_string_buffer(program, len(program))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
filters = Program(len(program) // 8, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, ctypes.byref(filters), 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
";

/// Claims: loading-programs
#[test]
fn boundary_without_ipv6() {
    let world = World::new();
    let launcher = world.dir().join("without_ipv6.py");
    fs::write(&launcher, WITHOUT_IPV6_LISTENER).unwrap();
    let attempt = "curl -sSf -m 5 'http://[2001:db8:1::10]/'";
    let control = world.shell(attempt);
    assert!(control.success(), "{control}");
    let before = world.requests().len();

    let run = ByShell::new(
        &world,
        &format!(
            "{PLAIN}python3 -c 'import socket; socket.getaddrinfo(\"allowed.test\", 80, socket.AF_INET6)' 2> /dev/null ||
                 echo no IPv6 address
             {attempt} 2> /dev/null || echo no IPv6 connection
             curl -sSf http://allowed.test/"
        ),
    );
    let output = world.shell(&format!("python3 {} {}", launcher.display(), run.line));
    assert_eq!(
        output.stdout, "no IPv6 address\nno IPv6 connection\nhello from allowed.test\n",
        "{output}"
    );
    let requests = world.requests();
    assert_eq!(requests.len(), before + 1, "{requests:?}");
    assert_eq!(run.boundary("/ipv6"), false);
    let flows = fs::read_to_string(run.packet.join("flows.jsonl")).unwrap();
    assert!(
        flows
            .lines()
            .any(|row| row.contains("\"verdict\":\"denied\"")
                && row.contains("\"reason\":\"ipv6_unavailable\"")
                && row.contains("\"dst\":\"2001:db8:1::10\"")),
        "{flows}"
    );
}

#[test]
fn standard_streams() {
    let world = World::new();
    let run = ByShell::new(
        &world,
        "cat; echo out > /dev/stdout; echo err > /dev/stderr; echo two >&2
         for stream in 0 1 2; do [[ $(readlink /proc/self/fd/$stream) == pipe:* ]] && echo pipe; done",
    );
    let output = world.shell(&format!("echo into it | {}", run.line));
    assert_eq!(
        output.stdout, "into it\nout\npipe\npipe\npipe\n",
        "{output}"
    );
    assert!(output.stderr.starts_with("err\ntwo\n"), "{output}");
}

#[test]
fn inherited_descriptors_are_closed_and_recorded() {
    let world = World::new();
    let secret = world.dir().join("secret");
    fs::write(&secret, "canary").unwrap();
    // The attempts are a connection to a denied host and a read of an open file. Both attempts work without the
    // boundary.
    let open = format!(
        "exec 7<{} 8<>/dev/tcp/{}/7000 9</dev/tcp/{}/7000",
        secret.display(),
        INTERNET.denied,
        INTERNET.denied
    );
    let attempt = "ls /proc/self/fd | tr '\\n' ' '; cat <&7; echo canary >&8 && echo THROUGH";
    let control = world.shell(&format!("{open}; {attempt}"));
    assert!(
        control.stdout.ends_with("canaryTHROUGH\n"),
        "without a boundary: {control}"
    );
    world.wait_for_quiet();

    let run = ByShell::new(&world, attempt);
    let output = world.shell(&format!("{open}; {} <&9", run.line));
    // `ls` opens descriptor 3 to read the directory.
    assert_eq!(output.stdout, "0 1 2 3 ", "{output}");
    let inherited = run.boundary("/inherited_descriptors").to_string();
    for descriptor in ["7", "8", "9"] {
        assert!(inherited.contains(descriptor), "{inherited}");
    }
    assert!(
        inherited.contains(&secret.display().to_string()),
        "{inherited}"
    );
    assert!(
        world
            .arrivals()
            .iter()
            .all(|arrival| arrival.bytes.is_empty() || arrival.bytes == b"canary\n"),
    );
    let canaries = world.arrivals();
    let canaries = canaries.iter().filter(|arrival| !arrival.bytes.is_empty());
    assert_eq!(canaries.count(), 1, "only the control's");
}

/// Claims: channel-stream
#[test]
fn standard_stream_that_is_a_socket_is_named() {
    let world = World::new();
    let peer = format!("{}:7000", INTERNET.denied);
    let connected = format!("/dev/tcp/{}/7000", INTERNET.denied);
    let run = ByShell::new(&world, "echo through");
    // The caller connected this stream, so data leaves through it, and the packet states this.
    let output = world.shell(&format!("{} >{connected}", run.line));
    assert!(output.success(), "{output}");
    wait_until("the peer has it", Duration::from_secs(10), || {
        let arrivals = world.arrivals();
        arrivals.iter().any(|one| one.bytes == b"through\n")
    });
    let socket = |run: &ByShell| run.boundary("/inherited_descriptors").to_string();
    let named = socket(&run);
    assert_eq!(run.boundary("/output/bytes"), "through\n".len());
    assert!(named.contains("\"1: socket:["), "{named}");
    assert!(named.contains(&format!("connected to {peer}")), "{named}");
    let notices = run.boundary("/notices").to_string();
    assert!(
        notices.contains("standard output") && notices.contains(&peer),
        "{notices}"
    );
    // A pipe or a file is not recorded as a connected stream.
    let run = ByShell::new(&world, "echo through");
    world.shell(&run.line);
    let named = socket(&run);
    assert!(!named.contains("\"1: "), "{named}");
    assert!(!run.boundary("/notices").to_string().contains("standard"));
}

/// Claims: steps-in-order*, programs-first, probes-inside, closed-before-code, add-step, crate-user*
#[test]
fn steps_of_every_run_come_in_order() {
    let world = World::new();
    for script in ["true", "exit 7", "kill -KILL $$"] {
        let run = world.egress().allow(&[]).script(script).run();
        let timeline = run.boundary("/timeline");
        let at = |step: &str| {
            let marks = timeline.as_array().unwrap();
            let mut found = marks.iter().filter(|mark| mark["step"] == step);
            let mark = found.next();
            assert!(found.next().is_none(), "{step} twice: {timeline}");
            mark.and_then(|mark| mark["at_us"].as_u64())
                .unwrap_or_else(|| panic!("no {step}: {timeline}"))
        };
        let steps = [
            "gates attached",
            "boundary closed",
            "probes done",
            "mediator ready",
            "relay ready",
            "command executed",
            "command ended",
            "agent gone",
            "relay ended",
            "mediator ended",
        ]
        .map(at);
        assert!(steps.is_sorted(), "{timeline}");
    }
}

/// Claims: host-unchanged
#[test]
fn files_and_network_of_the_host_are_as_before() {
    // Settings of the network, rules of the packet filters, interfaces, addresses, and routes.
    const NETWORK: &str = "cd /proc/sys/net; grep -rs . . | sort
        cat /proc/self/net/ip_tables_names /proc/self/net/ip6_tables_names 2> /dev/null
        for list in 'nft list ruleset' iptables-save ip6tables-save; do
            command -v ${list%% *} > /dev/null && $list | grep -v '^#'
        done
        for what in 'link' address rule 'route show table all' '-6 route show table all'; do
            ip -o $what | sed -E 's/(valid_lft|preferred_lft|expires) [0-9a-z]+//g'
        done";
    let world = World::new();
    let state = |path: &str| {
        let metadata = Path::new(path).metadata().ok()?;
        let times = (metadata.mtime_nsec(), metadata.ctime_nsec());
        Some((times, metadata.ino(), metadata.len()))
    };
    let paths = [
        "/etc/passwd",
        "/etc/group",
        "/etc/shadow",
        "/etc/gshadow",
        "/etc/subuid",
        "/etc/subgid",
        "/etc/sudoers",
        "/etc/sudoers.d",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/nsswitch.conf",
    ];
    let before = paths.map(state);
    assert!(before[..3].iter().all(Option::is_some), "{before:?}");
    let network = || world.shell(NETWORK).stdout;
    let network_before = network();
    for part in ["ipv4/ip_forward:", "eth0", "127.0.0.1/8"] {
        assert!(network_before.contains(part), "{part}: {network_before}");
    }
    let run = world.egress().allow(&["allowed.test"]).script(
        "id -un; getent passwd pipelock-agent | cut -d: -f1; curl -sSf http://allowed.test/",
    );
    let run = run.run();
    assert_eq!(
        run.stdout, "pipelock-agent\npipelock-agent\nhello from allowed.test\n",
        "{run}"
    );
    assert_eq!(paths.map(state), before);
    assert_eq!(network(), network_before);
    // The control: a change of each kind is detected.
    let changed = world.shell("ip link add dummy7 type dummy; ip link set lo mtu 65000");
    assert!(changed.success(), "{changed}");
    assert_ne!(network(), network_before);
}

/// Claims: table-real-time
#[test]
fn no_real_time_priority() {
    const LIMITS: &str = "grep -E '^Max (nice|realtime) priority' /proc/self/limits | tr -s ' '";
    const ATTEMPT: &str = "python3 -c 'import os
for way in [lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)), lambda: os.nice(-5)]:
    try: way(); print(\"THROUGH\")
    except OSError: print(\"refused\")'";
    // Root may lack the capability to raise the caller's limits, so a test in `exec.rs` also covers raised limits.
    const RAISED: &str = "prlimit --pid $$ --rtprio=50 --nice=40 2> /dev/null";
    let world = World::new();
    let control = world.shell(ATTEMPT);
    assert_eq!(control.stdout, "THROUGH\nTHROUGH\n", "{control}");
    let run = ByShell::new(&world, &format!("{ATTEMPT}; {LIMITS}"));
    let output = world.shell(&format!("{RAISED}; {}", run.line));
    let limits = "Max nice priority 0 0 \nMax realtime priority 0 0 \n";
    assert_eq!(
        output.stdout,
        format!("refused\nrefused\n{limits}"),
        "{output}"
    );
}

/// With a limit of 0, the kernel still starts the host program that `core_pattern` names.
///
/// Claims: core-dump*, denied-calls
#[test]
fn core_limit_is_one_byte_and_cannot_be_changed() {
    const LIMIT: &str = "grep '^Max core file size' /proc/self/limits | tr -s ' '";
    // The call may report success although the limit did not change, so the program reads the limit again.
    const CHANGE: &str = "python3 -c 'import resource as r
try: r.setrlimit(r.RLIMIT_CORE, (0, 0))
except (OSError, ValueError): pass
print(r.getrlimit(r.RLIMIT_CORE))'";
    const CALLERS: &str = "prlimit --core=0:unlimited";
    let world = World::new();
    let control = world.shell(&format!("{CALLERS} bash -c \"{LIMIT}\"; {CHANGE}"));
    assert_eq!(
        control.stdout, "Max core file size 0 unlimited bytes \n(0, 0)\n",
        "{control}"
    );
    let run = ByShell::new(&world, &format!("{LIMIT}; {CHANGE}"));
    let output = world.shell(&format!("{CALLERS} {}", run.line));
    assert_eq!(
        output.stdout, "Max core file size 1 1 bytes \n(1, 1)\n",
        "{output}"
    );
}

/// Claims: table-signals*
#[test]
fn limits_of_the_runs_user_are_no_higher_than_its_share() {
    const SHARES: [(&str, u64); 3] = [
        ("pending signals", 16_384),
        ("msgqueue size", 409_600),
        ("locked memory", 8 << 20),
    ];
    // The values are hard limits.
    let limits = |text: &str| {
        SHARES.map(|(name, _)| {
            let line = text.lines().find(|line| line.contains(name)).unwrap();
            let mut words = line.split_whitespace().rev();
            words.nth(1).unwrap().parse().unwrap_or(u64::MAX)
        })
    };
    let world = World::new();
    let control = world.shell("cat /proc/self/limits");
    let caller = limits(&control.stdout);
    assert!(
        caller[0] > SHARES[0].1 && caller[1] > SHARES[1].1,
        "{control}"
    );
    let run = world.egress().allow(&[]);
    let run = run.script("cat /proc/self/limits").run();
    for ((found, caller), (name, most)) in limits(&run.stdout).into_iter().zip(caller).zip(SHARES) {
        assert_eq!(found, most.min(caller), "{name}: {run}");
    }
}
