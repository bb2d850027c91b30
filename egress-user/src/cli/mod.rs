//! Reads what was typed, makes a checked plan, prints results and errors.

pub mod exit;
pub mod keygen;
pub mod verify;
