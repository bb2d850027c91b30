//! One file for each kind of hook.
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
