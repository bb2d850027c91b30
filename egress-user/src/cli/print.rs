//! Prints progress, warnings, and the result of a run.
//!
//! Claims: read-own-lines
use std::io::{IsTerminal, Write};

use audit_packet::denied::{Attempts, in_natural_order};
use audit_packet::format::boundary::Denied;
use audit_packet::hint::{Block, Hint, Settings};
use audit_packet::reasons;
use egress_workspace::apply::Recovered;
use egress_workspace::apply::judge::Reason;
use egress_workspace::apply::model::{Change, ChangeOutcome};
use pipelock_receipts::findings::visible;
use serde_json::{Value, json};

use super::detail::Detail;
use super::{exit, failure, not_executed, style};
use crate::ci_commands::{harmless, harmless_json};
use crate::run::emit::{Emitted, RunOutcome};
use crate::run::ending::Ending;
use crate::run::notice::{Notice, NoticeKind, hidden_files};
use crate::run::plan::{Mode, Progress};
use crate::run::stale_runs::{Kept, Swept};
use crate::run::timeline::INTERRUPTED;

/// Writes a line to standard error. The standard macro panics when standard error is closed, and a panic would change
/// the exit status.
macro_rules! eprintln {
    () => {
        drop(writeln!(std::io::stderr()))
    };
    ($($line:tt)*) => {
        drop(writeln!(std::io::stderr(), "{}", style::stderr(harmless(&format!($($line)*)))))
    };
}

/// Version of the JSON that `egress run --json` prints, which `docs/schema/output.schema.json` describes.
const JSON_VERSION: &str = "egress.run.v1";

/// Prints the log of the kernel programs (`--debug`).
pub static KERNEL_LOG: KernelLog = KernelLog;

/// Type of [`KERNEL_LOG`].
#[derive(Debug, Clone, Copy)]
pub struct KernelLog;

impl log::Log for KernelLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!(
            "egress: kernel    {}: {}",
            record.target(),
            visible(&record.args().to_string())
        );
    }

    fn flush(&self) {}
}

/// Returns the function that prints progress, if standard error is a terminal. A CI log gets only the result, unless
/// every step was requested.
pub fn progress(as_json: bool, detail: Detail) -> Option<Progress> {
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    let is_wanted = match detail {
        Detail::Quiet => false,
        Detail::Normal => !is_ci && std::io::stderr().is_terminal(),
        Detail::Verbose => true,
    };
    (!as_json && is_wanted).then_some(Progress(step))
}

fn step(step: &str) {
    match step {
        "probes done" => eprintln!("egress: probed    the boundary is closed"),
        "relay ready" => eprintln!("egress: ready     mediator and relay"),
        "command executed" => eprintln!("egress: started   the command"),
        // The terminal has printed `^C`.
        INTERRUPTED if std::io::stderr().is_terminal() => eprintln!(),
        "agent gone" => eprintln!("egress: ended     the command"),
        _ => {}
    }
}

/// Prints, before the start, that audit mode enforces nothing.
pub fn audit() {
    eprintln!(
        "egress: AUDIT MODE  the command uses the network of this machine. Nothing is denied, and there \
         are no receipts. Connections are recorded, and so are attempts that every policy denies"
    );
}

/// Prints, before the start, that an empty policy denies every destination.
pub fn no_policy() {
    eprintln!(
        "egress: no --config is given, so the allow-list is empty and every destination is denied"
    );
}

/// Prints a warning before the start.
pub fn warning(text: &str) {
    failure::warning(text);
}

/// Returns the line with the path at which the evidence of a killed run was saved.
pub fn kept(kept: &Kept) -> String {
    format!(
        "kept     evidence of killed run {}: egress verify {}/evidence",
        kept.run,
        kept.path.display()
    )
}

/// Prints the result of the sweep before a run: the evidence that was saved, and the paths that could not be removed.
pub fn swept(swept: &Swept) {
    for one in &swept.kept {
        eprintln!("egress: {}", kept(one));
    }
    for (path, error) in &swept.failed {
        eprintln!(
            "egress: left     {}: {error}; see `egress doctor`",
            path.display()
        );
    }
}

/// Prints the result of a run: text on standard error, so that it does not mix with the command's output, or JSON on
/// standard output.
pub fn run_result(run: &Emitted, as_json: bool, detail: Detail) {
    let failure = not_executed(run);
    if as_json {
        return result_json(run, failure.as_ref());
    }
    if let Some((text, hint)) = &failure {
        eprintln!("error: {text}\n  hint: {hint}");
    }
    if run.lacks_signer_key {
        eprintln!(
            "error: --require-trusted: no --signer-private-key was given, so the signer of the packet cannot be identified"
        );
    }
    if detail == Detail::Quiet {
        return problems(run);
    }
    let shown = detail.rows();
    let counts = &run.report.counts;
    eprintln!();
    eprintln!("egress: verdict   {}", verdict(run));
    let first = run.graded.reasons.first();
    let why = first.map_or_else(String::new, |reason| format!(": {}", visible(reason)));
    eprintln!("egress: boundary  {}{why}", run.graded.grade);
    if !run.packet.verifier.trusted && run.mode == Mode::Enforce {
        eprintln!(
            "egress: keys      none was given, so a key of this run signed the receipts, and a reviewer cannot \
             identify the signer; create one with `egress keygen` and pass it with --signer-private-key"
        );
    }
    eprintln!(
        "egress: actions   {} judged, {} denied{}",
        counts.actions,
        counts.blocked_actions,
        denied_elsewhere(run)
    );
    for probe in &run.accepted {
        eprintln!(
            "egress: accepted  {} {}: {}",
            probe.name,
            probe.outcome.label(),
            visible(&probe.detail)
        );
    }
    for reason in &run.incomplete {
        eprintln!("egress: incomplete  {}", visible(reason));
    }
    // Nearly every run with Pipelock has the long notice about raised limits.
    let is_shown = |notice: &&Notice| match notice.kind {
        NoticeKind::RaisedLimits => detail == Detail::Verbose,
        // One line after the denials names all hidden files.
        NoticeKind::HiddenFile(_) => false,
        NoticeKind::General => true,
    };
    for notice in run.notices.iter().filter(is_shown) {
        eprintln!("egress: notice    {}", visible(&notice.text));
    }
    let word = match run.mode {
        Mode::Enforce => "denied   ",
        Mode::Audit => "would deny",
    };
    let denied = hinted(run, &run.denied);
    for (denied, count, hint) in denied.iter().take(shown) {
        eprintln!("egress: {word} {}", denied_text(denied, *count, "", hint));
    }
    if run.denied.len() > shown {
        eprintln!(
            "egress: {word} {} more, in flows.jsonl",
            run.denied.len() - shown
        );
    }
    let answered = hinted(run, &run.answered);
    for (answer, count, hint) in answered.iter().take(shown) {
        let note = "; looks like a denial, but no receipt confirms it";
        eprintln!(
            "egress: answered  {}",
            denied_text(answer, *count, note, hint)
        );
    }
    if run.answered.len() > shown {
        eprintln!(
            "egress: answered  {} more, in flows.jsonl",
            run.answered.len() - shown
        );
    }
    let hints = denied.iter().chain(&answered).map(|(_, _, hint)| hint);
    if let Some(block) = Block::of(hints, 0) {
        allow_all(&block);
    }
    if let Some(files) = hidden_files(&run.notices, shown) {
        eprintln!("egress: hidden    {}", visible(&files));
    }
    workspace(run, shown);
    if let Some(stamp) = &run.stamp {
        let by = visible(&stamp.authority);
        eprintln!("egress: stamped   {}, by {by}", stamp.time_text());
    }
    eprintln!("egress: packet    {}", run.packet_path.display());
    if run.mode == Mode::Audit {
        eprintln!(
            "egress: next      egress policy suggest {} prints a policy that allows these connections",
            run.packet_path.display()
        );
    }
}

/// Returns the verdict in words. The packet of an audit has the verdict `error`, which reads like a failure.
fn verdict(run: &Emitted) -> &'static str {
    match run.mode {
        Mode::Enforce => run.report.verdict.as_str(),
        Mode::Audit => "none: an audit has no receipts",
    }
}

/// Returns the number of attempts that the mediator did not judge, because the relay or the kernel denied them. An audit
/// denies nothing.
fn denied_elsewhere(run: &Emitted) -> String {
    match (run.mode, run.denied_elsewhere) {
        (Mode::Audit, _) | (Mode::Enforce, 0) => String::new(),
        (Mode::Enforce, 1) => String::from("; 1 more attempt denied by the relay or the kernel"),
        (Mode::Enforce, count) => {
            format!("; {count} more attempts denied by the relay or the kernel")
        }
    }
}

/// Prints why the evidence is invalid or incomplete, if it is.
fn problems(run: &Emitted) {
    if matches!(
        run.outcome(),
        RunOutcome::BoundaryFailed | RunOutcome::EvidenceUnsound
    ) {
        eprintln!("egress: verdict   {}", verdict(run));
    }
    for reason in &run.incomplete {
        eprintln!("egress: incomplete  {}", visible(reason));
    }
}

/// Prints how many of the command's changes were applied, and the first ones that were not.
fn workspace(run: &Emitted, shown: usize) {
    for one in &run.recovered {
        eprintln!("egress: {}", recovered(one));
    }
    let Some(changes) = &run.changes else {
        return;
    };
    let refused: Vec<&Change> = changes
        .iter()
        .filter(|change| change.outcome != ChangeOutcome::Applied)
        .collect();
    eprintln!(
        "egress: workspace {}",
        outcomes(changes.len() - refused.len(), refused.len())
    );
    for change in refused.iter().take(shown) {
        let path = visible(&change.path.text());
        let why = change.reason.as_ref().map_or_else(String::new, reason);
        let hint = match change.reason {
            Some(Reason::Configuration | Reason::Github) => {
                format!("; to apply it: --allow-change {path}")
            }
            Some(_) | None => String::new(),
        };
        eprintln!("egress: not applied  {path} ({why}){hint}");
    }
    for change in changes.iter().filter(|change| change.reduced).take(shown) {
        let path = visible(&change.path.text());
        eprintln!(
            "egress: reduced      {path} (a new repository keeps only settings that run nothing)"
        );
    }
    if refused.len() > shown {
        eprintln!(
            "egress: not applied  {} more, in changes.json",
            refused.len() - shown
        );
    }
}

/// Returns how many changes were applied and how many were not, in words.
fn outcomes(applied: usize, refused: usize) -> String {
    let noun = if applied == 1 { "change" } else { "changes" };
    format!("{applied} {noun} applied, {refused} not applied")
}

/// Returns the line about the changes of a killed run, which were completed, undone, or removed.
pub fn recovered(one: &Recovered) -> String {
    if !one.completed {
        return String::from(
            "recovered  a killed run had applied nothing; its changes were removed",
        );
    }
    let kept = one
        .kept
        .as_ref()
        .map_or_else(String::new, |path| format!(", kept in {}", path.display()));
    format!(
        "recovered  a killed run's changes: {} applied, {} not applied{kept}",
        one.applied, one.refused
    )
}

/// Returns the text for the reason why a change was not applied, as the pages show it. The run's journal and the packet
/// use the same words.
fn reason(reason: &Reason) -> String {
    let reason = serde_json::to_value(reason).and_then(serde_json::from_value);
    reason.map_or_else(
        |error| error.to_string(),
        |reason| visible(reasons::of_change(&reason)),
    )
}

/// Returns the error and the hint if the command could not be executed.
fn not_executed(run: &Emitted) -> Option<(String, String)> {
    let Ending::NotExecuted(why) = &run.ending else {
        return None;
    };
    let (why, hint) = not_executed::text(why, run.hiding_home.as_ref(), &run.command, &run.workdir);
    Some((format!("cannot run {}: {why}", visible(&run.command)), hint))
}

/// Returns attempts in natural order, each with its hint.
fn hinted<'r>(run: &'r Emitted, attempts: &'r Attempts) -> Vec<(&'r Denied, u64, Hint)> {
    let settings = Settings {
        allowed: &run.allowed,
        ports: &run.open_ports,
    };
    let mut rows: Vec<_> = attempts
        .iter()
        .map(|(denied, count)| (denied, *count, Hint::of(denied, settings)))
        .collect();
    in_natural_order(&mut rows, |(denied, count, _)| (*denied, *count));
    rows
}

/// Returns the line for one denied destination, with `note` and the settings that would allow it.
fn denied_text(denied: &Denied, count: u64, note: &str, hint: &Hint) -> String {
    let hint = match hint.in_words().as_str() {
        "" => String::new(),
        words => format!("; {}", visible(words)),
    };
    format!(
        "{count} x {} by {} ({}){note}{hint}",
        visible(&denied.target()),
        visible(&denied.process),
        visible(&denied.why()),
    )
}

/// Prints the settings that would allow all listed destinations, in a form to copy.
fn allow_all(block: &Block) {
    if !block.policy.is_empty() {
        eprintln!("egress: to allow them all, add to the policy:");
        for line in block.policy.lines() {
            eprintln!("{}", visible(line));
        }
    }
    if !block.options.is_empty() {
        eprintln!(
            "egress: to allow them all, add the options {}",
            visible(&block.options)
        );
    }
}

fn result_json(run: &Emitted, failure: Option<&(String, String)>) {
    let result = harmless_json(&result(run, failure));
    drop(writeln!(std::io::stdout(), "{result}"));
}

/// Returns the JSON result with the summary, for a step of a workflow.
pub fn whole_result(run: &Emitted) -> Value {
    let mut result = result(run, not_executed(run).as_ref());
    if let Some(members) = result.as_object_mut() {
        members.insert("summary".into(), run.summary.clone().into());
    }
    result
}

fn result(run: &Emitted, failure: Option<&(String, String)>) -> Value {
    let status = run.ending.status();
    let denied: Vec<_> = hinted(run, &run.denied)
        .iter()
        .map(|(denied, count, hint)| {
            let text = denied_text(denied, *count, "", hint);
            json!({"attempt": denied, "count": count, "text": text})
        })
        .collect();
    let count = |outcome| {
        run.changes.as_ref().map(|changes| {
            changes
                .iter()
                .filter(|change| change.outcome == outcome)
                .count()
        })
    };
    let notices: Vec<&str> = run.notices.iter().map(|one| one.text.as_str()).collect();
    json!({
        "schema_version": JSON_VERSION,
        "error": failure.map(|(text, _)| text),
        "hint": failure.map(|(_, hint)| hint),
        "mode": run.mode.label(),
        "verdict": run.report.verdict.as_str(),
        "trusted": run.packet.verifier.trusted,
        "signer_key": run.packet.verifier.signer_key,
        "boundary": {"grade": run.graded.grade.as_str(), "not_higher": run.graded.reasons},
        "exit_status": exit::of(run.outcome()),
        "agent_exit_status": status,
        "receipt_count": run.report.receipt_count,
        "actions": run.report.counts.actions,
        "blocked_actions": run.report.counts.blocked_actions,
        "denied": denied,
        "notices": notices,
        "timestamp": run.stamp.as_ref().map(|stamp| json!({
            "time": stamp.time_text(),
            "authority": stamp.authority,
            "verified": stamp.is_trusted,
        })),
        "incomplete": run.incomplete,
        "accepted_risks": run.accepted,
        "workspace": {
            "applied": count(ChangeOutcome::Applied),
            "refused": count(ChangeOutcome::Refused),
            "conflicts": count(ChangeOutcome::Conflict),
            "discarded": count(ChangeOutcome::Discarded),
        },
        "packet": run.packet_path,
        "packet_sha256": run.packet_sha256,
    })
}
