//! Makes exactly one report of every request, tunnel and refused connection.
//!
//! A [`Flow`] is opened before anything is judged and reports when it is dropped, so no way out of a
//! task, not even its end by force, loses one. It holds a permit until the supervisor has taken the
//! report: when the supervisor does not read, no new flow opens, and nothing is thrown away.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::authority::Target;
use super::plan::{FlowReport, NameReport, Report};

/// Longest target in a report, bytes.
const MAX_TARGET: usize = 512;

/// Hands reports to the pump; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    queue: mpsc::UnboundedSender<Queued>,
    permits: Arc<Semaphore>,
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
    Forwarded,
    Refused,
    Blocked,
    Failed,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }
}

impl Reporter {
    /// At most `open` flows are open or waiting to be taken.
    pub(super) fn new(open: usize, out: mpsc::Sender<Report>) -> (Self, Pump) {
        let (sender, queue) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(open.min(Semaphore::MAX_PERMITS)));
        (
            Self {
                queue: sender,
                permits,
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
            report: Box::new(FlowReport {
                cookie: origin.cookie,
                connect_ns: origin.connect_ns,
                orig_dst: origin.orig_dst,
                protocol: protocol.to_owned(),
                verdict: Verdict::Failed.word().to_owned(),
                reason: "stopped".to_owned(),
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
/// Until something else is said the verdict is `failed`, `stopped`: what holds when the relay ends.
#[derive(Debug)]
pub(super) struct Flow {
    report: Box<FlowReport>,
    started: Instant,
    reporter: Reporter,
    permit: Option<OwnedSemaphorePermit>,
}

impl Flow {
    /// Says what the flow is for.
    pub(super) fn target(&mut self, target: &Target) {
        self.report.host = Some(target.host.plain());
        self.report.port = Some(target.port);
    }

    /// Says what is spoken.
    pub(super) fn protocol(&mut self, protocol: &str) {
        protocol.clone_into(&mut self.report.protocol);
    }

    /// Says how the mediator is asked, and the method and target it is asked with.
    pub(super) fn asked(&mut self, transport: &str, method: &str, target: &str) {
        self.report.transport = Some(transport.to_owned());
        let mut text = format!("{method} {target}");
        // Targets are ASCII; `truncate` would panic inside a character, `floor` cannot.
        text.truncate(text.floor_char_boundary(MAX_TARGET));
        self.report.target = Some(text);
    }

    /// Says what the mediator answered.
    pub(super) fn status(&mut self, status: u16) {
        self.report.status = Some(status);
    }

    /// Says how many bytes went each way.
    pub(super) fn bytes(&mut self, up: u64, down: u64) {
        self.report.bytes_up = up;
        self.report.bytes_down = down;
    }

    /// Says how it ended; may be said again.
    pub(super) fn verdict(&mut self, verdict: Verdict, reason: &str) {
        verdict.word().clone_into(&mut self.report.verdict);
        reason.clone_into(&mut self.report.reason);
    }

    /// Ends a flow that the relay refused.
    pub(super) fn refused(mut self, reason: &str) {
        self.verdict(Verdict::Refused, reason);
    }

    /// Ends a flow that went wrong.
    pub(super) fn failed(mut self, reason: &str) {
        self.verdict(Verdict::Failed, reason);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
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
        verdict: String::new(),
        reason: String::new(),
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
        let (reporter, pump) = Reporter::new(2, out);
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
}
