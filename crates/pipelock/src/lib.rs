//! A real Pipelock, unmodified, as the mediator: started, found ready, watched and stopped.
//!
//! [`binary`] copies what is executed, [`ports`] keeps its ports, [`exec`] is the process that
//! becomes it, [`config`] and `resolver` write what it reads, [`start`] finds out that it is ready, [`end`] stops
//! it when its receipts are written, [`facts`] is what there is to say of it then.
pub mod binary;
pub mod config;
pub mod digest;
pub mod end;
pub mod error;
pub mod evidence;
pub mod exec;
pub mod facts;
pub mod http;
mod log;
pub mod ports;
mod resolver;
pub mod start;

pub use config::Authority;
pub use end::LetThrough;
pub use error::PipelockError;
pub use exec::main;
pub use start::Pipelock;
