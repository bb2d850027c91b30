//! Writes the rows about `AF_UNIX` addresses. The kernel's hook records a path as text. The supervisor looks up where
//! the path leads in the file view when it reads the record, within milliseconds of the call.
//!
//! If a socket is created or removed in between, the verdict in its row is wrong. The record is not what protects
//! sockets of the host, because the file view keeps the command from reaching them.
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use audit_packet::format::boundary::Denied;
use audit_packet::format::rows::{UnixRepeatsRow, UnixRow};
use audit_packet::format::{Exactly, Row, UnixProtocol, UnixReason, UnixVerdict};
use egress_sys::clock;

use super::callers::Caller;
use super::log::FlowLog;
use super::seen::{Repeats, UnixKey};
use super::words::process_name;
use crate::bpf::events::{UnixAddress, UnixEvent};
use crate::run::agent_root::AgentSocket;

/// Maximum number of distinct addresses that get their own row. All later addresses share one row.
const ROWS: usize = 10_000;

/// Path of the socket of a name service cache. The C library tries this path for every lookup of a user.
const CACHE: &[u8] = b"/nscd/socket";

impl FlowLog {
    /// Writes one use of an `AF_UNIX` address.
    ///
    /// # Errors
    /// Fails if the row cannot be written.
    pub(super) fn unix(&mut self, event: &UnixEvent) -> io::Result<()> {
        let (verdict, mut address) = match &event.address {
            UnixAddress::Path(path) => (self.judge(path, event.pid), escaped(path)),
            // An abstract name belongs to the boundary's network namespace.
            UnixAddress::Abstract(name) => (UnixVerdict::Local, format!("@{}", escaped(name))),
            UnixAddress::Unread => (UnixVerdict::Unread, String::new()),
        };
        *self
            .counts
            .by_verdict
            .entry(verdict.to_string())
            .or_default() += 1;
        if self.unix.len() >= ROWS {
            address = String::from("…");
        }
        if verdict == UnixVerdict::Unreachable {
            let denied = Denied {
                destination: address.clone(),
                port: 0,
                protocol: String::from("unix"),
                reason: reason(&verdict).to_string(),
                process: process_name(&event.comm),
            };
            *self.denied.entry(denied).or_default() += 1;
        }
        let key = UnixKey {
            hook: event.hook,
            verdict,
            address,
            comm: event.comm,
        };
        if !Repeats::count(&mut self.unix, key.clone(), event.ktime_ns) {
            return Ok(());
        }
        let caller = Caller::of(event.pid, &event.comm);
        self.row(&Row::Unix(UnixRow {
            ts: self.wall_time(event.ktime_ns),
            hook: event.hook.label().into(),
            reason: reason(&key.verdict),
            verdict: key.verdict,
            protocol: UnixProtocol::Unix,
            sock_type: event.sock_type.into(),
            path: key.address,
            pid: event.pid.into(),
            uid: event.uid.into(),
            process: caller.process,
            exe: caller.exe.map(Into::into),
            count: Exactly::VALUE,
        }))
    }

    fn judge(&self, path: &[u8], pid: u32) -> UnixVerdict {
        let path_given = Path::new(OsStr::from_bytes(path));
        let found = self
            .agent_root
            .as_ref()
            .map_or(AgentSocket::None, |inside| inside.socket(path_given, pid));
        match found {
            AgentSocket::Own => UnixVerdict::Local,
            AgentSocket::Allowed => UnixVerdict::Allowed,
            AgentSocket::None if path.ends_with(CACHE) => UnixVerdict::Probe,
            AgentSocket::None => UnixVerdict::Unreachable,
        }
    }

    /// Writes the counts of folded rows.
    pub(super) fn finish_unix(&mut self) -> io::Result<()> {
        for (key, seen) in Repeats::take(&mut self.unix) {
            self.row(&Row::UnixRepeats(UnixRepeatsRow {
                ts: clock::now_rfc3339().into(),
                hook: key.hook.label().into(),
                reason: reason(&key.verdict),
                verdict: key.verdict,
                protocol: UnixProtocol::Unix,
                path: key.address,
                process: process_name(&key.comm),
                count: seen.count,
                first: self.wall_time(seen.first_ns),
                last: self.wall_time(seen.last_ns),
            }))?;
        }
        Ok(())
    }
}

fn reason(verdict: &UnixVerdict) -> UnixReason {
    match verdict {
        UnixVerdict::Local | UnixVerdict::Allowed | UnixVerdict::Unknown(_) => UnixReason::None,
        UnixVerdict::Unreachable | UnixVerdict::Probe => UnixReason::NotInside,
        UnixVerdict::Unread => UnixReason::Internal,
    }
}

/// Returns a name in ASCII, with `\xNN` for other bytes.
fn escaped(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}
