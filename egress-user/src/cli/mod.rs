//! Reads what was typed, makes a checked plan, prints results and errors.
