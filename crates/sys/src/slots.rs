//! Reads the slot arrays that the kernel programs write, through read-only mappings.
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use egress_common::abi::{SLOTS, Slot};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use zerocopy::FromBytes;

/// Number of 64-bit words in a slot.
const WORDS: usize = size_of::<Slot>() / size_of::<u64>();
/// Size of one mapped array, a multiple of the page size for pages up to 64 KiB.
const BYTES: NonZeroUsize = NonZeroUsize::new(SLOTS as usize * size_of::<Slot>()).unwrap();

/// One array of slots, mapped until the process ends.
#[derive(Debug)]
pub struct SlotArray {
    words: &'static [AtomicU64],
}

impl SlotArray {
    /// Maps the array behind the map descriptor `map`. The caller may close the descriptor
    /// afterwards.
    ///
    /// # Order
    /// Call this before privileges are dropped. The mapping is read-only.
    ///
    /// # Errors
    /// Returns the error of `mmap(2)`. The call fails if the map was created without
    /// `BPF_F_MMAPABLE` or is too small.
    pub fn map(map: &impl AsFd) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory, and
        // `map` is an open descriptor for the length of the call.
        let start = unsafe {
            mmap(
                None,
                BYTES,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED,
                map,
                0,
            )
        }?;
        let words: NonNull<AtomicU64> = start.cast();
        // SAFETY: the mapping is `BYTES` long, page-aligned, readable, initialized by the kernel, and never unmapped,
        // so it holds WORDS * SLOTS aligned words for 'static. The kernel changes the words while they are mapped,
        // which atomics allow. The pages are read-only: std allows only relaxed loads of at most a word from read-only
        // memory (`std::sync::atomic`, "Atomic accesses to read-only memory"), and `words_of` makes only relaxed loads
        // of a word. A BPF array never changes its size, so no page behind the mapping is removed.
        let words = unsafe { std::slice::from_raw_parts(words.as_ptr(), BYTES.get() / 8) };
        Ok(Self { words })
    }

    /// Reads the slot of a local port, and avoids mixing two writes of the kernel.
    ///
    /// The kernel writes a slot before the SYN is sent, so the slot is stable when the connection is accepted. If the
    /// port is already in use again, two reads may differ, and the slot is read again, up to eight times.
    pub fn read(&self, port: u16) -> Slot {
        let mut last = self.words_of(port);
        for _ in 0..8 {
            let again = self.words_of(port);
            if again == last {
                break;
            }
            last = again;
        }
        let mut bytes = [0; size_of::<Slot>()];
        for (to, word) in bytes.chunks_exact_mut(8).zip(last) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        Slot::read_from_bytes(&bytes).unwrap_or(EMPTY)
    }

    fn words_of(&self, port: u16) -> [u64; WORDS] {
        let start = usize::from(port) * WORDS;
        let mut words = [0; WORDS];
        let slot = self.words.get(start..start + WORDS).unwrap_or_default();
        for (to, word) in words.iter_mut().zip(slot) {
            *to = word.load(Ordering::Relaxed);
        }
        // These loads must complete before the loads of the next read.
        fence(Ordering::Acquire);
        words
    }
}

/// A slot that was never written.
pub const EMPTY: Slot = Slot {
    cookie: 0,
    connect_ns: 0,
    addr: [0; 2],
    port: 0,
    kind: egress_common::abi::SLOT_EMPTY,
    pid: 0,
    reserved: 0,
};

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn a_slot_is_read_at_its_port() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(BYTES.get() as u64).unwrap();
        let array = SlotArray::map(&file).unwrap();
        let slot = Slot {
            cookie: 7,
            connect_ns: 9,
            port: 443,
            kind: 1,
            ..EMPTY
        };
        for port in [0_u16, 40_000, 65_535] {
            assert_eq!(array.read(port), EMPTY);
            file.seek(SeekFrom::Start(u64::from(port) * 48)).unwrap();
            file.write_all(slot.as_bytes()).unwrap();
            assert_eq!(array.read(port), slot);
        }
    }
}
