//! The probes of a run, on the supervisor's side: lets them be made and judges what they found.
use std::os::fd::OwnedFd;

use serde_json::{Value, json};

use super::error::{RunError, system};
use super::prepare::hear_init;
use crate::bpf::events::Events;
use crate::child::protocol::{FromInit, Sequence, ToInit};
use crate::probe::NAMES;
use crate::probe::model::{Outcome, ProbeResult};
use crate::sys::handover;

/// Names of all probes.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter()
}

/// What the probes of a run found.
#[derive(Debug, Clone)]
pub struct Probed {
    /// One for each probe.
    pub results: Vec<ProbeResult>,
    /// How many of the attempts the kernel's hooks recorded.
    pub seen_by_hooks: usize,
}

/// Lets init try what the boundary refuses.
///
/// # Errors
/// When init ends or says something else.
pub(super) fn run(
    sequence: Sequence,
    control: &OwnedFd,
    events: &mut Events,
) -> Result<(Sequence, Probed), RunError> {
    let failed = |text: String| RunError::Helper {
        process: "boundary's init",
        text,
    };
    system(
        "ask for the probes",
        handover::send_message(control, &ToInit::Probe),
    )?;
    let received = hear_init(control)?;
    let message: FromInit =
        serde_json::from_slice(&received.bytes).map_err(|error| failed(error.to_string()))?;
    let sequence = sequence
        .accept(&message)
        .map_err(|error| failed(error.to_string()))?;
    match message {
        FromInit::Probed { results } => {
            let attempts = std::iter::from_fn(|| events.take()).count();
            let texts = std::iter::from_fn(|| events.take_text()).count();
            Ok((
                sequence,
                Probed {
                    results,
                    seen_by_hooks: attempts + texts,
                },
            ))
        }
        FromInit::Failed { step, error } => Err(failed(format!("cannot {step}: {error}"))),
        other @ (FromInit::Entered { .. }
        | FromInit::Dropped(_)
        | FromInit::Started
        | FromInit::NotExecuted { .. }
        | FromInit::Exited { .. }) => Err(failed(format!("it said {other:?}"))),
    }
}

impl Probed {
    /// Ends the run unless each result that stops one is `accepted` by name.
    ///
    /// # Errors
    /// With all that are not.
    pub fn judge(&self, accepted: &[String]) -> Result<(), RunError> {
        let open: Vec<ProbeResult> = self
            .stopping()
            .filter(|probe| !accepted.contains(&probe.name))
            .cloned()
            .collect();
        if open.is_empty() {
            Ok(())
        } else {
            Err(RunError::Open(open))
        }
    }

    fn stopping(&self) -> impl Iterator<Item = &ProbeResult> {
        self.results
            .iter()
            .filter(|probe| probe.outcome.stops_the_run())
    }

    /// The results that would have stopped the run and were `accepted`.
    pub fn accepted(&self, accepted: &[String]) -> Vec<ProbeResult> {
        self.stopping()
            .filter(|probe| accepted.contains(&probe.name))
            .cloned()
            .collect()
    }

    /// Each probe by its name, and what came of it.
    pub fn outcomes(&self) -> Vec<(String, &'static str)> {
        let results = self.results.iter();
        results
            .map(|result| (result.name.clone(), result.outcome.label()))
            .collect()
    }

    /// What `boundary.json` says of them.
    pub fn record(&self, accepted: &[String]) -> Value {
        let count = |outcome: Outcome| {
            let same = |probe: &&ProbeResult| probe.outcome == outcome;
            self.results.iter().filter(same).count()
        };
        json!({
            "results": self.results,
            "counts": {
                "denied": count(Outcome::Denied),
                "reachable": count(Outcome::Reachable),
                "not_applicable": count(Outcome::NotApplicable),
                "control_failed": count(Outcome::ControlFailed),
            },
            "accepted_risks": accepted,
            "seen_by_hooks": self.seen_by_hooks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(outcomes: &[(&str, Outcome)]) -> Probed {
        let result = |(name, outcome): &(&str, Outcome)| ProbeResult {
            name: (*name).to_owned(),
            outcome: *outcome,
            detail: String::from("what was seen"),
            control: None,
        };
        Probed {
            results: outcomes.iter().map(result).collect(),
            seen_by_hooks: 0,
        }
    }

    #[test]
    fn open_boundary_stops_the_run_unless_each_hole_is_accepted() {
        let probed = probed(&[
            ("udp", Outcome::Reachable),
            ("route", Outcome::ControlFailed),
            ("dns_udp", Outcome::Denied),
            ("vsock_socket", Outcome::NotApplicable),
        ]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let judged = |accepted: &[&str]| {
            let accepted: Vec<String> = names(accepted);
            probed.judge(&accepted).map_err(|error| error.to_string())
        };
        assert_eq!(
            judged(&[]),
            Err(String::from(
                "the boundary is open: probe udp succeeded (what was seen); \
                 probe route proves nothing (what was seen)"
            ))
        );
        assert_eq!(
            judged(&["udp", "dns_udp"]),
            Err(String::from(
                "the boundary is open: probe route proves nothing (what was seen)"
            ))
        );
        assert_eq!(judged(&["udp", "route"]), Ok(()));
        let accepted: Vec<String> = names(&["udp", "dns_udp"]);
        let shown: Vec<String> = probed
            .accepted(&accepted)
            .into_iter()
            .map(|probe| probe.name)
            .collect();
        assert_eq!(shown, ["udp"]);
        assert_eq!(probed.record(&accepted)["counts"]["reachable"], 1);
    }
}
