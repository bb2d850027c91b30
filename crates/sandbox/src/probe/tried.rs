//! What a piece of code that makes an attempt gives.
use std::io;

use super::model::Attempt;

/// An attempt that was made, or why it could not be: an error is a refusal.
pub(super) type Tried = io::Result<Attempt>;

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is the end of what gives a Tried"
)]
pub(super) fn reached(what: impl Into<String>) -> Tried {
    Ok(Attempt::Reached(what.into()))
}
