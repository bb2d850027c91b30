//! The hooks. Each kind of hook on the command's cgroup has its own file. `relay` has the hooks on the relay's cgroup,
//! `dial` and `mediator` have those on the mediator's cgroup, and `caller` has one more on each of these two cgroups.
mod caller;
mod connect;
mod dial;
mod dns;
mod getpeername;
mod mediator;
mod relay;
mod sendmsg;
mod skb_egress;
mod sock_create;
mod sockops;
mod unix;
