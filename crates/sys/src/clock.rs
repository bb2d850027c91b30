//! Returns the wall-clock time.
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Returns the current UTC time in the format of the evidence files: RFC 3339 with up to nine
/// fraction digits, without trailing zeros, with `Z`.
pub fn now_rfc3339() -> String {
    rfc3339(OffsetDateTime::now_utc())
}

/// Formats a time as [`now_rfc3339`] does.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339)
        .unwrap_or_else(|_| String::from("1970-01-01T00:00:00Z"))
}
