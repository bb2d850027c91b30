//! Runs the relay and the built-in mediator in this process, on loopback only, and compares three counts of the same
//! bytes: those of the origin, of the relay's row, and of the receipt.
mod answered;
mod cut;
mod early;
mod origin;
mod rows;
