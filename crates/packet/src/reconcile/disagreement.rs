//! The kinds of disagreements between recorders. The table of `docs/reconciliation.md` has one row
//! for each kind.

/// One kind of disagreement. Each kind caps the grade at `kernel_observed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disagreement {
    /// A request went through according to the relay, but the mediator signed a denial.
    ThroughButDenied,
    /// The mediator denied a request to the relay, but signed that it allowed the request.
    DeniedButAllowed,
    /// The mediator denied a request, or answered that it failed, and signed nothing.
    DenialUnsigned,
    /// The mediator answered that a request failed, and signed an ending other than a failure.
    FailedOtherwise,
    /// The built-in mediator signed one action as allowed and as denied, although it never signs
    /// both.
    AllowedAndDenied,
    /// Host and transport of a receipt match a request of the relay, but another part of the
    /// receipt's target does not.
    OtherTarget,
    /// The status of an outcome is not the status that the relay received.
    OtherStatus,
    /// The number of bytes of an outcome is not the number that the relay carried.
    OtherBytes,
    /// The mediator signed fewer bytes for a target than the relay carried.
    FewerBytes,
    /// The mediator signed a denial with a layer other than the one in its answer.
    OtherLayer,
    /// The mediator signed that a host is not on the allow-list, but the allow-list contains the host.
    DeniedThoughListed,
    /// A receipt, or another entry of the evidence, has a form that its mediator never writes.
    OtherForm,
    /// The mediator signed more bytes for a target than the relay carried.
    MoreBytes,
    /// The mediator signed an action at a time at which the relay sent no matching request.
    OtherTime,
    /// The evidence has actions, or other entries, from times outside the run.
    OutsideRun,
    /// Times in the receipts go back further than the clock was set.
    TimeWentBack,
    /// The heartbeats of the built-in mediator do not have the interval that its session states.
    Heartbeats,
    /// One action id is used for different requests.
    ReusedId,
    /// An action that had already ended has a further receipt.
    Repeated,
    /// A verdict is a word that no mediator uses.
    UnknownVerdict,
    /// The time of an entry in the evidence differs from the time of its receipt.
    EntryTime,
    /// The two versions of a receipt differ.
    TwinsDiffer,
    /// A mediator that does not open TLS signed a request inside TLS.
    Intercepted,
    /// The command reached a host that the policy does not allow, or the mediator signed the host as allowed.
    NotInPolicy,
    /// The mediator signed a message of a WebSocket that was not open.
    Frames,
    /// The mediator opened more connections than it signed.
    MoreConnections,
    /// The mediator signed actions for which it opened no connection.
    NoConnection,
    /// Connections of the mediator carried bytes, but the mediator signed no allowed action for their port.
    DeniedWithBytes,
    /// The mediator signed more bytes than all its connections carried.
    MoreThanKernel,
    /// The relay reports more bytes than left or reached the command's socket.
    RelayMoreThanKernel,
    /// The relay reports fewer bytes than the kernel acknowledged for the command's socket, or than reached this socket.
    RelayLessThanKernel,
    /// The relay has a row for a connection whose bytes the kernel did not record.
    NoClose,
    /// A row of the relay is about a connection that the kernel did not record.
    NoKernelRow,
    /// A row does not match the schema of this version.
    UnknownRow,
}

impl Disagreement {
    /// All kinds of disagreements.
    pub const ALL: [Self; 34] = [
        Self::ThroughButDenied,
        Self::DeniedButAllowed,
        Self::DenialUnsigned,
        Self::FailedOtherwise,
        Self::AllowedAndDenied,
        Self::OtherTarget,
        Self::OtherStatus,
        Self::OtherBytes,
        Self::FewerBytes,
        Self::OtherLayer,
        Self::DeniedThoughListed,
        Self::OtherForm,
        Self::MoreBytes,
        Self::OtherTime,
        Self::OutsideRun,
        Self::TimeWentBack,
        Self::Heartbeats,
        Self::ReusedId,
        Self::Repeated,
        Self::UnknownVerdict,
        Self::EntryTime,
        Self::TwinsDiffer,
        Self::Intercepted,
        Self::NotInPolicy,
        Self::Frames,
        Self::MoreConnections,
        Self::NoConnection,
        Self::DeniedWithBytes,
        Self::MoreThanKernel,
        Self::RelayMoreThanKernel,
        Self::RelayLessThanKernel,
        Self::NoClose,
        Self::NoKernelRow,
        Self::UnknownRow,
    ];

    /// Returns the stable name, for programs.
    pub const fn id(self) -> &'static str {
        match self {
            Self::ThroughButDenied => "through_but_denied",
            Self::DeniedButAllowed => "denied_but_allowed",
            Self::DenialUnsigned => "denial_unsigned",
            Self::FailedOtherwise => "failed_otherwise",
            Self::AllowedAndDenied => "allowed_and_denied",
            Self::OtherTarget => "other_target",
            Self::OtherStatus => "other_status",
            Self::OtherBytes => "other_bytes",
            Self::FewerBytes => "fewer_bytes",
            Self::OtherLayer => "other_layer",
            Self::DeniedThoughListed => "denied_though_listed",
            Self::OtherForm => "other_form",
            Self::MoreBytes => "more_bytes",
            Self::OtherTime => "other_time",
            Self::OutsideRun => "outside_run",
            Self::TimeWentBack => "time_went_back",
            Self::Heartbeats => "heartbeats",
            Self::ReusedId => "reused_id",
            Self::Repeated => "repeated",
            Self::UnknownVerdict => "unknown_verdict",
            Self::EntryTime => "entry_time",
            Self::TwinsDiffer => "twins_differ",
            Self::Intercepted => "intercepted",
            Self::NotInPolicy => "not_in_policy",
            Self::Frames => "frames",
            Self::MoreConnections => "more_connections",
            Self::NoConnection => "no_connection",
            Self::DeniedWithBytes => "denied_with_bytes",
            Self::MoreThanKernel => "more_than_kernel",
            Self::RelayMoreThanKernel => "relay_more_than_kernel",
            Self::RelayLessThanKernel => "relay_less_than_kernel",
            Self::NoClose => "no_close",
            Self::NoKernelRow => "no_kernel_row",
            Self::UnknownRow => "unknown_row",
        }
    }

    /// Returns the text that is printed after a number.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ThroughButDenied => "requests went through although the mediator signed a denial",
            Self::DeniedButAllowed => "requests that the mediator denied are signed as allowed",
            Self::DenialUnsigned => {
                "requests were denied by the mediator, or failed at it, without a receipt"
            }
            Self::FailedOtherwise => {
                "requests that failed at the mediator are signed with a different ending"
            }
            Self::AllowedAndDenied => "actions are signed both as allowed and as denied",
            Self::OtherTarget => {
                "receipts have a port, method, scheme, or path that the relay did not request"
            }
            Self::OtherStatus => {
                "receipts state a status other than the one that the relay received"
            }
            Self::OtherBytes => {
                "receipts state a number of bytes other than what the relay carried"
            }
            Self::FewerBytes => "targets have receipts for fewer bytes than the relay carried",
            Self::OtherLayer => "denials are signed with a layer other than the one in the answer",
            Self::DeniedThoughListed => {
                "requests are signed as not on the allow-list although the policy lists their host"
            }
            Self::OtherForm => {
                "receipts, or other entries of the evidence, have a form that their mediator never writes"
            }
            Self::MoreBytes => "targets have receipts for more bytes than the relay carried",
            Self::OtherTime => {
                "targets have receipts from a time at which the relay did not request them"
            }
            Self::OutsideRun => {
                "s lie between the run and the entry of the evidence that is farthest from it"
            }
            Self::TimeWentBack => "s is the largest step back in the times of the receipts",
            Self::Heartbeats => {
                "s is the largest time between a heartbeat of the mediator and the time at which it was due"
            }
            Self::ReusedId => "receipts use the action id of a different request",
            Self::Repeated => "receipts follow for actions that had already ended",
            Self::UnknownVerdict => "receipts have a verdict or an outcome that no mediator uses",
            Self::EntryTime => "s is the largest time between a receipt and its entry",
            Self::TwinsDiffer => "receipts differ between versions 1 and 2, or have no version 2",
            Self::Intercepted => {
                "receipts are for requests inside TLS, which this mediator did not open"
            }
            Self::NotInPolicy => {
                "hosts were reached, or signed as allowed, that the policy does not allow"
            }
            Self::Frames => "receipts are for messages of WebSockets that were not open",
            Self::MoreConnections => "connections of the mediator have no receipt that allows them",
            Self::NoConnection => {
                "requests are signed as sent to their origin, but the kernel recorded no connection of the mediator for them"
            }
            Self::DeniedWithBytes => {
                "connections of the mediator carried bytes although no receipt allows a connection to their port"
            }
            Self::MoreThanKernel => {
                "bytes are signed beyond what the mediator's connections carried"
            }
            Self::RelayMoreThanKernel => {
                "connections have more bytes in the relay's rows than left or reached the command's socket"
            }
            Self::RelayLessThanKernel => {
                "connections have fewer bytes in the relay's rows than left or reached the command's socket"
            }
            Self::NoClose => {
                "connections in the relay's rows have no row of the kernel with their bytes"
            }
            Self::NoKernelRow => {
                "rows of the relay belong to no connection that the kernel recorded"
            }
            Self::UnknownRow => {
                "rows of the flow log have a source or a member that this version does not support"
            }
        }
    }
}
