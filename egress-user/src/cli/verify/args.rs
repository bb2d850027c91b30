//! The command line of `egress verify`.
use std::path::PathBuf;
use std::time::Duration;

use audit_packet::grade::Grade;
use audit_packet::identity;

/// Examples, the grades, and exit statuses, for `--help`.
const HELP: &str = "\
Examples:
  egress verify pipelock-audit-packet --key signer.key.pub
  egress verify pipelock-audit-packet --key signer.key.pub --boundary-key boundary.key.pub \\
    --require-grade kernel_enforced

Grades of the boundary:
  kernel_enforced  no probe found the boundary open, the receipts sign the posture capsule, the
                   kernel programs and filters stayed in place until the last process of the
                   command had ended, and the keys that signed these facts are pinned
  unpinned         the same, but a key is not pinned
  kernel_observed  one of these conditions does not hold; the output names it
  unproven         the description of the boundary is not signed, or contradicts itself
  none             the packet does not describe a boundary

Findings:
  Each finding names its rule in brackets. docs/rules.md in the egress repository explains every rule.

Exit status:
  0   valid
  1   invalid, nothing to verify, the grade is too low, or no key is pinned
  2   a file cannot be read
  3   valid, but receipts may be missing at the end
  64  an argument is wrong";

/// Arguments of `egress verify`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = HELP)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each of them is a switch of the command line"
)]
pub struct VerifyArgs {
    /// Packet directory, packet.json, evidence file, directory of evidence files, or one receipt
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Pin a public key for the receipts: 64 hex digits, key text, or a file with either; repeatable
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// Pin a public key for the boundary's measurements, in the same forms as --key; repeatable
    #[arg(long = "boundary-key", value_name = "KEY")]
    pub boundary_keys: Vec<String>,
    /// Exit with 1 unless the boundary has at least this grade
    #[arg(long, value_name = "GRADE")]
    pub require_grade: Option<Grade>,
    /// Require that the packet's identity has this value. KEY is `repository`, `commit`, `ref`, `workflow`, `job`,
    /// `run_id`, `run_attempt`, `runner`, `runner_image`, `provider`, or a key of `egress run --bind`; repeatable
    #[arg(long = "expect", value_name = "KEY=VALUE", value_parser = identity::pair)]
    pub expect: Vec<(String, String)>,
    /// Require the nonce of `egress run --nonce`
    #[arg(long, value_name = "HEX", value_parser = identity::nonce)]
    pub nonce: Option<String>,
    /// Reject a packet that is older than this, or from the future: a number and `s`, `m`, `h`, or `d`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_age: Option<Duration>,
    /// Require a time stamp over the attestation. FILE holds the authority's root certificate, or the certificate of
    /// the authority's signer, in PEM form. `--max-age` then counts from the time stamp; repeatable
    #[arg(long = "timestamp-ca", value_name = "FILE")]
    pub timestamp_ca: Vec<PathBuf>,
    /// Accept consistent evidence without a pinned key
    #[arg(long)]
    pub allow_unpinned: bool,
    /// Accept evidence whose end is not proven
    #[arg(long)]
    pub allow_prefix: bool,
    /// Print only errors that prevent the verification. The exit status is the result
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Parses a duration, which is a number and its unit.
///
/// # Errors
/// Fails if the number or the unit is missing or invalid. The error text names the accepted form.
pub(in super::super) fn duration(text: &str) -> Result<Duration, String> {
    let accepted = || String::from("use a number and a unit, such as 90s, 15m, 24h, or 7d");
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
