//! Attempts that no script in `tests/attacks/` covers. Every attempt works without the boundary.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use egress_tests::{RunOutput, World};

/// Returns a shell command that runs a Python program.
fn python(program: &str) -> String {
    format!("python3 - <<'EOF'\nimport ctypes, os, socket, struct, sys\n{program}\nEOF")
}

/// Tries every way to create a set-user-id file, and prints the ways that worked.
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

/// Claims: setuid-left
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
    // In the workspace, such files would belong to the owner of the workspace, who may be root.
    let run = world.egress().allow(&[]).script(&script).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(special(&run.workdir), Vec::<String>::new());
}

/// Claims: inner-mounts
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

/// Fails if the attempt prints `THROUGH`.
#[track_caller]
fn assert_refused(run: &RunOutput) {
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!run.stdout.contains("THROUGH"), "{run}");
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
fn keys_of_the_workspace_under_another_path() {
    let world = World::new();
    let run = world.egress();
    let work = run.directory();
    let key = world.key("signing.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    // The workspace is mounted a second time in this directory. The directory also contains a link to the workspace.
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

/// Claims: kernel-denies
#[test]
fn connect_for_which_a_kernel_program_has_no_memory_is_denied() {
    // Memberships in multicast groups use up the memory for options of a socket. The kernel takes the socket's storage
    // from the same memory.
    let attempt = python(
        "import errno
def connect(is_full):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    number = 0
    while is_full:
        group = socket.inet_pton(socket.AF_INET6, 'ff11::') [:12] + struct.pack('>I', number)
        number += 1
        try: s.setsockopt(41, 20, group + struct.pack('I', 1))
        except OSError as error:
            print('full:', errno.errorcode[error.errno])
            break
    try: s.connect(('::1', 9)); return 'connected'
    except OSError as error: return errno.errorcode[error.errno]
print(connect(False), connect(True))",
    );
    let world = World::new();
    let control = world.shell(&attempt);
    assert_eq!(
        control.stdout, "full: ENOMEM\nconnected connected\n",
        "{control}"
    );
    let run = world.egress().allow(&[]).script(&attempt).run();
    assert_eq!(run.stdout, "full: ENOMEM\nconnected EPERM\n", "{run}");
    assert_eq!(run.boundary("/counters/internal"), 1, "{run}");
}
