//! Turns a Pipelock YAML document into the policy that the built-in mediator enforces.
//!
//! [`parse`] reads the document and [`model`] holds the result. [`allow`] and [`ssrf`] decide
//! whether a destination and its resolved addresses may be reached. [`runtime`] builds the exact
//! bytes of the packet's `policy.yaml` for the built-in mediator. [`pipelock`] builds these bytes
//! for a real Pipelock, which interprets its own keys. [`redact`] writes targets of requests without secrets, and
//! [`patterns`] finds the secrets that the policy of a Pipelock describes. [`hide`] removes a document's values from
//! messages.
//!
//! This crate does not read files, clocks, or the network. The caller's file may hold secrets and may not be
//! meant as a policy, so an error repeats a value only if its key belongs to the policy language.
#[cfg(feature = "yaml")]
mod advice;
pub mod allow;
pub mod allowed;
#[cfg(feature = "yaml")]
mod brackets;
#[cfg(feature = "yaml")]
pub mod check;
pub mod configuration;
#[cfg(feature = "yaml")]
pub mod document;
#[cfg(feature = "yaml")]
pub mod error;
pub mod git_zone;
#[cfg(feature = "yaml")]
pub mod hide;
pub mod host;
#[cfg(feature = "yaml")]
mod keys;
#[cfg(feature = "yaml")]
mod layout;
#[cfg(feature = "yaml")]
pub mod model;
pub mod natural;
#[cfg(feature = "yaml")]
pub mod notices;
pub mod opened;
#[cfg(feature = "yaml")]
pub mod parse;
pub mod path_text;
#[cfg(feature = "patterns")]
pub mod patterns;
#[cfg(feature = "yaml")]
pub mod pipelock;
pub mod redact;
#[cfg(feature = "yaml")]
pub mod runtime;
#[cfg(feature = "schema")]
pub mod schema;
mod secrets;
pub mod ssrf;

pub use allow::AllowList;
#[cfg(feature = "yaml")]
pub use error::PolicyError;
pub use host::Host;
#[cfg(feature = "yaml")]
pub use model::Policy;

#[cfg(all(test, feature = "yaml"))]
mod tests;
