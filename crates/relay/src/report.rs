//! Produces exactly one report for every request, every tunnel, and every denied connection.
//!
//! A [`Flow`] is opened before anything is judged, and reports when it is dropped. A task therefore
//! reports its flow however the task ends, even by an abort. The flow holds a permit until the pump has put the report
//! into the channel to the supervisor. If the supervisor does not read, this channel fills up. Then no new flow opens,
//! and no report is discarded.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use egress_policy::patterns::Patterns;
use egress_policy::redact::{self, Key, OwnSecret};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::authority::Target;
use super::plan::{FlowReport, NameReport, Report};

#[cfg(test)]
mod tests;

/// Maximum length of a method in a report, in bytes.
const MAX_METHOD: usize = 32;

/// Framing bytes of a header field: a colon, a space, and a line end.
const FIELD_FRAMING: usize = 4;
/// Framing bytes of a head: two spaces, the version, a line end, and the empty line.
const LINE_FRAMING: usize = 14;

/// Passes reports to the pump. A reporter is cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    queue: mpsc::UnboundedSender<Queued>,
    permits: Arc<Semaphore>,
    redaction: Arc<Redaction>,
}

/// What the targets in the reports do not show.
#[derive(Debug)]
struct Redaction {
    key: Key,
    patterns: Patterns,
}

impl Redaction {
    fn redacted(&self, target: &str) -> String {
        let is_own = |text: &str| self.patterns.is_match(text);
        let own = (!self.patterns.is_empty()).then_some(&is_own as OwnSecret<'_>);
        redact::target_without(target, &self.key, own)
    }
}

#[derive(Debug)]
enum Queued {
    Report(Outgoing, Option<OwnedSemaphorePermit>),
    End,
}

/// A report on its way to the supervisor.
#[derive(Debug)]
pub struct Outgoing {
    report: Box<Report>,
    sent: Option<oneshot::Sender<()>>,
}

impl Outgoing {
    /// Wraps a report.
    pub fn new(report: Report) -> Self {
        Self {
            report: Box::new(report),
            sent: None,
        }
    }

    /// Returns the report.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Resumes the task that waits until the supervisor can read the report. Call this function after the report was
    /// written to the control socket.
    pub fn sent(self) {
        if self.sent.is_some_and(|sent| sent.send(()).is_err()) {
            // The waiting task has ended.
        }
    }
}

/// Sends the reports to the supervisor in order.
#[derive(Debug)]
pub(super) struct Pump {
    queue: mpsc::UnboundedReceiver<Queued>,
    out: mpsc::Sender<Outgoing>,
}

impl Pump {
    /// Runs until [`Reporter::end`] is called or the receiver is closed.
    pub(super) async fn run(mut self) {
        while let Some(Queued::Report(report, permit)) = self.queue.recv().await {
            if self.out.send(report).await.is_err() {
                return;
            }
            drop(permit);
        }
    }
}

/// Identity of a connection, known before its first byte.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Origin {
    pub(super) cookie: u64,
    pub(super) connect_ns: u64,
    pub(super) orig_dst: Option<SocketAddr>,
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlowVerdict {
    /// The exchange ended normally in both directions.
    Forwarded,
    /// The relay denied the flow before it sent anything to the mediator.
    Refused,
    /// The mediator denied the flow, and only the mediator can have written that answer.
    Blocked,
    /// The answer looks like a denial by the mediator, but an origin may have written it.
    Answered,
    /// The mediator failed or could not be reached, the client closed the connection too early, or the request turned
    /// out to be malformed.
    Failed,
    /// At least a part of the flow was sent to the mediator, and then the flow was cut.
    Unfinished,
}

impl FlowVerdict {
    fn word(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
        }
    }
}

/// Byte counts of one flow.
///
/// The code that moves bytes updates the counts directly, so the report is correct however the flow ends. After the
/// report no more bytes may pass, because they would not be in the flow log.
#[derive(Debug, Default)]
pub(super) struct Passed {
    up: AtomicU64,
    down: AtomicU64,
}

/// Flag in the count of a flow that was reported.
const REPORTED: u64 = 1 << 63;

impl Passed {
    /// Counts bytes before they are sent to the mediator. Returns false if the flow was already
    /// reported. The bytes must then not be sent.
    #[must_use = "bytes of a reported flow must not be sent"]
    pub(super) fn may_pass(&self, count: usize) -> bool {
        self.up.fetch_add(count as u64, Ordering::Relaxed) & REPORTED == 0
    }

    /// Counts bytes that were sent to the mediator. The caller ensures that the flow is not reported yet.
    pub(super) fn up(&self, count: usize) {
        self.up.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts bytes that go to the command.
    pub(super) fn down(&self, count: usize) {
        self.down.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Returns the bytes to the mediator and to the command so far.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let up = self.up.load(Ordering::Relaxed) & !REPORTED;
        (up, self.down.load(Ordering::Relaxed))
    }

    fn close(&self) -> (u64, u64) {
        self.up.fetch_or(REPORTED, Ordering::Relaxed);
        self.bytes()
    }
}

impl Reporter {
    /// Creates a reporter and its pump. At most `open` flows are open, or have a report that the pump has not put into
    /// `out` yet.
    pub(super) fn new(
        open: usize,
        out: mpsc::Sender<Outgoing>,
        key: Key,
        patterns: Patterns,
    ) -> (Self, Pump) {
        let (sender, queue) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(open.min(Semaphore::MAX_PERMITS)));
        (
            Self {
                queue: sender,
                permits,
                redaction: Arc::new(Redaction { key, patterns }),
            },
            Pump { queue, out },
        )
    }

    /// Opens the flow of one request or tunnel. Waits while too many flows are open, or have a report that the pump has
    /// not put into its channel yet.
    pub(super) async fn flow(&self, origin: Origin, protocol: &str) -> Flow {
        Flow {
            permit: self.permit().await,
            reporter: self.clone(),
            started: Instant::now(),
            passed: Arc::default(),
            is_sent: false,
            verdict: None,
            report: Box::new(FlowReport {
                cookie: origin.cookie,
                connect_ns: origin.connect_ns,
                orig_dst: origin.orig_dst,
                protocol: protocol.to_owned(),
                ..blank()
            }),
        }
    }

    /// Reports a name of the stub resolver. Returns when the report is in the control socket, so that the supervisor
    /// can read the name before the command can connect to its address.
    pub(super) async fn name(&self, name: NameReport) {
        let permit = self.permit().await;
        let (sent, is_sent) = oneshot::channel();
        let outgoing = Outgoing {
            sent: Some(sent),
            ..Outgoing::new(Report::Name(name))
        };
        self.put(Queued::Report(outgoing, permit));
        if is_sent.await.is_err() {
            // The pump has ended because the receiver is closed.
        }
    }

    /// Ends the pump after all reports so far.
    pub(super) fn end(&self) {
        self.put(Queued::End);
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    fn put(&self, queued: Queued) {
        if self.queue.send(queued).is_err() {
            // The pump has ended because the receiver is closed.
        }
    }
}

/// The open flow of one request or tunnel. Dropping the flow sends its report.
///
/// A flow that is dropped without a verdict was usually cut because the relay stopped. Its verdict is then `unfinished`
/// if something was sent to the mediator, otherwise `failed`.
#[derive(Debug)]
pub(super) struct Flow {
    report: Box<FlowReport>,
    started: Instant,
    passed: Arc<Passed>,
    /// The request, or a part of it, was sent to the mediator.
    is_sent: bool,
    verdict: Option<(FlowVerdict, String)>,
    reporter: Reporter,
    permit: Option<OwnedSemaphorePermit>,
}

impl Flow {
    /// Sets the host and the port of the flow.
    pub(super) fn target(&mut self, target: &Target) {
        self.report.host = Some(target.host.plain());
        self.report.port = Some(target.port);
    }

    /// Sets the label of the flow's protocol.
    pub(super) fn protocol(&mut self, protocol: &str) {
        protocol.clone_into(&mut self.report.protocol);
    }

    /// Sets the transport to the mediator, the method, and the URL or authority.
    pub(super) fn asked(&mut self, transport: &str, method: &str, target: &str) {
        self.report.transport = Some(transport.to_owned());
        // Methods are ASCII, so the slice does not split a character.
        let method = method.get(..MAX_METHOD).unwrap_or(method);
        let shown = self.reporter.redaction.redacted(target);
        self.report.target = Some(format!("{method} {shown}"));
        self.report.target_bytes = (method.len() + 1 + target.len()) as u64;
    }

    /// Records that the mediator may have received a part of the request.
    pub(super) fn sent(&mut self) {
        self.is_sent = true;
    }

    /// Sets the length of the head that is sent to the mediator.
    pub(super) fn head<B>(&mut self, request: &http::Request<B>) {
        let line = request.method().as_str().len() + request.uri().to_string().len();
        let fields = request.headers().iter();
        let fields: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_FRAMING)
            .sum();
        self.report.head_bytes = (line + LINE_FRAMING + fields) as u64;
    }

    /// Sets the status of the mediator's answer.
    pub(super) fn status(&mut self, status: u16) {
        self.report.status = Some(status);
    }

    /// Sets the reason of a denial that an origin may have written.
    pub(super) fn claimed(&mut self, words: Option<String>) {
        self.report.claimed = words;
    }

    /// Returns the byte counts of the flow.
    pub(super) fn passed(&self) -> Arc<Passed> {
        Arc::clone(&self.passed)
    }

    /// Sets the verdict, which a later call may replace.
    pub(super) fn verdict(&mut self, verdict: FlowVerdict, reason: &str) {
        self.verdict = Some((verdict, reason.to_owned()));
    }

    /// Ends a flow that the relay denied.
    pub(super) fn refused(mut self, reason: &str) {
        self.verdict(FlowVerdict::Refused, reason);
    }

    /// Ends a flow that failed.
    pub(super) fn failed(mut self, reason: &str) {
        self.verdict(FlowVerdict::Failed, reason);
    }

    /// Records that the flow was cut. A denial or failure in the mediator's answer takes precedence.
    pub(super) fn cut(&mut self, reason: &str) {
        let verdict = match self.verdict {
            Some((
                FlowVerdict::Blocked
                | FlowVerdict::Answered
                | FlowVerdict::Failed
                | FlowVerdict::Refused,
                _,
            )) => {
                return;
            }
            Some((FlowVerdict::Forwarded | FlowVerdict::Unfinished, _)) => FlowVerdict::Unfinished,
            None if self.is_sent => FlowVerdict::Unfinished,
            None => FlowVerdict::Failed,
        };
        self.verdict(verdict, reason);
    }

    /// Records that the request was malformed. The error was detected after a part of the request
    /// had been sent. A denial or failure in the mediator's answer takes precedence.
    pub(super) fn broke(&mut self, reason: &str) {
        self.cut(reason);
        if let Some((verdict @ FlowVerdict::Unfinished, _)) = &mut self.verdict {
            *verdict = FlowVerdict::Failed;
        }
    }

    /// Records that the mediator did not answer. Bytes that were sent to the mediator may have reached the destination.
    pub(super) fn unanswered(&mut self, reason: &str) {
        if self.is_sent {
            self.verdict(FlowVerdict::Unfinished, reason);
        } else {
            self.verdict(FlowVerdict::Failed, reason);
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if self.verdict.is_none() {
            self.cut("stopped");
        }
        if let Some((verdict, reason)) = self.verdict.take() {
            verdict.word().clone_into(&mut self.report.verdict);
            self.report.reason = reason;
        }
        (self.report.bytes_up, self.report.bytes_down) = self.passed.close();
        if !self.is_sent {
            self.report.head_bytes = 0;
        }
        self.report.duration_us =
            u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let report = Report::Flow(std::mem::replace(&mut *self.report, blank()));
        let permit = self.permit.take();
        self.reporter
            .put(Queued::Report(Outgoing::new(report), permit));
    }
}

/// Returns a report without values.
fn blank() -> FlowReport {
    FlowReport {
        cookie: 0,
        connect_ns: 0,
        orig_dst: None,
        host: None,
        port: None,
        protocol: String::new(),
        transport: None,
        target: None,
        target_bytes: 0,
        head_bytes: 0,
        verdict: String::new(),
        reason: String::new(),
        claimed: None,
        status: None,
        bytes_up: 0,
        bytes_down: 0,
        duration_us: 0,
    }
}
