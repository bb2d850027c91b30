//! What boundary.json says of a kernel program.
use serde::Serialize;

/// One attached program, as boundary.json names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramIdentity {
    /// Name in the object.
    pub name: String,
    /// Id that the kernel gave it.
    pub id: u32,
    /// First 8 bytes of the SHA of its instructions, hex (`bpf_prog_info.tag`).
    pub tag: String,
    /// Number of the hook (`enum bpf_attach_type`).
    pub attach_type: u32,
}

/// A program that only newer kernels have a hook for, as boundary.json names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unavailable {
    /// Name in the object.
    pub name: String,
    /// Why it is not attached.
    pub why: String,
}
