//! Finds the end of a chunked body without decoding it. Performs no I/O.
//!
//! Only the plain form is accepted: a size in hexadecimal, CRLF, that many bytes, CRLF, and at the
//! end `0`, CRLF, CRLF. Extensions and trailer fields are rejected, because parsers treat them
//! differently and hardly any client sends them.
use super::http_head::HeadError;

/// Tracks one chunked body that arrives in pieces of any size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    state: ChunkState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ChunkState {
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
            state: ChunkState::Size {
                value: 0,
                digits: 0,
            },
        }
    }
}

impl Chunked {
    /// Returns whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// Takes the bytes that belong to the body and returns their number. The number is less than
    /// `bytes.len()` if the body ends earlier.
    ///
    /// # Errors
    /// Returns [`HeadError::Chunk`] if a size line or a line end is not in the plain form, and
    /// [`HeadError::Trailers`] if there are trailer fields.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, HeadError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let ChunkState::Data { left } = &mut self.state {
                let here = bytes.len() - at;
                let step = usize::try_from(*left).map_or(here, |left| left.min(here));
                *left -= step as u64;
                at += step;
                if *left == 0 {
                    self.state = ChunkState::DataCr;
                }
                continue;
            }
            if self.state == ChunkState::Done {
                break;
            }
            self.step(byte)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<(), HeadError> {
        self.state = match (&self.state, byte) {
            (ChunkState::Size { value, digits }, b'\r') if *digits > 0 => {
                ChunkState::SizeLf { value: *value }
            }
            (ChunkState::Size { value, digits }, _) if *digits < 15 => {
                let digit = char::from(byte).to_digit(16).ok_or(HeadError::Chunk)?;
                ChunkState::Size {
                    value: value * 16 + u64::from(digit),
                    digits: digits + 1,
                }
            }
            (ChunkState::SizeLf { value: 0 }, b'\n') => ChunkState::LastCr,
            (ChunkState::SizeLf { value }, b'\n') => ChunkState::Data { left: *value },
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::Size {
                value: 0,
                digits: 0,
            },
            (ChunkState::LastCr, b'\r') => ChunkState::LastLf,
            (ChunkState::LastCr, _) => return Err(HeadError::Trailers),
            (ChunkState::LastLf, b'\n') => ChunkState::Done,
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
