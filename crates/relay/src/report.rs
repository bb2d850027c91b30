//! Makes exactly one report of every request, tunnel and refused connection.
//!
//! A [`Flow`] is opened before anything is judged and reports when it is dropped, so no way out of a
//! task, not even its end by force, loses one. It holds a permit until the supervisor has taken the
//! report: when the supervisor does not read, no new flow opens, and nothing is thrown away.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use egress_policy::redact::{self, Key};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::authority::Target;
use super::plan::{FlowReport, NameReport, Report};

/// Longest method in a report, bytes.
const MAX_METHOD: usize = 32;

/// Bytes around a header field: a colon, a space, and a line end.
const FIELD_FRAMING: usize = 4;
/// Bytes around method and target: two spaces, the version, a line end, and the empty line.
const LINE_FRAMING: usize = 14;

/// Hands reports to the pump; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    queue: mpsc::UnboundedSender<Queued>,
    permits: Arc<Semaphore>,
    redaction: Key,
}

#[derive(Debug)]
enum Queued {
    Report(Box<Report>, Option<OwnedSemaphorePermit>),
    End,
}

/// Moves the reports to the supervisor, in the order in which they were made.
#[derive(Debug)]
pub(super) struct Pump {
    queue: mpsc::UnboundedReceiver<Queued>,
    out: mpsc::Sender<Report>,
}

impl Pump {
    /// Runs until [`Reporter::end`], or until nobody takes reports any more.
    pub(super) async fn run(mut self) {
        while let Some(Queued::Report(report, permit)) = self.queue.recv().await {
            if self.out.send(*report).await.is_err() {
                return;
            }
            drop(permit);
        }
    }
}

/// What is known of a connection before its first byte.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Origin {
    pub(super) cookie: u64,
    pub(super) connect_ns: u64,
    pub(super) orig_dst: Option<SocketAddr>,
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Both halves of the exchange ended in order.
    Forwarded,
    /// The relay refused it before the mediator was asked for anything.
    Refused,
    /// The mediator refused it, and nobody else can have written that answer.
    Blocked,
    /// The answer looks like the mediator's refusal, but an origin may have written it.
    Answered,
    /// It went wrong, at the mediator or on the way to it.
    Failed,
    /// It was asked for, and was cut.
    Unfinished,
}

impl Verdict {
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

/// The bytes of one flow, counted where they pass.
///
/// Whoever moves bytes holds a reference, so the report is right however the flow ends. Once it is reported nothing
/// more may pass: a late byte would be in no record.
#[derive(Debug, Default)]
pub(super) struct Passed {
    up: AtomicU64,
    down: AtomicU64,
}

/// Marks the count of a flow that has been reported.
const REPORTED: u64 = 1 << 63;

impl Passed {
    /// Counts bytes that are about to be sent to the mediator. When it returns `false` they must not be, because the
    /// flow has been reported.
    #[must_use = "bytes of a reported flow must not be sent"]
    pub(super) fn may_pass(&self, count: usize) -> bool {
        self.up.fetch_add(count as u64, Ordering::Relaxed) & REPORTED == 0
    }

    /// Counts bytes that went to the mediator, where the flow cannot have been reported meanwhile.
    pub(super) fn up(&self, count: usize) {
        self.up.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts bytes on their way to the command.
    pub(super) fn down(&self, count: usize) {
        self.down.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Bytes so far, to the mediator and to the command.
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
    /// At most `open` flows are open or waiting to be taken.
    pub(super) fn new(open: usize, out: mpsc::Sender<Report>, redaction: Key) -> (Self, Pump) {
        let (sender, queue) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(open.min(Semaphore::MAX_PERMITS)));
        (
            Self {
                queue: sender,
                permits,
                redaction,
            },
            Pump { queue, out },
        )
    }

    /// Opens the flow of one request or tunnel; waits while too many reports wait.
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

    /// Reports a name of the stub resolver.
    pub(super) async fn name(&self, name: NameReport) {
        let permit = self.permit().await;
        self.put(Queued::Report(Box::new(Report::Name(name)), permit));
    }

    /// Ends the pump behind everything reported so far.
    pub(super) fn end(&self) {
        self.put(Queued::End);
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    fn put(&self, queued: Queued) {
        if self.queue.send(queued).is_err() {
            // The pump ends only when nobody takes reports any more.
        }
    }
}

/// The report of one request or tunnel in the making; sent when dropped.
///
/// A flow that ends without a verdict was ended by the relay's stop: `unfinished` once the mediator was sent
/// something, `failed` before.
#[derive(Debug)]
pub(super) struct Flow {
    report: Box<FlowReport>,
    started: Instant,
    passed: Arc<Passed>,
    /// The mediator has been sent the request, or a part of it.
    is_sent: bool,
    verdict: Option<(Verdict, String)>,
    reporter: Reporter,
    permit: Option<OwnedSemaphorePermit>,
}

impl Flow {
    /// Sets what the flow is for.
    pub(super) fn target(&mut self, target: &Target) {
        self.report.host = Some(target.host.plain());
        self.report.port = Some(target.port);
    }

    /// Sets what is spoken.
    pub(super) fn protocol(&mut self, protocol: &str) {
        protocol.clone_into(&mut self.report.protocol);
    }

    /// Sets how the mediator is asked, the method, and the URL or authority that is asked for.
    pub(super) fn asked(&mut self, transport: &str, method: &str, target: &str) {
        self.report.transport = Some(transport.to_owned());
        // Methods are ASCII, so no character is cut.
        let method = method.get(..MAX_METHOD).unwrap_or(method);
        let shown = redact::target(target, &self.reporter.redaction);
        self.report.target = Some(format!("{method} {shown}"));
        self.report.target_bytes = (method.len() + 1 + target.len()) as u64;
    }

    /// Notes that from here on the mediator may have got some of it.
    pub(super) fn sent(&mut self) {
        self.is_sent = true;
    }

    /// Sets how long the head is that the mediator is sent.
    pub(super) fn head<B>(&mut self, request: &http::Request<B>) {
        let line = request.method().as_str().len() + request.uri().to_string().len();
        let fields = request.headers().iter();
        let fields: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_FRAMING)
            .sum();
        self.report.head_bytes = (line + LINE_FRAMING + fields) as u64;
    }

    /// Sets the status that the mediator answered with.
    pub(super) fn status(&mut self, status: u16) {
        self.report.status = Some(status);
    }

    /// Sets the words of a refusal that an origin may have written.
    pub(super) fn claimed(&mut self, words: Option<String>) {
        self.report.claimed = words;
    }

    /// What counts the flow's bytes.
    pub(super) fn passed(&self) -> Arc<Passed> {
        Arc::clone(&self.passed)
    }

    /// Sets how it ended; a later call counts.
    pub(super) fn verdict(&mut self, verdict: Verdict, reason: &str) {
        self.verdict = Some((verdict, reason.to_owned()));
    }

    /// Ends a flow that the relay refused.
    pub(super) fn refused(mut self, reason: &str) {
        self.verdict(Verdict::Refused, reason);
    }

    /// Ends a flow that went wrong.
    pub(super) fn failed(mut self, reason: &str) {
        self.verdict(Verdict::Failed, reason);
    }

    /// Notes that the flow was cut. A refusal or failure that the mediator has answered with stays.
    pub(super) fn cut(&mut self, reason: &str) {
        let verdict = match self.verdict {
            Some((
                Verdict::Blocked | Verdict::Answered | Verdict::Failed | Verdict::Refused,
                _,
            )) => {
                return;
            }
            Some((Verdict::Forwarded | Verdict::Unfinished, _)) => Verdict::Unfinished,
            None if self.is_sent => Verdict::Unfinished,
            None => Verdict::Failed,
        };
        self.verdict(verdict, reason);
    }

    /// Notes that the request itself was bad, which showed only when a part of it had been sent. A refusal or failure
    /// that the mediator has answered with stays.
    pub(super) fn broke(&mut self, reason: &str) {
        self.cut(reason);
        if let Some((verdict @ Verdict::Unfinished, _)) = &mut self.verdict {
            *verdict = Verdict::Failed;
        }
    }

    /// Notes that the mediator gave no answer: what it was sent, if only a head, may have reached the destination.
    pub(super) fn unanswered(&mut self, reason: &str) {
        if self.is_sent {
            self.verdict(Verdict::Unfinished, reason);
        } else {
            self.verdict(Verdict::Failed, reason);
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
        self.reporter.put(Queued::Report(Box::new(report), permit));
    }
}

/// A report that says nothing.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn flows_wait_for_a_reader_and_none_is_lost() {
        let (out, mut taken) = mpsc::channel(1);
        let (reporter, pump) = Reporter::new(2, out, Key::new("k"));
        let first = reporter.flow(Origin::default(), "raw").await;
        first.refused("a");
        drop(
            reporter
                .flow(
                    Origin {
                        cookie: 7,
                        ..Origin::default()
                    },
                    "raw",
                )
                .await,
        );
        let third = tokio::spawn({
            let reporter = reporter.clone();
            async move { reporter.flow(Origin::default(), "tls").await.failed("c") }
        });
        tokio::task::yield_now().await;
        assert!(
            !third.is_finished(),
            "a third flow opened while nobody read"
        );
        let pump = tokio::spawn(pump.run());
        let mut reasons = Vec::new();
        while reasons.len() < 3 {
            let Some(Report::Flow(flow)) = taken.recv().await else {
                panic!("no flow")
            };
            reasons.push((flow.cookie, flow.verdict, flow.reason));
        }
        let row = |cookie, verdict: &str, reason: &str| (cookie, verdict.into(), reason.into());
        assert_eq!(
            reasons,
            [
                row(0, "refused", "a"),
                row(7, "failed", "stopped"),
                row(0, "failed", "c")
            ]
        );
        reporter.end();
        pump.await.unwrap();
    }

    #[tokio::test]
    async fn what_passed_is_reported_whatever_ends_the_flow() {
        let (out, mut taken) = mpsc::channel(8);
        let (reporter, pump) = Reporter::new(8, out, Key::new("k"));
        let pump = tokio::spawn(pump.run());
        let mut row = async |change: &dyn Fn(&mut Flow)| {
            let mut flow = reporter.flow(Origin::default(), "http").await;
            let passed = flow.passed();
            change(&mut flow);
            drop(flow);
            assert!(!passed.may_pass(1), "a byte passed behind the report");
            let Some(Report::Flow(flow)) = taken.recv().await else {
                panic!("no flow")
            };
            (flow.verdict, flow.reason, flow.bytes_up, flow.bytes_down)
        };
        let up = |flow: &mut Flow| {
            flow.asked("forward", "POST", "http://a.test/");
            flow.sent();
            assert!(flow.passed().may_pass(7));
        };
        let words = |verdict: &str, reason: &str, up| (verdict.into(), reason.into(), up, 0);
        assert_eq!(row(&|_| {}).await, words("failed", "stopped", 0));
        let asked = |flow: &mut Flow| flow.asked("forward", "GET", "http://a.test/");
        assert_eq!(row(&asked).await, words("failed", "stopped", 0));
        assert_eq!(row(&up).await, words("unfinished", "stopped", 7));
        let cut = |verdict, reason: &'static str| {
            move |flow: &mut Flow| {
                up(flow);
                flow.verdict(verdict, reason);
                flow.cut("client_closed");
            }
        };
        let forwarded = row(&cut(Verdict::Forwarded, "")).await;
        assert_eq!(forwarded, words("unfinished", "client_closed", 7));
        // The mediator's refusal is known, however much of its page was read.
        let blocked = row(&cut(Verdict::Blocked, "allowlist:x")).await;
        assert_eq!(blocked, words("blocked", "allowlist:x", 7));
        reporter.end();
        pump.await.unwrap();
    }
}
