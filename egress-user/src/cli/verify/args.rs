//! The command line of `egress verify`.
use std::path::PathBuf;
use std::time::Duration;

use audit_packet::grade::Grade;
use audit_packet::identity;

/// Exit statuses, for `--help`.
const HELP: &str = "\
Grades of the boundary:
  kernel_enforced  pinned keys vouch for it: every probe was refused, the receipts sign the posture
                   capsule, and the kernel programs and filters were in place until the agent was gone
  unpinned         the same, but a key that nobody pinned vouches for it
  kernel_observed  something of it is missing; it is named
  unproven         nobody signed what the packet says of it, or it contradicts itself
  none             the packet says nothing of a boundary

Findings:
  Each has the identifier of its rule in brackets. docs/rules.md of the egress repository explains them all.

Exit status:
  0  valid                                    1  invalid, nothing there, or no key was pinned
  2  cannot be read                           3  valid as far as it goes, end not proven
  64 what was typed is wrong";

/// Arguments of `egress verify`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = HELP)]
pub struct VerifyArgs {
    /// Packet directory, packet.json, evidence file, directory of evidence files, or one receipt
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Public key that must have signed: 64 hex digits, key text, or a file with either
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// Public key that must have signed what the boundary says of itself, in the same forms
    #[arg(long = "boundary-key", value_name = "KEY")]
    pub boundary_keys: Vec<String>,
    /// Exit with 1 unless the boundary has at least this grade
    #[arg(long, value_name = "GRADE")]
    pub require_grade: Option<Grade>,
    /// Require this of the run that the packet is of: `repository`, `commit`, `ref`, `workflow`, `job`, `run_id`,
    /// `run_attempt`, `runner`, `runner_image`, `provider`, or what `egress run --bind` named; repeatable
    #[arg(long = "expect", value_name = "KEY=VALUE", value_parser = identity::pair)]
    pub expect: Vec<(String, String)>,
    /// Require the nonce that `egress run --nonce` was given
    #[arg(long, value_name = "HEX", value_parser = identity::nonce)]
    pub nonce: Option<String>,
    /// Reject a packet older than this, or from the future: a number and `s`, `m`, `h`, or `d`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_age: Option<Duration>,
    /// Require a time stamp over the attestation by an authority of this PEM file, which holds its root or its own
    /// certificate; `--max-age` then counts from the time stamp; repeatable
    #[arg(long = "timestamp-ca", value_name = "FILE")]
    pub timestamp_ca: Vec<PathBuf>,
    /// Accept evidence that only agrees with itself, without a pinned key
    #[arg(long)]
    pub allow_unpinned: bool,
    /// Accept evidence whose end is not proven
    #[arg(long)]
    pub allow_prefix: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads a duration: a number and its unit.
///
/// # Errors
/// What is accepted.
fn duration(text: &str) -> Result<Duration, String> {
    let accepted = || String::from("a number and a unit, such as 90s, 15m, 24h, or 7d");
    let unit = text.chars().next_back().ok_or_else(accepted)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(accepted()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 = number.parse().map_err(|_not_a_number| accepted())?;
    let seconds = number.checked_mul(seconds).ok_or_else(accepted)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "5",
            "-1s",
            "1.5h",
            "1w",
            "99999999999999999999s",
            "9999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
