//! The reader of handshakes in tunnels: it forwards the same bytes wherever the input is cut.
#![no_main]
use egress_fuzz::Cut;
use egress_relay::authority::Host;
use egress_relay::fuzz::{Piece, handshake};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let host = Host::Name(String::from("allowed.test"));
    let cut = Cut::of(data);
    let (server, client) = cut.text.split_at(cut.text.len().min(64));
    // Before the server has chosen, the result is the same wherever the client's bytes are cut.
    let whole = handshake(&host, 0, &[Piece::Client(client)]);
    let pieces = Cut::of(data);
    let mut at = 0;
    let mut cuts = Vec::new();
    for piece in pieces.pieces() {
        let end = (at + piece.len()).min(client.len());
        cuts.push(Piece::Client(&client[at.min(end)..end]));
        at = end;
    }
    cuts.push(Piece::Client(&client[at..]));
    let parts = handshake(&host, 0, &cuts);
    assert_eq!(parts, whole);
    assert!(client.starts_with(&whole.sent));
    assert!(whole.denied.is_none() || whole.sent.len() < client.len());
    // Bytes from the server between two pieces of the client do not add any output.
    let (first, second) = client.split_at(client.len() / 2);
    let talk = [first, second].map(Piece::Client);
    let talk = [talk[0], Piece::Server(server), talk[1]];
    assert!(client.starts_with(&handshake(&host, 0, &talk).sent));
    let mut bytewise = vec![Piece::Client(first)];
    bytewise.extend(server.chunks(1).map(Piece::Server));
    bytewise.push(Piece::Client(second));
    assert_eq!(handshake(&host, 0, &bytewise), handshake(&host, 0, &talk));
});
