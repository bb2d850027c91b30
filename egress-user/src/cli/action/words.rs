//! Inputs whose value must be one of a few words.
use anyhow::ensure;

/// Returns the value of an input that has a fixed set of values.
///
/// # Errors
/// Fails if the value is not in `accepted`.
pub(super) fn one_of(
    get: impl Fn(&str) -> String,
    name: &str,
    accepted: &[&str],
) -> anyhow::Result<String> {
    let value = get(name);
    ensure!(
        accepted.contains(&value.as_str()),
        "input {name} is {value:?}; use one of {}",
        accepted.join(", ")
    );
    Ok(value)
}
