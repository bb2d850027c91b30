//! Tests that honest statements of `boundary.json` keep the grade, and that each impossible statement lowers it.
use egress_policy::AllowList;
use egress_policy::allowed::Allowed;
use pipelock_receipts::json::{MAX_DEPTH, parse};
use serde_json::{Value, json};

use super::super::super::counted::Counted;
use super::super::super::format::Row;
use super::super::super::format::boundary::{
    BoundaryDocument, Control, Link, Mark, MediatorDocument, Probe, ProbeCounts, ProbeOutcome,
    Program, Step, TlsInterception, Unavailable,
};
use super::super::super::joined::RunTimes;
use super::*;

const SECOND: i128 = 1_000_000_000;

/// The documents of a run that took 20 s.
struct Honest {
    document: BoundaryDocument,
    rows: Vec<Value>,
    times: RunTimes,
}

fn mark(step: &str, second: u64) -> Mark {
    Mark {
        step: step.into(),
        at_us: second.saturating_mul(SECOND_US),
    }
}

impl Honest {
    fn new() -> Self {
        let mut document = BoundaryDocument::default();
        (
            document.users.agent,
            document.users.host,
            document.users.relay,
        ) = (7, 8, 9);
        let ids = (FIRST_NAMESPACE..).zip(required::NAMESPACES);
        document.namespaces = ids
            .map(|(id, kind)| format!("{kind}:[{id}]").into())
            .collect();
        document.limits.processes.most = 2;
        document.limits.evidence.most = SMALLEST_SIZE;
        document.limits.memory.most = SMALLEST_SIZE;
        document.limits.scratch.most = SMALLEST_SIZE;
        document.limits.seconds.most = Some(20);
        document.timeline = vec![
            mark("command executed", 1),
            mark("command ended", 21),
            mark("mediator ended", 22),
        ];
        document.programs.attached = vec![Program {
            name: "agent_unix_connect".into(),
            id: 1,
            tag: "aa".into(),
            attach_type: 10,
        }];
        document.programs.unavailable = vec![unavailable("agent_unix_sendmsg")];
        let beat = json!({"source": "supervisor", "event": "heartbeat", "processes": 2});
        Self {
            document,
            rows: vec![beat.clone(), beat],
            times: RunTimes {
                first: Some(0),
                gone: Some(20 * SECOND),
                last: Some(21 * SECOND),
                slack: 15 * SECOND,
                shown: 25 * SECOND,
            },
        }
    }

    /// Returns the reasons why the grade is lower, and whether a statement differs.
    fn judged(&self, allowed: &Allowed) -> (String, bool) {
        self.checked(allowed, |statements, findings, caps| {
            statements.measured(findings, caps);
            statements.course(caps);
        })
    }

    /// Returns the reasons that `check` finds, and whether a statement differs.
    fn checked(
        &self,
        allowed: &Allowed,
        check: impl FnOnce(Statements<'_>, &mut Findings, &mut Caps),
    ) -> (String, bool) {
        let mut counted = Counted::default();
        for row in &self.rows {
            let text = row.to_string();
            let node = parse(&text, MAX_DEPTH).unwrap();
            counted.see(&node, &Row::read(&node));
        }
        let statements = Statements {
            packet: None,
            boundary_document: &self.document,
            boundary: None,
            counted: &counted,
            connections: 0,
            times: self.times,
            has_archive: None,
            archive: None,
            capsule: None,
            predicate: None,
            identity: None,
            policy: None,
            allowed,
            changes: None,
            reconciliation: None,
        };
        let (mut findings, mut caps) = (Findings::default(), Caps::default());
        check(statements, &mut findings, &mut caps);
        let pins = super::super::super::grade::Pins {
            boundary: true,
            receipts: true,
        };
        (caps.graded(pins).reasons.join("; "), findings.has_errors())
    }
}

fn unavailable(name: &str) -> Unavailable {
    Unavailable {
        name: name.into(),
        why: "no such hook".into(),
    }
}

type Break = fn(&mut Honest);

#[test]
fn impossible_measurements_are_named() {
    let strict = Allowed::strict(AllowList::default());
    let honest = Honest::new();
    assert_eq!(honest.judged(&strict), (String::new(), false));
    let breaks: [(&str, Break); 21] = [
        ("users of one run", |run| run.document.users.relay = 8),
        ("users of one run", |run| run.document.users.host = 7),
        ("users of one run", |run| {
            let users = &mut run.document.users;
            (users.agent, users.host, users.relay) = (0, 1, 2);
        }),
        ("namespaces of all kinds", |run| {
            run.document.namespaces.pop();
        }),
        ("namespace of the host", |run| {
            *run.document.namespaces.first_mut().unwrap() = "cgroup:[0]".into();
        }),
        ("namespace of the host", |run| {
            *run.document.namespaces.first_mut().unwrap() = "cgroup:[4026531835]".into();
        }),
        ("two of its namespaces", |run| {
            let twice = format!("cgroup:[{}]", FIRST_NAMESPACE + 1);
            *run.document.namespaces.first_mut().unwrap() = twice.into();
        }),
        ("agent_unix_connect is stated as unavailable", |run| {
            run.document
                .programs
                .unavailable
                .push(unavailable("agent_unix_connect"));
        }),
        ("agent_connect4 is stated as unavailable", |run| {
            run.document
                .programs
                .unavailable
                .push(unavailable("agent_connect4"));
        }),
        ("more processes", |run| {
            run.document.limits.processes.most = 1;
        }),
        ("more bytes of evidence", |run| {
            let beat = run.rows.first().cloned().unwrap();
            run.rows = vec![beat; 514];
        }),
        ("smaller than egress accepts", |run| {
            run.document.limits.evidence.most = SMALLEST_SIZE - 1;
        }),
        ("smaller than egress accepts", |run| {
            run.document.limits.memory.most = 0;
        }),
        ("smaller than egress accepts", |run| {
            run.document.limits.scratch.most = 0;
        }),
        ("foo is stated as unavailable", |run| {
            run.document.programs.unavailable.push(unavailable("foo"));
        }),
        ("more seconds", |run| {
            run.document.timeline = vec![mark("command executed", 1), mark("command ended", 82)];
            run.times = RunTimes::default();
        }),
        ("before it was reached", |run| {
            run.document.limits.seconds.reached = true;
            run.document.limits.seconds.most = Some(21);
        }),
        ("before it was reached", |run| {
            run.document.limits.seconds.reached = true;
            run.document.limits.seconds.most = None;
        }),
        ("did not take as long", |run| {
            run.times.gone = Some(46 * SECOND);
        }),
        ("did not take as long", |run| {
            *run.document.timeline.last_mut().unwrap() = mark("mediator ended", 38);
        }),
        ("did not take as long", |run| {
            *run.document.timeline.first_mut().unwrap() = mark("command executed", 0);
            run.times.gone = Some(5 * SECOND);
        }),
    ];
    for (reason, spoil) in breaks {
        let mut run = Honest::new();
        spoil(&mut run);
        let (reasons, differs) = run.judged(&strict);
        assert!(
            reasons.contains(reason) && !reasons.contains("; "),
            "{reason}: {reasons}"
        );
        assert!(!differs, "{reason}");
    }
}

#[test]
fn time_limit_that_ended_the_command_may_be_exceeded_a_little() {
    let mut run = Honest::new();
    run.document.limits.seconds.reached = true;
    run.document.timeline = vec![mark("command executed", 1), mark("command ended", 81)];
    run.times = RunTimes::default();
    assert_eq!(run.judged(&Allowed::default()).0, "");
}

/// This crate does not enable the feature that reads policies, so the policy of this test is unknown or does not name
/// an authority.
#[test]
fn invented_interception_of_tls_differs() {
    let mut run = Honest::new();
    run.document.tls_interception = Some(TlsInterception::default());
    assert!(!run.judged(&Allowed::UNKNOWN).1);
    let of_policy = |intercepts| Allowed::default().with_interception(intercepts);
    for (is_pipelock, named, differs) in [
        (false, false, true),
        (false, true, true),
        (true, false, true),
        (true, true, false),
    ] {
        run.document.mediator = if is_pipelock {
            MediatorDocument::Pipelock {
                plain_http: "forward".into(),
                pipelock: Box::default(),
            }
        } else {
            MediatorDocument::Builtin {
                posture: "bound".into(),
            }
        };
        assert_eq!(
            run.judged(&of_policy(named)).1,
            differs,
            "{is_pipelock} {named}"
        );
    }
}

#[test]
fn missing_step_is_named() {
    for missing in [None, Some("command executed"), Some("probes done")] {
        let mut run = Honest::new();
        let steps = Step::WORDS.iter().filter(|step| Some(**step) != missing);
        run.document.timeline = steps.map(|step| mark(step, 1)).collect();
        let (reasons, _) = run.checked(&Allowed::default(), |statements, _, caps| {
            statements.steps(caps);
        });
        let expected = missing.map(|step| format!("the run has no step {step}"));
        assert_eq!(reasons, expected.unwrap_or_default());
    }
}

#[test]
fn probes_that_do_not_exist_or_apply_are_named() {
    let probe = |name: &str| Probe {
        name: name.into(),
        outcome: ProbeOutcome::Denied,
        detail: "x".into(),
        control: Control {
            succeeded: true,
            detail: "x".into(),
        },
    };
    let reasons = |run: &mut Honest| {
        let results = &run.document.probes.results;
        let count = |outcome| {
            let same = results.iter().filter(|probe| probe.outcome == outcome);
            u64::try_from(same.count()).unwrap()
        };
        let counts = ProbeCounts {
            denied: count(ProbeOutcome::Denied),
            not_applicable: count(ProbeOutcome::NotApplicable),
            ..ProbeCounts::default()
        };
        run.document.probes.counts = counts;
        run.checked(&Allowed::default(), |statements, findings, caps| {
            statements.probes(findings, caps);
        })
    };
    let honest = || {
        let mut run = Honest::new();
        run.document.probes.results = required::PROBES.map(probe).to_vec();
        run
    };
    let without = |run: &mut Honest, name: &str| {
        let mut results = run.document.probes.results.iter_mut();
        results.find(|probe| *probe.name == *name).unwrap().outcome = ProbeOutcome::NotApplicable;
    };
    let nothing = (String::new(), false);
    let mut run = honest();
    without(&mut run, "udp_ipv6");
    assert_eq!(reasons(&mut run), nothing);
    run = honest();
    run.document.ipv6 = true;
    assert_eq!(reasons(&mut run), nothing);
    without(&mut run, "udp_ipv6");
    assert!(reasons(&mut run).0.contains("udp_ipv6 is stated"));
    run = honest();
    without(&mut run, "bpf");
    assert!(reasons(&mut run).0.contains("bpf is stated"));
    run = honest();
    run.document.probes.results.push(probe("zebra"));
    assert!(reasons(&mut run).0.contains("zebra does not exist"));
}

#[test]
fn program_of_the_root_cgroup_is_named() {
    for (cgroup_id, fits) in [(0, false), (1, false), (2, true)] {
        let mut run = Honest::new();
        run.document.programs.links = vec![Link {
            id: 1,
            program_id: 1,
            attach_type: 10,
            cgroup_id,
        }];
        let (reasons, differs) = run.checked(&Allowed::default(), |statements, findings, caps| {
            statements.links(findings, caps);
        });
        assert_eq!(reasons.is_empty(), fits, "{cgroup_id}: {reasons}");
        assert!(!differs, "{cgroup_id}");
    }
}
