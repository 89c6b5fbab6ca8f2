//! What the sources hand over: the records of `load` and `observe`, stamped on the one clock.
//!
//! Owns the vocabulary between the sources and `aggregate`; holds no behaviour beyond trivial
//! accessors and never reads anything. Written by `load` and `observe`, read by `aggregate`.

mod account;
mod device;
mod gpu;
mod load;
mod process;
mod query;
mod stream;

pub use account::{ProcessAccount, Program, RssMarks, SetEnd};
pub use device::{DeviceAnswer, DeviceEvent, DeviceIdentity, MemoryTotals, PackageEvent, SampledByDriver};
pub use gpu::{
    CpuPackages, EnergyReading, GpmWindow, GpuDevice, GpuLog, GpuProcess, GpuReading, Interruption,
    MigInstance, PollCost, PowerPoint, PowerSource, ProcessLook, ProcessUse,
};
pub use load::{
    Asked, Calibration, Choice, Chunk, ChunkKind, ClientLog, Failure, FailureKind, InFlight, Loaded,
    MemoryHold, PhaseLog, RequestLog, Stall, Usage,
};
pub use process::{
    Birth, CgroupAccounting, Counts, CpuTime, ExitStatus, Loss, LostRecords, MissedRuns, Observation,
    ProcessEvent, ProcessEventKind, ProcessRecord, SetSample, TrackerKind,
};
pub use query::{Gauge, GpmMetric, Query};
pub use stream::{CommandEvent, Event, LoadEvent, SetEvent};
