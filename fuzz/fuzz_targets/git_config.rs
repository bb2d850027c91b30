//! git configuration: every byte belongs to exactly one element, and redacting a second time changes nothing.
#![no_main]
use egress_workspace::git_config::{Kind, elements};
use egress_workspace::git_redact::{self, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut end = 0;
    for element in elements(data) {
        assert_eq!(element.span.start, end);
        assert!(element.span.end > end);
        end = element.span.end;
        assert!(element.kind != Kind::Unreadable || end == data.len());
    }
    assert_eq!(end, data.len());
    for reader in [Reader::Git, Reader::WorkTree] {
        let once = git_redact::config(data, reader);
        assert!(once.keys.len() <= 65 && once.paths.len() <= 2001);
        let twice = git_redact::config(&once.text, reader);
        assert!(twice.is_whole, "the redacted text can be parsed");
        assert_eq!(
            String::from_utf8_lossy(&twice.text),
            String::from_utf8_lossy(&once.text)
        );
    }
    let once = git_redact::text(data);
    assert_eq!(git_redact::text(&once.text).text, once.text);
});
