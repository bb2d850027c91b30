//! Creates kernel objects as guards that remove themselves.
pub mod cgroup;
pub mod layers;
pub mod limits;
pub mod mountinfo;
pub mod shares;
pub mod sockets;
pub mod users;
pub mod view;
pub mod workspace;
