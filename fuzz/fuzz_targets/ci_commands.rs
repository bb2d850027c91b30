//! Commands to CI systems in the command's output: no such command remains, and the result is the same wherever the
//! output is cut.
#![no_main]
use egress_fuzz::Cut;
use libfuzzer_sys::fuzz_target;

// This file of the product uses no other file of its crate, so the target can include it without the crate.
#[allow(dead_code, reason = "the product uses the rest")]
#[path = "../../egress-user/src/ci_commands.rs"]
mod ci_commands;

use ci_commands::Defuser;

fn pass<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<u8>, u64) {
    let mut defuser = Defuser::default();
    let mut out = Vec::new();
    for piece in pieces {
        defuser.pass(piece, &mut out);
    }
    (out, defuser.defused())
}

fuzz_target!(|data: &[u8]| {
    let cut = Cut::of(data);
    let (out, defused) = pass([cut.text]);
    assert_eq!(pass(cut.pieces()), (out.clone(), defused));
    assert_eq!(out.len() as u64, cut.text.len() as u64 + defused);
    assert_eq!(pass([out.as_slice()]), (out.clone(), 0));
    // These are the bytes that a runner reads if it ignores bytes that are not printable.
    let seen: Vec<u8> = out
        .into_iter()
        .filter(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r'))
        .map(|byte| byte.to_ascii_lowercase())
        .collect();
    for line in seen.split(|byte| matches!(byte, b'\n' | b'\r')) {
        assert!(!line.trim_ascii_start().starts_with(b"::"));
        for command in [b"##[".as_slice(), b"##vso[", b"##teamcity["] {
            assert!(!line.windows(command.len()).any(|part| part == command));
        }
    }
});
