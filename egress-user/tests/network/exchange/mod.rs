//! Runs the relay and the built-in mediator in this process, on loopback only. The tests compare three counts of the
//! same bytes: the origin's, the one in the relay's row, and the one in the receipt.
mod answered;
mod cut;
mod early;
mod origin;
mod rows;
