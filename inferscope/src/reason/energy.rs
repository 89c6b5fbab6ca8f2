//! Reasons for unknown energy figures.

use super::{DeviceReason, LoadReason};

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnergyReason {
    #[error("the number of tokens is unknown")]
    TokensUnknown,
    #[error("the number of prompt tokens is unknown")]
    PromptTokensUnknown,
    #[error(transparent)]
    Load(#[from] LoadReason),
    #[error(transparent)]
    Device(#[from] DeviceReason),
    #[error("device {index}: {why}")]
    OfDevice { index: u32, why: Box<Self> },
    /// The first way failed, and so did the second.
    #[error("{0}; {1}")]
    Both(Box<Self>, Box<Self>),

    // Of a device's readings.
    #[error("it has no energy counter ({0})")]
    NoCounter(String),
    #[error("the driver tells the energy of the whole device, not of a MIG instance")]
    OfTheWholeDevice,
    #[error("the device was away in that time ({0})")]
    DeviceAway(String),
    #[error("the energy counter began anew during the run")]
    CounterReset,
    #[error("the energy counter was not read before the load's window")]
    CounterNotReadBefore,
    #[error("the energy counter did not move on after the load's window")]
    CounterNotReadAfter,
    #[error("power was not read over the whole of the load's window")]
    PowerNotRead,
    #[error("power was read more often than is kept")]
    PowerThinned,

    // At rest.
    #[error("power at rest was not sampled")]
    NoRest,
    #[error("power was not read over the whole wait before the load")]
    RestNotRead,
    #[error("the device was not at rest before the load: {0}")]
    NotAtRest(Computing),

    // Of the target.
    #[error("no energy reading: {0}")]
    NoReading(DeviceReason),
    #[error("device {index} was also used by others in that time (pid {}): its energy can't be divided", list(.pids))]
    Shared { index: u32, pids: Vec<u32> },
    #[error("the load's window of {seconds:.2} s is too short: its {joules:.1} J may be off by {error:.1} J")]
    WindowTooShort { seconds: f64, joules: f64, error: f64 },
    /// In words: why RAPL's counters were not read.
    #[error("{0}")]
    NoPackages(String),

    // Of prefill and decode.
    #[error("{0} requests are not listed: when they were in flight is not known")]
    Unlisted(u64),
    #[error("{0} requests were in flight at a time")]
    NotAlone(i64),
    #[error("a request had been given up before, and the server may have worked on it beside the next ones")]
    GivenUp,
    #[error(
        "of an answer it is not known that its first piece was one token: what came with it belongs to decode"
    )]
    FirstPieceUnknown,
    #[error(
        "the client did not look for up to {longest_ms:.1} ms at a time: when {answers} answers began or ended is known no \
         better"
    )]
    ClientStalled { longest_ms: f64, answers: u64 },
    #[error("no answer had a second token")]
    NoSecondToken,
    #[error(
        "{phase}'s {joules:.1} J may be off by {error:.1} J: its parts of {part_ms:.0} ms are too short, longer {longer} would tell"
    )]
    PartsTooShort { phase: &'static str, longer: &'static str, joules: f64, error: f64, part_ms: f64 },
    #[error("its power is told as an average of a second, not of the moment")]
    PowerIsAverage,
    #[error("the parts of {part_ms:.0} ms are too short for readings of power every {every_ms:.0} ms")]
    PartsBetweenReadings { part_ms: f64, every_ms: f64 },
    #[error(
        "prefill and decode come to {:.1} J \u{b1} {:.1} J by the readings of power, and the counter says {:.1} J \u{b1} {:.1} J for \
         all of it: what was read between is not what was drawn",
        .parts.0, .parts.1, .whole.0, .whole.1
    )]
    Contradicted {
        /// Joules and their error.
        parts: (f64, f64),
        whole: (f64, f64),
    },
    #[error("no step was begun")]
    NoStep,
    #[error("each step of a sweep is for itself: see sweep.steps")]
    EachStep,
    #[error(
        "in the first step {0}; over a sweep they can't be told apart either, as each step has the same mix of prompt and \
         output tokens"
    )]
    SameMix(Box<Self>),

    // Of money.
    #[error("no --price-per-hour was given")]
    NoPrice,
    #[error("no device to price: {0}")]
    NoDeviceToPrice(DeviceReason),
    #[error("no --price-per-hour for device {index} ({name})")]
    NoPriceFor { index: u32, name: String },
}

/// What showed that a device was not at rest.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Computing {
    #[error("kernels ran {0:.0}% of that time")]
    Kernels(f64),
    #[error("process {pid} used {percent}% of it")]
    Process { pid: u32, percent: u32 },
    #[error("it drew {0:.0}% of its power limit")]
    Power(f64),
}

fn list(pids: &[u32]) -> String {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    pids.join(", ")
}
