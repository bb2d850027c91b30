//! Typed control sockets between the supervisor and its processes.
//!
//! A channel is a `SOCK_SEQPACKET` socket that carries one JSON text per message. [`ChannelError`] states why no
//! message was received: the sender has ended, did not send one in time, or sent bytes that cannot be parsed.
//!
//! Claims: read-relay-messages
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, shutdown, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{fd, handover};

/// One end of a control socket. The end sends `S` and receives `R`.
#[derive(Debug)]
pub struct Channel<S, R> {
    socket: OwnedFd,
    messages: PhantomData<fn(S) -> R>,
}

/// A message with its descriptors.
#[derive(Debug)]
pub struct Received<R> {
    /// The parsed message.
    pub message: R,
    /// The descriptors, with close-on-exec set.
    pub fds: Vec<OwnedFd>,
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other end is closed.
    #[error("it ended without sending a message")]
    Ended,
    /// No message arrived in time.
    #[error("it sent no message for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The received bytes are not a message of this channel.
    #[error("its message cannot be parsed")]
    Unreadable(#[source] serde_json::Error),
    /// The received message is not permitted at this point.
    #[error("it sent an unexpected message: expected {expected}, received {received}")]
    Unexpected {
        /// The message that was expected.
        expected: &'static str,
        /// The name of the received message.
        received: String,
    },
    /// A system call on the socket failed.
    #[error("its control socket failed")]
    Io(#[from] io::Error),
}

impl ChannelError {
    /// Returns the error for a `received` message at a point where only `expected` is permitted.
    pub fn unexpected(expected: &'static str, received: &impl std::fmt::Debug) -> Self {
        // Only the name of the message is kept, because its fields may hold any data.
        let text = format!("{received:?}");
        let name = text.split([' ', '(', '{']).next().unwrap_or_default();
        Self::Unexpected {
            expected,
            received: name.to_owned(),
        }
    }
}

impl<S, R> Channel<S, R> {
    /// Creates both ends. The first end belongs to the supervisor.
    ///
    /// # Errors
    /// Returns the error of `socketpair(2)`.
    pub fn pair() -> io::Result<(Self, Channel<R, S>)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((ours.into(), theirs.into()))
    }

    /// Takes ownership of the inherited end with the descriptor number `number`.
    ///
    /// # Errors
    /// Returns the errors of [`handover::inherited`].
    pub fn inherited(number: RawFd) -> io::Result<Self> {
        handover::inherited(number).map(Self::from)
    }

    /// Closes this end for sending. Messages from the other end still arrive. An end that is
    /// already closed is not an error.
    ///
    /// # Errors
    /// Returns the error of `shutdown(2)`.
    pub fn finish(&self) -> io::Result<()> {
        match shutdown(self.socket.as_raw_fd(), Shutdown::Write) {
            Ok(()) | Err(nix::errno::Errno::ENOTCONN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether a message can be received or the other end is closed. Waits at most `within`.
    ///
    /// # Errors
    /// Returns the error of `poll(2)`.
    pub fn is_ready(&self, within: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut fds, timeout)? > 0)
    }
}

impl<S: Serialize, R> Channel<S, R> {
    /// Sends a message, and blocks while the buffer is full.
    ///
    /// # Errors
    /// Returns the error of `send(2)`; `EPIPE` means that the other end is closed.
    pub fn send(&self, message: &S) -> io::Result<()> {
        handover::send_message(&self.socket, message)
    }

    /// Sends a message with descriptors.
    ///
    /// # Errors
    /// Returns the error of `sendmsg(2)`.
    pub fn send_with(&self, message: &S, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        fd::send_with_fds(&self.socket, &serde_json::to_vec(message)?, fds)
    }
}

impl<S, R: DeserializeOwned> Channel<S, R> {
    /// Waits for the next message.
    ///
    /// # Errors
    /// Returns any [`ChannelError`] except `Silent` and `Unexpected`.
    pub fn receive(&self) -> Result<Received<R>, ChannelError> {
        self.take(MsgFlags::empty())
    }

    /// Waits at most `within` for the next message.
    ///
    /// # Errors
    /// Returns any [`ChannelError`] except `Unexpected`.
    pub fn receive_within(&self, within: Duration) -> Result<Received<R>, ChannelError> {
        if !self.is_ready(within)? {
            return Err(ChannelError::Silent(within));
        }
        self.take(MsgFlags::empty())
    }

    /// Returns the next message if one has arrived.
    ///
    /// # Errors
    /// Returns the errors of [`Self::receive`].
    pub fn try_receive(&self) -> Result<Option<Received<R>>, ChannelError> {
        match self.take(MsgFlags::MSG_DONTWAIT) {
            Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    fn take(&self, flags: MsgFlags) -> Result<Received<R>, ChannelError> {
        let received = match fd::receive(&self.socket, flags) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(ChannelError::Ended);
            }
            other => other?,
        };
        if received.bytes.is_empty() {
            return Err(ChannelError::Ended);
        }
        let message = serde_json::from_slice(&received.bytes).map_err(ChannelError::Unreadable)?;
        Ok(Received {
            message,
            fds: received.fds,
        })
    }
}

impl<S, R> From<OwnedFd> for Channel<S, R> {
    fn from(socket: OwnedFd) -> Self {
        Self {
            socket,
            messages: PhantomData,
        }
    }
}

impl<S, R> From<Channel<S, R>> for OwnedFd {
    fn from(channel: Channel<S, R>) -> Self {
        channel.socket
    }
}

impl<S, R> AsFd for Channel<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    /// Claims: control-socket*, crate-sys*
    #[test]
    fn messages_arrive_one_by_one_and_with_their_descriptors() {
        let (ours, theirs) = Channel::<u32, String>::pair().unwrap();
        assert!(ours.try_receive().unwrap().is_none());
        theirs.send(&String::from("one")).unwrap();
        let plan = fd::memory_file(c"plan", b"7").unwrap();
        let passed = [plan.as_fd()];
        theirs.send_with(&String::from("two"), &passed).unwrap();
        assert_eq!(ours.receive().unwrap().message, "one");
        let mut two = ours.receive_within(SOON).unwrap();
        assert_eq!((two.message.as_str(), two.fds.len()), ("two", 1));
        // The memory file with the plan is sealed.
        let mut received = std::fs::File::from(two.fds.pop().unwrap());
        assert!(io::Write::write_all(&mut received, b"8").is_err());
        ours.send(&7).unwrap();
        assert_eq!(theirs.receive().unwrap().message, 7);
    }

    /// Claims: control-socket
    #[test]
    fn reasons_for_a_missing_message_are_distinguished() {
        let (ours, theirs) = Channel::<u32, u32>::pair().unwrap();
        assert!(matches!(
            ours.receive_within(SOON),
            Err(ChannelError::Silent(SOON))
        ));
        let theirs = OwnedFd::from(theirs);
        handover::send_message(&theirs, &"no number").unwrap();
        assert!(matches!(
            ours.try_receive(),
            Err(ChannelError::Unreadable(_))
        ));
        drop(theirs);
        assert!(matches!(ours.receive(), Err(ChannelError::Ended)));
        assert!(matches!(ours.try_receive(), Err(ChannelError::Ended)));
        let error = ours.send(&1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn an_end_that_is_finished_still_receives() {
        let (ours, theirs) = Channel::<u32, u32>::pair().unwrap();
        theirs.send(&1).unwrap();
        ours.finish().unwrap();
        assert!(matches!(theirs.receive(), Err(ChannelError::Ended)));
        assert_eq!(ours.receive().unwrap().message, 1);
        drop(theirs);
        ours.finish().unwrap();
    }
}
