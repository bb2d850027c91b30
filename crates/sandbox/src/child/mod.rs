//! The stage inside the boundary: it builds the agent's view, waits for the supervisor's word,
//! restricts itself and becomes the command. Single-threaded, no runtime, no logging.
pub mod enter;
pub mod exec;
pub mod protocol;
pub mod seccomp;
