//! Knows where WebSocket frames of the agent begin and end. Pure.
use super::copy::Watch;

/// Follows the frames of one direction (RFC 6455, section 5.2).
#[derive(Debug, Default)]
pub struct Frames {
    at: At,
    opcode: u8,
    /// A Close frame has passed, so nothing may follow.
    closed: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    Length,
    LongLength {
        left: u8,
        length: u64,
        masked: bool,
    },
    Payload {
        left: u64,
    },
}

/// Close, masked with a key of zeros, 1001: "going away".
const GOING_AWAY: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

impl Frames {
    /// Takes the next bytes of the stream.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest {
            self.at = match self.at {
                At::Start => {
                    self.opcode = byte & 0x0f;
                    At::Length
                }
                At::Length => {
                    let masked = byte & 0x80 != 0;
                    match byte & 0x7f {
                        126 => At::LongLength {
                            left: 2,
                            length: 0,
                            masked,
                        },
                        127 => At::LongLength {
                            left: 8,
                            length: 0,
                            masked,
                        },
                        short => self.payload(u64::from(short), masked),
                    }
                }
                At::LongLength {
                    left,
                    length,
                    masked,
                } => {
                    let length = length << 8 | u64::from(*byte);
                    if left == 1 {
                        self.payload(length, masked)
                    } else {
                        At::LongLength {
                            left: left - 1,
                            length,
                            masked,
                        }
                    }
                }
                At::Payload { left } => {
                    let step =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    rest = rest.get(step..).unwrap_or_default();
                    self.at = self.payload(left - step as u64, false);
                    continue;
                }
            };
            rest = after;
        }
    }

    /// The mask key counts as payload.
    fn payload(&mut self, length: u64, masked: bool) -> At {
        let left = length.saturating_add(if masked { 4 } else { 0 });
        if left > 0 {
            return At::Payload { left };
        }
        self.closed |= self.opcode == 8;
        At::Start
    }
}

impl Watch for Frames {
    fn up(&mut self, bytes: &[u8]) {
        self.take(bytes);
    }

    fn tail(&mut self) -> Option<Vec<u8>> {
        if self.closed || self.at != At::Start {
            return None;
        }
        self.closed = true;
        Some(GOING_AWAY.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
            126..65_536 => {
                frame.push(0xfe);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(0xff);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.resize(frame.len() + length, 0x88);
        frame
    }

    #[test]
    fn a_close_frame_is_added_between_frames_only() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let bytes = frame(1, length);
            for step in [1, 7, bytes.len()] {
                let mut frames = Frames::default();
                for piece in bytes.chunks(step) {
                    frames.take(piece);
                }
                assert!(frames.tail().is_some(), "{length} by {step}");
                assert_eq!(frames.tail(), None, "a second Close");
            }
            let mut cut = Frames::default();
            cut.take(&bytes[..bytes.len() - 1]);
            assert_eq!(cut.tail(), None, "inside a frame of {length}");
        }
    }

    #[test]
    fn nothing_follows_the_agents_own_close() {
        let mut frames = Frames::default();
        frames.take(&frame(8, 2));
        assert_eq!(frames.tail(), None);
        let mut own = Frames::default();
        own.take(&GOING_AWAY);
        assert_eq!(own.tail(), None);
        assert_eq!(own.at, At::Start);
    }
}
