//! Asks the mediator for a tunnel, and copies through it.
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{Block, block};
use super::authority::Target;
use super::copy::{Copied, End, Ending, Watch, copy};
use super::report::{Flow, Verdict};
use super::serve::Relay;

/// Longest head of the mediator's answer to CONNECT.
const MAX_ANSWER: usize = 64 * 1024;

/// Why there is no tunnel.
#[derive(Debug)]
pub(super) struct Denied {
    /// `Blocked` or `Failed`.
    pub(super) verdict: Verdict,
    reason: String,
    status: Option<u16>,
}

impl Denied {
    fn failed(reason: &str) -> Self {
        Self {
            verdict: Verdict::Failed,
            reason: reason.to_owned(),
            status: None,
        }
    }

    /// Puts it into the report.
    pub(super) fn report(&self, flow: &mut Flow) {
        flow.verdict(self.verdict, &self.reason);
        if let Some(status) = self.status {
            flow.status(status);
        }
    }
}

/// Asks the mediator to connect to `target`.
pub(super) async fn open(relay: &Relay, target: &Target) -> Result<End, Denied> {
    let mut stream = relay
        .pool
        .dial()
        .await
        .map_err(|_cause| Denied::failed("mediator_unreachable"))?;
    let ask = async {
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        read_answer(&mut stream).await
    };
    let (answer, first) = timeout(relay.config.limits.answer, ask)
        .await
        .map_err(|_cause| Denied::failed("mediator_timeout"))?
        .ok_or_else(|| Denied::failed("mediator_closed"))?;
    match answer.status {
        200 => Ok(End { stream, first }),
        status => {
            // No origin answers here, so every refusal is the mediator's own.
            let refused = matches!(status, 403 | 429) || answer.block.is_some();
            Err(Denied {
                verdict: if refused {
                    Verdict::Blocked
                } else {
                    Verdict::Failed
                },
                reason: answer
                    .block
                    .map_or_else(|| format!("mediator_{status}"), |block| block.reason),
                status: Some(status),
            })
        }
    }
}

/// Copies between the agent, from which `first` was read, and the mediator; then reports.
pub(super) async fn run(
    relay: &Relay,
    agent: TcpStream,
    first: Vec<u8>,
    mut mediator: End,
    mut flow: Flow,
) {
    let mut agent = End {
        stream: agent,
        first,
    };
    let copied = transfer(relay, &mut agent, &mut mediator, &mut ()).await;
    flow.bytes(copied.up, copied.down);
    if copied.down == 0 && copied.end != Ending::Stopped {
        // The mediator accepted and then closed without a byte, or the agent gave up first.
        flow.verdict(Verdict::Failed, "no_answer");
    } else {
        flow.verdict(Verdict::Forwarded, "");
    }
}

/// [`copy`] with the relay's limits.
pub(super) async fn transfer(
    relay: &Relay,
    agent: &mut End,
    mediator: &mut End,
    watch: &mut impl Watch,
) -> Copied {
    let idle = relay.config.limits.idle;
    copy(
        agent,
        mediator,
        &relay.buffers,
        idle,
        watch,
        relay.stopped(),
    )
    .await
}

struct Answer {
    status: u16,
    block: Option<Block>,
}

/// Reads the head of the answer, and returns what came behind it.
async fn read_answer(stream: &mut TcpStream) -> Option<(Answer, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&bytes).ok()? {
            httparse::Status::Complete(length) => {
                let status = response.code?;
                let find = |name: &str| {
                    response
                        .headers
                        .iter()
                        .find(|field| field.name.eq_ignore_ascii_case(name))
                        .and_then(|field| std::str::from_utf8(field.value).ok())
                };
                let answer = Answer {
                    status,
                    block: block(status, find),
                };
                return Some((answer, bytes.split_off(length)));
            }
            httparse::Status::Partial if bytes.len() < MAX_ANSWER => bytes.reserve(1024),
            httparse::Status::Partial => return None,
        }
    }
}
