//! Rewrites the WebSocket frames of the command so that the stream can end after any byte. Performs no I/O.
//!
//! If the command died in the middle of a frame, the mediator would wait for the rest, and would neither close the
//! connection nor write its receipt. Pipelock does not write a receipt for a WebSocket that ends without a Close frame.
//! The relay therefore sends only complete frames: each received part of a data frame becomes a fragment, and a control
//! frame is sent once it is complete. A Close frame can then follow at any time, and no incomplete message arrives as a
//! complete one.
//!
//! A frame without a mask is denied (RFC 6455, section 5.1). The relay denies the frame at its second byte, because
//! that byte holds the mask flag. In ASCII text, the second byte never has this flag, so the command cannot continue in
//! a text protocol such as HTTP after the handshake (section 10.3).
//!
//! Claims: websocket-frames
use super::copy::Watch;

/// The frames of one direction (RFC 6455, section 5.2).
#[derive(Debug, Default)]
pub struct Frames {
    /// The received part of a header or a control frame.
    partial: Vec<u8>,
    payload: Option<Payload>,
    /// A Close frame was passed on, so nothing may follow.
    closed: bool,
    /// A frame without a mask was received.
    is_unmasked: bool,
}

/// Checks the frames of a WebSocket that goes through a tunnel, without changing them.
#[derive(Debug, Default)]
pub(super) struct Seen(Frames);

/// The rest of a data frame whose header was received.
#[derive(Debug)]
struct Payload {
    /// Flags and opcode of the next fragment, with the FIN flag of the original frame.
    first: u8,
    mask: Option<[u8; 4]>,
    left: u64,
}

/// A frame header.
struct Header {
    first: u8,
    mask: Option<[u8; 4]>,
    length: u64,
}

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const CLOSE: u8 = 8;

/// A Close frame with status 1001 (going away), masked with a key of zeros.
const GOING_AWAY: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

impl Frames {
    /// Takes the next bytes of the stream and returns the bytes that can be sent.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 16);
        let mut rest = bytes;
        while !rest.is_empty() && !self.closed && !self.is_unmasked {
            rest = match self.payload.take() {
                Some(payload) => self.pass(payload, rest, &mut out),
                None => self.begin(rest, &mut out),
            };
        }
        out
    }

    /// Takes the next byte of a header or control frame. Returns the bytes that follow this byte.
    fn begin<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let Some((byte, rest)) = bytes.split_first() else {
            return bytes;
        };
        self.partial.push(*byte);
        if matches!(*self.partial, [_, second] if second & MASKED == 0) {
            self.is_unmasked = true;
            return &[];
        }
        let Some((header, payload)) = Header::read(&self.partial) else {
            return rest;
        };
        let is_control = header.first & 0x08 != 0 && header.length <= 125;
        if !is_control {
            self.partial.clear();
            let payload = Payload {
                first: header.first,
                mask: header.mask,
                left: header.length,
            };
            return self.pass(payload, rest, out);
        }
        if (payload.len() as u64) < header.length {
            return rest;
        }
        out.append(&mut self.partial);
        self.closed = header.first & 0x0f == CLOSE;
        rest
    }

    /// Adds the received part of a data frame to `out` as one fragment. Returns the bytes after the frame.
    fn pass<'a>(&mut self, mut payload: Payload, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let here = usize::try_from(payload.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (piece, rest) = bytes.split_at_checked(here).unwrap_or((bytes, &[]));
        payload.left -= piece.len() as u64;
        let is_last = payload.left == 0;
        let flags = if is_last { FINAL } else { 0 };
        // Clears the FIN flag unless this is the last fragment. The last fragment keeps the flag of
        // the original frame.
        let first = payload.first & (0x7f | flags);
        if is_last || !piece.is_empty() {
            write_header(out, first, payload.mask, piece.len() as u64);
            out.extend_from_slice(piece);
            payload.first &= FINAL;
            if let Some(mask) = &mut payload.mask {
                mask.rotate_left(piece.len() % 4);
            }
        }
        if !is_last {
            self.payload = Some(payload);
        }
        rest
    }
}

impl Header {
    /// Parses the header at the start of `bytes`, and returns it with the remaining bytes. Returns
    /// `None` if the header is incomplete.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let ([first, second], mut rest) = bytes.split_first_chunk()?;
        let length = match second & 0x7f {
            126 => {
                let (length, after) = rest.split_first_chunk()?;
                rest = after;
                u64::from(u16::from_be_bytes(*length))
            }
            127 => {
                let (length, after) = rest.split_first_chunk()?;
                rest = after;
                u64::from_be_bytes(*length)
            }
            short => u64::from(short),
        };
        let mut mask = None;
        if second & MASKED != 0 {
            let (key, after) = rest.split_first_chunk()?;
            mask = Some(*key);
            rest = after;
        }
        let header = Self {
            first: *first,
            mask,
            length,
        };
        Some((header, rest))
    }
}

fn write_header(out: &mut Vec<u8>, first: u8, mask: Option<[u8; 4]>, length: u64) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.push(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => out.push(masked | short),
        (_, Ok(short)) => {
            out.push(masked | 0x7e);
            out.extend(short.to_be_bytes());
        }
        _ => {
            out.push(masked | 0x7f);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend(mask.into_iter().flatten());
}

impl Watch for Frames {
    fn up(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        Some(self.take(bytes))
    }

    fn tail(&mut self) -> Option<Vec<u8>> {
        let is_open = !std::mem::replace(&mut self.closed, true);
        is_open.then(|| GOING_AWAY.to_vec())
    }

    fn is_over(&self) -> bool {
        self.is_unmasked
    }
}

impl Watch for Seen {
    fn up(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        drop(self.0.take(bytes));
        self.is_over().then(Vec::new)
    }

    fn is_over(&self) -> bool {
        self.0.is_unmasked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_header(&mut frame, first, Some(MASK), payload.len() as u64);
        let masked = payload.iter().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, key)| byte ^ key));
        frame
    }

    type Messages = Vec<(u8, Vec<u8>)>;

    /// Returns the messages and control frames in `bytes`, and whether every frame is whole.
    fn read(mut bytes: &[u8]) -> (Messages, bool) {
        let mut messages = Messages::new();
        let mut open: Option<(u8, Vec<u8>)> = None;
        while !bytes.is_empty() {
            let Some((header, rest)) = Header::read(bytes) else {
                return (messages, false);
            };
            let Some((payload, rest)) =
                rest.split_at_checked(usize::try_from(header.length).unwrap())
            else {
                return (messages, false);
            };
            bytes = rest;
            let keys = header.mask.unwrap();
            let payload = payload
                .iter()
                .zip(keys.iter().cycle())
                .map(|(byte, key)| byte ^ key);
            if header.first & 8 != 0 {
                messages.push((header.first, payload.collect()));
                continue;
            }
            let (kind, mut content) = match open.take() {
                Some(open) => {
                    assert_eq!(
                        header.first & 0x7f,
                        0,
                        "a fragment that is not a continuation"
                    );
                    open
                }
                None => (header.first & 0x7f, Vec::new()),
            };
            content.extend(payload);
            if header.first & FINAL == 0 {
                open = Some((kind, content));
            } else {
                messages.push((kind, content));
            }
        }
        (messages, true)
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect()
    }

    /// Claims: websocket-fragments
    #[test]
    fn messages_are_the_same_however_they_come_in() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
            // The messages are a compressed message in two fragments with a ping between them, and a text message.
            let whole = content(length);
            let (half, rest) = whole.split_at(length / 3);
            let bytes = [
                frame(0x42, half),
                frame(0x89, b"ping"),
                frame(0x80, rest),
                frame(0x81, b"text"),
            ]
            .concat();
            for step in [1, 2, 7, 8192, bytes.len()] {
                let mut frames = Frames::default();
                let mut out = Vec::new();
                for piece in bytes.chunks(step) {
                    out.extend(frames.take(piece));
                }
                let wanted = [
                    (0x89, b"ping".to_vec()),
                    (0x42, content(length)),
                    (0x01, b"text".to_vec()),
                ];
                assert_eq!(read(&out), (wanted.to_vec(), true), "{length} by {step}");
                if step == bytes.len() {
                    assert_eq!(out, bytes, "what is whole is not touched");
                }
            }
        }
    }

    #[test]
    fn frame_without_a_mask_ends_it() {
        let whole = frame(0x81, b"text");
        let bytes = [whole.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
        for step in [1, 2, 7, bytes.len()] {
            let (mut frames, mut seen) = (Frames::default(), Seen::default());
            let (mut out, mut passed) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(step) {
                out.extend(frames.take(piece));
                passed.extend(seen.up(piece).unwrap_or_else(|| piece.to_vec()));
            }
            assert!(frames.is_over() && seen.is_over(), "{step}");
            assert_eq!(read(&out).0, [(0x01, b"text".to_vec())], "{step}");
            assert!(passed.len() <= whole.len() + 1, "{step}: {passed:?}");
        }
    }

    #[test]
    fn close_has_its_place_wherever_the_agent_stops_and_no_message_is_made_up() {
        let bytes = [
            frame(0x81, b"one"),
            frame(0x89, b"ping"),
            frame(0x82, &content(300)),
        ]
        .concat();
        for end in 0..bytes.len() {
            let mut frames = Frames::default();
            let mut out = frames.take(bytes.get(..end).unwrap());
            out.extend(frames.tail().unwrap());
            let (messages, is_whole) = read(&out);
            assert!(is_whole, "cut at {end}");
            assert_eq!(messages.last().unwrap(), &(0x88, vec![0x03, 0xe9]));
            let binary = messages.iter().filter(|(kind, _)| *kind == 2).count();
            assert_eq!(binary, 0, "cut at {end}");
            assert_eq!(frames.tail(), None, "a second Close");
        }
    }

    #[test]
    fn nothing_follows_the_agents_own_close() {
        let mut frames = Frames::default();
        let close = frame(0x88, &[3, 0xe8]);
        let bytes = [close.clone(), frame(0x81, b"late")].concat();
        assert_eq!(frames.take(&bytes), close);
        assert_eq!(frames.take(&frame(0x81, b"later")), b"");
        assert_eq!(frames.tail(), None);
    }
}
