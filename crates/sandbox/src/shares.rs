//! Limits a run's share of tables that all users of the machine share and that no kernel controller divides: open
//! files, sockets, and TCP memory.
//!
//! The kernel limits each table for the whole machine but not for one user. A limit on processes and a limit on files
//! of one process do not help: 4,096 processes with 1,024 files each could exceed the table of a machine, and lower
//! limits would break programs. The supervisor therefore counts the entries that a run uses and ends a run that exceeds
//! its share. The supervisor counts files and TCP memory only while the whole machine uses more than one share. A
//! mapped file stays open without a descriptor, so mappings count as well.
//!
//! Claims: shared-tables, table-files, table-sockets, table-tcp
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use egress_sys::kernel_file;
use egress_sys::netlink::Netlink;
use egress_sys::sock_diag;
use serde::Serialize;

use super::cgroup::CgroupGuard;

/// A run's share is the table's size divided by this number.
const DIVISOR: u64 = 4;
/// The interval between checks of the tables. In that time, a program can fill tens of thousands of entries.
const CHECK_EVERY: Duration = Duration::from_millis(20);
/// The time for which a count below the share is considered valid.
const COUNT_EVERY: Duration = Duration::from_millis(250);

/// A run's shares of the machine's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shares {
    /// Open files, including mapped ones.
    pub files: u64,
    /// Sockets of any family.
    pub sockets: u64,
    /// TCP memory, in bytes.
    pub tcp_bytes: u64,
    /// Processes and threads together.
    pub processes: u64,
}

impl Shares {
    /// Reads the sizes of the tables. Only the first network namespace shows the sizes of the
    /// network tables. Elsewhere, the sizes are computed from the machine's memory, as the kernel
    /// does at boot (`tcp_init`).
    ///
    /// # Errors
    /// Fails if a file in `/proc` cannot be read or has no number.
    pub fn of_machine() -> io::Result<Self> {
        let memory = total_memory()?;
        let files = last_number("/proc/sys/fs/file-max")?;
        let orphans =
            number_if_present("/proc/sys/net/ipv4/tcp_max_orphans")?.unwrap_or(memory >> 18);
        let tcp_pages = number_if_present("/proc/sys/net/ipv4/tcp_mem")?;
        let tcp = tcp_pages.map_or(memory / 32 * 3, |pages| pages.saturating_mul(page_size()));
        let ids = last_number("/proc/sys/kernel/pid_max")?;
        let threads = last_number("/proc/sys/kernel/threads-max")?;
        Ok(Self {
            files: files / DIVISOR,
            // A closed socket with unsent bytes counts as one of the machine's orphans.
            sockets: (files / DIVISOR).min(orphans / DIVISOR),
            tcp_bytes: tcp / DIVISOR,
            processes: ids.min(threads) / DIVISOR,
        })
    }

    /// Returns the limit on open files of one process. The same number of files may also be on their way in Unix
    /// sockets of the same user, where the supervisor cannot count them.
    pub fn files_of_one(&self) -> u64 {
        self.files / DIVISOR
    }
}

/// Watches how much of the shared tables a run uses.
#[derive(Debug)]
pub struct Watch {
    shares: Shares,
    network: Option<Network>,
    check_at: Instant,
    count_at: Instant,
}

/// The boundary's network namespace, in which the sockets are counted.
#[derive(Debug)]
struct Network {
    counters: File,
    sockets: Netlink,
}

impl Watch {
    /// Starts watching, before the command starts. `init` is a process in the boundary's network namespace. `init` is
    /// `None` in an audit, which uses the caller's network namespace, so the supervisor then watches only open files.
    ///
    /// # Errors
    /// Fails if `/proc` or the kernel's list of sockets cannot be read.
    pub fn begin(shares: Shares, init: Option<u32>) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            shares,
            network: init.map(Network::of).transpose()?,
            check_at: now,
            count_at: now,
        })
    }

    /// Describes the share that the processes in `agent` exceed. Returns `None` if they do not exceed a share or the
    /// next check is not due.
    ///
    /// # Errors
    /// Fails if the use cannot be counted.
    pub fn look(&mut self, agent: &CgroupGuard) -> io::Result<Option<String>> {
        let now = Instant::now();
        if now < self.check_at {
            return Ok(None);
        }
        self.check_at = now + CHECK_EVERY;
        let Shares {
            files,
            sockets,
            tcp_bytes,
            ..
        } = self.shares;
        let counted = self.network.as_ref().map(Network::counted).transpose()?;
        let (own_sockets, tcp) = counted.unwrap_or_default();
        if own_sockets > sockets {
            return Ok(Some(exceeded(sockets, "sockets")));
        }
        // If the whole machine uses less than the share, the run uses less as well.
        let many_files = open_files()? > files;
        let much_memory = tcp > tcp_bytes;
        if now < self.count_at || !(many_files || much_memory) {
            return Ok(None);
        }
        if many_files && files_of(agent, files)? > files {
            return Ok(Some(exceeded(files, "open files")));
        }
        if much_memory
            && let Some(network) = &self.network
            && sock_diag::tcp_memory(&network.sockets)? > tcp_bytes
        {
            return Ok(Some(exceeded(tcp_bytes, "bytes of TCP memory")));
        }
        self.count_at = Instant::now() + COUNT_EVERY;
        Ok(None)
    }
}

fn exceeded(most: u64, what: &str) -> String {
    format!(
        "the command used more than {most} {what}, a quarter of the limit that all users of this machine share"
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

    /// Returns the number of sockets in the namespace, and bytes of TCP memory on the whole
    /// machine.
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
        let missing = || io::Error::other("/proc/net/sockstat does not have the expected fields");
        let sockets = number("sockets:", "used").ok_or_else(missing)?;
        let pages = number("TCP:", "mem").ok_or_else(missing)?;
        Ok((sockets, pages.saturating_mul(page_size())))
    }
}

/// Returns the number of open files on the whole machine (`proc_sys_fs(5)`).
fn open_files() -> io::Result<u64> {
    const PATH: &str = "/proc/sys/fs/file-nr";
    let text = kernel_file::text(PATH)?;
    let first = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    first.ok_or_else(|| io::Error::other(format!("{PATH} has no number")))
}

/// Counts files that the processes in `agent` have open or mapped, up to just above `enough`. A file counts once for
/// each descriptor, and once for each part of a split mapping.
fn files_of(agent: &CgroupGuard, enough: u64) -> io::Result<u64> {
    let processes = agent.processes()?;
    let mut total = 0_u64;
    // Descriptors are counted first, because they cost one call for each process.
    for count in [descriptors as Count, mappings] {
        for pid in &processes {
            // A process that has ended since the listing does not use any files.
            let process = Path::new("/proc").join(pid.to_string());
            total += of_process(count, &process).unwrap_or_default();
            if total > enough {
                return Ok(total);
            }
        }
    }
    Ok(total)
}

/// Counts the files of a process or of one of its threads.
type Count = fn(&Path) -> io::Result<u64>;

/// Counts the files of a process. If the first thread of a process has ended, the kernel shows no files for the
/// process, so the files of the other threads are counted.
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
    // Since Linux 6.2, the directory's size is the number of its entries.
    match list.metadata()?.len() {
        0 => Ok(fs::read_dir(list)?.count() as u64),
        number => Ok(number),
    }
}

/// Counts the lines of `/proc/PID/maps` that name an inode.
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

/// Returns the last number in a file, or `None` if the file does not exist, which is the case
/// outside the first network namespace.
fn number_if_present(path: &str) -> io::Result<Option<u64>> {
    match last_number(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn last_number(path: &str) -> io::Result<u64> {
    let text = kernel_file::text(path)?;
    let last = text
        .split_whitespace()
        .last()
        .and_then(|word| word.parse().ok());
    last.ok_or_else(|| io::Error::other(format!("{path} has no number")))
}

/// Returns the machine's memory, in bytes.
pub(super) fn total_memory() -> io::Result<u64> {
    let text = kernel_file::text("/proc/meminfo")?;
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
        reason = "the test counts the files of a separate process"
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
        // Other tests open and close files at the same time.
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
        assert!(number_if_present("/proc/sys/net/none").unwrap().is_none());
    }
}
