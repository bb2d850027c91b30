//! Distinguishes the mediator's own answers from the answers of an origin. Performs no I/O.

/// What the head of an answer shows about its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    /// An origin's answer.
    Origin,
    /// A denial that only the mediator can have sent, with its reason.
    Blocked(String),
    /// An answer that looks like a denial by the mediator, with its reason if it has one. An origin could have written
    /// the answer.
    Answered(Option<String>),
    /// A failure of the mediator, with its reason.
    Failed(String),
}

/// Judges an answer of the built-in mediator. The mediator marks its own answers with `mark`, and removes the mark and
/// the reason fields from answers of origins.
pub(super) fn marked<'a>(
    status: u16,
    mark: &str,
    found: Option<&str>,
    find: impl Fn(&str) -> Option<&'a str>,
) -> Judged {
    if found != Some(mark) || status < 400 {
        return Judged::Origin;
    }
    match words(&find) {
        Some(words) => Judged::Blocked(words),
        None if status == 502 => Judged::Failed("upstream_failed".to_owned()),
        None => Judged::Failed(format!("mediator_{status}")),
    }
}

/// Judges an answer of a real Pipelock to a request other than CONNECT. Pipelock does not mark its
/// own answers, so only the receipts show whether Pipelock or an origin wrote a denial.
///
/// Newer versions of Pipelock put the reason into header fields. Older versions answer with the plain error page of
/// Go's standard library. `is_wrapped` is true if Pipelock writes every answer to this request itself, so that an error
/// status cannot come from an origin.
pub(super) fn unmarked<'a>(
    status: u16,
    is_wrapped: bool,
    find: impl Fn(&str) -> Option<&'a str>,
) -> Judged {
    let is_error_page = is_wrapped || is_plain_error(&find);
    match (status, words(&find)) {
        (403 | 429 | 503, Some(words)) => Judged::Answered(Some(words)),
        (403 | 429 | 503, None) if is_error_page => Judged::Answered(None),
        (502, _) if is_error_page => Judged::Failed("upstream_failed".to_owned()),
        _ => Judged::Origin,
    }
}

/// Judges an answer to CONNECT other than 200. The answer always comes from the mediator, because no origin answers
/// CONNECT.
pub(super) fn tunnel<'a>(status: u16, find: impl Fn(&str) -> Option<&'a str>) -> Judged {
    let is_refusal = matches!(status, 403 | 429)
        || status == 503 && is_plain_error(&find)
        || words(&find).is_some();
    let reason = words(&find).unwrap_or_else(|| format!("mediator_{status}"));
    if is_refusal {
        Judged::Blocked(reason)
    } else {
        Judged::Failed(reason)
    }
}

/// Returns `layer:reason` of a denial. If the answer has only a layer or only a reason, returns that word alone.
fn words<'a>(find: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let word = |name| find(name).map(clean).filter(|word| !word.is_empty());
    let layer = word("x-pipelock-block-reason-layer");
    let reason = word("x-pipelock-block-reason");
    match (layer, reason) {
        (Some(layer), Some(reason)) => Some(format!("{layer}:{reason}")),
        (Some(word), None) | (None, Some(word)) => Some(word),
        (None, None) => None,
    }
}

/// Returns whether an answer looks like the mediator's own error page.
fn is_plain_error<'a>(find: impl Fn(&str) -> Option<&'a str>) -> bool {
    find("content-type").is_some_and(|value| value.starts_with("text/plain"))
        && find("x-content-type-options") == Some("nosniff")
}

/// Keeps at most 64 ASCII letters, digits, `_`, `-`, and `.`, because reasons are printed to terminals.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c))
        .take(64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO: [(&str, &str); 2] = [
        ("content-type", "text/plain; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
    ];
    const NAMED: [(&str, &str); 2] = [
        ("x-pipelock-block-reason", "parse_error"),
        ("x-pipelock-block-reason-layer", "allowlist"),
    ];
    const HOSTILE: [(&str, &str); 1] = [("x-pipelock-block-reason", "a\u{1b}[2J b")];

    fn finder<'a>(fields: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> {
        move |name| {
            fields
                .iter()
                .find(|field| field.0 == name)
                .map(|field| field.1)
        }
    }

    #[test]
    fn without_a_mark_a_refusal_is_a_claim() {
        let claim = |words: &str| Judged::Answered(Some(words.to_owned()));
        for (status, fields, expected) in [
            (200, &NAMED[..], Judged::Origin),
            (403, &NAMED[..], claim("allowlist:parse_error")),
            (429, &NAMED[1..], claim("allowlist")),
            (403, &HOSTILE[..], claim("a2Jb")),
            (403, &GO[..], Judged::Answered(None)),
            (403, &[("content-type", "text/html")][..], Judged::Origin),
            (502, &GO[..], Judged::Failed("upstream_failed".into())),
            (502, &[][..], Judged::Origin),
        ] {
            assert_eq!(
                unmarked(status, false, finder(fields)),
                expected,
                "{status} {fields:?}"
            );
        }
    }

    /// Claims: answer-mark
    #[test]
    fn the_mark_alone_makes_an_answer_the_mediators() {
        let judged = |status, found, fields| marked(status, "m", found, finder(fields));
        for found in [None, Some(""), Some("x")] {
            assert_eq!(judged(403, found, &NAMED), Judged::Origin);
            assert_eq!(judged(502, found, &GO), Judged::Origin);
        }
        let blocked = Judged::Blocked("allowlist:parse_error".into());
        assert_eq!(judged(403, Some("m"), &NAMED), blocked);
        assert_eq!(judged(414, Some("m"), &NAMED), blocked);
        let failed = |reason: &str| Judged::Failed(reason.into());
        assert_eq!(judged(502, Some("m"), &GO), failed("upstream_failed"));
        assert_eq!(judged(404, Some("m"), &[]), failed("mediator_404"));
        assert_eq!(judged(101, Some("m"), &NAMED), Judged::Origin);
    }

    #[test]
    fn a_tunnel_is_answered_by_the_mediator_alone() {
        for (status, fields, expected) in [
            (
                403,
                &NAMED[..],
                Judged::Blocked("allowlist:parse_error".into()),
            ),
            (
                400,
                &NAMED[..],
                Judged::Blocked("allowlist:parse_error".into()),
            ),
            (403, &[][..], Judged::Blocked("mediator_403".into())),
            (503, &GO[..], Judged::Blocked("mediator_503".into())),
            (503, &[][..], Judged::Failed("mediator_503".into())),
            (502, &GO[..], Judged::Failed("mediator_502".into())),
        ] {
            assert_eq!(
                tunnel(status, finder(fields)),
                expected,
                "{status} {fields:?}"
            );
        }
    }
}
