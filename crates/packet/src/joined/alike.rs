//! Defines when two attempts are equal, so that repetitions can be assigned to the first attempt.
use super::super::format::rows::{
    AttemptRow, MediatorDeniedRepeatsRow, MediatorDeniedRow, RepeatsRow, UnixRepeatsRow, UnixRow,
};

/// The key of equal attempts: hook, verdict, protocol, process, reason, destination, and whether
/// the mediator made the attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alike([String; 5], Option<String>, u16, bool);

/// Defines the key of a row, given its destination and whether the mediator made the attempt.
macro_rules! alike {
    ($($row:ident: $place:ident $(, port $port:ident)? $(, process $process:ident)?, $of_mediator:literal;)+) => {$(
        impl From<&$row> for Alike {
            fn from(row: &$row) -> Self {
                let [hook, verdict, reason] =
                    [row.hook.as_str(), row.verdict.as_str(), row.reason.as_str()].map(str::to_owned);
                let process = None::<String>$(.or_else(|| Some(row.$process.clone())))?;
                let port = 0_u16 $(.max(row.$port))?;
                let place = row.$place.to_string();
                Self([hook, verdict, reason, row.protocol.to_string(), place], process, port, $of_mediator)
            }
        }
    )+};
}

alike! {
    AttemptRow: dst, port port, process process, false;
    RepeatsRow: dst, port port, process process, false;
    UnixRow: path, process process, false;
    UnixRepeatsRow: path, process process, false;
    MediatorDeniedRow: dst, port port, true;
    MediatorDeniedRepeatsRow: dst, port port, true;
}
