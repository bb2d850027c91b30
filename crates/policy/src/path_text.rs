//! The text form of paths in `changes.json`: each backslash is doubled, and each byte that is not UTF-8 is `\xNN`.

/// Returns the text form of the bytes of a path.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter == '\\' {
                out.push('\\');
            }
            out.push(letter);
        }
        for byte in chunk.invalid() {
            out.push_str("\\x");
            out.push_str(&hex::encode([*byte]));
        }
    }
    out
}

/// Reverses [`escape`]. Returns `None` if the text has another form.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        match tail {
            [b'\\', tail @ ..] => {
                out.push(b'\\');
                rest = tail;
            }
            [b'x', high, low, tail @ ..] => {
                out.extend(hex::decode([*high, *low]).ok()?);
                rest = tail;
            }
            _ => return None,
        }
    }
    Some(out)
}
