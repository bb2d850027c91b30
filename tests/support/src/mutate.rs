//! Hostile variants of valid bytes. The variants are the same in every run of a test.

/// A pseudorandom sequence of numbers.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Starts the sequence for `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        // xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators".
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or_default() % limit
    }

    /// Returns one of the elements.
    pub fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Returns one of `sound`, changed in one to four places. An inserted text is one of `words` or a single byte.
    pub fn mutated(&mut self, sound: &[&[u8]], words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = self.one(sound).to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let to = (at + self.below(12)).min(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 => drop(bytes.drain(at..to)),
                2 => {
                    let again = bytes[at..to].to_vec();
                    bytes.splice(at..at, again);
                }
                3 => bytes.truncate(at),
                4 if at < bytes.len() => {
                    bytes[at] = self.one(&[b"\0\xff\x7f\x80\r\n \t:,;/.%"])[self.below(14)];
                }
                _ => drop(bytes.splice(at..at, self.one(words).iter().copied())),
            }
        }
        bytes
    }
}
