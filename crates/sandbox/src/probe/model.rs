//! The results of probes and controls, and the conclusion from each pair.
//!
//! Claims: probe-denied, probe-reachable, probe-not-applicable, probe-control-failed
use serde::{Deserialize, Serialize};

/// The result of one probe or control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Observation {
    /// The operation succeeded; the text names the target that it reached.
    Reached(String),
    /// The operation was denied; the text is the error.
    Refused(String),
    /// The target does not exist here, or the command may read it.
    Absent(String),
    /// A TCP connection was established. The source port shows later which listener received the
    /// connection.
    Connected {
        /// Source port of the connection.
        from: u16,
        /// Destination address of the connection.
        to: String,
    },
    /// The probe or control could not be carried out, so it shows nothing.
    Broken(String),
}

impl Observation {
    /// Resolves [`Observation::Connected`]. `arrived` are the source ports of the connections at a
    /// listener. If `arrived` contains the source port of this connection, `there` builds the
    /// result. Otherwise, `elsewhere` builds the result.
    #[must_use]
    pub fn settled(
        self,
        arrived: &[u16],
        there: impl Fn(String) -> Self,
        elsewhere: impl Fn(String) -> Self,
    ) -> Self {
        let Self::Connected { from, to } = self else {
            return self;
        };
        if arrived.contains(&from) {
            there(to)
        } else {
            elsewhere(to)
        }
    }
}

/// A probe, its control, and the conclusion from both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeResult {
    /// The name of the probe.
    pub name: String,
    /// The conclusion from the probe and its control.
    pub outcome: ProbeOutcome,
    /// The error that the probe received inside, or the target that it reached.
    pub detail: String,
    /// The result of the control.
    pub control: Control,
}

/// The conclusion from a probe and its control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// The probe failed inside, and the control succeeded outside.
    Denied,
    /// The probe succeeded inside, so the boundary has a hole.
    Reachable,
    /// The probe does not apply, because its target does not exist on this machine or because the command may read the
    /// target.
    NotApplicable,
    /// The probe failed inside and the control failed as well, or the probe could not be carried out, so the failure
    /// proves nothing.
    ControlFailed,
}

impl ProbeOutcome {
    /// Whether the run stops unless the caller accepted this probe by name.
    pub fn stops_the_run(self) -> bool {
        match self {
            Self::Reachable | Self::ControlFailed => true,
            Self::Denied | Self::NotApplicable => false,
        }
    }

    /// Returns the word for the conclusion in the Audit Packet.
    pub fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Reachable => "reachable",
            Self::NotApplicable => "not_applicable",
            Self::ControlFailed => "control_failed",
        }
    }
}

/// The result of a control: the same operation as the probe, run from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Whether the control succeeded.
    pub succeeded: bool,
    /// The target that the control reached, or the reason why it failed.
    pub detail: String,
}

impl ProbeResult {
    /// Draws the conclusion from both sides. Without a control, a failure inside proves nothing.
    pub fn conclude(name: &str, inside: Observation, outside: Option<Observation>) -> Self {
        let outside =
            outside.unwrap_or_else(|| Observation::Broken(String::from("the control did not run")));
        let (control, proof) = match outside {
            Observation::Reached(detail) => (detail, ProbeOutcome::Denied),
            Observation::Absent(detail) => (detail, ProbeOutcome::NotApplicable),
            Observation::Refused(detail) | Observation::Broken(detail) => {
                (detail, ProbeOutcome::ControlFailed)
            }
            Observation::Connected { to, .. } => (to, ProbeOutcome::ControlFailed),
        };
        let (detail, outcome) = match inside {
            Observation::Reached(detail) => (detail, ProbeOutcome::Reachable),
            Observation::Connected { to, .. } => (to, ProbeOutcome::Reachable),
            Observation::Refused(detail) | Observation::Absent(detail) => (detail, proof),
            Observation::Broken(detail) => (detail, ProbeOutcome::ControlFailed),
        };
        Self {
            name: name.to_owned(),
            outcome,
            detail,
            control: Control {
                succeeded: proof == ProbeOutcome::Denied,
                detail: control,
            },
        }
    }
}

/// Whether all probes in `names` ran and were denied.
pub fn all_denied(results: &[ProbeResult], names: &[&str]) -> bool {
    names.iter().all(|name| {
        results
            .iter()
            .any(|probe| probe.name == *name && probe.outcome == ProbeOutcome::Denied)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims: probe-control-failed, probe-denied, probe-reachable, probe-not-applicable
    #[test]
    fn refusal_counts_only_where_the_same_attempt_succeeded_outside() {
        let text = || String::from("x");
        let outcome = |inside, outside| ProbeResult::conclude("udp", inside, outside).outcome;
        let refused = || Observation::Refused(text());
        assert_eq!(
            outcome(refused(), Some(Observation::Reached(text()))),
            ProbeOutcome::Denied
        );
        assert_eq!(
            outcome(refused(), Some(Observation::Absent(text()))),
            ProbeOutcome::NotApplicable
        );
        for outside in [Some(refused()), Some(Observation::Broken(text())), None] {
            assert_eq!(outcome(refused(), outside), ProbeOutcome::ControlFailed);
        }
        // A probe that reached its target is a hole, whatever the control's result is. A probe that
        // did not run is not a denial.
        for outside in [Some(Observation::Reached(text())), Some(refused()), None] {
            assert_eq!(
                outcome(Observation::Reached(text()), outside.clone()),
                ProbeOutcome::Reachable
            );
            assert_eq!(
                outcome(Observation::Broken(text()), outside),
                ProbeOutcome::ControlFailed
            );
        }
    }

    #[test]
    fn connection_is_refused_only_if_it_arrived_at_the_relay() {
        let connected = || Observation::Connected {
            from: 7,
            to: String::from("192.0.2.1:443"),
        };
        let settled = |arrived: &[u16]| {
            connected().settled(arrived, Observation::Refused, Observation::Reached)
        };
        assert!(matches!(settled(&[6, 7]), Observation::Refused(_)));
        assert!(matches!(settled(&[6]), Observation::Reached(_)));
    }
}
