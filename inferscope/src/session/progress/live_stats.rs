//! Where a load stands.
//!
//! Owns the words of the bar, and the guess when the load will end. Its figures are those of the collector's snapshots. Pure: the
//! time is an argument. Called by `progress`.

use super::super::live_view::LiveView;
use crate::aggregate::Snapshot;
use crate::aggregate::load::Live;
use crate::clock::Mono;
use crate::plan::{LoadPlan, Shape};
use crate::report::humanize::{count, nanos, number, plain};
use crate::units::Nanos;

/// Characters of the bar.
const BAR: usize = 10;
/// The phases of a load, as planned.
#[derive(Debug, Clone)]
pub(super) struct Course {
    steps: Vec<Shape>,
    repeat: u32,
    requests: Option<u64>,
    warmup: u64,
    duration: Option<Nanos>,
}

impl Course {
    pub(super) fn of(load: &LoadPlan) -> Self {
        Self {
            steps: load.steps.clone(),
            repeat: load.repeat,
            requests: load.requests,
            warmup: load.warmup,
            duration: load.duration,
        }
    }

    fn phases(&self) -> usize {
        self.steps.len() * self.repeat as usize
    }

    /// Empty where there is but one.
    pub(super) fn name(&self, phase: usize) -> String {
        let repeat = self.repeat as usize;
        let (step, run) = (phase / repeat, phase % repeat);
        let mut parts = Vec::new();
        if self.steps.len() > 1 {
            let value = match self.steps.get(step) {
                Some(Shape::Closed { concurrency }) => format!(", concurrency {concurrency}"),
                Some(Shape::Open { per_second, .. }) => format!(", {}/s", plain(*per_second)),
                Some(Shape::Trace) | None => String::new(),
            };
            parts.push(format!("step {}/{}{value}", step + 1, self.steps.len()));
        }
        if repeat > 1 {
            parts.push(format!("run {}/{repeat}", run + 1));
        }
        parts.join(", ")
    }
}

/// Where a load stands, as one line.
#[derive(Debug)]
pub(super) struct LiveStats {
    course: Course,
}

impl LiveView for LiveStats {
    fn render(&self, snapshot: &Snapshot, now: Mono) -> String {
        snapshot.load.as_ref().map_or_else(String::new, |load| self.line(&load.live, now))
    }
}

impl LiveStats {
    pub(super) const fn of(course: Course) -> Self {
        Self { course }
    }

    /// How much of the phase is over, where its end is known.
    fn part_of_phase(&self, live: &Live, now: Mono) -> Option<f64> {
        let from = live.phase.measured_from?;
        let by_count = self.course.requests.map(|n| live.phase.ended as f64 / n.max(1) as f64);
        let by_time = self.course.duration.map(|d| now.since(from).as_secs_f64() / d.as_secs_f64());
        // Whichever is reached first ends it.
        by_count.into_iter().chain(by_time).reduce(f64::max).map(|part| part.min(1.0))
    }

    /// How much of the whole load is over.
    fn part(&self, live: &Live, now: Mono) -> f64 {
        let phases = self.course.phases().max(1) as f64;
        ((live.phases as f64 + self.part_of_phase(live, now).unwrap_or(0.0)) / phases).min(1.0)
    }

    /// What is left of the phase, judged by what is over of it; of all phases where they are alike.
    fn left(&self, live: &Live, now: Mono) -> Option<String> {
        let elapsed = now.since(live.phase.measured_from?).as_secs_f64();
        let part = self.part_of_phase(live, now).filter(|part| *part > 0.0)?;
        let whole = elapsed / part;
        let further = self.course.phases().saturating_sub(live.phases + 1);
        let alike = self.course.steps.len() == 1 || self.course.duration.is_some();
        let phases = if alike { further as f64 } else { 0.0 };
        let what = if further > 0 && !alike { "step ETA" } else { "ETA" };
        Some(format!("{what} {}", clock(whole - elapsed + phases * whole)))
    }

    /// A bar and all that is known; the last parts are the first that a narrow terminal cuts.
    fn line(&self, live: &Live, now: Mono) -> String {
        let full = (self.part(live, now) * BAR as f64) as usize;
        format!("{}{} {}", "█".repeat(full), "░".repeat(BAR - full), self.words(live, now))
    }

    fn words(&self, live: &Live, now: Mono) -> String {
        let (course, phase) = (&self.course, &live.phase);
        let mut parts = Vec::new();
        parts.extend(Some(course.name(live.phases)).filter(|name| !name.is_empty()));
        match (phase.measured_from, course.requests, course.duration) {
            (None, ..) if course.warmup > 0 => {
                parts.push(format!("warm-up {}/{}", count(phase.warmed), count(course.warmup)));
            }
            (None, ..) => parts.push("warm-up".to_owned()),
            (Some(_), Some(n), None) => parts.push(format!("{}/{}", count(phase.ended), count(n))),
            (Some(from), _, Some(duration)) => {
                let elapsed = now.since(from).min(duration);
                let [elapsed, all] = [elapsed, duration].map(|t| clock(t.as_secs_f64()));
                parts.push(format!("{elapsed}/{all}, {} done", count(phase.ended)));
            }
            (Some(_), None, None) => parts.push(format!("{} done", count(phase.ended))),
        }
        parts.extend(self.left(live, now));
        if live.failed > 0 {
            parts.push(format!("{} FAILED", count(live.failed)));
        }
        parts.extend(live.tokens_per_s.map(|rate| format!("{} tok/s", number(rate))));
        if let (Some(p50), Some(p99)) = (live.ttft_p50, live.ttft_p99) {
            parts.push(format!("TTFT {}, p99 {}", nanos(p50.0), nanos(p99.0)));
        }
        parts.push(format!("{} in flight", count(live.in_flight)));
        parts.join(" · ")
    }
}

/// Whole seconds: `7s`, `12m34s`, `2h05m`.
fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..=59 => format!("{s}s"),
        60..=3_599 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests;
