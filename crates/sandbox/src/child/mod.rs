//! The processes inside the boundary. Init builds the file view and waits for the supervisor's messages. A child of
//! init drops its privileges and becomes the command. Init and this child run on a single thread, without an async
//! runtime or logging.
pub mod enter;
pub mod exec;
pub mod protocol;
pub mod refused;
pub mod seccomp;
