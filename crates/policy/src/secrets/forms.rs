//! Secrets that are recognized by more than a prefix.
use super::tokens::{is_alphanumeric, is_base64, is_hex, is_inside_word, is_word};

/// Names of parameters whose value is a secret.
const PARAMETERS: [&str; 7] = [
    "password", "passwd", "secret", "token", "apikey", "api_key", "api-key",
];
/// Last words of environment variables whose value is a secret.
const VARIABLES: [&str; 10] = [
    "SECRET_ACCESS_KEY",
    "SECRET_ACCESSKEY",
    "SECRET_KEY",
    "SECRETKEY",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "TOKEN",
    "API_KEY",
    "APIKEY",
];
/// The end of an OAuth client id of Google.
const GOOGLE_CLIENT: &str = ".apps.googleusercontent.com";

/// Whether a text contains one of these secrets.
pub(super) fn are_in(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_dotted = text.contains('.')
        && (0..bytes.len()).any(|at| {
            let (before, rest) = bytes.split_at_checked(at).unwrap_or_default();
            is_sendgrid(rest) || is_jwt(rest) || is_discord(before, rest)
        });
    let lower = text.to_ascii_lowercase();
    is_dotted
        || lower
            .match_indices("xapp-")
            .any(|(at, _)| is_slack_app(after(&lower, at)))
        || lower.match_indices("mfa.").any(|(at, _)| {
            text.get(at..).is_some_and(|here| here.starts_with("mfa."))
                && run(after(&lower, at.saturating_add(4)), is_word) >= 84
        })
        || lower
            .match_indices(GOOGLE_CLIENT)
            .any(|(at, _)| is_google_client(&lower, at))
        || lower
            .match_indices("secret")
            .any(|(at, _)| is_cloud_secret(after(&lower, at)))
        || text
            .match_indices("://")
            .any(|(at, _)| has_password(after(text, at.saturating_add(3))))
        || text
            .match_indices('=')
            .any(|(at, _)| is_assignment(text, at))
        || is_private_key(&lower)
        || is_service_account(&lower)
}

fn after(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

/// Returns how many bytes at the start of a text belong to a class.
fn run(text: &str, is_in: fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| is_in(*byte)).count()
}

fn byte_run(bytes: &[u8], is_in: fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is_in(**byte)).count()
}

/// Returns the bytes at the start that belong to a class, and the rest after the dot that follows them.
fn dotted_part(bytes: &[u8], is_in: fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let (part, rest) = bytes.split_at_checked(byte_run(bytes, is_in))?;
    Some((part, rest.strip_prefix(b".")?))
}

/// Matches `SG.`, 22 characters, a dot, and 43 characters.
fn is_sendgrid(bytes: &[u8]) -> bool {
    let parts = bytes.strip_prefix(b"SG.");
    let parts = parts.and_then(|rest| dotted_part(rest, is_word));
    parts.is_some_and(|(id, secret)| id.len() == 22 && byte_run(secret, is_word) >= 43)
}

/// Matches the three parts of a JSON Web Token (RFC 7519), whose first two parts are JSON objects in base64.
fn is_jwt(bytes: &[u8]) -> bool {
    fn is_part(byte: u8) -> bool {
        is_word(byte) || byte == b'='
    }
    // The base64 forms of `{"`, and of `{` before a space, a line feed, a tab, or a carriage return.
    let is_object = |part: &[u8]| {
        let starts = [b"eyJ", b"eyA", b"ewo", b"ewk", b"ew0"];
        starts.iter().any(|start| part.starts_with(*start))
    };
    if !is_object(bytes) {
        return false;
    }
    let Some((header, rest)) = dotted_part(bytes, is_part) else {
        return false;
    };
    let Some((claims, signature)) = dotted_part(rest, is_part) else {
        return false;
    };
    let is_empty = claims.starts_with(b"e30");
    let has_claims = is_empty || is_object(claims) && claims.len() >= 10;
    header.len() >= 10 && has_claims && byte_run(signature, is_part) >= 10
}

/// Matches the token of a Discord bot at the first dot: an id of at least 24 characters that starts with `M` or `N`, 6
/// characters, and at least 27 characters.
fn is_discord(before: &[u8], rest: &[u8]) -> bool {
    let Some((time, secret)) = rest
        .strip_prefix(b".")
        .and_then(|rest| dotted_part(rest, is_word))
    else {
        return false;
    };
    let id = before
        .iter()
        .rev()
        .take_while(|byte| is_alphanumeric(**byte));
    time.len() == 6
        && byte_run(secret, is_word) >= 27
        && id.skip(23).any(|byte| matches!(byte, b'M' | b'N'))
}

/// Matches `xapp-`, digits, an id, digits, and hexadecimal digits, separated by hyphens.
fn is_slack_app(text: &str) -> bool {
    let mut parts = text.split('-').skip(1);
    let mut part = |is_in: fn(u8) -> bool| parts.next().map(|part| (part, run(part, is_in)));
    let is_whole = |part: Option<(&str, usize)>| {
        part.is_some_and(|(text, length)| length > 0 && length == text.len())
    };
    is_whole(part(|byte| byte.is_ascii_digit()))
        && is_whole(part(is_inside_word))
        && is_whole(part(|byte| byte.is_ascii_digit()))
        && part(is_hex).is_some_and(|(_, length)| length > 0)
}

/// Matches at least 6 digits, a hyphen, and 32 characters before the end of a client id.
fn is_google_client(text: &str, at: usize) -> bool {
    let mut before = text.get(..at).unwrap_or_default().bytes().rev();
    (&mut before)
        .take(32)
        .filter(|byte| is_inside_word(*byte))
        .count()
        == 32
        && before.next() == Some(b'-')
        && before.take_while(u8::is_ascii_digit).count() >= 6
}

/// Matches `secret_access_key` in several spellings, a separator, and 40 characters of base64.
fn is_cloud_secret(text: &str) -> bool {
    let word = |text: &'_ str, word: &str| -> Option<usize> {
        // One character may separate the words.
        (0..=4).find(|skipped| after(text, *skipped).starts_with(word) && separates(text, *skipped))
    };
    let Some(rest) = text.strip_prefix("secret") else {
        return false;
    };
    let Some(skipped) = word(rest, "access") else {
        return false;
    };
    let rest = after(rest, skipped.saturating_add("access".len()));
    let Some(skipped) = word(rest, "key") else {
        return false;
    };
    let rest = after(rest, skipped.saturating_add("key".len()));
    let value = rest.trim_start_matches(|one: char| one.is_whitespace() || "\"'=:".contains(one));
    value.len() < rest.len() && run(value, is_base64) >= 40
}

/// Whether the first bytes of a text are at most one character.
fn separates(text: &str, bytes: usize) -> bool {
    text.get(..bytes)
        .is_some_and(|skipped| skipped.chars().count() <= 1)
}

/// Whether a URL has a password. The text starts after `://`.
fn has_password(text: &str) -> bool {
    let is_end = |one: char| one.is_whitespace() || "/?#".contains(one);
    let authority = text.split(is_end).next().unwrap_or_default();
    let password = authority.split_once(':').map(|(_, password)| password);
    password.is_some_and(|password| password.find('@').is_some_and(|at| at > 0))
}

/// Whether the name before an equals sign is that of a secret, and a value follows.
fn is_assignment(text: &str, at: usize) -> bool {
    /// Maximum number of bytes before the sign that are searched for the name.
    const LONGEST_NAME: usize = 64;
    let (before, value) = text.split_at_checked(at).unwrap_or_default();
    let start = before.floor_char_boundary(before.len().saturating_sub(LONGEST_NAME));
    let before = before.get(start..).unwrap_or_default().trim_end();
    let value = value.get(1..).unwrap_or_default().trim_start();
    let starts = |extra: &str| {
        let first = value.chars().next();
        first.is_some_and(|one| one.is_ascii_alphanumeric() || extra.contains(one))
    };
    let has = |length: usize, is_end: fn(char) -> bool| {
        let chars = value.chars().take(length);
        chars.take_while(|one| !is_end(*one)).count() == length
    };
    let lower = before.to_ascii_lowercase();
    let is_parameter = PARAMETERS.iter().any(|name| {
        lower.strip_suffix(name).is_some_and(|rest| {
            let rest = rest.trim_end_matches([' ', '\t']);
            rest.is_empty() || rest.ends_with(['?', '&', ';', '\n', '\r'])
        })
    });
    let is_end = |one: char| one.is_whitespace() || one == '&' || one == ';';
    is_parameter && has(4, is_end) && starts("_+/=~%.-")
        || has(8, char::is_whitespace) && starts("_+/=~.-") && is_variable(before)
}

/// Whether a text ends with the name of an environment variable for a secret, such as `DB_PASSWORD`.
fn is_variable(before: &str) -> bool {
    let name = before.replace('-', "_");
    VARIABLES.iter().any(|word| {
        let rest = name
            .strip_suffix(word)
            .and_then(|rest| rest.strip_suffix('_'));
        rest.is_some_and(|rest| {
            let mut first = rest.bytes().rev();
            let is_in = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
            first
                .by_ref()
                .take_while(is_in)
                .any(|byte| byte.is_ascii_uppercase())
        })
    })
}

/// Whether a text contains the first line of a file with a private key.
fn is_private_key(lower: &str) -> bool {
    lower.match_indices("-----begin").any(|(at, _)| {
        let line = after(lower, at.saturating_add("-----begin".len()));
        // In the encoding of forms, a plus sign stands for a space.
        let mut words = line.split(|one: char| one.is_whitespace() || one == '+');
        words.any(|word| word == "private")
            && words.next().is_some_and(|word| word.starts_with("key"))
    })
}

/// Whether a text contains a part of the key file of a Google service account.
fn is_service_account(lower: &str) -> bool {
    if !lower.contains("\"type\"") && !lower.contains("\"private_key_id\"") {
        return false;
    }
    let dense: String = lower.split_whitespace().collect();
    let id = "\"private_key_id\":\"";
    dense.contains("\"type\":\"service_account\"")
        || dense
            .match_indices(id)
            .any(|(at, _)| run(after(&dense, at.saturating_add(id.len())), is_hex) >= 40)
}
