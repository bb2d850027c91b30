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

/// One end of a tunnel: its socket and the bytes that were read from it already.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stream: TcpStream,
    pub(super) first: Vec<u8>,
}

/// What moved, and why it stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copied {
    /// Bytes from the agent.
    pub(super) up: u64,
    /// Bytes to the agent.
    pub(super) down: u64,
    /// What was read from the agent and not sent.
    pub(super) up_rest: Vec<u8>,
    pub(super) end: Ending,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both sides had said everything.
    Finished,
    /// A socket failed, mostly because a side closed it abruptly.
    Broken,
    /// No byte moved for too long.
    Idle,
    /// The relay was told to stop.
    Stopped,
}

/// Sees the bytes that flow from the agent before they are sent.
pub(super) trait Watch: Send {
    /// Called with each piece, once; what is sent in its place, if that is something else.
    fn up(&mut self, bytes: &[u8]) -> Option<Vec<u8>>;

    /// What to send behind the agent's last byte.
    fn tail(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// Nothing to see.
impl Watch for () {
    fn up(&mut self, _bytes: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Copies both ways. A half-close travels on; a side that does not read holds the other back.
pub(super) async fn copy(
    agent: &mut End,
    mediator: &mut End,
    buffers: &Buffers,
    idle: Duration,
    watch: &mut impl Watch,
    stop: impl Future<Output = ()>,
) -> Copied {
    let mut up = Pipe::new(buffers, std::mem::take(&mut agent.first));
    let mut down = Pipe::new(buffers, std::mem::take(&mut mediator.first));
    if let Some(instead) = watch.up(&up.first) {
        up.send(instead);
    }
    let (agent, mediator) = (&mut agent.stream, &mut mediator.stream);
    let mut alarm = pin!(sleep_until(Instant::now() + idle));
    let mut seen = (0, 0);
    let mut stop = pin!(stop);
    let end = poll_fn(|cx| {
        let first = up.poll(cx, agent, mediator, watch);
        let second = down.poll(cx, mediator, agent, &mut ());
        match (first, second) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                return Poll::Ready(Ending::Broken);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ending::Finished),
            _ => {}
        }
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ending::Stopped);
        }
        // The alarm is looked at only when it rings, so that moving bytes costs no timer.
        while alarm.as_mut().poll(cx).is_ready() {
            if seen == (up.moved, down.moved) {
                return Poll::Ready(Ending::Idle);
            }
            seen = (up.moved, down.moved);
            alarm.as_mut().reset(Instant::now() + idle);
        }
        Poll::Pending
    })
    .await;
    Copied {
        up: up.moved,
        down: down.moved,
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
    read_closed: bool,
    finished: bool,
    moved: u64,
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
            read_closed: false,
            finished: false,
            moved: 0,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        watch: &mut impl Watch,
    ) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        loop {
            while self.start < self.end {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, self.unsent()))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.start += written;
                self.moved += written as u64;
            }
            self.first = Vec::new();
            if self.read_closed {
                self.release();
                if let Some(tail) = watch.tail() {
                    self.send(tail);
                    continue;
                }
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.finished = true;
                return Poll::Ready(Ok(()));
            }
            if self.poll_fill(cx, from, watch)?.is_pending() {
                self.release();
                return Poll::Pending;
            }
        }
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        watch: &mut impl Watch,
    ) -> Poll<io::Result<()>> {
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
        self.read_closed = fresh.is_empty();
        self.large = fresh.len() >= SMALL;
        if let Some(instead) = watch.up(fresh) {
            self.send(instead);
        }
        Poll::Ready(Ok(()))
    }

    /// Sends these bytes next, instead of what was read.
    fn send(&mut self, bytes: Vec<u8>) {
        self.release();
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
