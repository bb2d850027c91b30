//! A run's share of the tables that all users of the machine have in common, and that no controller of the kernel
//! divides among them: open files, sockets, and the memory of TCP.
//!
//! The kernel limits each of these for the machine, and none of them for one user. Limits on processes and on files of
//! one process do not bound the product: 4,096 processes with 1,024 files each are more than many machines have, and
//! lower limits would break programs. The supervisor therefore counts what a run uses, and ends a run that exceeds its
//! share. It counts only while the machine as a whole uses more than one share. A mapped file stays open without a
//! descriptor, so mappings count as well.
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use egress_sys::netlink::Netlink;
use egress_sys::sock_diag;
use serde::Serialize;

use super::cgroup::CgroupGuard;

/// One run may have this part of a table: a quarter.
const PART: u64 = 4;
/// How often the tables are looked at: a processor fills tens of thousands of places in that time.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a count that found less than the share is good for.
const COUNT_EVERY: Duration = Duration::from_millis(250);

/// What one run may have of the machine's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shares {
    /// Open files, mapped ones included.
    pub files: u64,
    /// Sockets of any family.
    pub sockets: u64,
    /// Memory of TCP, bytes.
    pub tcp_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
}

impl Shares {
    /// Reads how large the tables are. A network namespace other than the first does not show those of the
    /// network: then it is what the kernel makes of the machine's memory at its start (`tcp_init`).
    ///
    /// # Errors
    /// When `/proc` does not say.
    pub fn of_machine() -> io::Result<Self> {
        let memory = total_memory()?;
        let files = last_number("/proc/sys/fs/file-max")?;
        let orphans = shown("/proc/sys/net/ipv4/tcp_max_orphans")?.unwrap_or(memory >> 18);
        let tcp_pages = shown("/proc/sys/net/ipv4/tcp_mem")?;
        let tcp = tcp_pages.map_or(memory / 32 * 3, |pages| pages.saturating_mul(page_size()));
        let ids = last_number("/proc/sys/kernel/pid_max")?;
        let threads = last_number("/proc/sys/kernel/threads-max")?;
        Ok(Self {
            files: files / PART,
            // A closed socket that has bytes to send is one of the machine's orphans.
            sockets: (files / PART).min(orphans / PART),
            tcp_bytes: tcp / PART,
            processes: ids.min(threads) / PART,
        })
    }

    /// Files of one process: as many may wait in its user's sockets, where only the kernel counts them.
    pub fn files_of_one(&self) -> u64 {
        self.files / PART
    }
}

/// Watches what a run takes.
#[derive(Debug)]
pub struct Watch {
    shares: Shares,
    network: Option<Network>,
    look_at: Instant,
    count_at: Instant,
}

/// The boundary's network namespace, where its sockets are counted.
#[derive(Debug)]
struct Network {
    counters: File,
    sockets: Netlink,
}

impl Watch {
    /// Begins, before the command does. `init` is a process in the boundary's own network namespace; an audit has
    /// none, and only its files are watched.
    ///
    /// # Errors
    /// When `/proc` or the kernel's list of sockets cannot be read.
    pub fn begin(shares: Shares, init: Option<u32>) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            shares,
            network: init.map(Network::of).transpose()?,
            look_at: now,
            count_at: now,
        })
    }

    /// What the processes in `agent` have taken more of than their share; `None` when it is nothing, or not yet
    /// time to look again.
    ///
    /// # Errors
    /// When it cannot be counted.
    pub fn look(&mut self, agent: &CgroupGuard) -> io::Result<Option<String>> {
        let now = Instant::now();
        if now < self.look_at {
            return Ok(None);
        }
        self.look_at = now + LOOK_EVERY;
        let Shares {
            files,
            sockets,
            tcp_bytes,
            ..
        } = self.shares;
        let counted = self.network.as_ref().map(Network::counted).transpose()?;
        let (own_sockets, tcp) = counted.unwrap_or_default();
        if own_sockets > sockets {
            return Ok(Some(said(sockets, "sockets")));
        }
        // As long as the whole machine has less than that, the run has.
        let many_files = open_files()? > files;
        let much_memory = tcp > tcp_bytes;
        if now < self.count_at || !(many_files || much_memory) {
            return Ok(None);
        }
        if many_files && files_of(agent, files)? > files {
            return Ok(Some(said(files, "open files")));
        }
        if much_memory
            && let Some(network) = &self.network
            && sock_diag::tcp_memory(&network.sockets)? > tcp_bytes
        {
            return Ok(Some(said(tcp_bytes, "bytes of memory of TCP")));
        }
        self.count_at = Instant::now() + COUNT_EVERY;
        Ok(None)
    }
}

fn said(most: u64, what: &str) -> String {
    format!(
        "the command took more than {most} {what}, a quarter of what all users of this machine have together"
    )
}

impl Network {
    fn of(init: u32) -> io::Result<Self> {
        let namespace = File::open(format!("/proc/{init}/ns/net"))?;
        Ok(Self {
            counters: File::open(format!("/proc/{init}/net/sockstat"))?,
            sockets: sock_diag::open_in(namespace)?,
        })
    }

    /// Sockets of the namespace, and the bytes that TCP has on the whole machine.
    fn counted(&self) -> io::Result<(u64, u64)> {
        let mut buffer = [0; 1024];
        let length = self.counters.read_at(&mut buffer, 0)?;
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        let number = |line: &str, name: &str| {
            let mut words = text
                .lines()
                .find_map(|text| text.strip_prefix(line))?
                .split_whitespace();
            words.find(|word| *word == name)?;
            words.next()?.parse::<u64>().ok()
        };
        let missing = || io::Error::other("/proc/net/sockstat has another form");
        let sockets = number("sockets:", "used").ok_or_else(missing)?;
        let pages = number("TCP:", "mem").ok_or_else(missing)?;
        Ok((sockets, pages.saturating_mul(page_size())))
    }
}

/// Open files of the whole machine (`proc_sys_fs(5)`).
fn open_files() -> io::Result<u64> {
    const PATH: &str = "/proc/sys/fs/file-nr";
    let text = fs::read_to_string(PATH)?;
    let first = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    first.ok_or_else(|| io::Error::other(format!("{PATH} has no number")))
}

/// Files that the processes in `agent` have open or mapped; it stops counting above `enough`. One that several
/// processes have counts for each, and a mapping that the kernel has in several parts for each of them.
fn files_of(agent: &CgroupGuard, enough: u64) -> io::Result<u64> {
    let processes = agent.processes()?;
    let mut total = 0_u64;
    // Descriptors first: they cost one call a process.
    for count in [descriptors as Count, mappings] {
        for pid in &processes {
            // One that has ended meanwhile has nothing.
            let process = Path::new("/proc").join(pid.to_string());
            total += of_process(count, &process).unwrap_or_default();
            if total > enough {
                return Ok(total);
            }
        }
    }
    Ok(total)
}

/// Counts what a process has, or one of its threads.
type Count = fn(&Path) -> io::Result<u64>;

/// What a process has. When its first thread has ended, the kernel shows nothing in the place of the process: then what
/// the others have.
fn of_process(count: Count, process: &Path) -> io::Result<u64> {
    let mut most = count(process)?;
    if most == 0 {
        for thread in fs::read_dir(process.join("task"))? {
            most = most.max(count(&thread?.path()).unwrap_or_default());
        }
    }
    Ok(most)
}

fn descriptors(process: &Path) -> io::Result<u64> {
    let list = process.join("fd");
    // Since Linux 6.2 its size is the number of its entries.
    match list.metadata()?.len() {
        0 => Ok(fs::read_dir(list)?.count() as u64),
        number => Ok(number),
    }
}

/// Lines of `/proc/PID/maps` that name an inode.
fn mappings(process: &Path) -> io::Result<u64> {
    let lines = BufReader::with_capacity(1 << 16, File::open(process.join("maps"))?).split(b'\n');
    let mut total = 0;
    for line in lines {
        let line = line?;
        let inode = line.split(|byte| *byte == b' ').nth(4);
        total += u64::from(inode.is_some_and(|inode| inode != b"0"));
    }
    Ok(total)
}

/// The last number of a file that only the first network namespace may have.
fn shown(path: &str) -> io::Result<Option<u64>> {
    match last_number(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn last_number(path: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let last = text
        .split_whitespace()
        .last()
        .and_then(|word| word.parse().ok());
    last.ok_or_else(|| io::Error::other(format!("{path} has no number")))
}

/// The machine's memory, bytes.
pub(super) fn total_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| {
            let kilobytes = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?;
            kilobytes.parse::<u64>().ok()
        })
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_methods,
        reason = "a process of its own is what is counted"
    )]
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn files_of_a_process_whose_first_thread_has_ended_are_counted() {
        const SCRIPT: &str = "import ctypes, os, sys, threading
def hold():
    held = [os.open('/dev/null', 0) for _ in range(300)]
    sys.stdin.read()
threading.Thread(target=hold).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)";
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let process = Path::new("/proc").join(child.id().to_string());
        let deadline = Instant::now() + Duration::from_secs(20);
        let hides = || mappings(&process).unwrap() == 0 && descriptors(&process).unwrap() == 0;
        while !hides() || of_process(descriptors, &process).unwrap() < 300 {
            assert!(Instant::now() < deadline, "the files are not counted");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(of_process(mappings, &process).unwrap() > 0);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn open_files_of_a_process_are_counted() {
        let own = Path::new("/proc/self");
        let before = descriptors(own).unwrap();
        let held: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
        // Other tests have files, too.
        assert!(descriptors(own).unwrap() + 100 > before + held.len() as u64);
        assert!(mappings(own).unwrap() > 0);
    }

    #[test]
    fn share_of_each_table_is_a_part_of_it() {
        let shares = Shares::of_machine().unwrap();
        let files = last_number("/proc/sys/fs/file-max").unwrap();
        assert!(shares.files <= files / 4 && shares.files_of_one() <= files / 16);
        assert!(shares.sockets <= shares.files && shares.sockets > 0);
        assert!(shares.tcp_bytes > 0 && shares.tcp_bytes < total_memory().unwrap());
        assert!(shown("/proc/sys/net/none").unwrap().is_none());
    }
}
