//! Lists the causes of an error, for error texts.
use std::error::Error;

/// Returns the causes of an error, the nearest first.
pub(crate) fn causes(error: &dyn Error) -> impl Iterator<Item = String> {
    std::iter::successors(error.source(), |cause| (*cause).source()).map(ToString::to_string)
}
