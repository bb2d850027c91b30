//! Opens a tunnel through the mediator and copies bytes through it.
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Judged, tunnel as judge};
use super::authority::Target;
use super::copy::{Copied, End, Ending, Watch, copy};
use super::first_bytes::refuse_tls;
use super::handshake::Handshake;
use super::pool::Link;
use super::report::{Flow, FlowVerdict, Passed};
use super::state::Relay;

/// Maximum length of the head of the mediator's answer to CONNECT.
const MAX_ANSWER: usize = 64 * 1024;

/// Pause before another CONNECT to a mediator that has no place for a tunnel.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Text in the answer of a mediator that has no place for a tunnel.
const BUSY: &[u8] = b"too many active tunnels";

/// An open tunnel, with its permit.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) end: End,
    pub(super) place: OwnedSemaphorePermit,
}

impl Tunnel {
    /// Starts HTTP in the tunnel, for one request.
    ///
    /// # Errors
    /// Returns the reason word: `upstream_failed` if the origin sent bytes before the request, or
    /// `mediator_closed`.
    pub(super) async fn client(self) -> Result<Link, &'static str> {
        let Self { end, place } = self;
        if !end.first.is_empty() {
            // The origin sent bytes before the request.
            return Err("upstream_failed");
        }
        Link::over(end.stream, Some(place))
            .await
            .map_err(|_cause| "mediator_closed")
    }
}

/// Why a tunnel was not opened.
#[derive(Debug)]
pub(super) struct Denied {
    /// `Blocked` or `Failed`.
    pub(super) verdict: FlowVerdict,
    pub(super) reason: String,
    status: Option<u16>,
    /// The mediator has no place for another tunnel now.
    is_busy: bool,
}

impl Denied {
    pub(super) fn failed(reason: &str) -> Self {
        Self {
            verdict: FlowVerdict::Failed,
            reason: reason.to_owned(),
            status: None,
            is_busy: false,
        }
    }

    /// Returns the status for an HTTP client.
    pub(super) fn answer(&self) -> StatusCode {
        match self.verdict {
            FlowVerdict::Blocked => StatusCode::FORBIDDEN,
            FlowVerdict::Failed
            | FlowVerdict::Refused
            | FlowVerdict::Forwarded
            | FlowVerdict::Answered
            | FlowVerdict::Unfinished => StatusCode::BAD_GATEWAY,
        }
    }

    /// Records the reason in the report.
    pub(super) fn report(&self, flow: &mut Flow) {
        flow.verdict(self.verdict, &self.reason);
        if let Some(status) = self.status {
            flow.status(status);
        }
    }
}

/// Waits for a free place for a tunnel, and has the mediator connect to `target`. Stops waiting if
/// `agent` closes.
pub(super) async fn open(
    relay: &Relay,
    target: &Target,
    agent: Option<&TcpStream>,
) -> Result<Tunnel, Denied> {
    let place = tokio::select! {
        biased;
        place = relay.place() => place.ok_or_else(|| Denied::failed("stopped"))?,
        () = gone(agent) => return Err(Denied::failed("client_closed")),
    };
    let deadline = Instant::now() + relay.config.limits.answer;
    loop {
        match ask(relay, target).await {
            // The mediator frees a place only some time after the earlier tunnel has ended.
            Err(denied) if denied.is_busy && Instant::now() < deadline => sleep(ASK_AGAIN).await,
            asked => return asked.map(|end| Tunnel { end, place }),
        }
    }
}

/// Completes when the client closes its side. Never completes if the client has sent more bytes or if `agent` is
/// `None`.
async fn gone(agent: Option<&TcpStream>) {
    let still_there = match agent {
        Some(agent) => matches!(agent.peek(&mut [0]).await, Ok(read) if read > 0),
        None => true,
    };
    if still_there {
        std::future::pending::<()>().await;
    }
}

async fn ask(relay: &Relay, target: &Target) -> Result<End, Denied> {
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
            let (verdict, reason) = match answer.judged {
                Judged::Blocked(reason) => (FlowVerdict::Blocked, reason),
                Judged::Failed(reason) => (FlowVerdict::Failed, reason),
                Judged::Origin | Judged::Answered(_) => {
                    (FlowVerdict::Failed, format!("mediator_{status}"))
                }
            };
            Err(Denied {
                verdict,
                reason,
                status: Some(status),
                is_busy: status == 503 && first.windows(BUSY.len()).any(|words| words == BUSY),
            })
        }
    }
}

/// Copies bytes between the command and the mediator, and reports the flow. `first` was already read from the command.
pub(super) async fn run(
    relay: &Relay,
    agent: TcpStream,
    first: Vec<u8>,
    tunnel: Tunnel,
    mut handshake: Handshake<'_>,
    mut flow: Flow,
) {
    let mut agent = End {
        stream: agent,
        first,
    };
    let Tunnel {
        end: mut mediator,
        place,
    } = tunnel;
    flow.sent();
    let passed = flow.passed();
    let copied = transfer(relay, &mut agent, &mut mediator, &passed, &mut handshake).await;
    drop((mediator, place));
    if let Some((reason, alert)) = handshake.refused() {
        flow.verdict(FlowVerdict::Unfinished, reason);
        return refuse_tls(relay, agent.stream, alert).await;
    }
    let (_, down) = passed.bytes();
    if down == 0 && copied.end != Ending::Stopped {
        // The mediator accepted the tunnel, but the tunnel ended before a byte came back.
        flow.unanswered("no_answer");
    } else {
        ended(&mut flow, copied.end);
    }
}

/// Records the end of a tunnel that carried an answer.
pub(super) fn ended(flow: &mut Flow, end: Ending) {
    match end.reason() {
        None => flow.verdict(FlowVerdict::Forwarded, ""),
        Some(reason) => flow.verdict(FlowVerdict::Unfinished, reason),
    }
}

/// Calls [`copy`] with the relay's limits.
pub(super) async fn transfer(
    relay: &Relay,
    agent: &mut End,
    mediator: &mut End,
    passed: &Passed,
    watch: &mut impl Watch,
) -> Copied {
    let idle = relay.config.limits.idle;
    copy(
        agent,
        mediator,
        passed,
        &relay.buffers,
        idle,
        watch,
        relay.stopped(),
    )
    .await
}

struct Answer {
    status: u16,
    judged: Judged,
}

/// Reads the head of the answer. Returns the head with the bytes that follow the head.
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
                    judged: judge(status, find),
                };
                return Some((answer, bytes.split_off(length)));
            }
            httparse::Status::Partial if bytes.len() < MAX_ANSWER => bytes.reserve(1024),
            httparse::Status::Partial => return None,
        }
    }
}
