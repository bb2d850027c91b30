//! Runs the relay and the built-in mediator in this process, on loopback only, and compares three counts of the same
//! bytes: what the origin received, what the relay's row holds, and what the receipt holds.
mod answered;
mod cut;
mod early;
mod origin;
mod rows;
