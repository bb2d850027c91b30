//! The hooks, with one file for each kind.
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
