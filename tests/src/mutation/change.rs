//! The kinds of changes of a packet.
use super::json::Json;
use crate::liar::testimony::Testimony;

/// A changed part of a packet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Nothing.
    Nothing,
    /// A file was replaced.
    File(String, Vec<u8>),
    /// A file was removed.
    Missing(String),
    /// A JSON file has other content.
    Document(String, Json),
    /// The attestation has another statement.
    Statement(Json),
    /// The flow log has other rows.
    Rows(Vec<Json>),
    /// The mediator's evidence was changed.
    Testimony(Testimony),
    /// A name refers to another object than its file. The signature is that of the file.
    Disk(String, DiskOperator),
}

/// An object in place of a file of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskOperator {
    /// A symbolic link to the same bytes outside the packet.
    Link,
    /// A named pipe without a writer.
    Fifo,
    /// A directory.
    Directory,
    /// The file with a hole of many GiB at its end.
    Sparse,
}

impl DiskOperator {
    pub(super) const ALL: [Self; 4] = [Self::Link, Self::Fifo, Self::Directory, Self::Sparse];

    /// One word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Fifo => "fifo",
            Self::Directory => "directory",
            Self::Sparse => "sparse",
        }
    }
}
