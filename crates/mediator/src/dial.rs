//! Connects to judged addresses.
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Total time for all addresses.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Time for one address if more addresses remain.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3);

/// Connects to the first address that accepts the connection.
///
/// # Errors
/// Returns the error of the last address, or a timeout.
pub(super) async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let end = Instant::now() + DIAL_LIMIT;
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address to dial");
    for (index, address) in addresses.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let limit = if index + 1 < addresses.len() {
            left.min(ATTEMPT_LIMIT)
        } else {
            left
        };
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
