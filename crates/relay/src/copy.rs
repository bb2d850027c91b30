//! Copies bytes between the command and the mediator until both sides have finished or the tunnel is cut.
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::buffers::{Buffers, SMALL};
use super::report::Passed;

/// One end of a tunnel: its socket, and the bytes that were already read from it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stream: TcpStream,
    pub(super) first: Vec<u8>,
}

/// The result of [`copy`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copied {
    /// Bytes that were read from the command and not sent.
    pub(super) up_rest: Vec<u8>,
    pub(super) end: Ending,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both sides finished, or the command closed after the mediator had finished.
    Finished,
    /// The command closed its socket before it had received everything.
    AgentClosed,
    /// The mediator closed its socket before it had finished.
    MediatorClosed,
    /// No byte moved for the idle timeout.
    Idle,
    /// The relay was stopped.
    Stopped,
    /// The relay denied bytes that the command sent.
    Refused,
}

impl Ending {
    /// Returns the reason word if the tunnel was cut.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Finished => None,
            Self::AgentClosed => Some("client_closed"),
            Self::MediatorClosed => Some("mediator_closed"),
            Self::Idle => Some("idle"),
            Self::Stopped => Some("stopped"),
            Self::Refused => Some("refused"),
        }
    }
}

/// Inspects the bytes of a tunnel before they are sent on.
pub(super) trait Watch: Send {
    /// Receives each piece from the command once. Returns the bytes to send instead, or `None` to
    /// send the piece unchanged.
    fn up(&mut self, bytes: &[u8]) -> Option<Vec<u8>>;

    /// Receives each piece from the mediator before it is sent to the command.
    fn down(&mut self, _bytes: &[u8]) {}

    /// Returns whether the tunnel must end now.
    fn is_over(&self) -> bool {
        false
    }

    /// Returns bytes to send after the last byte of the command.
    fn tail(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// Passes the bytes from the mediator to [`Watch::down`].
struct Down<'w, W>(&'w mut W);

impl<W: Watch> Watch for Down<'_, W> {
    fn up(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.0.down(bytes);
        None
    }
}

/// Copies in both directions and counts the bytes in `passed`. A half-close is passed on. While one side does not read,
/// the relay does not read from the other side.
pub(super) async fn copy(
    agent: &mut End,
    mediator: &mut End,
    passed: &Passed,
    buffers: &Buffers,
    idle: Duration,
    watch: &mut impl Watch,
    stop: impl Future<Output = ()>,
) -> Copied {
    let mut up = Pipe::new(buffers, std::mem::take(&mut agent.first));
    let mut down = Pipe::new(buffers, std::mem::take(&mut mediator.first));
    if let Some(instead) = watch.up(&up.first) {
        passed.up(up.first.len());
        up.send(instead);
    }
    watch.down(&down.first);
    let (agent, mediator) = (&mut agent.stream, &mut mediator.stream);
    let mut alarm = pin!(sleep_until(Instant::now() + idle));
    let mut seen = passed.bytes();
    let mut stop = pin!(stop);
    let end = poll_fn(|cx| {
        let first = up.poll(cx, agent, mediator, watch, &|count| passed.up(count));
        let second = down.poll(cx, mediator, agent, &mut Down(watch), &|count| {
            passed.down(count);
        });
        if watch.is_over() {
            return Poll::Ready(Ending::Refused);
        }
        match (first, second) {
            // Bytes for the command are lost, or the mediator closed before it had finished.
            (_, Poll::Ready(Err(Closed::Sink))) => return Poll::Ready(Ending::AgentClosed),
            (_, Poll::Ready(Err(Closed::Source))) => return Poll::Ready(Ending::MediatorClosed),
            // The command has received everything, so it may close although its own bytes were not all sent.
            (Poll::Ready(Err(_)), _) if down.stage == Stage::Finished => {
                return Poll::Ready(Ending::Finished);
            }
            (Poll::Ready(Err(Closed::Source)), _) => return Poll::Ready(Ending::AgentClosed),
            (Poll::Ready(Err(Closed::Sink)), _) => return Poll::Ready(Ending::MediatorClosed),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ending::Finished),
            _ => {}
        }
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ending::Stopped);
        }
        // The byte count is compared only when the alarm fires, so that moving bytes does not reset a timer.
        while alarm.as_mut().poll(cx).is_ready() {
            let now = passed.bytes();
            if seen == now {
                return Poll::Ready(Ending::Idle);
            }
            seen = now;
            alarm.as_mut().reset(Instant::now() + idle);
        }
        Poll::Pending
    })
    .await;
    Copied {
        up_rest: up.unsent().to_vec(),
        end,
    }
}

/// One direction of a tunnel.
struct Pipe<'a> {
    buffers: &'a Buffers,
    /// Bytes to write that are not in the lent buffer.
    first: Vec<u8>,
    /// A buffer that is lent only while it contains bytes, so that an idle tunnel does not use a buffer.
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    /// The last read filled a small buffer.
    large: bool,
    stage: Stage,
    /// The bytes to write were already counted, or come from the relay.
    is_counted: bool,
}

/// Progress of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// More bytes may arrive.
    Open,
    /// The source has ended. The remaining bytes are being sent.
    Closing,
    /// The end was passed on.
    Finished,
}

/// Which socket of a direction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// The socket that is read.
    Source,
    /// The socket that is written to. Bytes are lost if this socket fails.
    Sink,
}

impl<'a> Pipe<'a> {
    fn new(buffers: &'a Buffers, first: Vec<u8>) -> Self {
        Self {
            buffers,
            end: first.len(),
            first,
            buffer: None,
            start: 0,
            large: false,
            stage: Stage::Open,
            is_counted: false,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        watch: &mut impl Watch,
        moved: &impl Fn(usize),
    ) -> Poll<Result<(), Closed>> {
        if self.stage == Stage::Finished {
            return Poll::Ready(Ok(()));
        }
        loop {
            while self.start < self.end {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, self.unsent()));
                let Ok(written @ 1..) = written else {
                    return Poll::Ready(Err(Closed::Sink));
                };
                if !self.is_counted {
                    moved(written);
                }
                self.start += written;
            }
            self.first = Vec::new();
            if self.stage == Stage::Closing {
                self.release();
                if let Some(tail) = watch.tail() {
                    self.send(tail);
                    continue;
                }
                // An error means that the other side has closed, and all bytes were already sent.
                drop(ready!(Pin::new(&mut *to).poll_shutdown(cx)));
                self.stage = Stage::Finished;
                return Poll::Ready(Ok(()));
            }
            match self.poll_fill(cx, from, watch, moved) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Closed::Source)),
                Poll::Pending => {
                    self.release();
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        watch: &mut impl Watch,
        moved: &impl Fn(usize),
    ) -> Poll<io::Result<()>> {
        self.is_counted = false;
        if self
            .buffer
            .as_ref()
            .is_some_and(|b| self.large != (b.len() > SMALL))
        {
            self.release();
        }
        let buffer = self
            .buffer
            .get_or_insert_with(|| self.buffers.lend(self.large));
        let mut room = ReadBuf::new(buffer);
        ready!(Pin::new(from).poll_read(cx, &mut room))?;
        let fresh = room.filled();
        self.start = 0;
        self.end = fresh.len();
        if fresh.is_empty() {
            self.stage = Stage::Closing;
        }
        self.large = fresh.len() >= SMALL;
        if let Some(instead) = watch.up(fresh) {
            moved(fresh.len());
            self.send(instead);
        }
        Poll::Ready(Ok(()))
    }

    /// Sends `bytes` next, instead of the bytes that were read. Only the bytes that were read are
    /// counted, because the flow log states the bytes that the command sent.
    fn send(&mut self, bytes: Vec<u8>) {
        self.release();
        self.is_counted = true;
        (self.start, self.end, self.first) = (0, bytes.len(), bytes);
    }

    /// Returns the bytes that are not sent yet.
    fn unsent(&self) -> &[u8] {
        let bytes = match &self.buffer {
            Some(buffer) => buffer.get(self.start..self.end),
            None => self.first.get(self.start..self.end),
        };
        bytes.unwrap_or_default()
    }

    fn release(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.buffers.give_back(buffer);
        }
    }
}

impl Drop for Pipe<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
