//! The stage inside the boundary. It builds the file view, waits for the supervisor's messages,
//! drops its privileges and becomes the command. It has a single thread, no async runtime and no
//! logging.
pub mod enter;
pub mod exec;
pub mod protocol;
pub mod seccomp;
