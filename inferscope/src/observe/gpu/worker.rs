//! The polling thread.
//!
//! Owns its loop: when each device is looked at, when one that is away is looked for, and how the energy counters are read at
//! the ends of windows, for which the end waits. What it learns it sends at once. Started by the poller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::caller::Outlet;
use super::device::Watched;
use super::processes::Pids;
use super::query_policy::Search;
use super::schedule::Looks;
use super::selection::Selection;
use crate::clock::{Mono, Window};
use crate::event::{DeviceEvent, PollCost, Query};
use crate::observe::observer::own_thread_cpu;
use crate::observe::target_discovery;
use crate::observe::window_edges::Edge;
use crate::units::Nanos;

/// The variable by which CUDA hides devices from a process.
const VISIBLE_DEVICES: &[u8] = b"CUDA_VISIBLE_DEVICES=";

pub(super) struct Worker {
    pub(super) selection: Selection,
    pub(super) interval: Nanos,
    pub(super) stop: Arc<AtomicBool>,
    /// A window began or ended.
    pub(super) edge: Arc<Edge>,
    pub(super) roots: Vec<u32>,
    pub(super) outlet: Outlet,
}

impl Worker {
    pub(super) fn run(self, tell_look: oneshot::Sender<()>) {
        let pids = Pids { are_ours: !target_discovery::in_inner_namespace() };
        let began_cpu = own_thread_cpu();
        let outlet = &self.outlet;
        outlet.send(DeviceEvent::Began { pids_are_ours: pids.are_ours });
        let mut devices = self.selection.watched(outlet);
        let mut seen = BTreeSet::new();
        note_visible(outlet, &self.roots);
        let began = Mono::now();
        let mut looks = Looks::new(began, self.interval);
        let mut next = began;
        let mut from = None;
        let mut ticks = 0;
        let mut library = Library { begun: true, since: began };
        let mut tell_look = Some(tell_look);
        let looked = |devices: &[Watched<'_>], polled: Window, ticks: u64| {
            let cpu = own_thread_cpu().saturating_sub(began_cpu);
            outlet.send(DeviceEvent::Looked { polled, cost: cost(devices, ticks, cpu) });
        };
        let polled = loop {
            let last = self.stop.load(Ordering::Relaxed);
            if self.edge.take(Mono::now()) {
                devices.iter_mut().for_each(Watched::edge);
            }
            if last || Mono::now() >= next {
                if !last {
                    library.bring_back(&self.selection, &mut devices, outlet);
                }
                for device in &mut devices {
                    // The end of the run is not to wait for one more look at seven others.
                    if !last && self.stop.load(Ordering::Relaxed) {
                        break;
                    }
                    device.tick(&pids, last);
                    let newcomers: Vec<u32> =
                        device.pids().iter().copied().filter(|pid| seen.insert(*pid)).collect();
                    if pids.are_ours && !newcomers.is_empty() {
                        note_visible(outlet, &newcomers);
                        // What `exec` started may have become another program since.
                        note_visible(outlet, &self.roots);
                    }
                }
                let now = Mono::now();
                // Nothing is of the first look, which is slow: what follows is the time of polling.
                let polled = Window { from: *from.get_or_insert(now), to: now };
                ticks += 1;
                looked(&devices, polled, ticks);
                if let Some(tell) = tell_look.take() {
                    devices.iter_mut().for_each(Watched::edge);
                    // Nobody may be waiting.
                    let _ = tell.send(());
                }
                if last {
                    break polled;
                }
                next = looks.next(now);
            }
            let now = Mono::now();
            devices.iter_mut().for_each(|device| device.follow(now));
            let wake =
                devices.iter().filter_map(Watched::look).chain(self.edge.ahead()).fold(next, Mono::min);
            std::thread::park_timeout(wake.since(Mono::now()).to_duration());
        };
        close(&mut devices);
        looked(&devices, polled, ticks);
    }
}

/// What polling cost so far.
fn cost(devices: &[Watched<'_>], ticks: u64, cpu: Nanos) -> PollCost {
    let mut all = PollCost { ticks, cpu, ..PollCost::default() };
    for cost in devices.iter().map(Watched::cost) {
        all.calls += cost.calls;
        all.in_calls += cost.in_calls;
        let slowest = [all.slowest.take(), cost.slowest.clone()];
        all.slowest = slowest.into_iter().flatten().max_by_key(|slowest| slowest.1);
    }
    all
}

/// The end is a window's too: where none ended right before it. What is read for either is waited for.
fn close(devices: &mut [Watched<'_>]) {
    for device in devices.iter_mut().filter(|device| device.look().is_none()) {
        device.edge();
    }
    while let Some(look) = devices.iter().filter_map(Watched::look).min() {
        std::thread::sleep(look.since(Mono::now()).to_duration());
        let now = Mono::now();
        devices.iter_mut().for_each(|device| device.follow(now));
    }
}

/// NVML's own state, apart from the devices'.
struct Library {
    /// Initialised, and not shut down since.
    begun: bool,
    since: Mono,
}

impl Library {
    /// Devices that are away are looked for, after their driver, where that is away as a whole and was not found since.
    fn bring_back<'n>(&mut self, chosen: &'n Selection, devices: &mut [Watched<'n>], outlet: &Outlet) {
        let searches: Vec<Option<Search>> = devices.iter_mut().map(Watched::search).collect();
        let driver = searches.iter().flatten().find_map(|search| match search {
            Search::Driver { since, words } if !self.begun || self.since <= *since => Some((*since, words)),
            _ => None,
        });
        // A new beginning takes every handle, so while others answer a lost device is only looked for.
        let none_answers = devices.iter().all(Watched::is_away) && searches.iter().any(Option::is_some);
        let anew = driver.is_some() || none_answers;
        if anew {
            if let Some((since, words)) = driver {
                devices.iter_mut().for_each(|device| device.goes_with(since, words));
            }
            if let Err(error) = outlet.call(Query::Init, || chosen.begin_anew(&mut self.begun)) {
                devices.iter_mut().for_each(|device| device.stays(&error));
                return;
            }
            self.since = Mono::now();
        }
        for (device, search) in devices.iter_mut().zip(&searches) {
            if search.is_none() && !(anew && device.is_away()) {
                continue;
            }
            match outlet.call(Query::Device, || chosen.again(device.name())) {
                Ok(handle) => device.try_as(handle),
                Err(error) => device.stays(&error),
            }
        }
    }
}

/// What the environment of each shows CUDA; nothing else of it is kept.
fn note_visible(outlet: &Outlet, pids: &[u32]) {
    for &pid in pids {
        // What ended stays as it was.
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        let value = environment.split(|b| *b == 0).find_map(|line| line.strip_prefix(VISIBLE_DEVICES));
        let value = value.map(|value| String::from_utf8_lossy(value).into_owned());
        outlet.send(DeviceEvent::VisibleDevices { pid, value });
    }
}
