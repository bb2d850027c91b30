//! What two recorders can disagree in. The table of `docs/reconciliation.md` has one row for each.

/// One kind of disagreement; each lowers the grade to `kernel_observed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disagreement {
    /// The relay saw it go through, the mediator signed a denial.
    ThroughButDenied,
    /// The mediator denied it towards the relay, and signed that it allowed it.
    DeniedButAllowed,
    /// The mediator denied it, and signed nothing.
    DenialUnsigned,
    /// The built-in mediator signed both for one action, which it never does.
    AllowedAndDenied,
    /// Host and transport are right, and nothing else fits what the relay asked.
    OtherTarget,
    /// The status of the outcome is not the one that the relay saw.
    OtherStatus,
    /// The bytes of the outcome are not the ones that the relay carried.
    OtherBytes,
    /// Fewer bytes are signed for a target than the relay carried of what went through.
    FewerBytes,
    /// A denial is signed with another layer than the mediator's answer named.
    OtherLayer,
    /// Denials because a host is not on the allow-list, which lists it.
    DeniedThoughListed,
    /// Receipts whose verdict, target, action type, or side effects their mediator never signs for such a request.
    OtherForm,
    /// More bytes are signed than the relay carried.
    MoreBytes,
    /// An action is signed for a time at which it was not asked.
    OtherTime,
    /// Actions are signed for times outside the run.
    OutsideRun,
    /// Times in the receipts go back further than the clock was set.
    TimeWentBack,
    /// One action id stands for different requests.
    ReusedId,
    /// Receipts follow for an action that had ended.
    Repeated,
    /// A verdict is a word that no mediator has.
    UnknownVerdict,
    /// Version 1 and version 2 of a receipt differ.
    TwinsDiffer,
    /// Requests inside TLS, by a mediator that did not open it.
    Intercepted,
    /// Hosts that the policy does not allow were reached, or signed as allowed.
    NotInPolicy,
    /// Messages of a WebSocket that nobody opened.
    Frames,
    /// The mediator opened more connections than it signed.
    MoreConnections,
    /// The mediator signed actions for which it opened no connection.
    NoConnection,
    /// Everything is signed as denied, and the mediator's connections carried bytes.
    DeniedWithBytes,
    /// More bytes are signed than all connections of the mediator carried.
    MoreThanKernel,
    /// The relay reports more bytes than left the command's socket.
    RelayMoreThanKernel,
    /// Bytes left the command's socket that the relay does not report.
    RelayLessThanKernel,
    /// A connection without a record of its bytes.
    NoClose,
    /// A row of the relay for a connection that the kernel did not see.
    NoKernelRow,
    /// A row in a form that this version does not know.
    UnknownRow,
}

impl Disagreement {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::ThroughButDenied,
        Self::DeniedButAllowed,
        Self::DenialUnsigned,
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
        Self::ReusedId,
        Self::Repeated,
        Self::UnknownVerdict,
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

    /// Its stable name, for programs.
    pub const fn id(self) -> &'static str {
        match self {
            Self::ThroughButDenied => "through_but_denied",
            Self::DeniedButAllowed => "denied_but_allowed",
            Self::DenialUnsigned => "denial_unsigned",
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
            Self::ReusedId => "reused_id",
            Self::Repeated => "repeated",
            Self::UnknownVerdict => "unknown_verdict",
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

    /// What it says, behind a number.
    pub const fn says(self) -> &'static str {
        match self {
            Self::ThroughButDenied => "requests went through although the mediator signed a denial",
            Self::DeniedButAllowed => "requests that the mediator denied are signed as allowed",
            Self::DenialUnsigned => "requests were denied by the mediator without a receipt",
            Self::AllowedAndDenied => "actions are signed both as allowed and as denied",
            Self::OtherTarget => {
                "receipts name another port, method, scheme, or path than the relay asked for"
            }
            Self::OtherStatus => "receipts state another status than the relay received",
            Self::OtherBytes => "receipts state another number of bytes than the relay carried",
            Self::FewerBytes => "targets have receipts for fewer bytes than the relay carried",
            Self::OtherLayer => "denials are signed with another layer than the answer named",
            Self::DeniedThoughListed => {
                "requests are signed as not on the allow-list although the policy lists their host"
            }
            Self::OtherForm => "receipts have a form that their mediator never signs",
            Self::MoreBytes => "targets have receipts for more bytes than the relay carried",
            Self::OtherTime => "targets have receipts from a time at which the relay did not ask",
            Self::OutsideRun => "s lie between the run and the receipts farthest from it",
            Self::TimeWentBack => "s is how far the times of the receipts go back",
            Self::ReusedId => "receipts use the action id of a different request",
            Self::Repeated => "receipts follow for actions that had already ended",
            Self::UnknownVerdict => "receipts have a verdict or an outcome that no mediator has",
            Self::TwinsDiffer => "receipts differ between versions 1 and 2, or have no version 2",
            Self::Intercepted => {
                "receipts stand for requests inside TLS, which this mediator did not open"
            }
            Self::NotInPolicy => {
                "hosts were reached, or signed as allowed, that the policy does not allow"
            }
            Self::Frames => "receipts stand for messages of WebSockets that were not open",
            Self::MoreConnections => "connections of the mediator have no receipt that allows them",
            Self::NoConnection => {
                "requests are signed as complete without a connection of the mediator"
            }
            Self::DeniedWithBytes => {
                "connections of the mediator carried bytes although every receipt is a denial"
            }
            Self::MoreThanKernel => {
                "bytes are signed beyond what the mediator's connections carried"
            }
            Self::RelayMoreThanKernel => {
                "connections have more bytes in the relay's rows than left the command's socket"
            }
            Self::RelayLessThanKernel => {
                "connections have fewer bytes in the relay's rows than left the command's socket"
            }
            Self::NoClose => "connections of the command have no record of their bytes",
            Self::NoKernelRow => "rows of the relay belong to no connection that the kernel saw",
            Self::UnknownRow => "rows of the flow log have a form that this version does not know",
        }
    }
}
