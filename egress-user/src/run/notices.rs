//! Notices for the caller that are not a part of the verdict, one per line.
use std::path::PathBuf;

use audit_packet::denied::in_natural_order;
use audit_packet::hint::{Hint, Settings};
use egress_policy::allowed::Allowed;

use super::ending::Ending;
use super::facts::RunFacts;
use super::notice::{Notice, NoticeKind};
use super::plan::PlainHttp;

/// Number of places of loopback that are named.
const SHOWN: usize = 10;

/// Returns the notices, for standard error and the summary.
pub(super) fn of(run: &RunFacts) -> Vec<Notice> {
    let mut notices: Vec<Notice> = general(run).into_iter().map(Notice::general).collect();
    notices.extend(run.mediator.notices.iter().cloned());
    notices.extend(traffic(run).into_iter().map(Notice::general));
    notices.extend(credentials(run));
    notices.extend(passed_on(run).into_iter().map(Notice::general));
    notices
}

fn general(run: &RunFacts) -> Vec<String> {
    let mut lines = Vec::new();
    if run.unverified.is_some() {
        lines.push(String::from(
            "AUDIT MODE: the command used the host's network; nothing was denied or redirected, \
             and there are no receipts, so this packet does not prove a boundary",
        ));
    }
    if run.output.defused > 0 {
        lines.push(format!(
            "{} commands to the CI system in the command's output were defused",
            run.output.defused
        ));
    }
    lines.extend(run.context.timeline.clock.notice());
    lines
}

/// Returns the notices about limits, loopback, and the mediator's view of the traffic.
fn traffic(run: &RunFacts) -> Vec<String> {
    let mut lines = limits(run);
    lines.extend(unserved(run));
    if run.mediator.plain_http == PlainHttp::Tunnel {
        lines.push(String::from(
            "plain HTTP went through tunnels; Pipelock saw only host names and ports, and did not scan the requests",
        ));
    }
    if let Some(trusted) = &run.context.measured.trusted {
        lines.push(format!(
            "Pipelock opened TLS; programs in the boundary trusted its authority (SHA-256 {})",
            trusted.certificate_sha256
        ));
    }
    lines
}

/// Returns the notices about files that may hold a credential.
fn credentials(run: &RunFacts) -> Vec<Notice> {
    let credentials = &run.context.measured.credentials;
    let mut notices = Vec::new();
    let mut lines = Vec::new();
    for one in &credentials.redactions {
        let keys = match one.keys.as_slice() {
            // A reason in place of keys has its own parentheses.
            [reason] if reason.starts_with('(') => reason.clone(),
            keys => format!("({})", keys.join(", ")),
        };
        let file = format!("{} {keys}", one.path.display());
        let text = format!(
            "hidden from the command, because it may hold a credential: {file}; --show-credential shows it"
        );
        let kind = NoticeKind::HiddenFile(file);
        notices.push(Notice { kind, text });
    }
    for one in &credentials.shown {
        lines.push(format!(
            "shown to the command by --show-credential, although it may hold a credential: {}",
            one.path.display()
        ));
    }
    let is_used = |path: &&PathBuf| {
        credentials
            .shown
            .iter()
            .any(|one| one.path.starts_with(path))
    };
    for path in run
        .context
        .plan
        .shown_credentials
        .iter()
        .filter(|path| !is_used(path))
    {
        lines.push(format!(
            "--show-credential {} changed nothing, because no file there was hidden for a credential",
            path.display()
        ));
    }
    if credentials.cut_short {
        lines.push(String::from(
            "only a part of the files was searched for stored credentials, because there are too many directories or files",
        ));
    }
    notices.extend(lines.into_iter().map(Notice::general));
    notices
}

/// Returns the notices about sockets, and about the command's files.
fn passed_on(run: &RunFacts) -> Vec<String> {
    let mut lines = Vec::new();
    for one in &run.context.measured.opened {
        lines.push(format!(
            "the command could use the host's socket {}",
            one.path.display()
        ));
    }
    for (number, name) in (0..).zip(["input", "output", "error"]) {
        let prefix = format!("{number}: ");
        let sockets = run.context.plan.inherited.iter();
        lines.extend(sockets.filter_map(|one| one.strip_prefix(&prefix)).map(|socket| {
            format!("the command's standard {name} was passed on through a socket of the caller: {socket}")
        }));
    }
    for file in &run.command_files {
        let keys = if file.keys.is_empty() {
            String::new()
        } else {
            format!(" ({})", file.keys.join(", "))
        };
        lines.push(format!(
            "{} bytes written to {}{keys} were not given to the runner",
            file.bytes, file.name
        ));
    }
    lines
}

/// Returns a notice for each place of the boundary's loopback where the command found nothing. An audit does not
/// produce such notices, because it uses the host's loopback.
fn unserved(run: &RunFacts) -> Vec<String> {
    if run.unverified.is_some() {
        return Vec::new();
    }
    let mut rows = run.unserved.clone();
    in_natural_order(&mut rows, |(denied, count)| (denied, *count));
    let settings = Settings {
        allowed: &Allowed::UNKNOWN,
        ports: &[],
    };
    let shown = rows.iter().take(SHOWN).map(|(denied, count)| {
        let (target, process) = (denied.target(), &denied.process);
        let hint = Hint::of(denied, settings).in_words();
        format!("nothing listens at {target}, where {process} connected {count} x; {hint}")
    });
    let mut lines: Vec<String> = shown.collect();
    if let Some(more @ 1..) = rows.len().checked_sub(SHOWN) {
        lines.push(format!(
            "nothing listens at {more} more loopback addresses, which flows.jsonl lists"
        ));
    }
    lines
}

/// Returns a notice for each limit that was reached. The limit on the evidence is a reason in `incomplete` instead.
fn limits(run: &RunFacts) -> Vec<String> {
    let mut lines = Vec::new();
    let most = &run.context.plan.limits;
    if let Some(report) = &run.reached.cgroups {
        if report.processes.times.is_some_and(|times| times > 0) {
            lines.push(format!(
                "limit reached: {} processes at a time (--max-processes)",
                most.processes
            ));
        }
        if let Some(times @ 1..) = report.memory.times {
            lines.push(format!(
                "limit reached: {} bytes of memory (--max-memory); processes killed for it: {times}",
                most.memory
            ));
        }
    }
    for path in &run.reached.full {
        lines.push(format!(
            "limit reached: {} is full (--max-scratch)",
            path.display()
        ));
    }
    if run.ending == Ending::TimedOut {
        lines.push(String::from("limit reached: run time (--timeout)"));
    }
    lines
}
