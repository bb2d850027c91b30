//! Lists the requests inside TLS that the mediator opened, for the pages. Only the mediator reads such requests.
use super::receipts::{Ending, Receipts};
use super::target::{Path, Target};

/// Transport of these requests in the receipts.
pub(super) const INTERCEPT: &str = "intercept";

impl Receipts {
    /// Returns each request with method and URL, and how often it was allowed and denied.
    pub(crate) fn inside_tls(&self) -> impl Iterator<Item = (String, u64, u64)> {
        let inside = |(target, _): &(&Target, _)| target.transport == INTERCEPT;
        self.actions.iter().filter(inside).map(|(target, actions)| {
            let denied = [Ending::Denied, Ending::DeniedLater];
            let denied = denied.iter().filter_map(|one| actions.endings.get(one));
            let denied = denied.fold(0_u64, |sum, count| sum.saturating_add(*count));
            (
                in_words(target),
                actions.count().saturating_sub(denied),
                denied,
            )
        })
    }
}

fn in_words(target: &Target) -> String {
    let path = match &target.path {
        Path::Known(path) => String::from_utf8_lossy(path),
        Path::Hidden => "/[redacted-path]".into(),
        Path::Unknown => "".into(),
    };
    let port = match target.port {
        Some(443) | None => String::new(),
        Some(port) => format!(":{port}"),
    };
    let Target {
        method,
        scheme,
        host,
        ..
    } = target;
    format!("{method} {scheme}://{host}{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::super::receipt::Receipt;
    use super::*;

    #[test]
    fn only_requests_inside_tls_are_listed_with_their_results() {
        let mut receipts = Receipts::default();
        for (id, transport, verdict, target) in [
            ("1", INTERCEPT, "allow", "https://a.test/v1/x?key=1"),
            ("2", INTERCEPT, "allow", "https://a.test/v1/x"),
            ("3", INTERCEPT, "block", "https://a.test/v1/x"),
            (
                "4",
                INTERCEPT,
                "block",
                "https://a.test:8443/[redacted-value]",
            ),
            ("5", "forward", "block", "http://a.test/"),
        ] {
            receipts.add(&Receipt {
                id,
                transport,
                verdict,
                target,
                method: "GET",
                ..Receipt::default()
            });
        }
        let listed: Vec<(String, u64, u64)> = receipts.inside_tls().collect();
        assert_eq!(
            listed,
            [
                (String::from("GET https://a.test/v1/x"), 2, 1),
                (
                    String::from("GET https://a.test:8443/[redacted-path]"),
                    0,
                    1
                ),
            ]
        );
    }
}
