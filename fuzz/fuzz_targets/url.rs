//! Authorities, URLs in queries, and recorded targets: each has one canonical spelling. Parsing this spelling gives the
//! same result.
#![no_main]
use egress_policy::redact::{self, Key};
use egress_relay::authority::{self, Target};
use egress_relay::query;
use egress_relay::sniff::sniff;
use libfuzzer_sys::fuzz_target;

const SCHEMES: [(&str, u16); 2] = [("http", 80), ("https", 443)];

fuzz_target!(|data: &[u8]| {
    sniff(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Some((host, port)) = authority::parse(text, Some(80)) {
        let target = Target { host, port };
        let again = authority::parse(&target.to_string(), None);
        assert_eq!(again, Some((target.host.clone(), port)));
        let again = authority::parse(&target.authority(80), Some(80));
        assert_eq!(again, Some((target.host, port)));
    }
    if let Some(query) = query::parse(text)
        && let Some((host, port, rest)) = query::split_url(&query.url, &SCHEMES)
    {
        let target = Target { host, port };
        let rewritten = query.rewritten(&target, rest);
        let read = query::parse(&rewritten.query).expect("what was written");
        assert_eq!(read.url, rewritten.url);
        let (host, port, rest) = query::split_url(&read.url, &SCHEMES).expect("a URL");
        assert_eq!(Target { host, port }, target);
        assert_eq!(read.rewritten(&target, rest), rewritten);
    }
    let key = Key::new("k");
    let once = redact::target(text, &key);
    assert_eq!(redact::target(&once, &key), once);
    assert!(!text.contains("://") || once.len() <= 2 * text.len() + 4096);
});
