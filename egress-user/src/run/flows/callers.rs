//! Stores which process made a connection. The relay receives only the connection, so this module supplies the process
//! for the rows about its reports.
use std::collections::{HashMap, VecDeque};

use super::words::process_name;

/// Maximum number of redirected connections whose caller is remembered.
const CALLERS: usize = 65_536;

/// The process that made a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    pub(super) pid: u32,
    pub(super) process: String,
    pub(super) exe: Option<String>,
}

impl Caller {
    /// Reads the executable of `pid` from `/proc` when the record is read, milliseconds after the call. `exe` is `None`
    /// if the process has ended by then. The kernel's own record always has the name, the process id, and the time.
    pub(super) fn of(pid: u32, comm: &[u8; 16]) -> Self {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        Self {
            pid,
            process: process_name(comm),
            exe: exe.map(|path| path.to_string_lossy().into_owned()),
        }
    }
}

/// The callers of the newest connections, by cookie and time of the connect call.
#[derive(Debug, Default)]
pub(super) struct Callers {
    pub(super) known: HashMap<(u64, u64), Caller>,
    order: VecDeque<(u64, u64)>,
}

impl Callers {
    pub(super) fn add(&mut self, key: (u64, u64), caller: Caller) {
        if self.known.insert(key, caller).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > CALLERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
