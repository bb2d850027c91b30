//! Recognizes secrets in a text by their public formats.
//!
//! There are two rules. [`is_credential`] recognizes tokens at the start of a word, and is meant for any text.
//! [`is_secret`] is meant for the paths of URLs, and recognizes what Pipelock 3.2 redacts with its default patterns, so
//! that the flow log does not contain a text that Pipelock removes from its receipts. Unlike the first rule,
//! [`is_secret`] also recognizes secrets in the middle of a word, in any case, and in common encodings, and personal
//! numbers.
mod encodings;
#[cfg(test)]
pub(crate) mod examples;
mod forms;
mod numbers;
mod tokens;

use std::borrow::Cow;

/// How many times a text is percent-decoded before the result is checked.
const DECODINGS: usize = 3;
/// Maximum number of decoded forms of a text that are checked.
const MAX_FORMS: usize = 48;
/// Maximum number of bytes of a text that are checked. The path of a target is cut at a shorter length.
const CHECKED: usize = 4 << 10;

/// Whether a path segment or another short text contains a likely credential, in plain or
/// percent-encoded form.
pub fn is_credential(segment: &str) -> bool {
    let mut text = Cow::Borrowed(segment);
    for _ in 0..DECODINGS {
        if tokens::starts_a_word(&text) {
            return true;
        }
        match encodings::percent(&text) {
            Some(next) => text = Cow::Owned(next),
            None => return false,
        }
    }
    tokens::starts_a_word(&text)
}

/// Whether a path or a part of a path contains a secret, in plain or encoded form. Only the first 4 KiB are checked.
pub(crate) fn is_secret(text: &str) -> bool {
    has_form(text, &|text| {
        tokens::starts_a_word(text)
            || tokens::are_anywhere(text)
            || forms::are_in(text)
            || numbers::are_in(text)
    })
}

/// Whether `is_here` is true for a text or for one of its decoded forms. A secret may also be split by dots, or by
/// characters that are white space or not visible. Only the first 4 KiB are checked.
pub(crate) fn has_form(text: &str, is_here: &dyn Fn(&str) -> bool) -> bool {
    let (text, _) = text
        .split_at_checked(text.floor_char_boundary(CHECKED))
        .unwrap_or((text, ""));
    let is_joined = |text: &str, is_removed: fn(char) -> bool| {
        text.contains(is_removed) && is_here(&text.replace(is_removed, ""))
    };
    let mut forms = vec![text.to_owned()];
    let mut next = 0;
    while let Some(form) = forms.get(next) {
        if is_here(form) || is_joined(form, |one| one == '.') || is_joined(form, is_blank) {
            return true;
        }
        let more = encodings::decoded(form);
        let room = MAX_FORMS.saturating_sub(forms.len());
        forms.extend(more.into_iter().take(room));
        next += 1;
    }
    false
}

fn is_blank(one: char) -> bool {
    let is_zero_width =
        matches!(one, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    is_zero_width || one.is_whitespace() || one.is_control()
}

#[cfg(test)]
mod tests;
