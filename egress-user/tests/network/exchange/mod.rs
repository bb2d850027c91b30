//! Runs the relay and the built-in mediator in this process, on loopback only. The tests compare three counts of the
//! same bytes: the count of the origin, the count in the relay's row, and the count in the receipt.
mod answered;
mod cut;
mod early;
mod origin;
mod rows;
