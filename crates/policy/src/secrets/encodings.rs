//! Decodes the encodings in which a secret may be written.

/// The shortest text that is decoded. No shorter text contains an encoded secret.
const SHORTEST: usize = 10;
/// The shortest secret is a number of eleven characters.
const SHORTEST_SECRET: usize = 11;

/// Returns the decoded forms of a text and of its parts.
pub(super) fn decoded(text: &str) -> Vec<String> {
    let mut all: Vec<String> = percent(text).into_iter().collect();
    let is_edge = |one: char| one.is_whitespace() || "/?&=\"'`{}[]()<>:,;".contains(one);
    for part in text.split(is_edge).filter(|part| part.len() >= SHORTEST) {
        for (value, width) in ALPHABETS {
            all.extend(unpacked(part, value, width).filter(|bytes| may_hold_secret(bytes)));
        }
    }
    all
}

/// Returns the text with its percent-escapes decoded, or `None` if it has no escapes.
pub(super) fn percent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let mut is_changed = false;
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let escaped = (*first == b'%')
            .then(|| digit(0).zip(digit(1)))
            .flatten()
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(escaped.unwrap_or(*first));
        is_changed |= escaped.is_some();
        rest = if escaped.is_some() {
            after.get(2..).unwrap_or_default()
        } else {
            after
        };
    }
    is_changed.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the value of a digit.
type Value = fn(u8) -> Option<u8>;

/// The digits of base64 (both alphabets), base32, and base16, and the bits of each digit (RFC 4648).
const ALPHABETS: [(Value, u32); 3] = [(base64, 6), (base32, 5), (base16, 4)];

fn base64(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

fn base32(byte: u8) -> Option<u8> {
    Some(match byte.to_ascii_uppercase() {
        upper @ b'A'..=b'Z' => upper - b'A',
        b'2'..=b'7' => byte - b'2' + 26,
        _ => return None,
    })
}

fn base16(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Returns the bytes that the digits stand for, as text.
fn unpacked(text: &str, value: Value, width: u32) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes() {
        // At most 7 bits are left over from the digits before.
        bits = (bits << width | u32::from(value(byte)?)) & 0x3fff;
        held += width;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a decoded text has enough printable characters in a row to contain a secret. The decoded form of a text that
/// was not encoded usually does not.
fn may_hold_secret(text: &str) -> bool {
    let is_printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    text.as_bytes()
        .split(|byte| !is_printable(byte))
        .any(|run| run.len() >= SHORTEST_SECRET)
}
