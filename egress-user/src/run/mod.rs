//! Owns the order of one run on the supervisor side.
