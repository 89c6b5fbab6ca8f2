//! The events of a run: one type for all sources.
//!
//! A source sends them over its own channel of `hub`, each stamped in CLOCK_MONOTONIC where it happened. The order of two
//! sources' events is that of their stamps, not that of their arrival.

use crate::clock::Mono;

use super::{
    Calibration, ClientLog, DeviceEvent, ExitStatus, Loaded, PackageEvent, PhaseLog, ProcessAccount,
    ProcessEvent, RequestLog, SetEnd, SetSample,
};

/// What one source has to tell.
#[derive(Debug, Clone)]
pub enum Event {
    Load(LoadEvent),
    Set(SetEvent),
    Device(DeviceEvent),
    Package(PackageEvent),
    Command(CommandEvent),
}

/// From the thread that sends the load. One event a request, with its chunks moved inside: nothing is sent a token.
#[derive(Debug, Clone)]
pub enum LoadEvent {
    /// Its first phase begins; the model that is asked for.
    Began { t: Mono, model: Option<String> },
    /// Synthetic prompts are made to a length that the server counted.
    Calibrated(Calibration),
    /// A request is about to be sent.
    Sent { t: Mono, warmup: bool },
    /// A request has ended; `loaded` as far as it is known by then.
    Request { log: Box<RequestLog>, loaded: Loaded },
    /// A phase has ended, after all of its requests.
    Phase(Box<PhaseLog>),
    /// The load is over; requests that were sent again.
    Ended { client: Box<ClientLog>, resent: u64 },
}

/// From the observing thread. Who is a member is settled before an event is sent.
#[derive(Debug, Clone)]
pub enum SetEvent {
    /// What one look at the kernel's records brought, in their order.
    Changes(Vec<ProcessEvent>),
    /// Accounts that were closed since.
    Closed(Vec<Box<ProcessAccount>>),
    Sample(SetSample),
    /// After all accounts are closed.
    Ended(SetEnd),
}

/// From the life of `exec`'s command.
#[derive(Debug, Clone)]
pub enum CommandEvent {
    /// It was let run.
    Started {
        t: Mono,
    },
    /// Its server answered.
    Ready {
        t: Mono,
    },
    Exited {
        t: Mono,
        status: ExitStatus,
    },
}
