//! Changes every field of every file of a packet, once for each attacker who could have made the change. The mediator
//! is the Pipelock under test.
use audit_packet::grade::Grade;
use egress_tests::World;
use egress_tests::mutation::{By, HonestPacket, assert_seen, scene};
use serde_json::Value;

use crate::support::pipelock;

#[test]
fn mutations_of_a_packet_are_seen() {
    let world = World::new();
    let [packet, other] = scene::runs(&world, |run| {
        let run = run.arg("--mediator").arg("pipelock");
        run.arg("--pipelock-bin").arg(pipelock())
    });
    let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
    let honest = HonestPacket::read(&packet, &other, &key, &boundary).unwrap();
    let text = std::fs::read_to_string(packet.join("boundary.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    // An older Pipelock does not sign sessions, so it does not sign the end of the evidence.
    if document.pointer("/mediator/pipelock/posture").unwrap() == "bound" {
        assert_seen(&honest, By::Pipelock, Grade::KernelEnforced);
    } else {
        assert_seen(&honest, By::OldPipelock, Grade::KernelObserved);
    }
}
