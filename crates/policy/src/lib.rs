//! Turns a Pipelock YAML into the policy that the built-in mediator enforces. Pure.
//!
//! [`parse`] reads the document, [`model`] holds what it means, [`allow`] and [`ssrf`] answer the
//! two questions asked of every destination, and [`runtime`] makes the exact bytes of the packet's
//! `policy.yaml`; for a real Pipelock, whose keys are its own affair, [`pipelock`] does, and [`hide`] keeps its values out of what is said. Nothing here reads a file, a clock or the network, and no error repeats a value
//! of the document: it may be a file that was never meant to be a policy.
pub mod allow;
pub mod allowed;
#[cfg(feature = "yaml")]
pub mod document;
#[cfg(feature = "yaml")]
pub mod error;
#[cfg(feature = "yaml")]
pub mod hide;
pub mod host;
#[cfg(feature = "yaml")]
mod keys;
#[cfg(feature = "yaml")]
pub mod model;
#[cfg(feature = "yaml")]
pub mod notices;
#[cfg(feature = "yaml")]
pub mod opened;
#[cfg(feature = "yaml")]
pub mod parse;
#[cfg(feature = "yaml")]
pub mod pipelock;
pub mod redact;
#[cfg(feature = "yaml")]
pub mod runtime;
pub mod ssrf;

pub use allow::AllowList;
#[cfg(feature = "yaml")]
pub use error::PolicyError;
pub use host::Host;
#[cfg(feature = "yaml")]
pub use model::Policy;

#[cfg(all(test, feature = "yaml"))]
mod tests;
