//! Puts the evidence of a run into one Audit Packet and reads it back; every length is bounded.
