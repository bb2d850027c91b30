//! Builds the boundary around the command: the file view, cgroups, limits, and system call filters. Also runs the
//! probes that test the boundary.
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
