//! The system call filters let ordinary programs run and deny calls that lead out of the boundary.

use egress_tests::{Trace, World, installed};

/// Makes system calls by their numbers.
const PRELUDE: &str = r"
import ctypes, errno, mmap, os, platform, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
native = {'x86_64': 0, 'aarch64': 1}[platform.machine()]
kept = []
def at(data):
    'The address of some bytes, which stay there.'
    kept.append(ctypes.create_string_buffer(data, len(data) + 1))
    return ctypes.addressof(kept[-1])
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return result if result >= 0 else -ctypes.get_errno()
";

fn python(program: &str) -> String {
    format!("python3 - <<'PROGRAM'\n{PRELUDE}{program}\nPROGRAM")
}

/// A call that succeeds without the boundary, with its numbers on x86-64 and aarch64.
struct Call {
    name: &'static str,
    numbers: [u32; 2],
    /// The arguments, as Python code.
    arguments: &'static str,
    errno: &'static str,
}

/// Claims: calls*, denied-calls*, table-kernel-objects*
#[test]
fn calls_that_lead_out() {
    let world = World::new();
    let calls = [
        Call {
            name: "io_uring_setup",
            numbers: [425, 425],
            arguments: "4, at(bytes(256))",
            errno: "ENOSYS",
        },
        Call {
            name: "bpf",
            numbers: [321, 280],
            // `set` is an array of one number.
            arguments: "0, at(struct.pack('IIII', 2, 4, 4, 1) + bytes(100)), 72",
            errno: "EPERM",
        },
        Call {
            name: "io_setup",
            numbers: [206, 0],
            arguments: "1, at(bytes(8))",
            errno: "ENOSYS",
        },
        Call {
            name: "mount",
            numbers: [165, 40],
            arguments: "at(b'none'), at(b'/mnt'), at(b'tmpfs'), 0, 0",
            errno: "EPERM",
        },
        Call {
            name: "ioctl with another line discipline",
            numbers: [16, 29],
            // TIOCSETD with N_NULL, which always exists.
            arguments: "__import__('pty').openpty()[1], 0x5423, at(struct.pack('i', 27))",
            errno: "EPERM",
        },
        Call {
            name: "keyctl",
            numbers: [250, 219],
            // The result is the id of the session's keyring.
            arguments: "0, -3, 1",
            errno: "EPERM",
        },
        Call {
            name: "add_key",
            numbers: [248, 217],
            arguments: "at(b'user'), \
                        at(b'name'), \
                        at(b'x'), 1, -2",
            errno: "EPERM",
        },
        Call {
            name: "perf_event_open",
            numbers: [298, 241],
            // The event is the clock of this process.
            arguments: "at(struct.pack('II', 1, 112) + bytes(200)), 0, -1, -1, 0",
            errno: "EPERM",
        },
        Call {
            name: "userfaultfd",
            numbers: [323, 282],
            arguments: "1",
            errno: "EPERM",
        },
        Call {
            name: "unshare of a user namespace",
            numbers: [272, 97],
            arguments: "0x10000000",
            errno: "EPERM",
        },
        Call {
            name: "unshare of a network namespace",
            numbers: [272, 97],
            arguments: "0x40000000",
            errno: "EPERM",
        },
        Call {
            name: "open_tree",
            numbers: [428, 428],
            arguments: "-100, at(b'/'), 1",
            errno: "EPERM",
        },
        Call {
            name: "name_to_handle_at",
            numbers: [303, 264],
            arguments: "-100, at(b'/tmp'), \
                        at(struct.pack('I', 128) + bytes(200)), \
                        at(bytes(8)), 0",
            errno: "EPERM",
        },
    ];
    for Call {
        name,
        numbers: [x86, arm],
        arguments,
        errno,
    } in calls
    {
        let make = format!(
            "result = call([{x86}, {arm}][native], {arguments})\nprint(errno.errorcode.get(-result))\n"
        );
        let run =
            world.assert_contained(Trace::None, &python(&format!("{make}sys.exit(result < 0)")));
        assert_eq!(run.stdout, format!("{errno}\nCONTAINED\n"), "{name}: {run}");
    }
}

#[test]
fn new_user_namespaces_by_program() {
    let world = World::new();
    world.assert_contained(Trace::None, "unshare -Ur true");
}

#[test]
fn other_ways_to_make_a_socket() {
    let world = World::new();
    // The kernel's hooks do not see these families and protocols.
    for socket in [
        "socket.AF_NETLINK, socket.SOCK_RAW, 15",
        "socket.AF_NETLINK, socket.SOCK_RAW, 16",
        "socket.AF_PACKET, socket.SOCK_DGRAM",
    ] {
        world.assert_contained(
            Trace::None,
            &format!("python3 -c 'import socket; socket.socket({socket})'"),
        );
    }
    // The netlink family that lists network interfaces remains allowed.
    let run = world
        .egress()
        .allow(&[])
        .script("ip -o link | cut -d: -f2")
        .run();
    assert_eq!(run.stdout, " lo\n", "{run}");
}

/// Claims: calls
#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_other_abis() {
    let world = World::new();
    // The call is getpid of x32. Most kernels do not have x32, and it must not exist behind the boundary.
    let x32 = python("print(errno.errorcode.get(-call(0x40000000 + 39)))");
    let run = world.egress().allow(&[]).script(&x32).run();
    assert_eq!(run.stdout, "ENOSYS\n", "{run}");
    // The call is socket of x32. Without a rule for x32, this call would bypass the filter of address families.
    let x32 = python("print(errno.errorcode.get(-call(0x40000000 + 41, 40, 1, 0)))");
    let run = world.egress().allow(&[]).script(&x32).run();
    assert_eq!(run.stdout, "ENOSYS\n", "{run}");

    // The call is getpid of i386: mov $20, %eax; int $0x80; ret.
    let i386 = python(
        r"code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b'\xb8\x14\x00\x00\x00\xcd\x80\xc3')
entry = ctypes.addressof(ctypes.c_char.from_buffer(code))
sys.exit(ctypes.CFUNCTYPE(ctypes.c_int)(entry)() != os.getpid())",
    );
    let run = world.assert_contained(Trace::None, &i386);
    assert!(!run.stdout.contains("THROUGH"));
}

#[test]
fn threads_and_processes_of_real_programs() {
    let world = World::new();
    let run = world.egress().allow(&[]);
    if installed("java").is_none() || installed("javac").is_none() {
        return;
    }
    let run = run.file(
        "Threads.java",
        "public class Threads {
            public static void main(String[] words) throws Exception {
                Thread[] threads = new Thread[20];
                for (int i = 0; i < 20; i++) (threads[i] = new Thread(() -> {})).start();
                for (Thread thread : threads) thread.join();
                System.out.println(\"java\");
            }
        }",
    );
    let built = world.shell(&format!(
        "cd {} && javac Threads.java",
        run.directory().display()
    ));
    assert!(built.success(), "{built}");
    let run = run
        .script(
            r#"
python3 - <<'PROGRAM'
import concurrent.futures, multiprocessing, subprocess, threading
threads = [threading.Thread(target=lambda: None) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with multiprocessing.Pool(4) as pool:
    assert pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))
assert subprocess.run(['true']).returncode == 0
print('python')
PROGRAM
node -e '
const { Worker } = require("worker_threads"), { execFileSync } = require("child_process"), fs = require("fs")
Promise.all([1, 2, 3, 4].map(n => new Promise(done => new Worker("require(`worker_threads`).parentPort.postMessage(1)",
    { eval: true }).on("message", done))))
    .then(() => fs.promises.readFile("agent.sh")).then(() => { execFileSync("true"); console.log("node") })'
java -cp . Threads
# A debugger's calls stay within what is the agent's own.
if command -v strace > /dev/null; then strace -o trace -e trace=openat true && grep -q exited trace && echo strace
else echo strace; fi
"#,
        )
        .run();
    assert_eq!(run.stdout, "python\nnode\njava\nstrace\n", "{run}");
}

#[test]
fn personalities_of_setarch_and_debuggers() {
    let world = World::new();
    let script = "setarch -R true && echo fixed
        setarch linux32 uname -m && setarch --uname-2.6 uname -r | grep -o ^2.6
        # READ_IMPLIES_EXEC
        setarch -X true || echo refused";
    let control = world.shell(script);
    let machine = if cfg!(target_arch = "x86_64") {
        "i686"
    } else {
        "armv8l"
    };
    assert_eq!(
        control.stdout,
        format!("fixed\n{machine}\n2.6\n"),
        "{control}"
    );
    let run = world.egress().allow(&[]).script(script).run();
    assert_eq!(run.stdout, format!("{}refused\n", control.stdout), "{run}");
}

#[test]
fn probe_of_chromium_for_memory_files() {
    let world = World::new();
    // `memfd_create` with every flag. Any other result fails the test.
    let script = python("print(errno.errorcode[-call([319, 279][native], at(b''), -1)])");
    for run in [
        world.shell(&script),
        (*world.egress().allow(&[]).script(&script).run()).clone(),
    ] {
        let answer = run.stdout.trim();
        assert!(["EINVAL", "ENOSYS", "EPERM"].contains(&answer), "{run}");
    }
}
