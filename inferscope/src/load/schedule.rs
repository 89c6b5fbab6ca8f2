//! When which request is sent.
//!
//! Owns the order within one phase (a step of a sweep, or one repetition of it): warm-up, the ramp, then the
//! measured requests, until the count or the time is up, or the server is plainly not there. Pure: time is an
//! argument. Asked by the driver's one loop for every shape of load.
//!
//! The measured part begins when the last warm-up request has ended, so that neither is in the other's way; the
//! ramp before it runs into it without a pause, as the load must not drop.

mod arrivals;

use crate::clock::Mono;
use crate::event::{FailureKind, Loaded, RequestLog};
use crate::plan::{Arrival, Shape};
use crate::units::Nanos;

use arrivals::Arrivals;

/// Connections that fail in a row before the rest is given up. Each may take the connect timeout, so a
/// server that is not there costs at most three of them and not one a request.
const UNREACHABLE_IN_A_ROW: u32 = 3;
/// Steps of a closed loop's ramp: more are no smoother.
const RAMP_STEPS: u32 = 1_000;

/// What a phase sends.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    pub(super) shape: Shape,
    pub(super) warmup: u64,
    /// `None`: the duration alone ends it.
    pub(super) requests: Option<u64>,
    pub(super) duration: Option<Nanos>,
    pub(super) ramp_up: Nanos,
    pub(super) max_in_flight: u32,
    pub(super) seed: u64,
    /// Of a trace: when each measured request is due after the first.
    pub(super) offsets: Vec<Nanos>,
}

impl Phase {
    /// What an open loop sends in a stage.
    fn arrivals(&self, stage: Stage) -> arrivals::Stage {
        let Shape::Open { per_second, arrival } = self.shape else {
            return arrivals::Stage::level(Arrival::Constant, 1.0, None, None);
        };
        match stage {
            Stage::Warmup => arrivals::Stage::level(arrival, per_second, None, Some(self.warmup)),
            Stage::Ramp(_) => arrivals::Stage::rising(arrival, per_second, self.ramp_up.as_secs_f64()),
            Stage::Measured(_) => {
                let seconds = self.duration.map(Nanos::as_secs_f64);
                arrivals::Stage::level(arrival, per_second, seconds, self.requests)
            }
        }
    }
}

/// One request to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Counted from zero, warm-up and measured requests each for themselves.
    pub(super) index: u64,
    pub(super) warmup: bool,
    /// When the schedule wants it sent; `None` in a closed loop.
    pub(super) scheduled: Option<Mono>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Now(Turn),
    /// Nothing is due before.
    At(Mono),
    /// When a request has ended.
    AfterOne,
    Over,
}

#[derive(Debug)]
pub(super) struct Schedule {
    phase: Phase,
    stage: Stage,
    /// Warm-up requests begun, those of the ramp among them.
    warmed: u64,
    /// Measured requests begun.
    sent: u64,
    /// When the last of them was begun.
    last_sent: Mono,
    unreachable: u32,
    /// No more is sent since then, whatever the plan was.
    stopped: Option<Mono>,
    /// Of the stage under way, in an open loop, and when it began.
    arrivals: Option<(Mono, Arrivals)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Warmup,
    /// Since then.
    Ramp(Mono),
    Measured(Mono),
}

impl Schedule {
    pub(super) fn new(phase: Phase) -> Self {
        Self {
            phase,
            stage: Stage::Warmup,
            warmed: 0,
            sent: 0,
            last_sent: Mono(0),
            unreachable: 0,
            stopped: None,
            arrivals: None,
        }
    }

    /// When the measured part began.
    pub(super) fn measured_from(&self) -> Option<Mono> {
        match self.stage {
            Stage::Measured(from) => Some(from),
            Stage::Warmup | Stage::Ramp(_) => None,
        }
    }

    /// The part in which the load is full. A ramp's end is known when it begins.
    pub(super) fn loaded(&self) -> Loaded {
        match self.stage {
            Stage::Warmup => Loaded::default(),
            Stage::Ramp(from) => Loaded { from: Some(from.plus(self.phase.ramp_up)), to: self.stopped },
            Stage::Measured(from) => {
                let all = [self.time_up(from), self.sent_all(), self.stopped];
                Loaded { from: Some(from), to: all.into_iter().flatten().min().map(|to| to.max(from)) }
            }
        }
    }

    /// Whether it was its time that ended the load.
    pub(super) fn timed(&self) -> bool {
        let Stage::Measured(from) = self.stage else { return false };
        let end = self.time_up(from);
        end.is_some() && self.loaded().to == end
    }

    fn time_up(&self, from: Mono) -> Option<Mono> {
        self.phase.duration.map(|most| from.plus(most))
    }

    /// When the last of the requests was sent that the plan has.
    fn sent_all(&self) -> Option<Mono> {
        let trace = (self.phase.shape == Shape::Trace).then_some(self.phase.offsets.len() as u64);
        let most = self.phase.requests.into_iter().chain(trace).min()?;
        (self.sent >= most).then_some(self.last_sent)
    }

    /// Nothing is sent from `now` on.
    pub(super) fn stop(&mut self, now: Mono) {
        self.stopped.get_or_insert(now);
    }

    /// Requests that were sent before the measured part.
    pub(super) const fn warmed(&self) -> u64 {
        self.warmed
    }

    /// Measured requests begun.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// What to do at `now`, with so many requests under way. A turn that is told counts as taken.
    pub(super) fn next(&mut self, now: Mono, in_flight: u32) -> Next {
        if self.unreachable >= UNREACHABLE_IN_A_ROW {
            self.stop(now);
            return Next::Over;
        }
        if self.stage == Stage::Warmup {
            if self.warmed < self.phase.warmup {
                return self.warmup(now, in_flight);
            }
            if in_flight > 0 {
                return Next::AfterOne;
            }
            self.arrivals = None;
            let ramp = self.phase.ramp_up > Nanos::ZERO && self.phase.shape != Shape::Trace;
            self.stage = if ramp { Stage::Ramp(now) } else { Stage::Measured(now) };
        }
        if let Stage::Ramp(from) = self.stage {
            let full = from.plus(self.phase.ramp_up);
            match self.ramp(now, from, in_flight) {
                Some(next) => return next,
                None => {
                    self.arrivals = None;
                    self.stage = Stage::Measured(full);
                }
            }
        }
        let Stage::Measured(from) = self.stage else { return Next::Over };
        self.measured(now, from, in_flight)
    }

    /// As the phase will be, but for a trace, which is one after another.
    fn warmup(&mut self, now: Mono, in_flight: u32) -> Next {
        let due = match self.phase.shape {
            Shape::Closed { concurrency } if in_flight >= concurrency => return Next::AfterOne,
            Shape::Trace if in_flight > 0 => return Next::AfterOne,
            Shape::Closed { .. } | Shape::Trace => None,
            Shape::Open { .. } => match self.due(now, now, in_flight) {
                Ok(due) => Some(due),
                Err(next) => return next,
            },
        };
        self.warmed += 1;
        Next::Now(Turn { index: self.warmed - 1, warmup: true, scheduled: due })
    }

    /// `None`: the load is at its full height.
    fn ramp(&mut self, now: Mono, from: Mono, in_flight: u32) -> Option<Next> {
        let ramp = self.phase.ramp_up;
        let since = now.since(from);
        if since >= ramp {
            return None;
        }
        let due = match self.phase.shape {
            Shape::Closed { concurrency } => {
                let part = since.as_secs_f64() / ramp.as_secs_f64();
                let open = ((f64::from(concurrency) * part) as u32 + 1).min(concurrency);
                if in_flight >= open {
                    let steps = u64::from(concurrency.min(RAMP_STEPS));
                    let step = ramp.0 / steps.max(1);
                    let next = from.plus(Nanos((since.0 / step.max(1) + 1) * step.max(1)));
                    return Some(Next::At(next.min(from.plus(ramp))));
                }
                None
            }
            Shape::Open { .. } => match self.due(now, from, in_flight) {
                Ok(due) => Some(due),
                Err(Next::Over) => return Some(Next::At(from.plus(ramp))),
                Err(next) => return Some(next),
            },
            Shape::Trace => return None,
        };
        self.warmed += 1;
        Some(Next::Now(Turn { index: self.warmed - 1, warmup: true, scheduled: due }))
    }

    fn measured(&mut self, now: Mono, from: Mono, in_flight: u32) -> Next {
        if self.phase.requests.is_some_and(|most| self.sent >= most) {
            return Next::Over;
        }
        let end = self.time_up(from);
        let due = match self.phase.shape {
            Shape::Closed { concurrency } => {
                if end.is_some_and(|end| now >= end) {
                    return Next::Over;
                }
                if in_flight >= concurrency {
                    return Next::AfterOne;
                }
                None
            }
            Shape::Open { .. } => match (self.due(now, from, in_flight), end) {
                (Ok(due), _) => Some(due),
                // The time goes on when its last request is sent.
                (Err(Next::Over), Some(end)) if now < end => return Next::At(end),
                (Err(next), _) => return next,
            },
            Shape::Trace => {
                let offset = usize::try_from(self.sent).ok().and_then(|n| self.phase.offsets.get(n));
                let Some(offset) = offset else { return Next::Over };
                let due = from.plus(*offset);
                // What was due before the end is sent, however late.
                if let Some(end) = end.filter(|end| due >= *end) {
                    return if now < end { Next::At(end) } else { Next::Over };
                }
                if now < due {
                    return Next::At(due);
                }
                if in_flight >= self.phase.max_in_flight {
                    return Next::AfterOne;
                }
                Some(due)
            }
        };
        self.sent += 1;
        self.last_sent = now;
        Next::Now(Turn { index: self.sent - 1, warmup: false, scheduled: due })
    }

    /// The next arrival of the stage that began at `from`, taken, where it is due and there is room for it.
    fn due(&mut self, now: Mono, from: Mono, in_flight: u32) -> Result<Mono, Next> {
        let (began, arrivals) = match &mut self.arrivals {
            Some(arrivals) => arrivals,
            None => self.arrivals.insert((from, Arrivals::new(self.phase.arrivals(self.stage), self.seed()))),
        };
        let due = began.plus(arrivals.peek().ok_or(Next::Over)?);
        if now < due {
            return Err(Next::At(due));
        }
        if in_flight >= self.phase.max_in_flight {
            return Err(Next::AfterOne);
        }
        arrivals.take();
        Ok(due)
    }

    /// Of the stage's arrivals.
    fn seed(&self) -> u64 {
        let stage = match self.stage {
            Stage::Warmup => 0,
            Stage::Ramp(_) => 1,
            Stage::Measured(_) => 2,
        };
        // Any odd number keeps stages apart.
        self.phase.seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(stage))
    }

    /// The time over which the measured requests went out, or were to: what the offered rate is of.
    pub(super) fn offered_over(&self) -> Option<Nanos> {
        let (Shape::Open { per_second, .. }, Stage::Measured(from)) = (self.phase.shape, self.stage) else {
            return None;
        };
        let all_sent = self.phase.requests.is_some_and(|most| self.sent >= most);
        let to = match (self.stopped, self.phase.duration) {
            (Some(stopped), _) if !all_sent => stopped,
            _ if all_sent => from.plus(Nanos((self.sent as f64 / per_second * 1e9) as u64)),
            (_, duration) => from.plus(duration.unwrap_or(Nanos::ZERO)),
        };
        Some(to.max(self.last_sent).since(from))
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, log: &RequestLog) {
        let connect = log.failure.as_ref().is_some_and(|f| {
            matches!(f.kind, FailureKind::Connect | FailureKind::Certificate | FailureKind::ClientLimit)
        });
        self.unreachable = if connect { self.unreachable + 1 } else { 0 };
    }
}

#[cfg(test)]
mod tests;
