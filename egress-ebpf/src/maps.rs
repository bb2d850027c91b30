//! The maps, and the two ways in which programs write records.
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_RB_NO_WAKEUP};
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, RingBuf, SkStorage};
use aya_ebpf::macros::btf_map;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use egress_common::abi::{
    ABI_VERSION, Config, Counter, Event, Opened, SLOTS, Slot, Traffic, UnixEvent,
};

use crate::counters::count;
use crate::error::Error;
use crate::read::{fill, settings};

/// Where each socket of the agent was last sent; goes away with the socket.
#[btf_map]
pub static STORAGE: SkStorage<Slot> = SkStorage::new();

/// When each socket of the mediator was connected; goes away with the socket.
#[btf_map]
pub static OPENED: SkStorage<Opened> = SkStorage::new();

/// Original destinations by local port, IPv4 on the wire; the relay maps it read-only.
#[btf_map]
pub static SLOTS_V4: Array<Slot, { SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The same, IPv6 on the wire.
#[btf_map]
pub static SLOTS_V6: Array<Slot, { SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Connections to the explicit proxy port, which listens on IPv4 alone. They have an array of their own because
/// a connection to the transparent port can have the same local port at the same time.
#[btf_map]
pub static SLOTS_PROXY: Array<Slot, { SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// 1 at each local port from which the mediator may be called, by host loopback.
#[btf_map]
pub static CALLERS: Array<u32, { SLOTS as usize }> = Array::new();

/// Addresses that the mediator may reach because the policy lists them.
#[btf_map]
pub static LISTED: LpmTrie<[u32; 4], u32, { 1 << 16 }> = LpmTrie::new();

/// Addresses of the machine.
#[btf_map]
pub static OWN: LpmTrie<[u32; 4], u32, { 1 << 16 }> = LpmTrie::new();

/// 1 at each port that the mediator may connect to.
#[btf_map]
pub static PORTS: Array<u32, { SLOTS as usize }> = Array::new();

/// Name servers of the machine.
#[btf_map]
pub static NAME_SERVERS: HashMap<[u64; 2], u32, 256> = HashMap::new();

/// Attempts, for the supervisor.
#[btf_map]
static EVENTS: RingBuf<Event, { 1 << 20 }> = RingBuf::new();

/// Records with texts in them, apart from the attempts: neither can crowd out the other.
#[btf_map]
static TEXTS: RingBuf<UnixEvent, { 1 << 18 }> = RingBuf::new();

/// What sockets carried, apart from the attempts and the texts for the same reason.
#[btf_map]
static TRAFFIC: RingBuf<Traffic, { 1 << 20 }> = RingBuf::new();

/// The settings.
#[inline(always)]
pub fn config() -> Result<Config, Error> {
    let config = settings();
    if config.abi_version == ABI_VERSION {
        Ok(config)
    } else {
        Err(Error::Config)
    }
}

/// Writes one event without waking the reader, which looks every few milliseconds; a full buffer
/// is counted, and makes the run's record incomplete.
#[inline(always)]
pub fn emit(event: &Event) {
    match EVENTS.reserve(0) {
        Some(mut entry) => {
            fill(&mut entry, event);
            entry.submit(u64::from(BPF_RB_NO_WAKEUP));
        }
        None => count(Counter::RingFull),
    }
}

/// Writes what one socket carried, under the same terms as [`emit`].
#[inline(always)]
pub fn report(traffic: &Traffic) {
    match TRAFFIC.reserve(0) {
        Some(mut entry) => {
            fill(&mut entry, traffic);
            entry.submit(u64::from(BPF_RB_NO_WAKEUP));
        }
        None => count(Counter::RingFull),
    }
}

/// Room for one record of a text, not yet filled; a full buffer is counted like that of the events.
/// Whoever asks submits it on every way out, which the kernel's verifier insists on.
#[inline(always)]
pub fn text<T: 'static>() -> Option<RingBufEntry<T>> {
    let entry = TEXTS.reserve_untyped::<T>(0);
    if entry.is_none() {
        count(Counter::RingFull);
    }
    entry
}
