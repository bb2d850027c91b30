//! The command can reach its workspace, but not the machine's other files, sockets, and processes.
#![expect(
    clippy::unwrap_used,
    reason = "a test whose files cannot be made has failed"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use egress_tests::{Trace, World, evidence, wait_until};
use tempfile::TempDir;

/// Time limit for anything that should happen at once, even on a busy machine.
const LONG: Duration = Duration::from_secs(10);

/// Creates a directory that every user can enter and write to, at a place that the file view contains.
fn open_directory() -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("egress-test-")
        .tempdir_in("/opt")
        .unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// Claims: run-files*
#[test]
fn key_and_packet_inside_the_workspace_are_hidden() {
    let world = World::new();
    let run = world.egress();
    let work = run.directory();
    let key = work.join("keys/signing.key");
    fs::create_dir(work.join("keys")).unwrap();
    let made = world.tool(["keygen".as_ref(), "--out".as_ref(), key.as_os_str()]);
    assert!(made.success(), "{made}");
    let key_text = fs::read_to_string(&key).unwrap();
    let packet = work.join("packet");
    let run = run
        .allow(&["canary.test"])
        .signed_with(&key)
        .packet_dir(&packet)
        .script(
            "file=keys/signing.key
             { cat $file && echo read $file
               echo x >> $file && echo wrote $file
               cp $file copy && echo copied $file
               rm -f $file && echo removed $file
               mv $file elsewhere && echo moved $file
               ln $file linked && echo linked $file
             } 2> /dev/null
             ls -A packet
             touch packet/x 2> /dev/null && echo wrote packet
             rmdir packet 2> /dev/null && echo removed packet
             mv packet elsewhere 2> /dev/null && echo moved packet
             cat keys/*.key packet/* 2> /dev/null
             ls /run/egress 2> /dev/null && echo saw the run
             true",
        )
        .run();
    assert_eq!((run.status, run.stdout.as_str()), (Some(0), ""), "{run}");
    assert_eq!(fs::read_to_string(&key).unwrap(), key_text);
    let mut public = key.into_os_string();
    public.push(".pub");
    let verdict = evidence::verify(&[packet.as_os_str(), "--key".as_ref(), &public]);
    assert!(verdict.success(), "{verdict}");
}

/// Claims: run-files
#[test]
fn policy_and_key_in_a_place_that_everyone_sees() {
    let world = World::new();
    let dir = open_directory();
    let policy = dir.path().join("policy.yaml");
    let key = dir.path().join("signing.key");
    fs::write(&policy, "mode: strict\napi_allowlist: [canary.test]\n").unwrap();
    let made = world.tool(["keygen".as_ref(), "--out".as_ref(), key.as_os_str()]);
    assert!(made.success(), "{made}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(dir.path().join("other"), "other\n").unwrap();
    let attempt = format!("cat {0}/other {0}/policy.yaml", dir.path().display());
    let control = world.shell(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups {attempt}"
    ));
    assert!(control.stdout.contains("canary.test"), "{control}");
    let run = world
        .egress()
        .arg("--config")
        .arg(&policy)
        .signed_with(&key)
        .packet_dir(&dir.path().join("packet"))
        .script(&format!(
            "{attempt} 2> /dev/null; cat {0}/signing.key 2> /dev/null; ls {0}/packet; true",
            dir.path().display()
        ))
        .run();
    assert_eq!(
        (run.status, run.stdout.as_str()),
        (Some(0), "other\n"),
        "{run}"
    );
}

/// Serves a stream socket, a datagram socket, and a FIFO in a directory, and writes the received bytes to files.
const HOST_SERVER: &str = r"
import os, socket, sys, threading
os.chdir(sys.argv[1])
os.umask(0)
note = open('arrived', 'a', buffering=1)
stream = socket.socket(socket.AF_UNIX)
stream.bind('stream')
stream.listen()
datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
datagram.bind('datagram')
os.mkfifo('fifo', 0o666)
def streams():
    while True:
        peer, _ = stream.accept()
        peer.sendall(b'welcome')
        note.write('stream ' + peer.recv(100).decode() + '\n')
        peer.close()
def datagrams():
    while True:
        note.write('datagram ' + datagram.recv(100).decode() + '\n')
def fifos():
    while True:
        with open('fifo') as reader:
            note.write('fifo ' + reader.read() + '\n')
for work in [streams, datagrams, fifos]:
    threading.Thread(target=work).start()
open('ready', 'w').close()
";

/// Tries the stream socket, the datagram socket, and the FIFO, and exits with 0 only if all of them work.
const HOST_CLIENT: &str = r"
import os, socket, sys
directory, who = sys.argv[1:3]
failed = []
def attempt(name, work):
    try:
        work()
    except OSError as error:
        failed.append(f'{name}: {error.strerror}')
def stream():
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(f'{directory}/stream')
    client.sendall(who.encode())
    assert client.recv(100) == b'welcome'
def datagram():
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.sendto(who.encode(), f'{directory}/datagram')
def fifo():
    writer = os.open(f'{directory}/fifo', os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, who.encode())
for name, work in [('stream', stream), ('datagram', datagram), ('fifo', fifo)]:
    attempt(name, work)
print('; '.join(failed))
sys.exit(bool(failed))
";

/// Claims: path-sockets*
#[test]
fn sockets_and_fifos_of_the_host() {
    let world = World::new();
    let dir = open_directory();
    let server = dir.path().join("server.py");
    fs::write(&server, HOST_SERVER).unwrap();
    let running = world.background([
        "python3".as_ref(),
        server.as_os_str(),
        dir.path().as_os_str(),
    ]);
    wait_until("the server is there", LONG, || {
        dir.path().join("ready").exists()
    });
    let arrived = || fs::read_to_string(dir.path().join("arrived")).unwrap();

    let run = world.egress().allow(&[]).file("client.py", HOST_CLIENT);
    let client = run.directory().join("client.py");
    // The control runs as an unprivileged user, like the command.
    let control = world.shell(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups python3 {} {} outside",
        client.display(),
        dir.path().display()
    ));
    assert!(control.success(), "without a boundary: {control}");
    wait_until("the control's words have come", LONG, || {
        arrived().lines().count() == 3
    });

    // The attempts use the path itself, a link, and a descriptor of the directory.
    let run = run
        .script(&format!(
            "ls {0}/stream {0}/datagram {0}/fifo
             python3 client.py {0} inside && echo THROUGH
             ln -s {0} link && python3 client.py link inside && echo THROUGH
             exec 5< {0} && python3 client.py /proc/self/fd/5 inside && echo THROUGH
             echo inside > {0}/fifo & sleep 0.5; kill $!",
            dir.path().display()
        ))
        .run();
    assert!(!run.stdout.contains("THROUGH"), "{run}");
    assert_eq!(run.stdout.matches("stream: ").count(), 3, "{run}");
    assert_eq!(run.stdout.matches("fifo: ").count(), 3, "{run}");
    // The command can see the names of the sockets.
    assert!(run.stdout.contains("/datagram\n"), "{run}");
    assert!(!arrived().contains("inside"), "{}", arrived());
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.finish(Duration::from_secs(10));
}

#[test]
fn processes_of_the_host() {
    let world = World::new();
    let sleeper = world.background(["sleep", "600"]);
    let pid = sleeper.pid();
    let attempt = format!("grep -aq 600 /proc/{pid}/cmdline");
    let control = world.shell(&attempt);
    assert!(control.success(), "{control}");
    let run = world
        .egress()
        .allow(&[])
        .script(&format!(
            "{attempt} 2> /dev/null && echo saw it
             kill -0 {pid} 2> /dev/null && echo could signal it
             ls /proc | grep -c '^[0-9]' | (read count; (( count < 10 )) && echo few)
             cat /proc/1/environ /proc/1/maps 2> /dev/null && echo read init
             readlink /proc/1/root /proc/1/exe /proc/1/fd/* 2> /dev/null && echo files of init
             ls /proc/1/root/ 2> /dev/null && echo root of init
             kill -9 1 2> /dev/null; kill -9 $PPID 2> /dev/null
             python3 -c 'import os; print(os.getppid() == 1 or os.getpid() < 100)'"
        ))
        .run();
    assert_eq!(run.stdout, "few\nTrue\n", "{run}");
    assert_eq!(run.status, Some(0), "{run}");
    sleeper.signal(nix::sys::signal::Signal::SIGKILL);
    sleeper.finish(Duration::from_secs(10));
}

#[test]
fn what_mounts_of_the_host_hide_and_close() {
    let world = World::new();
    let dir = open_directory();
    let at = dir.path().display();
    let read = format!(
        "cd {at}
         cat hidden replaced closed/replaced; echo
         cat own/secret closed/secret; ls own closed; true"
    );
    let made = world.shell(&format!(
        "cd {at} && umask 022 && mkdir own closed && echo new > new && echo canary > closed/secret
         for file in hidden replaced closed/replaced; do echo canary > $file; done
         mount --bind /dev/null hidden && mount --bind new replaced && mount --bind new closed/replaced
         mount -t tmpfs -o mode=700 none own && echo canary > own/secret && chmod 700 closed"
    ));
    assert!(made.success(), "{made}");
    // The control: root sees everything that no mount hides.
    let control = world.shell(&read);
    assert_eq!(
        control.stdout, "new\nnew\n\ncanary\ncanary\nclosed:\nreplaced\nsecret\n\nown:\nsecret\n",
        "{control}"
    );
    let run = world.egress().allow(&[]).script(&read).run();
    assert_eq!(run.stdout, "new\n\n", "{run}");
}

#[test]
fn list_of_mounts_names_no_directory_of_the_run() {
    let world = World::new();
    for mode in ["apply", "discard", "copy", "direct", "read-only"] {
        let run = world
            .egress()
            .allow(&[])
            .arg("--workspace")
            .arg(mode)
            .script("cat /proc/self/mountinfo")
            .run();
        assert!(run.stdout.contains("lowerdir="), "{mode}: {run}");
        // The name of every directory that a run creates on the host contains the run's id.
        let id = run.boundary("/run_id");
        let id = id.as_str().unwrap();
        let names = run.stdout.matches(id).count();
        // A copy of the workspace is a mount of a directory, and the list of mounts contains the directory's name.
        let copy = format!("/.egress-{id}/copy ");
        let of_copy = run.stdout.matches(&copy).count();
        assert_eq!(of_copy, usize::from(mode == "copy"), "{run}");
        assert_eq!(names, of_copy, "{mode}: {run}");
    }
}

/// A mount that is already an overlay of an overlay. The kernel refuses a third overlay on this mount.
///
/// Claims: overlay-of-the-view
#[test]
fn mount_that_cannot_be_a_lower_layer() {
    let world = World::new();
    let dir = open_directory();
    let at = dir.path().display();
    let made = world.shell(&format!(
        "cd {at} && umask 022 && mkdir base one two && echo below > two/below
         mount -t tmpfs none base && mkdir base/a base/b base/c && echo canary > base/a/secret
         mount -t overlay none -o lowerdir=base/a:base/b one &&
             mount -t overlay none -o lowerdir=one:base/c two"
    ));
    assert!(made.success(), "{made}");
    let read = format!("cd {at} && ls one two; cat one/secret two/secret two/below; true");
    let control = world.shell(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups bash -c '{read}'"
    ));
    assert_eq!(
        control.stdout, "one:\nsecret\n\ntwo:\nsecret\ncanary\ncanary\n",
        "{control}"
    );
    let run = world.egress().allow(&[]).script(&read).run();
    // The command sees neither the mount nor the files under the mount.
    assert_eq!(run.stdout, "one:\nsecret\n\ntwo:\ncanary\n", "{run}");
    let left_out = run.boundary("/view/left_out");
    let named = left_out.as_array().into_iter().flatten().filter(|left| {
        let is = |name: &str| left.get(name).and_then(serde_json::Value::as_str);
        is("path") == dir.path().join("two").to_str()
            && is("why").is_some_and(|why| !why.is_empty())
    });
    assert_eq!(named.count(), 1, "{left_out:#}");
    let one = dir.path().join("one");
    assert!(!left_out.to_string().contains(one.to_str().unwrap()));
}

/// Serves sockets with abstract names, and writes the received bytes to a file.
const ABSTRACT_SERVER: &str = r"
import os, select, socket, sys
os.chdir(sys.argv[1])
note = open('arrived', 'a', buffering=1)
stream = socket.socket(socket.AF_UNIX)
stream.bind('\0' + sys.argv[1] + '/stream')
stream.listen()
datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
datagram.bind('\0' + sys.argv[1] + '/datagram')
open('ready', 'w').close()
while True:
    for one in select.select([stream, datagram], [], [])[0]:
        source = one.accept()[0] if one is stream else one
        note.write(source.recv(100).decode() + '\n')
";

const ABSTRACT_CLIENT: &str = r"
import socket, sys
for name, kind in [('stream', socket.SOCK_STREAM), ('datagram', socket.SOCK_DGRAM)]:
    client = socket.socket(socket.AF_UNIX, kind)
    try:
        client.connect('\0' + sys.argv[1] + '/' + name)
        client.sendall(f'{name} {sys.argv[2]}'.encode())
        print(name, 'through')
    except OSError as error:
        print(name, error.strerror)
";

/// Claims: abstract-sockets*
#[test]
fn abstract_names_of_the_host() {
    let world = World::new();
    let dir = open_directory();
    let at = dir.path().display();
    let server = dir.path().join("server.py");
    fs::write(&server, ABSTRACT_SERVER).unwrap();
    fs::write(dir.path().join("client.py"), ABSTRACT_CLIENT).unwrap();
    let running = world.background([
        "python3".as_ref(),
        server.as_os_str(),
        dir.path().as_os_str(),
    ]);
    wait_until("the server is there", LONG, || {
        dir.path().join("ready").exists()
    });
    let arrived = || fs::read_to_string(dir.path().join("arrived")).unwrap();
    let control = world.shell(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups python3 {at}/client.py {at} outside"
    ));
    assert_eq!(
        control.stdout, "stream through\ndatagram through\n",
        "{control}"
    );
    wait_until("the control's words have come", LONG, || {
        arrived().lines().count() == 2
    });
    let run = world
        .egress()
        .allow(&[])
        .script(&format!("python3 {at}/client.py {at} inside"))
        .run();
    assert_eq!(
        run.stdout, "stream Connection refused\ndatagram Connection refused\n",
        "{run}"
    );
    assert!(!arrived().contains("inside"), "{}", arrived());
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.finish(Duration::from_secs(10));
}

/// Claims: overlay-of-the-view*, crate-sandbox
#[test]
fn files_outside_the_workspace() {
    let world = World::new();
    let dir = open_directory();
    let attempt = format!("touch {0}/made && rm {0}/made", dir.path().display());
    world.assert_contained(Trace::None, &attempt);
    let run = world
        .egress()
        .allow(&[])
        .script(
            "for place in / /etc /usr/bin /opt /home /root /var /var/lib /sys /proc /dev /run; do
                 touch $place/made 2> /dev/null && echo wrote $place
             done
             for place in /tmp /var/tmp /dev/shm \"$HOME\" .; do
                 touch $place/made || echo cannot write $place
             done
             mount -t tmpfs none /opt 2> /dev/null && echo mounted
             mknod null c 1 3 2> /dev/null && echo made a device
             # No device of the host's, however it is called.
             ls /dev | sort | tr '\\n' ' '",
        )
        .run();
    assert_eq!(
        run.stdout, "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ",
        "{run}"
    );
    for place in ["/tmp/made", "/var/tmp/made", "/dev/shm/made"] {
        assert!(!Path::new(place).exists(), "{place} is the host's");
    }
    assert!(run.workdir.join("made").exists());
}

/// Claims: not-root*, setuid*
#[test]
fn programs_that_give_another_user() {
    let world = World::new();
    let run = world.egress().allow(&[]);
    let work = run.directory();
    // The program has the set-user-id bit.
    let program = work.join("whoever");
    fs::copy("/usr/bin/id", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let control = world.shell(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups {} -u",
        program.display()
    ));
    assert_eq!(control.stdout, "0\n", "{control}");
    let run = run
        .script(
            "[[ $(./whoever -u) == $(id -u) ]] && echo same
             [[ $(id -u) != 0 ]] && echo not root
             for program in su sudo mount umount newgrp passwd; do
                 path=$(command -v $program) && [[ -u $path ]] &&
                     cp $path /tmp/$program && [[ -u /tmp/$program ]] && echo kept its bit
             done
             su -c true < /dev/null 2> /dev/null && echo su
             sudo -n true 2> /dev/null && echo sudo
             grep -E '^(NoNewPrivs|CapPrm|CapEff|CapBnd|CapAmb):' /proc/self/status",
        )
        .run();
    assert_eq!(
        run.stdout,
        "same\nnot root\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
         CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n",
        "{run}"
    );
}
