//! Reasons for unknown figures of the load.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadReason {
    #[error("nothing was sent")]
    NothingSent,
    /// A planned load may have been sent in part, and lost.
    #[error("no load was measured")]
    NotMeasured,
    #[error("no measured request was sent")]
    NoneSent,
    #[error("no measured request succeeded")]
    NoneSucceeded,
    /// Where a stall left out all times, no other reason is known to hold.
    #[error("a stall of this client's made the times unknown (client_stalled); else: {0}")]
    Stalled(Box<Self>),
    #[error("no answer held a token")]
    NoToken,
    #[error("no answer held a token that is not reasoning")]
    NoVisibleToken,
    #[error("no answer had two chunks with text")]
    NoGap,
    #[error("no answer had two bursts")]
    NoBurstGap,
    #[error(
        "the server's total differs from the chunks with text, so the tokens of each chunk are unknown: see inter_chunk_ns"
    )]
    TokensOfChunksUnknown,
    #[error("how many tokens the first chunk of an answer held is unknown, or all came with it")]
    TokensOfFirstChunkUnknown,
    #[error(
        "chunks arrive in bursts, within which a gap is no pace of the server's: see inter_burst_ns and validity"
    )]
    InBursts,
    #[error("{0} of the values are above one hour, the histogram's end: no percentile is told among them")]
    BeyondHistogram(u64),
    #[error("no request ended while the load was full")]
    NeverFull,
    #[error("no service level was given")]
    NoServiceLevel,
    #[error("a closed loop has no schedule")]
    ClosedLoop,
    #[error("each measured request that succeeded found a connection that was open already")]
    ConnectionsReused,
    #[error("see the sweep's steps")]
    SeeSteps,
    #[error("a sweep's steps have one each: see sweep.steps")]
    TimingOfSteps,
    #[error("the server is saturated in the first step: begin lower")]
    SaturatedAtFirst,
    #[error("no step saturated the server: go on higher")]
    NeverSaturated,
    #[error("nothing was read")]
    NothingRead,
    #[error(
        "the kernel's receive times are not to be had on this connection: tokens are stamped when they are read"
    )]
    NoKernelStamps,
    #[error("the load was over before the timer was looked at")]
    TimerNotLooked,
}

/// Why a server has no more to give.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Saturation {
    /// Of an open loop: the mean requests under way.
    #[error(
        "requests came faster than they were answered: {first_half:.0} were under way in the first half of the time and \
         {last_quarter:.0} in the last quarter"
    )]
    Backlog { first_half: f64, last_quarter: f64 },
    /// Of a closed loop: the change against the step before, as shares.
    #[error(
        "{:.0}% more concurrency than the step before changed the throughput by {:+.1}%",
        concurrency * 100.0,
        throughput * 100.0
    )]
    NoGain { concurrency: f64, throughput: f64 },
}
