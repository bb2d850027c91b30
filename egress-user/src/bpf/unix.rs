//! Attaches the programs that record `AF_UNIX` addresses. The attach types of these programs exist since Linux 6.7. aya
//! can parse the programs but not load them, so this module makes the system calls itself.
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use audit_packet::format::boundary::{Program, Unavailable};
use aya_obj::Object;
use aya_obj::generated::bpf_attach_type::{BPF_CGROUP_UNIX_CONNECT, BPF_CGROUP_UNIX_SENDMSG};
use egress_sys::bpf;

/// Prefix of the names of these programs. The rest of the loader skips programs with this prefix.
pub(super) const PREFIX: &str = "agent_unix_";

/// The programs and their attach types.
const PROGRAMS: [(&str, u32); 2] = [
    ("agent_unix_connect", BPF_CGROUP_UNIX_CONNECT as u32),
    ("agent_unix_sendmsg", BPF_CGROUP_UNIX_SENDMSG as u32),
];

/// The attached programs, and those that this kernel does not support.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// Attached programs.
    pub(super) programs: Vec<Program>,
    /// Programs for which this kernel has no hook.
    pub(super) unavailable: Vec<Unavailable>,
    /// The links of the programs. Closing a link detaches its program.
    pub(super) links: Vec<OwnedFd>,
}

/// Loads the programs and attaches them to `cgroup`. `maps` are the existing maps of the same object.
///
/// # Errors
/// Fails if the kernel supports the attach type of a program but rejects the program. The error is the name of the
/// program, and the cause.
pub(super) fn attach(
    object: &[u8],
    maps: &HashMap<String, OwnedFd>,
    cgroup: BorrowedFd<'_>,
) -> Result<Witnesses, (String, io::Error)> {
    let object =
        relocated(object, maps).map_err(|text| (format!("{PREFIX}*"), io::Error::other(text)))?;
    let mut witnesses = Witnesses::default();
    for (name, attach_type) in PROGRAMS {
        let failed = |error| (name.to_owned(), error);
        let function = object
            .programs
            .get(name)
            .and_then(|program| object.functions.get(&program.function_key()))
            .ok_or_else(|| failed(io::Error::other("the object has no such program")))?;
        let license = object.license.as_c_str();
        match bpf::load_sock_addr(name, attach_type, &function.instructions, license) {
            Ok(program) => {
                witnesses
                    .links
                    .push(bpf::link(&program, &cgroup, attach_type).map_err(failed)?);
                witnesses
                    .programs
                    .push(identity(name, &program, attach_type).map_err(failed)?);
            }
            // The kernel returns this error for an unknown attach type.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                witnesses.unavailable.push(Unavailable {
                    name: name.into(),
                    why: "this kernel has no such hook; Linux 6.7 is the first with it".into(),
                });
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(witnesses)
}

/// Returns the object with the descriptors of its maps in the instructions.
fn relocated(object: &[u8], maps: &HashMap<String, OwnedFd>) -> Result<Object, String> {
    let mut object = Object::parse(object).map_err(|error| error.to_string())?;
    let sections = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let all = std::mem::take(&mut object.maps);
    let known = all.iter().filter_map(|(name, map)| {
        let fd = maps.get(name)?;
        Some((name.as_str(), fd.as_fd().as_raw_fd(), map))
    });
    object
        .relocate_maps(known, &sections)
        .map_err(|error| error.to_string())?;
    object
        .relocate_calls(&sections)
        .map_err(|error| error.to_string())?;
    Ok(object)
}

/// Returns the identity of a program, as the kernel reports it.
fn identity(name: &str, program: &OwnedFd, attach_type: u32) -> io::Result<Program> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map(str::trim).ok_or_else(|| {
            io::Error::other(format!("the kernel does not report {name} of a program"))
        })
    };
    Ok(Program {
        name: name.into(),
        id: field("prog_id:")?.parse().map_err(io::Error::other)?,
        tag: field("prog_tag:")?.into(),
        attach_type,
    })
}
