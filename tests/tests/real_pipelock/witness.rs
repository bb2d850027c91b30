//! The kernel's record of Pipelock's own connections.
use egress_tests::{INTERNET, RunOutput, World};
use serde_json::Value;

use crate::support::{NO_PROXY, allow, assert_verified, reasons, with};

const UPLOAD: u64 = 2 << 20;

fn sum(rows: &[Value], member: &str) -> u64 {
    let numbers = rows.iter().map(|row| row.get(member).unwrap());
    numbers.map(|number| number.as_u64().unwrap()).sum()
}

fn of_mediator(run: &RunOutput, protocol: &str) -> Vec<Value> {
    run.flows(&[("source", "kernel_mediator"), ("protocol", protocol)])
}

#[test]
fn every_connection_and_question_of_pipelock_is_recorded_with_its_bytes() {
    let world = World::new();
    let agent = format!(
        "{NO_PROXY}head -c {UPLOAD} /dev/zero > upload\n\
         for scheme in http https; do\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' --data-binary @upload -H Expect: $scheme://allowed.test/upload\n\
         curl -sS -o /dev/null -w '%{{http_code}}\\n' $scheme://denied.test/ || true\n\
         done\n"
    );
    let run = with(&world, &allow(&["allowed.test"])).script(&agent).run();
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(run.stdout, "200\n403\n200\n000\n", "{run}");
    assert_eq!(reasons(&run), "[]", "{run}");
    assert_verified(&world, &run);

    let connections = of_mediator(&run, "tcp");
    for row in &connections {
        let to = row.get("dst").unwrap().as_str().unwrap();
        let own = [
            INTERNET.allowed.to_string(),
            INTERNET.allowed_v6.to_string(),
        ];
        assert!(own.iter().any(|address| address == to), "{row:#}");
        assert_eq!(row.get("closed").unwrap(), true, "{row:#}");
    }
    let sent = sum(&connections, "bytes_sent");
    assert!(
        (2 * UPLOAD..2 * UPLOAD + (64 << 10)).contains(&sent),
        "{connections:#?}"
    );
    // The command's own connections carried at least the bytes of both uploads. The command's connections may carry
    // fewer bytes than Pipelock's connections, because Pipelock makes request heads longer.
    let closes = run.flows(&[("source", "kernel_close")]);
    assert_eq!(closes.len(), 4, "{closes:#?}");
    assert!(sum(&closes, "bytes_sent") >= 2 * UPLOAD, "{closes:#?}");

    let questions = of_mediator(&run, "udp");
    let asked = world.queries();
    assert_eq!(
        questions.len(),
        asked.iter().filter(|query| !query.tcp).count(),
        "{questions:#?}"
    );
    for row in &questions {
        assert_eq!(
            row.get("dst").unwrap(),
            INTERNET.resolver.to_string().as_str()
        );
        assert_eq!(row.get("port").unwrap(), 53, "{row:#}");
    }
}
