//! The `ClientHello` reader: the result is the same whatever bytes follow the hello, and wherever its bytes are cut.
#![no_main]
use egress_http::client_hello::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(Some(hello)) = parse(data) else {
        return;
    };
    let records = data.get(..hello.length).expect("a length within the bytes");
    assert_eq!(parse(records), Ok(Some(hello)));
    // There are at most 256 cuts, so that a long hello takes no more time than a short one.
    for length in (0..records.len()).step_by(1 + records.len() / 256) {
        assert_eq!(parse(&records[..length]), Ok(None), "cut at {length}");
    }
});
