//! The control sockets between the supervisor and its processes: typed at both ends.
//!
//! A channel is a `SOCK_SEQPACKET` socket with one JSON text a message. What can go wrong with a message is told apart
//! here, once for all processes: its sender is gone, says nothing, or says what cannot be read.
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

/// One end of a control socket: sends `S`, receives `R`.
#[derive(Debug)]
pub struct Channel<S, R> {
    socket: OwnedFd,
    messages: PhantomData<fn(S) -> R>,
}

/// A message and the descriptors that came with it.
#[derive(Debug)]
pub struct Received<R> {
    /// The message.
    pub message: R,
    /// Its descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other end is closed.
    #[error("it ended without a word")]
    Ended,
    /// Nothing came in time.
    #[error("it said nothing for {0:?}")]
    Silent(Duration),
    /// What came is not a message of this channel.
    #[error("its message cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// What came is a message that may not come now.
    #[error("it sent {received} where {expected} was expected")]
    Unexpected {
        /// What may come.
        expected: &'static str,
        /// What came, as `Debug` shows it.
        received: String,
    },
    /// A system call failed.
    #[error("its control socket failed")]
    Io(#[from] io::Error),
}

impl ChannelError {
    /// `received` came where only `expected` may.
    pub fn unexpected(expected: &'static str, received: &impl std::fmt::Debug) -> Self {
        Self::Unexpected {
            expected,
            received: format!("{received:?}"),
        }
    }
}

impl<S, R> Channel<S, R> {
    /// Both ends, the supervisor's first.
    ///
    /// # Errors
    /// Those of `socketpair(2)`.
    pub fn pair() -> io::Result<(Self, Channel<R, S>)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((ours.into(), theirs.into()))
    }

    /// Takes ownership of an inherited end by its number.
    ///
    /// # Errors
    /// As [`handover::inherited`].
    pub fn inherited(number: RawFd) -> io::Result<Self> {
        handover::inherited(number).map(Self::from)
    }

    /// Says that no more messages follow; those of the other end still arrive. An end that is already closed is no error.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn finish(&self) -> io::Result<()> {
        match shutdown(self.socket.as_raw_fd(), Shutdown::Write) {
            Ok(()) | Err(nix::errno::Errno::ENOTCONN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether something can be received, or the other end is closed; waits at most `within`.
    ///
    /// # Errors
    /// Those of `poll(2)`.
    pub fn is_ready(&self, within: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut fds, timeout)? > 0)
    }
}

impl<S: Serialize, R> Channel<S, R> {
    /// Sends a message, waiting while the buffer is full.
    ///
    /// # Errors
    /// Those of `send(2)`; `EPIPE` when the other end is closed.
    pub fn send(&self, message: &S) -> io::Result<()> {
        handover::send_message(&self.socket, message)
    }

    /// Sends a message with descriptors.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`.
    pub fn send_with(&self, message: &S, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        fd::send_with_fds(&self.socket, &serde_json::to_vec(message)?, fds)
    }
}

impl<S, R: DeserializeOwned> Channel<S, R> {
    /// Waits for the next message.
    ///
    /// # Errors
    /// Any of [`ChannelError`] but `Silent` and `Unexpected`.
    pub fn receive(&self) -> Result<Received<R>, ChannelError> {
        self.take(MsgFlags::empty())
    }

    /// Waits for the next message, at most `within`.
    ///
    /// # Errors
    /// Any of [`ChannelError`] but `Unexpected`.
    pub fn receive_within(&self, within: Duration) -> Result<Received<R>, ChannelError> {
        if !self.is_ready(within)? {
            return Err(ChannelError::Silent(within));
        }
        self.take(MsgFlags::empty())
    }

    /// The next message, if one has arrived.
    ///
    /// # Errors
    /// As [`Self::receive`].
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

    #[test]
    fn messages_arrive_one_by_one_and_with_their_descriptors() {
        let (ours, theirs) = Channel::<u32, String>::pair().unwrap();
        assert!(ours.try_receive().unwrap().is_none());
        theirs.send(&String::from("one")).unwrap();
        let passed = [ours.as_fd()];
        theirs.send_with(&String::from("two"), &passed).unwrap();
        assert_eq!(ours.receive().unwrap().message, "one");
        let two = ours.receive_within(SOON).unwrap();
        assert_eq!((two.message.as_str(), two.fds.len()), ("two", 1));
        ours.send(&7).unwrap();
        assert_eq!(theirs.receive().unwrap().message, 7);
    }

    #[test]
    fn why_there_is_no_message_is_told_apart() {
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
