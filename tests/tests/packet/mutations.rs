//! Every field of every file of a packet changed, by everybody who may have changed it: with the built-in mediator.

use audit_packet::grade::Grade;
use egress_tests::World;
use egress_tests::mutation::{By, HonestPacket, assert_seen, not_rejected, scene};

#[test]
fn changes_of_a_packet_of_the_builtin_mediator_are_seen() {
    let world = World::new();
    let [packet, other] = scene::runs(&world, |run| run);
    let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
    let honest = HonestPacket::read(&packet, &other, &key, &boundary).expect("an honest packet");
    assert_seen(&honest, By::Builtin, Grade::KernelEnforced);
}

#[test]
fn boundary_that_contradicts_another_file_is_rejected_even_when_signed() {
    let world = World::new();
    let [packet, other] = scene::runs(&world, |run| run);
    let [key, boundary] = ["key", "boundary"].map(|name| world.dir().join(name));
    let honest = HonestPacket::read(&packet, &other, &key, &boundary).expect("an honest packet");
    for name in [
        // An audit beside a packet of an enforced run.
        "/mode:word=audit",
        // Numbers of which none is left.
        "/probes/counts:empty",
        "/workspace/changes:empty",
    ] {
        let name = format!("boundary:boundary.json:{name}");
        assert_eq!(not_rejected(&honest, &name), Vec::<String>::new());
    }
}
