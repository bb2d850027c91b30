//! The process: plan, privileges, control socket.
