//! Loads the embedded kernel programs and hands out typed maps and parsed events.
