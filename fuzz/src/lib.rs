//! Common functions of the fuzz targets.

/// A text, and the lengths of the pieces into which it is cut.
pub struct Cut<'d> {
    sizes: &'d [u8],
    /// The text.
    pub text: &'d [u8],
}

impl<'d> Cut<'d> {
    /// Splits `data`: its first byte is the number of lengths that follow, and the rest is the text.
    pub fn of(data: &'d [u8]) -> Self {
        let (count, rest) = data.split_first().unwrap_or((&0, data));
        let (sizes, text) = rest.split_at(usize::from(*count % 8).min(rest.len()));
        Self { sizes, text }
    }

    /// Returns the text in pieces of these lengths. All further pieces have the last length.
    pub fn pieces(&self) -> Vec<&'d [u8]> {
        let mut pieces = Vec::new();
        let mut rest = self.text;
        let mut sizes = self.sizes.iter();
        let mut size = usize::MAX;
        while !rest.is_empty() {
            size = sizes.next().map_or(size, |size| usize::from(*size).max(1));
            let (piece, after) = rest.split_at(size.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}

/// Changes `sound` by the steps in `script`. A step has four bytes: the place (two bytes), the kind of change, and a
/// byte.
pub fn changed(sound: &[u8], script: &[u8]) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for step in script.chunks_exact(4) {
        let [high, low, kind, byte] = *step else {
            break;
        };
        let at = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
        match kind % 6 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => bytes[at] ^= byte,
            2 => bytes.insert(at, byte),
            3 => drop(bytes.drain(at..bytes.len().min(at + usize::from(byte)))),
            4 => bytes.truncate(at),
            _ => {
                let end = bytes.len().min(at + usize::from(byte));
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}
