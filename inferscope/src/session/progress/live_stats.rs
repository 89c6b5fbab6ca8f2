//! Where a load stands.
//!
//! Owns the live figures of the bar and their words. They are rough by nature: a rate is of the answers that
//! ended lately, and an end is guessed. Pure: the time is an argument. Called by `progress`.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use crate::aggregate::load::tokens::output_tokens;
use crate::clock::Mono;
use crate::event::RequestLog;
use crate::plan::{LoadPlan, Shape};
use crate::report::humanize::{count, nanos, number, plain};
use crate::units::Nanos;

/// The rate is over this long, or over twice what an answer takes where that is longer: what a request brings is
/// known when it has ended.
const LATELY: Nanos = Nanos::from_millis(2_000);
const LONGEST: Nanos = Nanos::from_millis(30_000);
/// Characters of the bar.
const BAR: usize = 10;
/// A first token later than this is shown as this.
const SLOWEST_NS: u64 = 3_600_000_000_000;

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

#[derive(Debug)]
pub(super) struct LiveStats {
    course: Course,
    phase: usize,
    phase_began: Mono,
    /// The first measured request was sent.
    measured_from: Option<Mono>,
    under_way: u64,
    warmed: u64,
    done: u64,
    /// Of the whole load, warm-up included.
    failed: u64,
    /// When an answer ended and how many tokens it brought.
    lately: VecDeque<(Mono, u64)>,
    /// What an answer takes, about.
    usual: Nanos,
    /// Of the step.
    ttft: Histogram<u64>,
}

impl LiveStats {
    pub(super) fn new(course: Course, now: Mono) -> Self {
        Self {
            course,
            phase: 0,
            phase_began: now,
            measured_from: None,
            under_way: 0,
            warmed: 0,
            done: 0,
            failed: 0,
            lately: VecDeque::new(),
            usual: Nanos::ZERO,
            // A microsecond to an hour at two digits.
            ttft: Histogram::new_with_bounds(1_000, SLOWEST_NS, 2).expect("these are bounds that it takes"),
        }
    }

    pub(super) fn sent(&mut self, warmup: bool, now: Mono) {
        self.under_way += 1;
        if !warmup && self.measured_from.is_none() {
            self.measured_from = Some(now);
        }
    }

    pub(super) fn ended(&mut self, request: &RequestLog) {
        self.under_way = self.under_way.saturating_sub(1);
        if request.warmup {
            self.warmed += 1;
        } else {
            self.done += 1;
        }
        if request.failure.is_some() {
            self.failed += 1;
            return;
        }
        let took = request.done.since(request.sent);
        self.usual = if self.usual == Nanos::ZERO { took } else { Nanos(self.usual.0 / 8 * 7 + took.0 / 8) };
        self.lately.push_back((request.done, output_tokens(request).unwrap_or(0)));
        let from = request.done.0.saturating_sub(self.window().0);
        while self.lately.front().is_some_and(|(t, _)| t.0 < from) {
            self.lately.pop_front();
        }
        let first = request.chunks.iter().find(|c| c.kind.has_tokens());
        if let Some(first) = first.filter(|_| !request.warmup) {
            self.ttft.saturating_record(first.t.since(request.waited_from()).0);
        }
    }

    pub(super) fn next_phase(&mut self, now: Mono) {
        self.phase += 1;
        self.phase_began = now;
        self.measured_from = None;
        (self.under_way, self.warmed, self.done) = (0, 0, 0);
        self.lately.clear();
        if self.phase.is_multiple_of(self.course.repeat as usize) {
            self.ttft.reset();
            self.usual = Nanos::ZERO;
        }
    }

    fn window(&self) -> Nanos {
        Nanos(self.usual.0.saturating_mul(2)).clamp(LATELY, LONGEST)
    }

    /// Of the answers that ended lately.
    fn tokens_per_s(&self, now: Mono) -> Option<f64> {
        let from = Mono(now.0.saturating_sub(self.window().0)).max(self.phase_began);
        let time = now.since(from).as_secs_f64();
        let ended = self.lately.iter().filter(|(t, _)| *t >= from);
        (time > 0.0 && !self.lately.is_empty()).then(|| ended.map(|(_, n)| *n).sum::<u64>() as f64 / time)
    }

    /// How much of the phase is over, where its end is known.
    fn part_of_phase(&self, now: Mono) -> Option<f64> {
        let from = self.measured_from?;
        let by_count = self.course.requests.map(|n| self.done as f64 / n.max(1) as f64);
        let by_time = self.course.duration.map(|d| now.since(from).as_secs_f64() / d.as_secs_f64());
        // Whichever is reached first ends it.
        by_count.into_iter().chain(by_time).reduce(f64::max).map(|part| part.min(1.0))
    }

    /// How much of the whole load is over.
    fn part(&self, now: Mono) -> f64 {
        let phases = self.course.phases().max(1) as f64;
        ((self.phase as f64 + self.part_of_phase(now).unwrap_or(0.0)) / phases).min(1.0)
    }

    /// What is left of the phase, judged by what is over of it; of all phases where they are alike.
    fn left(&self, now: Mono) -> Option<String> {
        let spent = now.since(self.measured_from?).as_secs_f64();
        let part = self.part_of_phase(now).filter(|part| *part > 0.0)?;
        let whole = spent / part;
        let further = self.course.phases().saturating_sub(self.phase + 1);
        let alike = self.course.steps.len() == 1 || self.course.duration.is_some();
        let phases = if alike { further as f64 } else { 0.0 };
        let what = if further > 0 && !alike { "step ETA" } else { "ETA" };
        Some(format!("{what} {}", clock(whole - spent + phases * whole)))
    }

    /// A bar and all that is known; the last parts are the first that a narrow terminal cuts.
    pub(super) fn line(&self, now: Mono) -> String {
        let full = (self.part(now) * BAR as f64) as usize;
        format!("{}{} {}", "█".repeat(full), "░".repeat(BAR - full), self.words(now))
    }

    fn words(&self, now: Mono) -> String {
        let course = &self.course;
        let mut parts = Vec::new();
        parts.extend(Some(course.name(self.phase)).filter(|name| !name.is_empty()));
        match (self.measured_from, course.requests, course.duration) {
            (None, ..) if course.warmup > 0 => {
                parts.push(format!("warm-up {}/{}", count(self.warmed), count(course.warmup)));
            }
            (None, ..) => parts.push("warm-up".to_owned()),
            (Some(_), Some(n), None) => parts.push(format!("{}/{}", count(self.done), count(n))),
            (Some(from), _, Some(duration)) => {
                let spent = now.since(from).min(duration);
                let [spent, all] = [spent, duration].map(|t| clock(t.as_secs_f64()));
                parts.push(format!("{spent}/{all}, {} done", count(self.done)));
            }
            (Some(_), None, None) => parts.push(format!("{} done", count(self.done))),
        }
        parts.extend(self.left(now));
        if self.failed > 0 {
            parts.push(format!("{} FAILED", count(self.failed)));
        }
        parts.extend(self.tokens_per_s(now).map(|rate| format!("{} tok/s", number(rate))));
        if !self.ttft.is_empty() {
            let [p50, p99] = [0.5, 0.99].map(|q| nanos(self.ttft.value_at_quantile(q)));
            parts.push(format!("TTFT {p50}, p99 {p99}"));
        }
        parts.push(format!("{} in flight", count(self.under_way)));
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
