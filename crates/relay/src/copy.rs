//! Copies between the agent and the mediator until both have finished.
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

/// One end of a tunnel: its socket and the bytes that were read from it already.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stream: TcpStream,
    pub(super) first: Vec<u8>,
}

/// What is left, and why it stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copied {
    /// What was read from the agent and not sent.
    pub(super) up_rest: Vec<u8>,
    pub(super) end: Ending,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both sides had said everything, or the agent left when the mediator had.
    Finished,
    /// The agent closed its socket abruptly, before it had everything.
    AgentClosed,
    /// The mediator did.
    MediatorClosed,
    /// No byte moved for too long.
    Idle,
    /// The relay was told to stop.
    Stopped,
    /// What the agent sent is refused.
    Refused,
}

impl Ending {
    /// Why what was cut by this ended; `None` when nothing was.
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

/// Sees the bytes that flow from the agent before they are sent.
pub(super) trait Watch: Send {
    /// Called with each piece, once; what is sent in its place, if that is something else.
    fn up(&mut self, bytes: &[u8]) -> Option<Vec<u8>>;

    /// Called with each piece from the mediator, before it is sent to the agent.
    fn down(&mut self, _bytes: &[u8]) {}

    /// Whether the tunnel must end now.
    fn is_over(&self) -> bool {
        false
    }

    /// What to send behind the agent's last byte.
    fn tail(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// The other direction of a [`Watch`].
struct Down<'w, W>(&'w mut W);

impl<W: Watch> Watch for Down<'_, W> {
    fn up(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.0.down(bytes);
        None
    }
}

/// Copies both ways, and counts in `passed`. A half-close travels on; a side that does not read holds the other back.
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
            // What was to be sent is lost, or the mediator did not say everything.
            (_, Poll::Ready(Err(Closed::Sink))) => return Poll::Ready(Ending::AgentClosed),
            (_, Poll::Ready(Err(Closed::Source))) => return Poll::Ready(Ending::MediatorClosed),
            // Whoever has heard everything may go: the rest would be for nobody.
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
        // The alarm is looked at only when it rings, so that moving bytes costs no timer.
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

/// One direction.
struct Pipe<'a> {
    buffers: &'a Buffers,
    /// Bytes to write that are in no buffer.
    first: Vec<u8>,
    /// Lent only while it holds bytes: a tunnel that waits holds no memory.
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    /// The last read filled its buffer.
    large: bool,
    stage: Stage,
    /// What is to be sent has been counted, or is the relay's own.
    is_counted: bool,
}

/// How far a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// More may come.
    Open,
    /// Nothing more comes; what is left is to be sent.
    Closing,
    /// The end has been passed on.
    Finished,
}

/// Which socket of a direction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// The one that is read.
    Source,
    /// The one that is written to, with bytes that are lost.
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
                // When the other side has gone already, nothing that was said is lost.
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

    /// Sends these bytes next, instead of what was read. What was read is counted, and these are not: the record
    /// holds what the agent sent.
    fn send(&mut self, bytes: Vec<u8>) {
        self.release();
        self.is_counted = true;
        (self.start, self.end, self.first) = (0, bytes.len(), bytes);
    }

    /// What was read, or given, and is not sent yet.
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
