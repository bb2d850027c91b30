//! The maps, and the functions that write records.
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, RingBuf, SkStorage};
use aya_ebpf::macros::btf_map;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use egress_common::abi::{
    ABI_VERSION, Config, Counter, Event, Opened, SLOTS, Slot, Traffic, UnixEvent,
};

use crate::counters::count;
use crate::error::Error;
use crate::read::{fill, settings};

/// Flags with which a record is submitted or discarded: the kernel wakes the supervisor only if the supervisor has read
/// every earlier record of the same buffer.
pub const WAKE_IF_IDLE: u64 = 0;

/// The last destination of each socket of the command. The kernel frees an entry with its socket.
#[btf_map]
pub static STORAGE: SkStorage<Slot> = SkStorage::new();

/// The connect time of each socket of the mediator. The kernel frees an entry with its socket.
#[btf_map]
pub static OPENED: SkStorage<Opened> = SkStorage::new();

/// Original destinations by local port, for connections that are IPv4 on the wire. The relay maps the array read-only.
#[btf_map]
pub static SLOTS_V4: Array<Slot, { SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Original destinations by local port, for connections that are IPv6 on the wire.
#[btf_map]
pub static SLOTS_V6: Array<Slot, { SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Connections to the explicit proxy port by local port. The proxy listens only on IPv4. The array is separate, because
/// a connection to the transparent port can have the same local port at the same time.
#[btf_map]
pub static SLOTS_PROXY: Array<Slot, { SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// 1 for each local port on the host's loopback from which a connection to the mediator is admitted.
#[btf_map]
pub static CALLERS: Array<u32, { SLOTS as usize }> = Array::new();

/// Addresses that the mediator may reach because the policy lists them.
#[btf_map]
pub static LISTED: LpmTrie<[u32; 4], u32, { 1 << 16 }> = LpmTrie::new();

/// Addresses of the machine.
#[btf_map]
pub static OWN: LpmTrie<[u32; 4], u32, { 1 << 16 }> = LpmTrie::new();

/// 1 for each port that the mediator may connect to.
#[btf_map]
pub static PORTS: Array<u32, { SLOTS as usize }> = Array::new();

/// Name servers of the machine.
#[btf_map]
pub static NAME_SERVERS: HashMap<[u64; 2], u32, 256> = HashMap::new();

/// Ring buffer of attempts.
#[btf_map]
static EVENTS: RingBuf<Event, { 1 << 20 }> = RingBuf::new();

/// Ring buffer of records with text. The buffer is separate, so that one kind of record cannot fill
/// the buffer of another kind.
#[btf_map]
static TEXTS: RingBuf<UnixEvent, { 1 << 18 }> = RingBuf::new();

/// Ring buffer of traffic records. The buffer is separate, so that other records cannot fill it.
#[btf_map]
static TRAFFIC: RingBuf<Traffic, { 1 << 20 }> = RingBuf::new();

/// Returns the settings, or an error if a loader of another version filled them.
#[inline(always)]
pub fn config() -> Result<Config, Error> {
    let config = settings();
    if config.abi_version == ABI_VERSION {
        Ok(config)
    } else {
        Err(Error::Config)
    }
}

/// Writes one event. A lost event is counted and makes the evidence of the run incomplete.
#[inline(always)]
pub fn emit(event: &Event) {
    match EVENTS.reserve(0) {
        Some(mut entry) => {
            fill(&mut entry, event);
            entry.submit(WAKE_IF_IDLE);
        }
        None => count(Counter::RingFull),
    }
}

/// Writes one traffic record, in the same way as [`emit`].
#[inline(always)]
pub fn report(traffic: &Traffic) {
    match TRAFFIC.reserve(0) {
        Some(mut entry) => {
            fill(&mut entry, traffic);
            entry.submit(WAKE_IF_IDLE);
        }
        None => count(Counter::RingFull),
    }
}

/// Reserves an uninitialized record in the ring buffer of texts. A full buffer is counted as in
/// [`emit`]. The caller must submit or discard the record on every path. The kernel's verifier
/// enforces this.
#[inline(always)]
pub fn text<T: 'static>() -> Option<RingBufEntry<T>> {
    let entry = TEXTS.reserve_untyped::<T>(0);
    if entry.is_none() {
        count(Counter::RingFull);
    }
    entry
}
