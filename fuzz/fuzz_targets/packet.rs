//! `packet.json` and `boundary.json`: a parsed document has the same content when it is written and parsed again.
#![no_main]
use audit_packet::check::read_packet;
use audit_packet::format::boundary::BoundaryDocument;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match read_packet(data) {
        Ok(packet) => {
            let text = packet.to_json().expect("JSON");
            assert_eq!(read_packet(text.as_bytes()).as_ref(), Ok(&packet));
        }
        Err(findings) => assert!(!findings.is_empty() && findings.len() < 10_000),
    }
    if let Ok(document) = BoundaryDocument::read(data) {
        assert_eq!(document.kernel_rule_hash().len(), 64);
    }
});
