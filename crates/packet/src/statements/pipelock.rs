//! Compares the Pipelock in `boundary.json` with its policy and its receipts.
use pipelock_receipts::findings::Findings;

use super::super::format::boundary::{Binding, Pipelock};
use super::super::grade::{Caps, Grade};
use super::super::names::{BOUNDARY_FILE, POLICY_FILE};
use super::{Statements, differs};

impl Statements<'_> {
    /// Compares the statements about a Pipelock with its policy and its receipts.
    pub(super) fn pipelock(
        self,
        facts: &Pipelock,
        is_bound: Option<bool>,
        findings: &mut Findings,
        caps: &mut Caps,
    ) {
        check(facts, is_bound, self.allowed.redacts(), findings, caps);
    }
}

/// Checks `redact` against the policy, because fewer members are compared if the mediator redacts. Checks `posture`
/// against the receipts, because `posture` states whether the receipts sign the capsule.
fn check(
    facts: &Pipelock,
    is_bound: Option<bool>,
    redacts: bool,
    findings: &mut Findings,
    caps: &mut Caps,
) {
    if facts.redact != redacts {
        let stated = facts.redact;
        let expected = format!("mediator.pipelock.redact {stated} of {BOUNDARY_FILE}");
        let found = format!("flight_recorder.redact {redacts}");
        differs(findings, POLICY_FILE, &expected, &found);
    }
    let shown = is_bound.map(|is_bound| {
        if is_bound {
            Binding::Bound
        } else {
            Binding::NotKnown
        }
    });
    caps.unless(
        shown.is_none() || facts.posture == shown,
        Grade::KernelObserved,
        "boundary.json and the receipts differ in whether the receipts sign the posture capsule",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether a statement differs, and the grade.
    fn judged(posture: Option<&str>, redact: bool, is_bound: Option<bool>) -> (bool, Grade) {
        let facts = Pipelock {
            redact,
            posture: posture.map(Binding::from),
            ..Pipelock::default()
        };
        let (mut findings, mut caps) = (Findings::default(), Caps::default());
        check(&facts, is_bound, false, &mut findings, &mut caps);
        (findings.has_errors(), caps.shown())
    }

    /// Claims: compare-statements
    #[test]
    fn what_its_policy_and_its_receipts_show_is_what_is_stated() {
        let best = Caps::default().shown();
        for (posture, is_bound) in [
            (Some("bound"), Some(true)),
            (Some("not_known"), Some(false)),
            (None, None),
        ] {
            assert_eq!(judged(posture, false, is_bound), (false, best));
        }
        assert_eq!(judged(Some("bound"), true, Some(true)), (true, best));
        for (posture, is_bound) in [
            (None, Some(true)),
            (Some("not_known"), Some(true)),
            (None, Some(false)),
            (Some("bound"), Some(false)),
        ] {
            let found = judged(posture, false, is_bound);
            assert_eq!(found, (false, Grade::KernelObserved));
        }
    }
}
