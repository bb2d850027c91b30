//! Checks times in evidence as text, without reading a clock.

/// Whether `text` is a time of RFC 3339 with capital `T` and `Z`, at most nine digits after a dot, and no leap second.
/// `0001-01-01T00:00:00Z`, which Go writes for an unset time, is not accepted.
pub fn is_rfc3339(text: &str) -> bool {
    parts(text).is_some() && text != "0001-01-01T00:00:00Z"
}

/// Whether `text` is also in the form that writers emit and that the outer chain hashes: UTC, and a fraction without
/// trailing zeros.
pub(crate) fn is_normal(text: &str) -> bool {
    let Some(body) = text.strip_suffix('Z') else {
        return false;
    };
    is_rfc3339(text) && !(body.contains('.') && body.ends_with('0'))
}

/// Returns `Some` if every part of a time is valid.
fn parts(text: &str) -> Option<()> {
    let bytes = text.as_bytes();
    let year = number(bytes.get(0..4)?)?;
    let month = number(bytes.get(5..7)?)?;
    let day = number(bytes.get(8..10)?)?;
    let hour = number(bytes.get(11..13)?)?;
    let minute = number(bytes.get(14..16)?)?;
    let second = number(bytes.get(17..19)?)?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let punctuated = separators
        .iter()
        .all(|(at, separator)| bytes.get(*at) == Some(separator));
    let in_range = (1..=12).contains(&month)
        && (1..=days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !(punctuated && in_range) {
        return None;
    }
    let mut rest = bytes.get(19..)?;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        rest = fraction.get(digits..)?;
    }
    match rest {
        b"Z" => Some(()),
        [b'+' | b'-', zone @ ..] if zone.len() == 5 && zone.get(2) == Some(&b':') => {
            let hours = number(zone.get(0..2)?)?;
            let minutes = number(zone.get(3..5)?)?;
            (hours < 24 && minutes < 60).then_some(())
        }
        _ => None,
    }
}

/// Returns the value of ASCII digits.
fn number(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_judged_as_go_does() {
        for good in [
            "2026-11-24T10:18:57Z",
            "2024-02-29T00:00:00.123456789Z",
            "2026-11-24T10:18:57.100Z",
            "2026-11-24T10:18:57+02:00",
        ] {
            assert!(is_rfc3339(good), "{good}");
        }
        for bad in [
            "",
            "yesterday",
            "2026-11-24",
            "2026-02-29T00:00:00Z",
            "2026-11-24t10:18:57Z",
            "2026-11-24T10:18:57z",
            "2026-11-24T10:18:60Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T10:18:57,5Z",
            "2026-11-24T10:18:57.Z",
            "2026-11-24T10:18:57.1234567890Z",
            "2026-11-24T10:18:57+0200",
            "0001-01-01T00:00:00Z",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
        assert!(is_normal("2026-11-24T10:18:57.1Z"));
        assert!(!is_normal("2026-11-24T10:18:57.10Z"));
        assert!(is_normal("2026-11-24T10:18:50Z"));
        assert!(!is_normal("2026-11-24T10:18:57+00:00"));
    }
}
