//! Reads the lines of a file of unknown size in limited memory.
use std::io::{self, BufRead, BufReader, Read};

use super::recorder::MAX_LINE_BYTES;

/// Number of bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Length of the longest line, including CR LF.
const LONGEST: usize = MAX_LINE_BYTES + 2;
/// [`LONGEST`] in the type of [`Read::take`].
const LONGEST_READ: u64 = 1_048_578;

/// One line.
#[derive(Debug)]
pub enum Line<'l> {
    /// A line with its LF. Only the last line of a file can lack the LF.
    Text(&'l [u8]),
    /// A line that is longer than any reader accepts. The rest of the file is not read, because a file can have a hole
    /// of terabytes, which takes hours to read although it takes no space on the disk.
    Endless,
}

/// The lines of a file.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    ended: bool,
}

impl<R: Read> Lines<R> {
    /// Reads the lines of `reader`.
    pub fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, reader),
            line: Vec::new(),
            ended: false,
        }
    }

    /// Returns the next line, or `None` after the last line or an endless line.
    ///
    /// # Errors
    /// Fails if the reader fails.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        if self.ended {
            return Ok(None);
        }
        self.line.clear();
        let mut most = (&mut self.reader).take(LONGEST_READ);
        most.read_until(b'\n', &mut self.line)?;
        let is_whole = self.line.last() == Some(&b'\n');
        self.ended = !is_whole;
        if !is_whole && self.line.len() >= LONGEST {
            return Ok(Some(Line::Endless));
        }
        Ok((!self.line.is_empty()).then_some(Line::Text(&self.line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<Option<usize>> {
        let mut lines = Lines::new(bytes);
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push(match line {
                Line::Text(text) => Some(text.len()),
                Line::Endless => None,
            });
        }
        found
    }

    #[test]
    fn lines_are_those_of_the_file_and_none_is_endless() {
        assert_eq!(u64::try_from(LONGEST).unwrap(), LONGEST_READ);
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"a\n\nbc"), [Some(2), Some(1), Some(2)]);
        let longest = [vec![b'x'; MAX_LINE_BYTES], b"\r\na\n".to_vec()].concat();
        assert_eq!(lines(&longest), [Some(LONGEST), Some(2)]);
        let longer = [vec![b'x'; LONGEST], b"\na\n".to_vec()].concat();
        assert_eq!(lines(&longer), [None]);
    }

    #[test]
    fn what_follows_an_endless_line_is_not_read() {
        struct Hole(u64);
        impl Read for Hole {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(0);
                self.0 += u64::try_from(buffer.len()).unwrap();
                Ok(buffer.len())
            }
        }
        let mut hole = Hole(0);
        let mut lines = Lines::new(&mut hole);
        assert!(matches!(lines.next_line().unwrap(), Some(Line::Endless)));
        assert!(lines.next_line().unwrap().is_none());
        drop(lines);
        assert!(hole.0 < 4 << 20, "{}", hole.0);
    }
}
