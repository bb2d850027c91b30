//! The order of lists for people: numbers inside texts count as numbers, so `h2` is before `h10`.
use std::cmp::Ordering;

/// Compares two texts in natural order. Texts that differ never compare as equal.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (left_part, left_rest) = first_part(left);
        let (right_part, right_rest) = first_part(right);
        let order = match (number(left_part), number(right_part)) {
            (Some(one), Some(other)) => one.len().cmp(&other.len()).then_with(|| one.cmp(other)),
            _ => left_part.cmp(right_part),
        };
        if order.is_ne() || (left_part.is_empty() && right_part.is_empty()) {
            // Texts that differ only in leading zeros are compared as ordinary text.
            return order.then_with(|| a.cmp(b));
        }
        (left, right) = (left_rest, right_rest);
    }
}

/// Splits a text after the digits at its start, or before its first digit if it starts with another character.
fn first_part(text: &str) -> (&str, &str) {
    let starts_with_digit = text.starts_with(|first: char| first.is_ascii_digit());
    let end = text.find(|next: char| next.is_ascii_digit() != starts_with_digit);
    text.split_at(end.unwrap_or(text.len()))
}

/// Returns the digits without leading zeros, if the part is a number.
fn number(part: &str) -> Option<&str> {
    let is_number = part.starts_with(|first: char| first.is_ascii_digit());
    is_number.then(|| part.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn numbers_count_as_numbers() {
        let expected = [
            "",
            "10.0.0.2",
            "10.0.0.10",
            "a.test",
            "h1.test",
            "h01.test:80",
            "h1.test:443",
            "h2",
            "h10",
            "h10a9",
            "h10a10",
            "h99999999999999999999999999999999999999999",
            "\u{e4}2",
        ];
        let mut sorted = expected;
        sorted.reverse();
        sorted.sort_by(|a, b| compare(a, b));
        // `01` and `1` are equal numbers, so the text after the number decides.
        assert_eq!(sorted, expected);
        assert!(compare("h01", "h1").is_lt() && compare("h1", "h01").is_gt());
    }
}
