//! Chunked bodies: the result is the same wherever the body is cut, and a simple reader finds the same end of the body.
#![no_main]
use egress_fuzz::Cut;
use egress_relay::chunked::Chunked;
use libfuzzer_sys::fuzz_target;

/// Returns the length of a body, which this function reads line by line.
fn plain(mut bytes: &[u8]) -> Option<usize> {
    let length = bytes.len();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[..end]).ok()?;
        let size = usize::from_str_radix(line, 16).ok()?;
        bytes = &bytes[end + 2..];
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
        if size == 0 {
            return Some(length - bytes.len());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let cut = Cut::of(data);
    let mut whole = Chunked::default();
    let taken = whole.take(cut.text);
    let mut parts = Chunked::default();
    let mut sum = Ok(0);
    for piece in cut.pieces() {
        sum = match (sum, parts.take(piece)) {
            (Ok(sum), Ok(taken)) => Ok(sum + taken),
            (_, Err(error)) | (Err(error), _) => Err(error),
        };
        if sum.is_err() {
            break;
        }
    }
    assert_eq!(sum, taken);
    if let Ok(length) = taken {
        assert_eq!(parts.is_done(), whole.is_done());
        assert!(whole.is_done() || length == cut.text.len());
        if whole.is_done() {
            assert_eq!(plain(cut.text), Some(length));
        }
    }
});
