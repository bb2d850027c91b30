//! Looks up a variable in an environment that was passed on as a list.
use std::ffi::{OsStr, OsString};

/// Returns the value of the first variable with this name.
pub(crate) fn variable<'e>(
    environment: &'e [(OsString, OsString)],
    name: &str,
) -> Option<&'e OsStr> {
    let found = environment.iter().find(|(other, _)| other == name);
    found.map(|(_, value)| value.as_os_str())
}
