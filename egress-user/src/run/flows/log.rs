//! The flow log: its contents, and how a row is written to its file.
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use audit_packet::flows::FlowChain;
use audit_packet::format::boundary::{Denied, Residual};
use audit_packet::format::{Row, Time};
use egress_sys::clock;
use serde_json::Value;
use time::OffsetDateTime;

use super::callers::Callers;
use super::loopback::Loopback;
use super::seen::{Answers, Dials, FoldKey, Repeats, UnixUses, Witness};
use crate::run::agent_root::AgentRoot;

/// Counts of the rows by kind, for `boundary.json` and the summary.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(in crate::run) struct FlowCounts {
    /// Attempts by the kernel's verdict.
    pub by_verdict: BTreeMap<String, u64>,
    /// Reports by the relay's verdict.
    pub by_relay_verdict: BTreeMap<String, u64>,
    /// Number of names in queries to the stub resolver.
    pub names: u64,
    /// Traffic through the channels that are open on purpose.
    pub residual: Residual,
    /// Number of records that no program of this version writes.
    pub malformed: u64,
}

/// The log of one run.
#[derive(Debug)]
pub(in crate::run) struct FlowLog {
    pub(super) file: File,
    /// The chain of the rows in the file.
    written: FlowChain,
    pub(super) counts: FlowCounts,
    pub(super) folded: HashMap<FoldKey, Repeats>,
    pub(super) unix: UnixUses,
    pub(super) witness: Witness,
    pub(super) dials: Dials,
    pub(super) loopback: Loopback,
    pub(super) agent_root: Option<AgentRoot>,
    pub(super) answers: Answers,
    pub(super) denied: BTreeMap<Denied, u64>,
    pub(super) allowed: BTreeMap<(String, u16), u64>,
    /// Requests and tunnels that the mediator must have allowed.
    pub(super) let_through: u64,
    pub(super) callers: Callers,
    pub(super) names: HashMap<IpAddr, String>,
    /// Wall time minus kernel monotonic time, ns.
    clock_offset_ns: i128,
    pub(super) full_rows: u64,
    /// Length up to the last whole row.
    length: u64,
    /// Why nothing more can be written.
    failed: Option<(io::ErrorKind, String)>,
}

impl FlowLog {
    /// Creates the log at `path`, which must not exist. The command's paths are looked up in `agent_root`.
    ///
    /// # Errors
    /// Fails if the file cannot be created or the clock cannot be read.
    pub(in crate::run) fn create(path: &Path, agent_root: Option<AgentRoot>) -> io::Result<Self> {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
        let monotonic = i128::from(now.tv_sec()) * 1_000_000_000 + i128::from(now.tv_nsec());
        Ok(Self {
            file: File::options().create_new(true).append(true).open(path)?,
            written: FlowChain::new(),
            counts: FlowCounts::default(),
            folded: HashMap::new(),
            unix: UnixUses::new(),
            witness: Witness::default(),
            dials: Dials::default(),
            loopback: Loopback::default(),
            agent_root,
            answers: Answers::default(),
            denied: BTreeMap::new(),
            allowed: BTreeMap::new(),
            let_through: 0,
            callers: Callers::default(),
            names: HashMap::new(),
            clock_offset_ns: OffsetDateTime::now_utc().unix_timestamp_nanos() - monotonic,
            full_rows: 0,
            length: 0,
            failed: None,
        })
    }

    /// Returns the hash of the last row, and the number of rows.
    pub(in crate::run) fn head(&self) -> (&str, u64) {
        (self.written.head(), self.written.lines())
    }

    /// Returns the length of the file in bytes.
    pub(in crate::run) fn length(&self) -> u64 {
        self.length
    }

    /// Returns the counts of the rows by kind.
    pub(in crate::run) fn counts(&self) -> &FlowCounts {
        &self.counts
    }

    /// Returns the wall-clock time at which the kernel made a record.
    pub(super) fn wall_time(&self, ktime_ns: u64) -> Time {
        let at = i128::from(ktime_ns) + self.clock_offset_ns;
        let at = OffsetDateTime::from_unix_timestamp_nanos(at);
        clock::rfc3339(at.unwrap_or(OffsetDateTime::UNIX_EPOCH)).into()
    }

    /// Appends a row. After a row that could not be written, all later rows are rejected.
    ///
    /// # Errors
    /// Returns `InvalidData` if a value does not fit into a row. Returns any other error if the file cannot be written.
    pub(in crate::run) fn row(&mut self, row: &Row) -> io::Result<()> {
        let members = match serde_json::to_value(row) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        // After a lost row, no later row may be written, because nothing would show that a row is missing.
        if let Some((kind, text)) = &self.failed {
            return Err(io::Error::new(*kind, text.clone()));
        }
        let mut chain = self.written.clone();
        let line = chain.line(&members);
        if let Some(part) = row.unwritable(&line) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, part));
        }
        if let Err(error) = self.file.write_all(&line) {
            self.failed = Some((error.kind(), error.to_string()));
            // An incomplete last line would make the whole log unreadable.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += line.len() as u64;
        self.written = chain;
        Ok(())
    }
}
