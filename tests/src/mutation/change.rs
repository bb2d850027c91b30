//! What a change of a packet can be.
use super::json::Json;
use crate::liar::testimony::Testimony;

/// A changed part of a packet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Nothing.
    Nothing,
    /// A file is another one.
    File(String, Vec<u8>),
    /// A file is gone.
    Missing(String),
    /// A JSON file has other content.
    Document(String, Json),
    /// The attestation states something else.
    Statement(Json),
    /// The flow log has other rows.
    Rows(Vec<Json>),
    /// The mediator testifies something else.
    Testimony(Testimony),
    /// A name stands for something else than its file; what is signed is what was there before.
    Disk(String, DiskOperator),
}

/// What a name of the packet may stand for instead of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskOperator {
    /// A symbolic link to the same bytes, outside of the packet.
    Link,
    /// A named pipe that nobody writes to.
    Fifo,
    /// A directory.
    Directory,
    /// The file with a hole of many GiB behind it.
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
