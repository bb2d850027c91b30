//! Writes the rows about bytes that the kernel counted on both sides of the mediator: of the command's connections to
//! the relay, of the mediator's connections, and of the datagrams that the mediator sends to a name server. A verifier
//! compares these counts with the reports of the relay and the mediator, which cannot change them. After the first
//! rows, only sums are written.
use std::io;

use audit_packet::format::Row;
use audit_packet::format::rows::{CloseRow, CloseTotalRow, MediatorRow, MediatorTotalRow};
use egress_sys::clock;

use super::log::FlowLog;
use super::words::protocol_name;
use crate::bpf::traffic::{Connection, Traffic};

/// Maximum number of rows that are written between two checks of the run.
const WRITTEN_AT_ONCE: usize = 64;

impl FlowLog {
    /// Writes one record about a socket.
    ///
    /// # Errors
    /// Fails if the row cannot be written.
    pub(in crate::run) fn traffic(&mut self, traffic: &Traffic) -> io::Result<()> {
        match traffic {
            Traffic::Closed(close) => {
                self.witness.closed(*close);
                Ok(())
            }
            Traffic::Datagram(datagram) => self.mediator(datagram),
            Traffic::Mediator(connection) => {
                let key = (connection.connect_ns, connection.cookie);
                if !connection.closed {
                    self.witness.open.insert(key, *connection);
                    return Ok(());
                }
                self.witness.open.remove(&key);
                self.mediator(connection)
            }
        }
    }

    /// Returns whether the mediator has open connections.
    pub(in crate::run) fn has_open_mediator(&self) -> bool {
        !self.witness.open.is_empty()
    }

    /// Writes some of the waiting rows. The supervisor calls this function when nothing is more urgent.
    ///
    /// # Errors
    /// Fails if a row cannot be written.
    pub(in crate::run) fn catch_up(&mut self) -> io::Result<()> {
        for _ in 0..WRITTEN_AT_ONCE {
            if !self.next_close()? {
                break;
            }
        }
        Ok(())
    }

    /// Whether rows wait for [`Self::catch_up`].
    pub(in crate::run) fn is_behind(&self) -> bool {
        !self.witness.waiting.is_empty()
    }

    /// Writes the row that has waited longest. Returns `false` if no row waits.
    fn next_close(&mut self) -> io::Result<bool> {
        let Some(close) = self.witness.waiting.pop_front() else {
            return Ok(false);
        };
        self.row(&Row::KernelClose(CloseRow {
            ts: self.wall_time(close.ktime_ns),
            cookie: close.cookie,
            connect_ns: close.connect_ns,
            bytes_sent: close.carried.sent,
            bytes_acked: close.carried.acked,
            bytes_received: close.carried.received,
        }))?;
        Ok(true)
    }

    fn mediator(&mut self, one: &Connection) -> io::Result<()> {
        if self.witness.mediator >= self.witness.most_rows {
            let key = (one.protocol, one.port, one.established);
            let more = self.witness.mediator_more.entry(key).or_default();
            more.add(one.carried);
            return Ok(());
        }
        self.witness.mediator += 1;
        self.row(&Row::KernelMediator(MediatorRow {
            ts: self.wall_time(one.ktime_ns),
            protocol: protocol_name(one.protocol).as_str().into(),
            dst: one.addr.to_string().into(),
            port: one.port,
            cookie: one.cookie,
            connect_ns: one.connect_ns,
            opened: self.wall_time(one.connect_ns),
            established: one.established,
            closed: one.closed,
            bytes_sent: one.carried.sent,
            bytes_acked: one.carried.acked,
            bytes_received: one.carried.received,
        }))
    }

    /// Writes the connections that are still open, and the sums.
    pub(super) fn finish_witness(&mut self) -> io::Result<()> {
        while self.next_close()? {}
        for connection in std::mem::take(&mut self.witness.open).into_values() {
            self.mediator(&connection)?;
        }
        let more = std::mem::take(&mut self.witness.closed_more);
        if more.count > 0 {
            self.row(&Row::KernelCloseTotal(CloseTotalRow {
                ts: clock::now_rfc3339().into(),
                count: more.count,
                bytes_sent: more.carried.sent,
                bytes_acked: more.carried.acked,
                bytes_received: more.carried.received,
            }))?;
        }
        for ((protocol, port, established), more) in std::mem::take(&mut self.witness.mediator_more)
        {
            self.row(&Row::KernelMediatorTotal(MediatorTotalRow {
                ts: clock::now_rfc3339().into(),
                protocol: protocol_name(protocol).as_str().into(),
                port,
                established,
                count: more.count,
                bytes_sent: more.carried.sent,
                bytes_acked: more.carried.acked,
                bytes_received: more.carried.received,
            }))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::seen::Witness;
    use super::*;
    use crate::bpf::traffic::{Carried, Close};

    fn carried(sent: u64) -> Carried {
        Carried {
            sent,
            acked: sent - 1,
            received: 5,
        }
    }

    fn connection(cookie: u64, port: u16, established: bool, closed: bool) -> Traffic {
        Traffic::Mediator(Connection {
            ktime_ns: 9,
            cookie,
            connect_ns: 7,
            addr: "198.51.100.7".parse().unwrap(),
            port,
            protocol: 6,
            established,
            closed,
            carried: carried(10 * cookie),
        })
    }

    /// Returns the rows of a log that writes only the first two rows one by one.
    fn rows(traffic: &[Traffic]) -> Vec<Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flows.jsonl");
        let mut log = FlowLog::create(&path, None).unwrap();
        log.witness = Witness::with(2);
        for one in traffic {
            log.traffic(one).unwrap();
        }
        log.finish(None).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let mut rows: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for row in &mut rows {
            let row = row.as_object_mut().unwrap();
            row.retain(|name, _| {
                !matches!(
                    name.as_str(),
                    "ts" | "opened" | "seq" | "prev_hash" | "hash"
                )
            });
        }
        rows
    }

    /// Claims: closes-wait*
    #[test]
    fn closes_beyond_the_limit_are_one_sum() {
        let closed = |cookie: u64| {
            Traffic::Closed(Close {
                ktime_ns: 9,
                cookie,
                connect_ns: 7,
                carried: carried(10 * cookie),
            })
        };
        let all: Vec<Traffic> = (1..=5).map(closed).collect();
        let rows = rows(&all);
        assert_eq!(rows.len(), 3, "{rows:?}");
        let row = json!({"source": "kernel_close", "cookie": 2, "connect_ns": 7,
            "bytes_sent": 20, "bytes_acked": 19, "bytes_received": 5});
        assert_eq!(rows[1], row);
        let sum = json!({"source": "kernel_close_total", "count": 3,
            "bytes_sent": 120, "bytes_acked": 117, "bytes_received": 15});
        assert_eq!(rows[2], sum);
    }

    #[test]
    fn connection_of_the_mediator_is_one_row_and_one_that_is_open_stands_at_the_end() {
        let rows = rows(&[
            connection(1, 443, false, false),
            connection(2, 443, false, false),
            connection(1, 443, true, false),
            connection(2, 443, true, false),
            connection(2, 443, true, true),
        ]);
        assert_eq!(rows.len(), 2, "{rows:?}");
        let row = |cookie: u64, closed: bool| {
            json!({"source": "kernel_mediator", "protocol": "tcp", "dst": "198.51.100.7",
                "port": 443, "cookie": cookie, "connect_ns": 7, "established": true, "closed": closed,
                "bytes_sent": 10 * cookie, "bytes_acked": 10 * cookie - 1, "bytes_received": 5})
        };
        assert_eq!(rows, [row(2, true), row(1, false)]);
    }

    #[test]
    fn connections_of_the_mediator_beyond_the_limit_are_sums_of_the_same_kind() {
        let datagram = |cookie: u64| {
            Traffic::Datagram(Connection {
                ktime_ns: 9,
                cookie,
                connect_ns: 9,
                addr: "198.51.100.53".parse().unwrap(),
                port: 53,
                protocol: 17,
                established: true,
                closed: true,
                carried: Carried {
                    sent: 30,
                    acked: 0,
                    received: 0,
                },
            })
        };
        let rows = rows(&[
            datagram(1),
            connection(2, 443, true, true),
            connection(3, 443, true, true),
            connection(4, 443, false, true),
            connection(5, 443, true, false),
            connection(6, 80, true, true),
            datagram(7),
        ]);
        let sum = |protocol: &str, port: u16, established: bool, numbers: [u64; 4]| {
            let [count, sent, acked, received] = numbers;
            json!({"source": "kernel_mediator_total", "protocol": protocol, "port": port,
                "established": established, "count": count, "bytes_sent": sent,
                "bytes_acked": acked, "bytes_received": received})
        };
        assert_eq!(
            rows[2..],
            [
                sum("tcp", 80, true, [1, 60, 59, 5]),
                sum("tcp", 443, false, [1, 40, 39, 5]),
                sum("tcp", 443, true, [2, 80, 78, 10]),
                sum("udp", 53, true, [1, 30, 0, 0]),
            ]
        );
        assert_eq!(rows[0]["protocol"], "udp");
    }
}
