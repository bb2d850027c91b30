//! Loads the embedded kernel programs, attaches them to the run's cgroups, and returns parsed records, counters, and
//! the slot arrays. Only this module uses aya.
mod error;
pub mod events;
pub mod gate;
pub mod links;
pub mod traffic;
mod unix;

pub use error::{BpfError, MalformedEvent};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use audit_packet::format::boundary;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use egress_common::abi::{Config, Counter};
use egress_sandbox::cgroup::RunCgroups;
use egress_sandbox::layers::{Layer, Layers};
use events::Events;
use gate::MediatorGate;
use links::Link;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use unix::Witnesses;

/// The object that `cargo xtask build` builds. The object is empty if a plain `cargo build` finds no current object.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/egress.bpf.o"));

/// The same programs with diagnostics, for `egress run --debug`.
static DEBUG_OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/egress.bpf.debug.o"));

/// The program that copies answers from name servers. This program is attached only in audit mode.
const AUDIT_ONLY: &str = "agent_skb_ingress";

/// Receives the diagnostics of the kernel programs.
#[derive(Clone, Copy)]
pub struct Diagnostics(pub &'static dyn log::Log);

impl std::fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Diagnostics")
    }
}

/// The source ports from which the kernel program on the mediator's cgroup accepts connections.
pub struct Callers(Array<MapData, u32>);

impl std::fmt::Debug for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callers")
    }
}

impl Callers {
    /// Allows or denies connections from this port of loopback.
    ///
    /// # Errors
    /// Fails if the kernel rejects the change.
    pub fn note(&mut self, port: u16, may_call: bool) -> io::Result<()> {
        let noted = self.0.set(port.into(), u32::from(may_call), 0);
        noted.map_err(io::Error::other)
    }
}

/// The kernel programs of one run. Dropping the value detaches the programs. Without the programs, no connection leaves
/// the command's network namespace.
pub struct Gates {
    layers: Layers,
    ebpf: Ebpf,
    programs: Vec<boundary::Program>,
    unavailable: Vec<boundary::Unavailable>,
    links: Vec<Link>,
    _held: Vec<OwnedFd>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
}

/// Returns the SHA-256 of the embedded object that a run uses, lowercase hex.
pub fn object_sha256(with_diagnostics: bool) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(if with_diagnostics {
        DEBUG_OBJECT
    } else {
        OBJECT
    }))
}

impl std::fmt::Debug for Gates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gates")
            .field("programs", &self.programs)
            .finish_non_exhaustive()
    }
}

impl Gates {
    /// Checks that every program is still attached where it was at the start. Root can detach a link.
    ///
    /// # Errors
    /// Fails if links are missing, or this process's descriptors cannot be read.
    pub fn check_links(&self) -> io::Result<()> {
        if let Some(warning) = self.layers.warning() {
            return Err(io::Error::other(warning));
        }
        let attached = self.attached()?.len();
        if attached < self.programs.len() {
            return Err(io::Error::other(format!(
                "{attached} of {} kernel programs are still attached",
                self.programs.len()
            )));
        }
        Ok(())
    }

    /// Returns the links that are attached now, as the kernel reports them.
    ///
    /// # Errors
    /// Fails if this process's descriptors cannot be read.
    pub fn attached(&self) -> io::Result<Vec<Link>> {
        let mut links = links::held()?;
        links.retain(|link| {
            let is_ours = |program: &boundary::Program| program.id == link.program_id;
            link.cgroup_id != 0 && self.programs.iter().any(is_ours)
        });
        Ok(links)
    }

    /// Loads every program and attaches it to the cgroup that its name begins with (agent, relay, mediator). Each
    /// program has its own link, and dropping this value closes the links.
    ///
    /// # Order
    /// Call this before the mediator starts and before any code of the command runs.
    ///
    /// # Errors
    /// Fails if one of the programs cannot be loaded or attached. A run needs all programs that its kernel has hooks
    /// for.
    pub fn attach(
        config: Config,
        cgroups: &RunCgroups,
        layers: Layers,
        diagnostics: Option<Diagnostics>,
    ) -> Result<Self, BpfError> {
        let object = if diagnostics.is_some() {
            DEBUG_OBJECT
        } else {
            OBJECT
        };
        if object.is_empty() {
            return Err(BpfError::NotEmbedded);
        }
        let mut ebpf = loader()
            .map_err(BpfError::Limit)?
            .btf(None)
            .override_global("CONFIG", &config, true)
            .load(object)
            .map_err(BpfError::Load)?;
        let Witnesses {
            programs,
            unavailable,
            links,
        } = if layers.has(Layer::Ebpf) {
            attach_all(&mut ebpf, object, cgroups, config.audit != 0)?
        } else {
            Witnesses::default()
        };
        let logger = diagnostics
            .map(|Diagnostics(to)| EbpfLogger::init_with_logger(&mut ebpf, to))
            .transpose()
            .map_err(BpfError::Diagnostics)?;
        let mut gates = Self {
            ebpf,
            layers,
            programs,
            unavailable,
            links: Vec::new(),
            _held: links,
            logger,
        };
        gates.find_links().map_err(BpfError::Links)?;
        Ok(gates)
    }

    /// Finds out where the kernel has attached each program.
    fn find_links(&mut self) -> io::Result<()> {
        self.links = self.attached()?;
        for program in &mut self.programs {
            let is_of = |link: &&Link| link.program_id == program.id;
            let link = self.links.iter().find(is_of).ok_or_else(|| {
                io::Error::other(format!("program {} is not attached", program.name))
            })?;
            program.attach_type = link.attach_type;
        }
        Ok(())
    }

    /// Returns where the programs were attached at the start.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Passes the diagnostics that were written since the last call on to the logger.
    pub fn flush_diagnostics(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Returns the map with the loopback ports from which the mediator accepts connections.
    ///
    /// # Errors
    /// Fails if the object has no such map, or its descriptor cannot be duplicated.
    pub fn callers(&self) -> Result<Callers, BpfError> {
        let name = "CALLERS";
        let callers = Array::try_from(self.map_twice(name)?);
        callers.map(Callers).map_err(BpfError::map(name))
    }

    /// Returns the tables of the kernel programs that judge the mediator's own sockets.
    ///
    /// # Errors
    /// Fails if the object lacks one of the maps, or a map cannot be duplicated or written.
    pub fn mediator_gate(&self) -> Result<MediatorGate, BpfError> {
        MediatorGate::of(|name| self.map_twice(name))
    }

    /// Returns a second handle to a map, with its own descriptor.
    fn map_twice(&self, name: &'static str) -> Result<Map, BpfError> {
        let failed = BpfError::map(name);
        let (data, shape): (_, fn(MapData) -> Map) = match self.ebpf.map(name) {
            Some(Map::Array(data)) => (data, Map::Array),
            Some(Map::LpmTrie(data)) => (data, Map::LpmTrie),
            Some(Map::HashMap(data)) => (data, Map::HashMap),
            _ => return Err(BpfError::Map { name, source: None }),
        };
        let fd = data.fd().as_fd().try_clone_to_owned();
        let fd = fd.map_err(|error| failed(MapError::IoError(error)))?;
        MapData::from_fd(fd).map(shape).map_err(failed)
    }

    /// Returns the attached programs, sorted by name.
    pub fn programs(&self) -> &[boundary::Program] {
        &self.programs
    }

    /// Returns the programs that this kernel has no hook for.
    pub fn unavailable(&self) -> &[boundary::Unavailable] {
        &self.unavailable
    }

    /// Returns the descriptor of a slot array.
    ///
    /// # Errors
    /// Fails if the object has no such map.
    pub fn slots_fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, BpfError> {
        match self.ebpf.map(name) {
            Some(Map::Array(data)) => Ok(data.fd().as_fd()),
            _ => Err(BpfError::Map { name, source: None }),
        }
    }

    /// Returns the read ends of the ring buffers. Only the first call succeeds.
    ///
    /// # Errors
    /// Fails if the object lacks one of the maps, or a map cannot be mapped into memory.
    pub fn take_events(&mut self) -> Result<Events, BpfError> {
        Ok(Events::new(
            self.take_ring("EVENTS")?,
            self.take_ring("TEXTS")?,
            self.take_ring("TRAFFIC")?,
        ))
    }

    fn take_ring(&mut self, name: &'static str) -> Result<RingBuf<MapData>, BpfError> {
        let map = self
            .ebpf
            .take_map(name)
            .ok_or(BpfError::Map { name, source: None })?;
        RingBuf::try_from(map).map_err(BpfError::map(name))
    }

    /// Returns one counter, summed over all CPUs.
    ///
    /// # Errors
    /// Fails if the counter cannot be read.
    pub fn counter(&self, counter: Counter) -> Result<u64, BpfError> {
        let name = "COUNTERS";
        let map = self
            .ebpf
            .map(name)
            .ok_or(BpfError::Map { name, source: None })?;
        let failed = BpfError::map(name);
        let counters = PerCpuArray::<_, u64>::try_from(map).map_err(failed)?;
        let values = counters.get(&(counter as u32), 0).map_err(failed)?;
        Ok(values.iter().sum())
    }
}

/// Creates a loader without the kernel's BTF.
///
/// `EbpfLoader::new` always parses the BTF, which takes 12 ms, longer than everything else in this module, and no
/// program here needs CO-RE. `RLIMIT_NOFILE` is therefore 0 for that one call, so that opening the file fails.
fn loader<'a>() -> Result<EbpfLoader<'a>, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard)?;
    let loader = EbpfLoader::new();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    Ok(loader)
}

/// Loads and attaches all programs in three threads. The kernel then verifies the programs in parallel. This saves
/// time, because a run waits longer for the verification than for anything else. The threads have ended when this
/// function returns, so this process has one thread again.
fn attach_all(
    ebpf: &mut Ebpf,
    object: &[u8],
    cgroups: &RunCgroups,
    is_audit: bool,
) -> Result<Witnesses, BpfError> {
    let maps = map_fds(ebpf).map_err(|source| BpfError::Witness {
        name: format!("{}*", unix::PREFIX),
        source,
    })?;
    let mut all: Vec<(&str, &mut Program)> = ebpf
        .programs_mut()
        .filter(|(name, _)| !name.starts_with(unix::PREFIX) && (is_audit || *name != AUDIT_ONLY))
        .collect();
    // Programs whose names differ only in the last digit take about the same time, so taking every second program in
    // the order of names gives about equal halves.
    all.sort_by_key(|(name, _)| *name);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for (number, program) in all.into_iter().enumerate() {
        if number % 2 == 0 {
            one.push(program);
        } else {
            other.push(program);
        }
    }
    let attach_these = |programs: Vec<(&str, &mut Program)>| -> Result<Vec<_>, BpfError> {
        programs
            .into_iter()
            .map(|(name, program)| {
                let cgroup = match name.split('_').next() {
                    Some("relay") => &cgroups.relay,
                    Some("mediator") => &cgroups.mediator,
                    _ => &cgroups.agent,
                };
                attach(name, program, cgroup).map_err(|source| BpfError::Program {
                    name: name.to_owned(),
                    source,
                })
            })
            .collect()
    };
    let (one, other, witnesses) = std::thread::scope(|scope| {
        let second = scope.spawn(|| attach_these(other));
        let third = scope.spawn(|| unix::attach(object, &maps, cgroups.agent.as_fd()));
        (attach_these(one), second.join(), third.join())
    });
    let mut all = witnesses
        .map_err(|_panic| BpfError::Panicked)?
        .map_err(|(name, source)| BpfError::Witness { name, source })?;
    all.programs.extend(one?);
    all.programs
        .extend(other.unwrap_or(Err(BpfError::Panicked))?);
    all.programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Returns the descriptors of the maps by name. Leaves out map types that no program uses. A program that used such a
/// map would not load.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "aya has dozens of map types, and the object contains only these"
)]
fn map_fds(ebpf: &Ebpf) -> Result<HashMap<String, OwnedFd>, io::Error> {
    ebpf.maps()
        .filter_map(|(name, map)| match map {
            Map::Array(data)
            | Map::HashMap(data)
            | Map::LpmTrie(data)
            | Map::PerCpuArray(data)
            | Map::RingBuf(data)
            | Map::SkStorage(data) => Some((name, data.fd())),
            _ => None,
        })
        .map(|(name, fd)| Ok((name.to_owned(), fd.as_fd().try_clone_to_owned()?)))
        .collect()
}

/// Loads a program and attaches it to the cgroup. The name of a program on packets decides its direction.
///
/// # Errors
/// Fails if the kernel rejects the program or the link, or if the program has a type that this function does not
/// handle.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "aya has dozens of program types, and the object contains only these four"
)]
pub fn attach(
    name: &str,
    program: &mut Program,
    cgroup: &impl AsFd,
) -> Result<boundary::Program, ProgramError> {
    // A link never replaces programs that others attached. The kernel rejects the flags of `BPF_PROG_ATTACH` for links:
    // https://github.com/torvalds/linux/blob/v6.1/kernel/bpf/cgroup.c#L1372
    let mode = CgroupAttachMode::Single;
    let info = match program {
        Program::CgroupSockAddr(program) => {
            program.load()?;
            program.attach(cgroup, mode)?;
            program.info()?
        }
        Program::CgroupSock(program) => {
            program.load()?;
            program.attach(cgroup, mode)?;
            program.info()?
        }
        Program::CgroupSkb(program) => {
            program.load()?;
            let direction = if name.ends_with("_ingress") {
                CgroupSkbAttachType::Ingress
            } else {
                CgroupSkbAttachType::Egress
            };
            program.attach(cgroup, direction, mode)?;
            program.info()?
        }
        Program::SockOps(program) => {
            program.load()?;
            program.attach(cgroup, mode)?;
            program.info()?
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    Ok(boundary::Program {
        name: name.into(),
        id: info.id(),
        tag: format!("{:016x}", info.tag()).into(),
        attach_type: 0,
    })
}
