//! Tells the mediator's own refusals from what an origin answered. Pure.

/// A refusal by the mediator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// `layer:reason` from its header fields, as far as they are there.
    pub(super) reason: String,
}

/// Whether an answer is the mediator's refusal.
///
/// Newer mediators say so in header fields. Older ones answer with the plain error page of Go's
/// standard library, which an origin may do as well: then the report errs on the side of `blocked`,
/// and the mediator's receipt decides.
pub(super) fn block<'a>(status: u16, find: impl Fn(&str) -> Option<&'a str>) -> Option<Block> {
    if !matches!(status, 403 | 429 | 503) {
        return None;
    }
    let word = |name| find(name).map(clean).filter(|word| !word.is_empty());
    let layer = word("x-pipelock-block-reason-layer");
    let reason = word("x-pipelock-block-reason");
    match (layer, reason) {
        (Some(layer), Some(reason)) => Some(format!("{layer}:{reason}")),
        (Some(word), None) | (None, Some(word)) => Some(word),
        (None, None) => is_plain_error(&find).then(|| format!("mediator_{status}")),
    }
    .map(|reason| Block { reason })
}

/// Whether an answer looks like the mediator's own error page.
pub(super) fn is_plain_error<'a>(find: impl Fn(&str) -> Option<&'a str>) -> bool {
    find("content-type").is_some_and(|value| value.starts_with("text/plain"))
        && find("x-content-type-options") == Some("nosniff")
}

/// Reasons end up in people's terminals: plain words only.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c))
        .take(64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::type_complexity, reason = "a table")]
    fn refusals_are_told_from_answers() {
        let go = [
            ("content-type", "text/plain; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
        ];
        let named = [
            ("x-pipelock-block-reason", "parse_error"),
            ("x-pipelock-block-reason-layer", "allowlist"),
        ];
        let hostile = [("x-pipelock-block-reason", "a\u{1b}[2J b")];
        let cases: [(u16, &[(&str, &str)], Option<&str>); 7] = [
            (200, &named, None),
            (403, &named, Some("allowlist:parse_error")),
            (429, &named[1..], Some("allowlist")),
            (403, &hostile, Some("a2Jb")),
            (403, &go, Some("mediator_403")),
            (403, &[("content-type", "text/html")], None),
            (502, &go, None),
        ];
        for (status, fields, expected) in cases {
            let find = |name: &str| fields.iter().find(|f| f.0 == name).map(|f| f.1);
            assert_eq!(
                block(status, find).map(|b| b.reason).as_deref(),
                expected,
                "{fields:?}"
            );
        }
    }
}
