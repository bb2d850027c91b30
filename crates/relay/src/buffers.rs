//! Lends copy buffers to the tunnels. Large buffers are allocated only while the total size of all buffers stays within
//! a bound.
use std::sync::{Mutex, PoisonError};

/// Size of the buffer that a tunnel can always borrow.
pub(super) const SMALL: usize = 8 * 1024;
/// Size of the buffer that a busy tunnel borrows if the bound allows it.
pub(super) const LARGE: usize = 256 * 1024;

/// Maximum numbers of free buffers that are kept for reuse, because allocating a large buffer costs
/// page faults.
const KEPT_SMALL: usize = 128;
const KEPT_LARGE: usize = 16;

/// The buffers of all tunnels.
#[derive(Debug)]
pub(super) struct Buffers {
    inner: Mutex<Inner>,
    bound: usize,
}

#[derive(Debug, Default)]
struct Inner {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    /// Total bytes of all buffers, lent and kept.
    total: usize,
}

impl Buffers {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            inner: Mutex::default(),
            bound,
        }
    }

    /// Lends a large buffer if `large` is set and a large buffer is free or the bound allows another one. Otherwise
    /// lends a small buffer.
    pub(super) fn lend(&self, large: bool) -> Box<[u8]> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if large {
            if let Some(buffer) = inner.large.pop() {
                return buffer;
            }
            if inner.total + LARGE <= self.bound {
                inner.total += LARGE;
                return vec![0; LARGE].into_boxed_slice();
            }
        }
        if let Some(buffer) = inner.small.pop() {
            return buffer;
        }
        inner.total += SMALL;
        vec![0; SMALL].into_boxed_slice()
    }

    /// Keeps a returned buffer for later use, or frees the buffer if enough free buffers are kept.
    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() == LARGE && inner.large.len() < KEPT_LARGE {
            inner.large.push(buffer);
        } else if buffer.len() == SMALL && inner.small.len() < KEPT_SMALL {
            inner.small.push(buffer);
        } else {
            inner.total = inner.total.saturating_sub(buffer.len());
        }
    }

    /// Bytes of all buffers, lent and kept.
    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        self.inner.lock().unwrap().total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_stop_at_the_bound_and_small_ones_do_not() {
        let buffers = Buffers::new(2 * LARGE);
        let lent: Vec<_> = (0..3).map(|_| buffers.lend(true)).collect();
        assert_eq!(
            lent.iter().map(|b| b.len()).collect::<Vec<_>>(),
            [LARGE, LARGE, SMALL]
        );
        for buffer in lent {
            buffers.give_back(buffer);
        }
        assert_eq!(buffers.lend(true).len(), LARGE);
        assert_eq!(buffers.total(), 2 * LARGE + SMALL);
    }
}
