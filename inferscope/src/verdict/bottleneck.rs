//! Is the hardware right: what limits the run on each device that the target uses.
//!
//! Owns who is judged and by what: `evidence` gathers what the devices and the client did in a load, `rule` is the rule,
//! `steps` holds a sweep's verdicts against the next step's measurement, `words` is what a reader is told, `bandwidth` what
//! is known of memory without counters. Goes by no process's CPU time: a thread that waits for the device may spin. Never
//! advises more than the evidence says. Called by `report::build`.

mod bandwidth;
mod evidence;
mod rule;
mod steps;
mod words;

use std::collections::BTreeMap;

use crate::clock::Window;
use crate::event::GpuLog;
use crate::figures::devices::Device;

use evidence::Evidence;

pub(crate) use words::{Finding, findings};

/// What limits a run on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The tensor units are near what they reach.
    Tensor,
    /// Other units, of integers or floating-point numbers, are.
    Compute,
    /// The memory's bandwidth is.
    Bandwidth,
    /// The device has work nearly all of the time, and none of its units is near its limit.
    Latency,
    /// The device has no work most of the time, although requests are in flight.
    Host,
    /// The device waits for requests that the client could not send or read in time.
    Client,
    /// The device waits for requests.
    Idle,
}

/// A figure that a verdict rests on. The report rounds each kind in its own way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shown {
    /// Percent, or MiB a second.
    Amount(f64),
    Ratio(f64),
    Source(&'static str),
}

/// By the figures' names.
pub(crate) type ShownEvidence = BTreeMap<&'static str, Shown>;

/// Of one device over one load.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// Or why nothing is said.
    pub(crate) limit: Result<Limit, String>,
    pub(crate) evidence: ShownEvidence,
}

impl Verdict {
    fn without_evidence(why: &str) -> Self {
        Self { limit: Err(why.to_owned()), evidence: ShownEvidence::new() }
    }
}

/// A load, or one step of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) windows: &'a [Window],
    /// Percent of the time in which a request was in flight: exactly, or at least.
    pub(crate) in_flight: Option<f64>,
    pub(crate) in_flight_least: Option<f64>,
    /// Of one stream after its first token, where no two requests were ever in flight together.
    pub(crate) alone_steps_per_s: Option<f64>,
}

/// A step of a sweep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) load: Load<'a>,
    /// Slots that were asked for, or requests a second that were sent.
    pub(crate) offered: f64,
    /// Output tokens a second, or requests where tokens are unknown.
    pub(crate) gave: Option<f64>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) rate_per_s: Option<f64>,
}

/// What was sent.
#[derive(Debug, Clone)]
pub(crate) enum Sent<'a> {
    Nothing,
    Load(Load<'a>),
    Sweep(Vec<Step<'a>>),
}

/// What the judgement rests on.
pub(crate) struct Scene<'a> {
    pub(crate) log: &'a GpuLog,
    pub(crate) devices: &'a [Device<'a>],
    /// Places of the devices that count.
    pub(crate) counted: &'a [usize],
    /// The client was in the way.
    pub(crate) client: bool,
    pub(crate) sent: Sent<'a>,
}

/// What is said of each device, in their order, and in each step of a sweep of those that are judged.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) devices: Vec<Verdict>,
    pub(crate) steps: Vec<Vec<(usize, Verdict)>>,
}

pub(crate) fn judge(scene: &Scene<'_>) -> Judgement {
    let judged: Vec<usize> = (0..scene.devices.len()).filter(|i| scene.is_judged(*i)).collect();
    let mut devices: Vec<Verdict> = scene.devices.iter().enumerate().map(not_judged).collect();
    let mut all_steps = Vec::new();
    match &scene.sent {
        Sent::Sweep(steps) => {
            all_steps = steps.iter().map(|step| scene.verdicts(&judged, Some(&step.load))).collect();
            steps::hold_against_the_next(steps, &mut all_steps);
            for &place in &judged {
                devices[place] = over_steps(place, &all_steps);
            }
        }
        Sent::Load(load) => replace(&mut devices, scene.verdicts(&judged, Some(load))),
        Sent::Nothing => replace(&mut devices, scene.verdicts(&judged, None)),
    }
    Judgement { devices, steps: all_steps }
}

fn replace(devices: &mut [Verdict], verdicts: Vec<(usize, Verdict)>) {
    for (place, verdict) in verdicts {
        devices[place] = verdict;
    }
}

fn not_judged((place, device): (usize, &Device<'_>)) -> Verdict {
    match device.log.mig_parent && device.usage.used == Ok(true) {
        true => Verdict::without_evidence("it is cut into MIG instances: see each of them"),
        false => Verdict::without_evidence(&format!("the target is not known to use device {place}")),
    }
}

/// Of a sweep as a whole there is a verdict only where it is one thing in all steps.
fn over_steps(place: usize, steps: &[Vec<(usize, Verdict)>]) -> Verdict {
    let of_device = |of_step: &Vec<(usize, Verdict)>| {
        of_step.iter().find(|(p, _)| *p == place).and_then(|(_, verdict)| verdict.limit.clone().ok())
    };
    let limits: Vec<Option<Limit>> = steps.iter().map(of_device).collect();
    match limits.first().copied().flatten().filter(|first| limits.iter().all(|l| *l == Some(*first))) {
        Some(limit) => Verdict { limit: Ok(limit), evidence: ShownEvidence::new() },
        None => {
            Verdict::without_evidence("it is judged by each step of the sweep: see sweep.steps[].devices")
        }
    }
}

impl Scene<'_> {
    fn is_judged(&self, place: usize) -> bool {
        let device = &self.devices[place];
        let used = device.usage.used == Ok(true);
        // What is cut into instances is judged by them. A device that --gpu names counts, but whose work it does is not known.
        !device.log.mig_parent && used && (device.log.mig.is_some() || self.counted.contains(&place))
    }

    /// Of each device that is judged, over one load.
    fn verdicts(&self, judged: &[usize], load: Option<&Load<'_>>) -> Vec<(usize, Verdict)> {
        let gathered = judged.iter().map(|&i| (i, Evidence::new(self.log, &self.devices[i], load)));
        let gathered: Vec<(usize, Evidence)> = gathered.collect();
        let busy_together = gathered.iter().map(|(_, e)| e.busy_percent()).sum::<Option<f64>>();
        let of = |(place, mut evidence): (usize, Evidence)| {
            evidence.client = self.client;
            evidence.busy_together = busy_together;
            (place, rule::verdict(&evidence))
        };
        gathered.into_iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests;
