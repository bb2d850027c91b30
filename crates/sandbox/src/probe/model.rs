//! What the probes met, and what follows from it, as data.
use serde::{Deserialize, Serialize};

/// What one attempt met, on either side of the boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Attempt {
    /// It succeeded.
    Reached(String),
    /// It failed.
    Refused(String),
    /// There is nothing here that it could reach.
    Absent(String),
    /// A TCP connection was made: who got it decides the listener, by the port it came from.
    Connected {
        /// Port that it came from.
        from: u16,
        /// Address that was asked for.
        to: String,
    },
    /// It could not be made.
    Broken(String),
}

impl Attempt {
    /// Decides a connection by the ports from which connections `arrived` at a listener: it is what
    /// `there` or `elsewhere` makes of the address that was asked for.
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

/// One attempt, its control, and what follows from both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeResult {
    /// Which attempt.
    pub name: String,
    /// What follows.
    pub outcome: Outcome,
    /// The error that the attempt met inside, or what it reached.
    pub detail: String,
    /// The same attempt, made outside.
    pub control: Control,
}

/// What follows from an attempt and its control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It failed inside, and succeeded outside.
    Denied,
    /// It succeeded inside: the boundary has a hole.
    Reachable,
    /// It failed inside, and this machine has nothing that it could reach.
    NotApplicable,
    /// It failed inside, and outside as well, where it had to succeed: the failure proves nothing.
    ControlFailed,
}

impl Outcome {
    /// Whether a run goes on only if the caller accepted this by name.
    pub fn stops_the_run(self) -> bool {
        match self {
            Self::Reachable | Self::ControlFailed => true,
            Self::Denied | Self::NotApplicable => false,
        }
    }

    /// The word in the packet.
    pub fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Reachable => "reachable",
            Self::NotApplicable => "not_applicable",
            Self::ControlFailed => "control_failed",
        }
    }
}

/// The same attempt, made outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Whether it succeeded there.
    pub succeeded: bool,
    /// What it reached, or why it did not.
    pub detail: String,
}

impl ProbeResult {
    /// What follows from both sides. Without a control nothing is proven.
    pub fn conclude(name: &str, inside: Attempt, outside: Option<Attempt>) -> Self {
        let outside = outside.unwrap_or_else(|| Attempt::Broken(String::from("it was not made")));
        let (control, proof) = match outside {
            Attempt::Reached(detail) => (detail, Outcome::Denied),
            Attempt::Absent(detail) => (detail, Outcome::NotApplicable),
            Attempt::Refused(detail) | Attempt::Broken(detail) => (detail, Outcome::ControlFailed),
            Attempt::Connected { to, .. } => (to, Outcome::ControlFailed),
        };
        let (detail, outcome) = match inside {
            Attempt::Reached(detail) => (detail, Outcome::Reachable),
            Attempt::Connected { to, .. } => (to, Outcome::Reachable),
            Attempt::Refused(detail) | Attempt::Absent(detail) => (detail, proof),
            Attempt::Broken(detail) => (detail, Outcome::ControlFailed),
        };
        Self {
            name: name.to_owned(),
            outcome,
            detail,
            control: Control {
                succeeded: proof == Outcome::Denied,
                detail: control,
            },
        }
    }
}

/// Whether all `names` were tried and refused.
pub fn all_denied(results: &[ProbeResult], names: &[&str]) -> bool {
    names.iter().all(|name| {
        results
            .iter()
            .any(|probe| probe.name == *name && probe.outcome == Outcome::Denied)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_counts_only_where_the_same_attempt_succeeded_outside() {
        let text = || String::from("x");
        let outcome = |inside, outside| ProbeResult::conclude("udp", inside, outside).outcome;
        let refused = || Attempt::Refused(text());
        assert_eq!(
            outcome(refused(), Some(Attempt::Reached(text()))),
            Outcome::Denied
        );
        assert_eq!(
            outcome(refused(), Some(Attempt::Absent(text()))),
            Outcome::NotApplicable
        );
        for outside in [Some(refused()), Some(Attempt::Broken(text())), None] {
            assert_eq!(outcome(refused(), outside), Outcome::ControlFailed);
        }
        // A hole is one, whatever the control says; an attempt that was not made is no refusal.
        for outside in [Some(Attempt::Reached(text())), Some(refused()), None] {
            assert_eq!(
                outcome(Attempt::Reached(text()), outside.clone()),
                Outcome::Reachable
            );
            assert_eq!(
                outcome(Attempt::Broken(text()), outside),
                Outcome::ControlFailed
            );
        }
    }

    #[test]
    fn connection_is_refused_only_if_it_arrived_at_the_relay() {
        let connected = || Attempt::Connected {
            from: 7,
            to: String::from("192.0.2.1:443"),
        };
        let settled =
            |arrived: &[u16]| connected().settled(arrived, Attempt::Refused, Attempt::Reached);
        assert!(matches!(settled(&[6, 7]), Attempt::Refused(_)));
        assert!(matches!(settled(&[6]), Attempt::Reached(_)));
    }
}
