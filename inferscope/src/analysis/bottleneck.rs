//! Is the hardware right: what limits the run on each device that the target uses.
//!
//! Owns who is judged and by what: `evidence` gathers what the devices and the client told of a load, `verdict` is the rule,
//! `steps` holds a sweep's verdicts against the next step's measurement, `words` is what a reader is told, `bandwidth` what
//! is known of memory without counters. Goes by no process's CPU time: a thread that waits for the device may spin. Never
//! advises more than the evidence says. Called by `analysis`.

mod bandwidth;
mod evidence;
mod steps;
mod verdict;
mod words;

use crate::event::GpuDevice;
use crate::report::model::{Gpu, GpuSummary, Insight, Level, Sweep, Validity};

use super::Inputs;
use super::load_aggregate::Measured;

use evidence::{Evidence, Load};
use verdict::Verdict;

/// What the judgement rests on.
pub(super) struct Judge<'a> {
    inputs: &'a Inputs<'a>,
    measured: Option<&'a Measured>,
    /// Places of the devices that are judged.
    judged: Vec<usize>,
    /// The client was in the way.
    client: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn of(
        inputs: &'a Inputs<'a>,
        gpus: &[Gpu],
        summary: Option<&GpuSummary>,
        validity: &[Validity],
    ) -> Self {
        let counted = |i: usize| summary.is_some_and(|s| s.devices.contains(&i));
        let judged = |i: &usize| match gpus.get(*i) {
            // What is cut into instances is judged by them.
            Some(gpu) if gpu.mig_parent => false,
            Some(gpu) if gpu.mig.is_some() => gpu.used_by_target == Some(true),
            // One that --gpu names counts, but whose work it does is not known.
            Some(gpu) => counted(*i) && gpu.used_by_target == Some(true),
            None => false,
        };
        Self {
            inputs,
            measured: inputs.load,
            judged: (0..gpus.len()).filter(judged).collect(),
            // The codes of `client`.
            client: validity.iter().any(|v| v.level == Level::Invalid && v.code.starts_with("client_")),
        }
    }

    /// Fills in what limits the run, on each device and in each step of a sweep.
    pub(super) fn judge(&self, gpus: &mut [Gpu], sweep: Option<&mut Sweep>) {
        for (i, gpu) in gpus.iter_mut().enumerate().filter(|(i, _)| !self.judged.contains(i)) {
            gpu.limited_by_reason = Some(match gpu.mig_parent && gpu.used_by_target == Some(true) {
                true => "it is cut into MIG instances: see each of them".to_owned(),
                false => format!("the target is not known to use device {i}"),
            });
        }
        if let (Some(measured), Some(sweep)) = (self.measured.filter(|m| m.is_sweep()), sweep) {
            self.judge_steps(measured, gpus, sweep);
            return;
        }
        let load = self.measured.map(|measured| Load::whole(self.inputs, measured));
        for (place, verdict) in self.verdicts(gpus, load.as_ref()) {
            let gpu = &mut gpus[place];
            gpu.limited_by = verdict.limit;
            gpu.limited_by_reason = verdict.reason;
            gpu.limited_by_evidence = verdict.evidence;
        }
    }

    /// Of each device that is judged, over one load.
    fn verdicts(&self, gpus: &[Gpu], load: Option<&Load<'_>>) -> Vec<(usize, Verdict)> {
        let device = |place: usize| -> Option<&GpuDevice> { self.inputs.gpu.devices.get(place) };
        let told = self.judged.iter().filter_map(|&place| {
            Some((place, Evidence::of(self.inputs.gpu, device(place)?, &gpus[place], load)))
        });
        let told: Vec<(usize, Evidence)> = told.collect();
        let busy_together = told.iter().map(|(_, e)| e.busy_percent()).sum::<Option<f64>>();
        let of = |(place, mut evidence): (usize, Evidence)| {
            evidence.client = self.client;
            evidence.busy_together = busy_together;
            (place, verdict::of(&evidence))
        };
        told.into_iter().map(of).collect()
    }

    fn judge_steps(&self, measured: &Measured, gpus: &mut [Gpu], sweep: &mut Sweep) {
        let mut all: Vec<Vec<(usize, Verdict)>> = measured
            .done
            .iter()
            .map(|done| self.verdicts(gpus, Some(&Load::step(self.inputs, measured, done))))
            .collect();
        steps::held_against_the_next(&measured.done, &mut all);
        for &place in &self.judged {
            let of_device = |of_step: &Vec<(usize, Verdict)>| {
                of_step.iter().find(|(p, _)| *p == place).and_then(|(_, verdict)| verdict.limit)
            };
            let limits: Vec<_> = all.iter().map(of_device).collect();
            let gpu = &mut gpus[place];
            gpu.limited_by =
                limits.first().copied().flatten().filter(|first| limits.iter().all(|l| *l == Some(*first)));
            if gpu.limited_by.is_none() {
                gpu.limited_by_reason =
                    Some("it is judged by each step of the sweep: see sweep.steps[].devices".to_owned());
            }
        }
        for (step, verdicts) in sweep.steps.iter_mut().zip(all) {
            step.devices = verdicts.into_iter().map(|(place, verdict)| verdict.of_step(place)).collect();
        }
    }
}

pub(super) fn insights(gpus: &[Gpu], sweep: Option<&Sweep>) -> Vec<Insight> {
    words::insights(gpus, sweep)
}

#[cfg(test)]
mod tests;
