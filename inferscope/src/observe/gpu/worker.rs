//! The polling thread.
//!
//! Owns its loop: when each device is looked at, when one that is away is looked for, and how the energy counters are read at
//! the ends of windows, for which the end waits. Never holds the log during a call. Started by the poller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::Edge;
use super::device::Watched;
use super::log::SharedLog;
use super::processes::Pids;
use super::query_policy::Search;
use super::schedule::Looks;
use super::selection::Selection;
use crate::clock::Mono;
use crate::observe::observer::own_thread_cpu;
use crate::observe::rapl::Packages;
use crate::observe::target_discovery;
use crate::units::Nanos;

/// The variable by which CUDA hides devices from a process.
const VISIBLE_DEVICES: &[u8] = b"CUDA_VISIBLE_DEVICES=";

pub(super) struct Worker {
    pub(super) devices: Option<Selection>,
    pub(super) packages: Result<Packages, String>,
    pub(super) interval: Nanos,
    pub(super) stop: Arc<AtomicBool>,
    /// A window began or ended.
    pub(super) edge: Arc<Edge>,
    pub(super) roots: Vec<u32>,
    pub(super) shared: SharedLog,
}

impl Worker {
    pub(super) fn run(self, tell_look: oneshot::Sender<()>) {
        let pids = Pids { are_ours: !target_discovery::in_inner_namespace() };
        let began_cpu = own_thread_cpu();
        let mut devices =
            self.devices.as_ref().map(|chosen| chosen.watched(&self.shared)).unwrap_or_default();
        let mut packages = self.packages;
        let mut seen = BTreeSet::new();
        {
            let mut known = self.shared.lock();
            known.pids_are_ours = pids.are_ours;
            known.packages_unavailable = packages.as_ref().err().cloned();
        }
        note_visible(&self.shared, &self.roots);
        let began = Mono::now();
        let mut looks = Looks::new(began, self.interval);
        let mut next = began;
        let mut from = None;
        let mut library = Library { begun: true, since: began };
        let mut tell_look = Some(tell_look);
        loop {
            let last = self.stop.load(Ordering::Relaxed);
            let is_edge = self.edge.take(Mono::now());
            if is_edge {
                devices.iter_mut().for_each(Watched::edge);
            }
            let is_due = last || Mono::now() >= next;
            if is_edge || is_due {
                read_packages(&self.shared, &mut packages);
            }
            if is_due {
                if let Some(chosen) = self.devices.as_ref().filter(|_| !last) {
                    library.bring_back(chosen, &mut devices, &self.shared);
                }
                for device in &mut devices {
                    // The end of the run is not to wait for one more look at seven others.
                    if !last && self.stop.load(Ordering::Relaxed) {
                        break;
                    }
                    device.tick(&pids, last);
                    let newcomers: Vec<u32> =
                        device.pids().into_iter().filter(|pid| seen.insert(*pid)).collect();
                    if pids.are_ours && !newcomers.is_empty() {
                        note_visible(&self.shared, &newcomers);
                        // What `exec` started may have become another program since.
                        note_visible(&self.shared, &self.roots);
                    }
                }
                let now = Mono::now();
                // Of the first look, which is slow, nothing is: what follows is the time of polling.
                let polled_from = *from.get_or_insert(now);
                {
                    let mut known = self.shared.lock();
                    known.ticks += 1;
                    known.polled = Some((polled_from, now));
                    known.cpu = own_thread_cpu().saturating_sub(began_cpu);
                }
                if let Some(tell) = tell_look.take() {
                    devices.iter_mut().for_each(Watched::edge);
                    // Nobody may be waiting.
                    let _ = tell.send(());
                }
                if last {
                    break;
                }
                next = looks.next(now);
            }
            let now = Mono::now();
            devices.iter_mut().for_each(|device| device.follow(now));
            let wake =
                devices.iter().filter_map(Watched::look).chain(self.edge.ahead()).fold(next, Mono::min);
            std::thread::park_timeout(wake.since(Mono::now()).to_duration());
        }
        close(&mut devices);
        read_packages(&self.shared, &mut packages);
        self.shared.lock().cpu = own_thread_cpu().saturating_sub(began_cpu);
    }
}

fn read_packages(shared: &SharedLog, packages: &mut Result<Packages, String>) {
    if let Some(reading) = packages.as_mut().ok().and_then(Packages::read) {
        shared.lock().packages.push(reading);
    }
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
    fn bring_back<'n>(&mut self, chosen: &'n Selection, devices: &mut [Watched<'n>], shared: &SharedLog) {
        let searches: Vec<Option<Search>> = devices.iter().map(Watched::search).collect();
        let driver = searches.iter().flatten().find_map(|search| match search {
            Search::Driver { since, words } if !self.begun || self.since <= *since => Some((*since, words)),
            _ => None,
        });
        // A new beginning takes every handle, so while others answer a lost device is only looked for.
        let none_answers = devices.iter().all(Watched::is_away) && searches.iter().any(Option::is_some);
        let anew = driver.is_some() || none_answers;
        if anew {
            if let Some((since, words)) = driver {
                devices.iter().for_each(|device| device.goes_with(since, words));
            }
            if let Err(error) = shared.waiting("nvmlInit_v2", || chosen.begin_anew(&mut self.begun)) {
                devices.iter().for_each(|device| device.stays(&error));
                return;
            }
            self.since = Mono::now();
        }
        for (device, search) in devices.iter_mut().zip(&searches) {
            if search.is_none() && !(anew && device.is_away()) {
                continue;
            }
            match shared.waiting("device", || chosen.again(device.name())) {
                Ok(handle) => device.try_as(handle),
                Err(error) => device.stays(&error),
            }
        }
    }
}

/// What the environment of each shows CUDA; nothing else of it is kept.
fn note_visible(shared: &SharedLog, pids: &[u32]) {
    for &pid in pids {
        // What ended stays as it was.
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        let value = environment.split(|b| *b == 0).find_map(|line| line.strip_prefix(VISIBLE_DEVICES));
        let known = &mut shared.lock().visible_devices;
        match value {
            Some(value) => known.insert(pid, String::from_utf8_lossy(value).into_owned()),
            None => known.remove(&pid),
        };
    }
}
