//! Policies: the runtime policy has the same meaning as the document, and parsing it again gives the same result.
#![no_main]
use egress_policy::allowed::Allowed;
use egress_policy::document;
use egress_policy::hide;
use egress_policy::opened::Opened;
use egress_policy::parse::parse;
use egress_policy::pipelock::{self, Attempt, PipelockKeys};
use egress_policy::runtime::{self, OwnedKeys};
use libfuzzer_sys::fuzz_target;

fn owned() -> OwnedKeys {
    OwnedKeys {
        listen: String::from("127.0.0.1:1"),
        agent_identity: String::from("agent"),
        evidence_dir: String::from("/run/egress/run/evidence"),
        signing_key_path: String::from("/run/egress/run/key"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    drop(hide::values("a text", Some(text)));
    drop(Opened::by(Some(text)));
    if let Ok(entries) = document::read(text)
        && let Ok(written) = document::write(&entries)
    {
        assert_eq!(document::read(&written).as_ref(), Ok(&entries));
    }
    let read = parse(text);
    if let Ok(built) = runtime::build(Some(text), &owned()) {
        let again = runtime::build(Some(&built.yaml), &owned()).expect("its own document");
        assert_eq!(again.yaml, built.yaml);
        assert!(again.overridden.is_empty());
        if let Ok(read) = &read {
            assert_eq!(read.allow, built.policy.allow);
            assert_eq!(read.guard, built.policy.guard);
        }
        let allowed = Allowed::read(&built.yaml).expect("a policy");
        assert_eq!(allowed.mode(), Some("strict"));
    }
    let keys = PipelockKeys {
        common: owned(),
        metrics_listen: String::from("127.0.0.1:2"),
        kill_switch_listen: String::from("127.0.0.1:3"),
        kill_switch_token: String::from("token"),
        authority: None,
    };
    for attempt in [Attempt::Whole, Attempt::Bare] {
        if let Ok(built) = pipelock::build(Some(text), &keys, attempt) {
            let again =
                pipelock::build(Some(&built.yaml), &keys, attempt).expect("its own document");
            assert_eq!(again.yaml, built.yaml);
            assert!(again.overridden.is_empty());
        }
    }
});
