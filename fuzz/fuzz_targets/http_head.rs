//! Heads of HTTP requests: the end of a head is the same wherever the bytes are cut, and an accepted head has only one
//! interpretation.
#![no_main]
use egress_fuzz::Cut;
use egress_relay::http_head::{Framing, MAX_HEAD, Scan, judge, scan};
use libfuzzer_sys::fuzz_target;

/// Returns the number of header fields with the name `name`.
fn count(head: &[u8], name: &[u8]) -> usize {
    let lines = head.split(|byte| *byte == b'\n');
    let names = lines.filter_map(|line| line.split(|byte| *byte == b':').next());
    names
        .filter(|found| found.eq_ignore_ascii_case(name))
        .count()
}

fuzz_target!(|data: &[u8]| {
    let cut = Cut::of(data);
    let whole = scan(cut.text, 0);
    let (mut length, mut from, mut found) = (0, 0, None);
    for piece in cut.pieces() {
        length += piece.len();
        match scan(&cut.text[..length], from) {
            Ok(Scan::More(at)) => {
                assert!(at >= from && at <= length);
                from = at;
            }
            end => {
                found = Some(end);
                break;
            }
        }
    }
    match found {
        Some(found) => assert_eq!(found, whole),
        None => assert!(matches!(whole, Ok(Scan::More(_)))),
    }
    let Ok(Scan::End(end)) = whole else {
        return;
    };
    let head = &cut.text[..end];
    assert!(end <= MAX_HEAD && head.ends_with(b"\r\n\r\n"));
    assert!(!head[..end - 1].windows(4).any(|four| four == b"\r\n\r\n"));
    let Ok(framing) = judge(head) else {
        return;
    };
    let (lengths, codings) = (
        count(head, b"content-length"),
        count(head, b"transfer-encoding"),
    );
    assert!(count(head, b"host") <= 1);
    match framing {
        Framing::Chunked => assert_eq!((lengths, codings), (0, 1)),
        Framing::Length(0) => assert!(lengths <= 1 && codings == 0),
        Framing::Length(_) => assert_eq!((lengths, codings), (1, 0)),
    }
});
