//! What makes a figure doubtful, as a value.
//!
//! Owns the codes, which scripts rely on, and the levels. The rules are in `validity`; some things only the run itself knows, and it
//! says them with the same type. `report::build` writes it.

/// One entry of the report's `validity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    pub level: DoubtLevel,
    pub code: DoubtCode,
    pub message: String,
}

impl Doubt {
    pub(crate) fn warn(code: DoubtCode, message: impl Into<String>) -> Self {
        Self { level: DoubtLevel::Warn, code, message: message.into() }
    }

    pub(crate) fn for_the_record(code: DoubtCode, message: impl Into<String>) -> Self {
        Self { level: DoubtLevel::ForTheRecord, code, message: message.into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoubtLevel {
    /// It makes no figure doubtful.
    ForTheRecord,
    /// The figures that the message names are doubtful.
    Warn,
    /// No figure of the load holds.
    Invalid,
}

/// Serialized in snake case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DoubtCode {
    AllRequestsFailed,
    BurstyStream,
    CgroupLeft,
    CgroupMismatch,
    ClientBusy,
    ClientLate,
    ClientLimit,
    ClientSlowReads,
    ClientStalled,
    CollectorPanicked,
    CommandEnded,
    ConnectionsNotReused,
    CpuNotFinal,
    EntriesPassedOver,
    EventsLost,
    GpuDriverHangs,
    GpuDriverSlow,
    GpuInterrupted,
    GpuLost,
    GpuNone,
    GpuNotAtRest,
    GpuQueryFailed,
    GpuShared,
    GpuValuesDropped,
    IdleTarget,
    InFlightLowered,
    InputTokensCalibrated,
    InputTokensDiffer,
    InsecureTls,
    Interrupted,
    JanitorLost,
    KernelMisses,
    LeftRunning,
    LoadPanicked,
    LostEnds,
    LostRingFull,
    LostUndecodable,
    LostUnmarked,
    LostUnreadable,
    MaxTokensExceeded,
    ModelDiffers,
    ModelNotListed,
    MovedIn,
    MovedOut,
    NoDescendants,
    NoModelList,
    NoOwnCgroup,
    NoSamples,
    NoTarget,
    NotEnded,
    ObserverPanicked,
    OfferedRate,
    OomKilled,
    PromptsIdentical,
    PromptsInEachPhase,
    PromptsRepeated,
    ProxyUsed,
    ReadsUnstamped,
    RequestsFailed,
    RequestsNotListed,
    RequestsResent,
    SampleIntervalStretched,
    SampleOverruns,
    SamplesThinned,
    ServerReady,
    ServerSaturated,
    SyntheticTokens,
    TargetEnded,
    TargetGone,
    TokensAssumed,
    TraceInMilliseconds,
    TraceInSeconds,
    TrackerIncomplete,
    TrackerProc,
    UnlistedEvents,
    UnlistedProcesses,
    UsageDiffersFromChunks,
    UsageImpossible,
}

impl DoubtCode {
    /// Whether the client itself was the bottleneck.
    pub(crate) const fn is_of_client(self) -> bool {
        matches!(
            self,
            Self::ClientBusy
                | Self::ClientLate
                | Self::ClientLimit
                | Self::ClientSlowReads
                | Self::ClientStalled
        )
    }
}
