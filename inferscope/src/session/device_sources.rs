//! The devices and the CPU packages: their sources.
//!
//! Owns their order of starting and ending, and who learns of a window's ends. Called by `start`, `drive` and `finish`.

use super::events::DeviceChannels;
use crate::aggregate::devices::DeviceFinals;
use crate::event::Event;
use crate::observe::Edges;
use crate::observe::gpu::{GpuError, PollEnd, Poller};
use crate::observe::rapl::Rapl;
use crate::plan::ObservePlan;
use crate::units::Nanos;

/// The running sources.
pub(super) struct DeviceSources {
    poller: Poller,
    rapl: Rapl,
}

impl DeviceSources {
    /// # Errors
    /// Devices asked for by name that are not there.
    pub(super) fn start(
        plan: &ObservePlan,
        roots: &[u32],
        channels: DeviceChannels,
        is_over: impl Fn() -> bool,
    ) -> Result<Self, GpuError> {
        let DeviceChannels { gpu, packages } = channels;
        // Its files are opened before the driver's library has its say.
        let rapl =
            Rapl::start(plan.sample_interval, Box::new(move |event| packages.send(Event::Package(event))));
        let sink = Box::new(move |event| gpu.send(Event::Device(event)));
        Ok(Self { poller: Poller::start(plan, roots, sink, is_over)?, rapl })
    }

    /// Where there are devices, waits for the first look and then for `time`, in which nothing is to be sent.
    pub(super) async fn rest(&mut self, time: Nanos, stop: impl Future<Output = ()>) {
        self.poller.rest(time, stop).await;
    }

    /// What is measured begins now, where nothing is sent.
    pub(super) fn begins(&mut self) {
        self.poller.begins();
        self.rapl.edges().mark();
    }

    /// For whoever knows when a window begins and ends.
    pub(super) fn edges(&self) -> Edges {
        self.poller.edges().and(self.rapl.edges())
    }

    /// Ends them. What a driver that does not come back answered before was sent before.
    pub(super) fn finish(self) -> DeviceFinals {
        let PollEnd { unavailable, baseline, began, hangs } = self.poller.finish();
        self.rapl.finish();
        DeviceFinals { unavailable, baseline, began, hangs }
    }
}
