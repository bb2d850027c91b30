//! Builds the boundary around the command: the file view, cgroups, limits, system call filters and
//! probes. Each kernel object has a guard that removes the object when it is dropped.
pub mod cgroup;
pub mod child;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
pub mod layers;
pub mod limits;
pub mod mountinfo;
pub mod probe;
pub mod shares;
pub mod sockets;
pub mod view;
