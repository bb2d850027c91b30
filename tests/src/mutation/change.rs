//! The ways to change a packet.
use super::json::Json;
use crate::liar::testimony::Testimony;

/// A changed part of a packet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Nothing was changed.
    Nothing,
    /// A file was replaced.
    File(String, Vec<u8>),
    /// A file was removed.
    Missing(String),
    /// The content of a JSON file was replaced.
    Document(String, Json),
    /// The statement in the attestation was replaced.
    Statement(Json),
    /// The rows of the flow log were replaced.
    Rows(Vec<Json>),
    /// The mediator's evidence was changed.
    Testimony(Testimony),
    /// The directory contains another object in place of the file with this name. The signature still covers the file.
    Disk(String, DiskOperator),
}

/// An object on the disk in place of a file of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskOperator {
    /// A symbolic link to the same bytes outside the packet.
    Link,
    /// A named pipe without a writer.
    Fifo,
    /// A directory.
    Directory,
    /// The file with a hole of 600 MiB at its end.
    Sparse,
}

impl DiskOperator {
    pub(super) const ALL: [Self; 4] = [Self::Link, Self::Fifo, Self::Directory, Self::Sparse];

    /// Returns the operator's name, which is one word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Fifo => "fifo",
            Self::Directory => "directory",
            Self::Sparse => "sparse",
        }
    }
}
