//! Finds the end of a chunked body without decoding it. Pure.
//!
//! The only reading allowed is the plain one: a size in hexadecimal, CRLF, so many bytes, CRLF; at
//! the end `0`, CRLF, CRLF. Extensions and trailer fields are refused: hardly a client sends them,
//! and they are where parsers differ.
use super::http_head::HeadError;

/// Follows one chunked body through pieces of any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    LastCr,
    LastLf,
    Done,
}

impl Default for Chunked {
    fn default() -> Self {
        Self {
            state: State::Size {
                value: 0,
                digits: 0,
            },
        }
    }
}

impl Chunked {
    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the bytes that belong to the body and tells how many these are: all of them, unless
    /// the body ends before.
    ///
    /// # Errors
    /// A size line that is not plain, or trailer fields.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, HeadError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let State::Data { left } = &mut self.state {
                let here = bytes.len() - at;
                let step = usize::try_from(*left).map_or(here, |left| left.min(here));
                *left -= step as u64;
                at += step;
                if *left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            if self.state == State::Done {
                break;
            }
            self.step(byte)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<(), HeadError> {
        self.state = match (&self.state, byte) {
            (State::Size { value, digits }, b'\r') if *digits > 0 => {
                State::SizeLf { value: *value }
            }
            (State::Size { value, digits }, _) if *digits < 15 => {
                let digit = char::from(byte).to_digit(16).ok_or(HeadError::Chunk)?;
                State::Size {
                    value: value * 16 + u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::SizeLf { value: 0 }, b'\n') => State::LastCr,
            (State::SizeLf { value }, b'\n') => State::Data { left: *value },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size {
                value: 0,
                digits: 0,
            },
            (State::LastCr, b'\r') => State::LastLf,
            (State::LastCr, _) => return Err(HeadError::Trailers),
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(HeadError::Chunk),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Result<(usize, bool), HeadError> {
        let mut body = Chunked::default();
        body.take(bytes).map(|taken| (taken, body.is_done()))
    }

    #[test]
    fn plain_bodies_end_where_they_end() {
        let cases: [(&[u8], usize, bool); 6] = [
            (b"0\r\n\r\n", 5, true),
            (b"0\r\n\r\nGET /", 5, true),
            (b"5\r\nhello\r\n0\r\n\r\nX", 15, true),
            (
                b"00a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
                37,
                true,
            ),
            (b"5\r\nhel", 6, false),
            (b"", 0, false),
        ];
        for (bytes, taken, done) in cases {
            assert_eq!(whole(bytes), Ok((taken, done)), "{bytes:?}");
            let mut body = Chunked::default();
            let mut sum = 0;
            for byte in bytes {
                sum += body.take(&[*byte]).unwrap();
            }
            assert_eq!(
                (sum, body.is_done()),
                (taken, done),
                "byte by byte {bytes:?}"
            );
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let cases: [(&[u8], HeadError); 14] = [
            (b"\r\n", HeadError::Chunk),
            (b"5;x=y\r\n", HeadError::Chunk),
            (b"5 \r\n", HeadError::Chunk),
            (b" 5\r\n", HeadError::Chunk),
            (b"+5\r\n", HeadError::Chunk),
            (b"-1\r\n", HeadError::Chunk),
            (b"0x5\r\n", HeadError::Chunk),
            (b"5\nhello", HeadError::Chunk),
            (b"5\r\nhello0\r\n\r\n", HeadError::Chunk),
            (b"5\r\nhello\n", HeadError::Chunk),
            (b"5\rhello", HeadError::Chunk),
            (b"0000000000000000\r\n", HeadError::Chunk),
            (b"0\r\nX: y\r\n\r\n", HeadError::Trailers),
            (b"0\r\n\n", HeadError::Trailers),
        ];
        for (bytes, error) in cases {
            assert_eq!(whole(bytes), Err(error), "{bytes:?}");
        }
    }
}
