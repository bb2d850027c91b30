//! Creates kernel objects as guards that remove themselves.
pub mod cgroup;
pub mod child;
pub mod layers;
pub mod limits;
pub mod mountinfo;
pub mod probe;
pub mod shares;
pub mod sockets;
pub mod view;

#[cfg(test)]
#[path = "../../../egress-user/tests/support/mutate.rs"]
mod mutate;
