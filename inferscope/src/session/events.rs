//! The way of the events: from the sources' threads to the collector's.
//!
//! Owns the channels with their bounds, the start and the end of the collector, and what is said of events that were lost. The hub
//! moves them, `aggregate` adds them up. Called by `session`.

use std::time::Duration;

use super::RunError;
use crate::aggregate::{Aggregate as _, Aggregates, Finals, Snapshot};
use crate::event::{Event, SetEvent};
use crate::hub::{Collector, Hub, LostEvents, Sender};
use crate::plan::Plan;
use crate::privilege::{self, ThreadRole};
use crate::verdict::doubt::{Doubt, DoubtCode, DoubtLevel};

/// Two events a request: some seconds of a collector that gets no CPU.
const LOAD_CAPACITY: usize = 16_384;
/// A command has three events.
const COMMAND_CAPACITY: usize = 64;
/// Seconds of eight devices.
const DEVICE_CAPACITY: usize = 2_048;
const PACKAGE_CAPACITY: usize = 256;
/// Batches: a few a drain of the ring, a sample a tick.
const SET_CAPACITY: usize = 1_024;
/// How long a source waits that loses nothing meanwhile: the ring holds what happens in twice the time.
const SET_LIMIT: Duration = Duration::from_millis(50);

/// The sources' ends.
pub(super) struct Channels {
    pub(super) load: Sender<Aggregates>,
    pub(super) command: Sender<Aggregates>,
    pub(super) devices: DeviceChannels,
    pub(super) set: Sender<Aggregates>,
}

/// Those of the devices and of the CPU packages.
#[derive(Clone)]
pub(super) struct DeviceChannels {
    pub(super) gpu: Sender<Aggregates>,
    pub(super) packages: Sender<Aggregates>,
}

/// The collector and the channels to it.
pub(super) struct Events {
    pub(super) channels: Channels,
    pub(super) collector: Collector<Aggregates>,
}

impl Events {
    /// Starts the collector. Before the sources: nothing of theirs waits for it.
    pub(super) fn start(plan: &Plan) -> Result<Self, RunError> {
        let mut hub = Hub::new(Aggregates::new(plan.load.as_ref()));
        let channels = Channels {
            load: hub.channel(LOAD, LOAD_CAPACITY),
            command: hub.channel("command", COMMAND_CAPACITY),
            devices: DeviceChannels {
                gpu: hub.channel("devices", DEVICE_CAPACITY),
                packages: hub.channel("CPU packages", PACKAGE_CAPACITY),
            },
            set: hub.channel(SET, SET_CAPACITY),
        };
        let collector = hub.start(|| privilege::shed(ThreadRole::Collector));
        let collector = collector
            .map_err(|source| RunError::System { what: "the collector's thread can't be started", source })?;
        Ok(Self { channels, collector })
    }

    /// After the sources: what they sent is applied. `None`: the collector panicked.
    pub(super) fn finish(self, finals: &Finals) -> Option<(Snapshot, Lost)> {
        drop(self.channels);
        let (aggregates, lost) = self.collector.finish().ok()?;
        Some((aggregates.finish(finals), Lost::of(&lost)))
    }
}

/// Events that found their channels full.
#[derive(Default)]
pub(super) struct Lost {
    pub(super) doubts: Vec<Doubt>,
    /// A process may be in no list.
    pub(super) of_set: bool,
}

impl Lost {
    fn of(lost: &[LostEvents]) -> Self {
        let of_set = lost.iter().any(|lost| lost.source == SET);
        Self { doubts: lost.iter().map(doubt).collect(), of_set }
    }
}

const LOAD: &str = "load";
const SET: &str = "process set";

/// Where the observer's events go.
pub(super) fn set_sink(set: &Sender<Aggregates>) -> impl FnMut(SetEvent) + Send + 'static {
    let set = set.clone();
    move |event| set.send_within(Event::Set(event), SET_LIMIT)
}

fn doubt(lost: &LostEvents) -> Doubt {
    let LostEvents { source, events } = lost;
    let (level, means) = match *source {
        LOAD => (
            DoubtLevel::Invalid,
            "requests are missing from every figure of the load; give inferscope a CPU of its own",
        ),
        _ => (DoubtLevel::Warn, "its figures may miss them"),
    };
    Doubt {
        level,
        code: DoubtCode::EventsLost,
        message: format!("{events} events of the {source} found their channel full: {means}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_events_of_the_load_make_its_figures_invalid_and_others_doubtful() {
        let of = |source| doubt(&LostEvents { source, events: 3 });
        let (load, command) = (of(LOAD), of("command"));
        assert_eq!((load.level, load.code), (DoubtLevel::Invalid, DoubtCode::EventsLost));
        assert_eq!(command.level, DoubtLevel::Warn);
        let of = |source| Lost::of(&[LostEvents { source, events: 1 }]).of_set;
        assert!(of(SET) && !of(LOAD), "a process may be in no list");
        assert!(load.message.starts_with("3 events of the load"), "{}", load.message);
    }
}
