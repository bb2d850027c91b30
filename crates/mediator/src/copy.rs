//! Copies bytes between two connections until both sides have ended or a limit is reached.
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::sleep;

use super::meter::Meter;
use super::phase::Phases;

/// Initial size of a buffer. Most exchanges are small.
const SMALL: usize = 8 << 10;
/// Maximum size of a buffer. A larger buffer does not increase the throughput.
const LARGE: usize = 256 << 10;
/// Number of small reads after which a buffer shrinks to its initial size.
const QUIET_READS: u32 = 64;

/// Time limits of a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Maximum time without a byte in either direction.
    pub(super) idle: Duration,
    /// Maximum total time, if limited.
    pub(super) total: Option<Duration>,
}

/// Copies until both directions have ended, a limit is reached, or the mediator stops. Returns the reason word of the
/// outcome.
///
/// The end of one direction is passed on, and the other direction continues.
pub(super) async fn both_ways(
    client: &mut TcpStream,
    origin: &mut TcpStream,
    meter: &Meter,
    limits: Limits,
    phases: &Phases,
) -> &'static str {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_origin, mut to_origin) = origin.split();
    let copied = async {
        tokio::try_join!(
            pump(&mut from_client, &mut to_origin, meter),
            pump(&mut from_origin, &mut to_client, meter),
        )
    };
    tokio::select! {
        biased;
        ended = copied => if ended.is_ok() { "complete" } else { "reset" },
        () = meter.idle(limits.idle) => "idle_timeout",
        () = total(limits.total) => "max_duration",
        () = phases.cut() => "shutdown",
    }
}

async fn total(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Writes all of `bytes`. Counts each piece as it is written, because a write that is cut has sent
/// a part of `bytes`.
pub(super) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    meter: &Meter,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = to.write(bytes).await?;
        if count == 0 || !meter.moved(count) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

async fn pump(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, meter: &Meter) -> io::Result<()> {
    let mut buffer = vec![0; SMALL];
    let mut quiet: u32 = 0;
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        write(to, bytes, meter).await?;
        quiet = if count > buffer.len() / 4 {
            0
        } else {
            quiet.saturating_add(1)
        };
        let wanted = if count == buffer.len() && count < LARGE {
            count.saturating_mul(2)
        } else if quiet >= QUIET_READS && buffer.len() > SMALL {
            quiet = 0;
            SMALL
        } else {
            continue;
        };
        buffer = vec![0; wanted];
    }
}
