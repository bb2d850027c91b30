//! A Pipelock that ends unexpectedly, and a full disk.
use std::fs;
use std::time::Duration;

use egress_tests::aftermath::{full_disk_ends, until_ready};
use egress_tests::evidence::{public_key_hex, verify};
use egress_tests::{World, wait_until};

use crate::support::{NO_PROXY, SOON, Verdicts, allow, assert_verdicts, grade, runs, with};

const AGENT: &str = "curl -sS -o /dev/null http://allowed.test/\ntouch ready\nsleep 60\n";

#[test]
fn killed_pipelock_ends_the_run_and_its_evidence_is_a_valid_prefix() {
    let world = World::builder().own_state().build();
    let (running, packet, workdir) = with(&world, &allow(&["allowed.test"]))
        .script(&format!("{NO_PROXY}{AGENT}"))
        .start();
    until_ready(&workdir, SOON);
    let all = runs(&world);
    let cgroup = fs::read_to_string(all.first().unwrap().join("cgroup")).unwrap();
    let killed = world.shell(&format!("kill -KILL $(cat {cgroup}/mediator/cgroup.procs)"));
    assert!(killed.success(), "{killed}");
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(output.status, Some(125), "{output}");
    assert!(output.elapsed < Duration::from_secs(30), "{output}");
    let boundary = fs::read_to_string(packet.join("boundary.json")).unwrap();
    assert!(
        boundary.contains("Pipelock is gone (ended by SIGKILL)"),
        "{boundary}"
    );
    assert_verdicts(&world, &packet, Verdicts::PREFIX);
    assert_ne!(grade(&world, &packet), "kernel_enforced");
}

#[test]
fn pipelock_that_hangs_at_its_end_is_killed_and_the_packet_states_it() {
    let world = World::builder().own_state().build();
    let agent = "curl -sS -o /dev/null http://allowed.test/\n\
                 touch ready\nuntil [ -e done ]; do sleep 0.02; done\n";
    let (running, packet, workdir) = with(&world, &allow(&["allowed.test"]))
        .script(&format!("{NO_PROXY}{agent}"))
        .start();
    until_ready(&workdir, SOON);
    let all = runs(&world);
    let cgroup = fs::read_to_string(all.first().unwrap().join("cgroup")).unwrap();
    let stopped = world.shell(&format!("kill -STOP $(cat {cgroup}/mediator/cgroup.procs)"));
    assert!(stopped.success(), "{stopped}");
    fs::write(workdir.join("done"), "").unwrap();
    let output = running.finish(Duration::from_mins(1));
    assert_eq!(output.status, Some(125), "{output}");
    let boundary = fs::read_to_string(packet.join("boundary.json")).unwrap();
    // As long as a Pipelock with sessions has an open request, the supervisor does not stop it.
    assert!(
        boundary.contains("Pipelock did not end within 3 seconds and was killed")
            || boundary.contains("requests, and was killed before it closed its session"),
        "{boundary}"
    );
    assert!(runs(&world).is_empty());
    assert_verdicts(&world, &packet, Verdicts::PREFIX);
}

#[test]
fn disk_that_fills_up_ends_the_run_before_evidence_is_lost() {
    let world = World::builder().small_state("200m").build();
    let run = with(&world, &allow(&["allowed.test"])).script(&format!("{NO_PROXY}{AGENT}"));
    let started = run.start();
    let packet = started.1.clone();
    let boundary = full_disk_ends(&world, started);
    // Pipelock ended in time, so no line is incomplete.
    let has_sessions = boundary.contains("\"left_out\":[]");
    assert_verdicts(&world, &packet, Verdicts::whole(has_sessions));
}

#[test]
fn state_on_a_noexec_file_system_works() {
    let world = World::builder().small_state("200m").build();
    let remounted = world.shell(&format!(
        "mount -o remount,noexec /run/egress && cp /bin/true {0}/true && ! /run/egress/true",
        world.state().display()
    ));
    assert!(remounted.success(), "{remounted}");
    let run = with(&world, &allow(&["allowed.test"]))
        .script(&format!(
            "{NO_PROXY}curl -sS -o /dev/null http://allowed.test/\n"
        ))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
}

/// Claims: process-pipelock
#[test]
fn killed_supervisor_ends_pipelock_and_the_evidence_is_kept() {
    let world = World::builder().own_state().build();
    let (running, _, workdir) = with(&world, &allow(&["allowed.test"]))
        .script(&format!("{NO_PROXY}{AGENT}"))
        .start();
    until_ready(&workdir, SOON);
    let all = runs(&world);
    let dir = all.first().unwrap();
    let cgroup = fs::read_to_string(dir.join("cgroup")).unwrap();
    let processes = egress_tests::Process::in_cgroup(cgroup.as_ref());
    assert!(processes.len() >= 3, "{processes:?}");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.finish(SOON);
    wait_until("every process of the run is gone", SOON, || {
        !processes.iter().any(|process| process.lives())
    });
    // The next run removes what the killed run left behind.
    let run = with(&world, &allow(&["allowed.test"]))
        .script(&format!(
            "{NO_PROXY}curl -sS -o /dev/null http://allowed.test/\n"
        ))
        .run();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(!dir.exists());
    let kept = world.state().join("kept").join(dir.file_name().unwrap());
    let hex = public_key_hex(&world.dir().join("key"));
    let evidence = kept.join("evidence");
    let verdict = verify(&[evidence.as_os_str(), "--key".as_ref(), hex.as_ref()]);
    assert_eq!(verdict.status, Some(3), "{verdict}");
}
