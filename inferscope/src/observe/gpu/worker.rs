//! The polling thread.
//!
//! Owns its loop: when each device is looked at, when one that is away is looked for, and how the end waits for the energy
//! counters' next refresh. Never holds the log during a call. Started by the poller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::ask::Search;
use super::chosen::Chosen;
use super::device::Watched;
use super::known::Shared;
use super::packages::Packages;
use super::processes::Pids;
use crate::clock::Mono;
use crate::observe::observer::own_thread_cpu;
use crate::observe::target;
use crate::units::Nanos;

/// Refreshes of an energy counter come about every 100 ms; one that has not come by then is not waited for.
const REFRESH_LIMIT: Nanos = Nanos::from_millis(500);
const REFRESH_LOOK: Duration = Duration::from_millis(5);
/// The variable by which CUDA hides devices from a process.
const VISIBLE_DEVICES: &[u8] = b"CUDA_VISIBLE_DEVICES=";

pub(super) struct Worker {
    pub(super) devices: Option<Chosen>,
    pub(super) packages: Result<Packages, String>,
    pub(super) interval: Nanos,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) roots: Vec<u32>,
    pub(super) shared: Shared,
}

impl Worker {
    pub(super) fn run(self, tell_look: oneshot::Sender<()>) {
        let pids = Pids { are_ours: !target::in_inner_namespace() };
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
        let mut next = began;
        let mut library = Library { begun: true, since: began };
        let mut tell_look = Some(tell_look);
        loop {
            let last = self.stop.load(Ordering::Relaxed);
            if let Some(reading) = packages.as_mut().ok().and_then(Packages::read) {
                self.shared.lock().packages.push(reading);
            }
            if let Some(chosen) = self.devices.as_ref().filter(|_| !last) {
                library.bring_back(chosen, &mut devices, &self.shared);
            }
            for device in &mut devices {
                // The end of the run is not to wait for one more look at seven others.
                if !last && self.stop.load(Ordering::Relaxed) {
                    break;
                }
                device.tick(&pids, last);
                let newcomers: Vec<u32> = device.pids().into_iter().filter(|pid| seen.insert(*pid)).collect();
                if pids.are_ours && !newcomers.is_empty() {
                    note_visible(&self.shared, &newcomers);
                    // What `exec` started may have become another program since.
                    note_visible(&self.shared, &self.roots);
                }
            }
            {
                let mut known = self.shared.lock();
                known.ticks += 1;
                known.polled = Some((began, Mono::now()));
                known.cpu = own_thread_cpu().saturating_sub(began_cpu);
            }
            if let Some(tell) = tell_look.take() {
                // Nobody may be waiting.
                let _ = tell.send(());
            }
            if last {
                break;
            }
            next = next.plus(self.interval).max(Mono::now());
            std::thread::park_timeout(next.since(Mono::now()).to_duration());
        }
        wait_for_refresh(&devices);
        self.shared.lock().cpu = own_thread_cpu().saturating_sub(began_cpu);
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
    fn bring_back<'n>(&mut self, chosen: &'n Chosen, devices: &mut [Watched<'n>], shared: &Shared) {
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

/// What a counter shows is known to be of after the end only once it has changed after it.
fn wait_for_refresh(devices: &[Watched<'_>]) {
    let deadline = Mono::now().plus(REFRESH_LIMIT);
    let first: Vec<Option<u64>> = devices.iter().map(Watched::read_energy).collect();
    let mut waiting: Vec<usize> = (0..devices.len()).filter(|i| first[*i].is_some()).collect();
    while !waiting.is_empty() && Mono::now() < deadline {
        std::thread::sleep(REFRESH_LOOK);
        waiting.retain(|&i| devices[i].read_energy() == first[i]);
    }
}

/// What the environment of each shows CUDA; nothing else of it is kept.
fn note_visible(shared: &Shared, pids: &[u32]) {
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
