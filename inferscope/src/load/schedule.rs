//! When which request is sent.
//!
//! Owns the order within one phase (a step of a sweep, or one repetition of it): warm-up, the ramp, then the
//! measured requests, until the count or the time is up, or the server is plainly not there. Pure: time is an
//! argument. Asked by the driver's one loop for every shape of load.
//!
//! The measured part begins when the last warm-up request has ended, so that neither is in the other's way; the
//! ramp before it runs into it without a pause, as the load must not drop.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::clock::Mono;
use crate::event::{FailureKind, Loaded, RequestLog};
use crate::plan::{Arrival, Shape};
use crate::units::Nanos;

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
    arrivals: Arrivals,
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
        let arrivals = Arrivals::new(phase.seed);
        Self {
            phase,
            stage: Stage::Warmup,
            warmed: 0,
            sent: 0,
            last_sent: Mono(0),
            unreachable: 0,
            stopped: None,
            arrivals,
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
            self.arrivals = Arrivals::new(self.phase.seed);
            let ramp = self.phase.ramp_up > Nanos::ZERO && self.phase.shape != Shape::Trace;
            self.stage = if ramp { Stage::Ramp(now) } else { Stage::Measured(now) };
        }
        if let Stage::Ramp(from) = self.stage {
            let full = from.plus(self.phase.ramp_up);
            match self.ramp(now, from, in_flight) {
                Some(next) => return next,
                None => self.stage = Stage::Measured(full),
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
            Shape::Open { per_second, arrival } => {
                match self.arrivals.due(now, in_flight, self.phase.max_in_flight, per_second, arrival) {
                    Ok(due) => Some(due),
                    Err(next) => return next,
                }
            }
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
            Shape::Open { per_second, arrival } => {
                let due =
                    self.arrivals.peek(from, |arrivals| arrivals.ramped(from, ramp, per_second, arrival));
                if due >= from.plus(ramp) {
                    return if now >= from.plus(ramp) { None } else { Some(Next::At(from.plus(ramp))) };
                }
                if now < due {
                    return Some(Next::At(due));
                }
                if in_flight >= self.phase.max_in_flight {
                    return Some(Next::AfterOne);
                }
                self.arrivals.take();
                Some(due)
            }
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
            Shape::Open { per_second, arrival } => {
                Some(self.arrivals.peek(from, |arrivals| arrivals.spaced(per_second, arrival)))
            }
            Shape::Trace => {
                let offset = usize::try_from(self.sent).ok().and_then(|n| self.phase.offsets.get(n));
                let Some(offset) = offset else { return Next::Over };
                Some(from.plus(*offset))
            }
        };
        if let Some(due) = due {
            // What was due before the end is sent, however late.
            if end.is_some_and(|end| due >= end) {
                return Next::Over;
            }
            if now < due {
                return Next::At(due);
            }
            if in_flight >= self.phase.max_in_flight {
                return Next::AfterOne;
            }
            self.arrivals.take();
        }
        self.sent += 1;
        self.last_sent = now;
        Next::Now(Turn { index: self.sent - 1, warmup: false, scheduled: due })
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, log: &RequestLog) {
        let connect = log.failure.as_ref().is_some_and(|f| {
            matches!(f.kind, FailureKind::Connect | FailureKind::Certificate | FailureKind::ClientLimit)
        });
        self.unreachable = if connect { self.unreachable + 1 } else { 0 };
    }
}

/// The arrivals of an open loop, one after another.
#[derive(Debug)]
struct Arrivals {
    random: SmallRng,
    /// The last one taken.
    last: Option<Mono>,
    /// Drawn and not yet taken.
    pending: Option<Mono>,
}

impl Arrivals {
    fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), last: None, pending: None }
    }

    /// The next one; drawn by `gap` after the last, or at `from` where it is the first.
    fn peek(&mut self, from: Mono, gap: impl FnOnce(&mut Self) -> Nanos) -> Mono {
        if let Some(pending) = self.pending {
            return pending;
        }
        // After a ramp the last arrival lies before `from`.
        let due = match self.last {
            None => from,
            Some(last) => last.plus(gap(self)).max(from),
        };
        self.pending = Some(due);
        due
    }

    fn take(&mut self) {
        self.last = self.pending.take();
    }

    /// The next one where it is due at `now` and there is room for it.
    fn due(
        &mut self,
        now: Mono,
        in_flight: u32,
        most: u32,
        per_second: f64,
        arrival: Arrival,
    ) -> Result<Mono, Next> {
        let due = self.peek(now, |arrivals| arrivals.spaced(per_second, arrival));
        if now < due {
            return Err(Next::At(due));
        }
        if in_flight >= most {
            return Err(Next::AfterOne);
        }
        self.take();
        Ok(due)
    }

    fn spaced(&mut self, per_second: f64, arrival: Arrival) -> Nanos {
        Nanos((self.unit(arrival) / per_second * 1e9) as u64)
    }

    /// The rate grows from zero in a straight line over `ramp`: after x of the unit process the time is
    /// sqrt(2 x ramp / rate).
    fn ramped(&mut self, from: Mono, ramp: Nanos, per_second: f64, arrival: Arrival) -> Nanos {
        let (ramp, last) = (ramp.as_secs_f64(), self.last.unwrap_or(from));
        let before = last.since(from).as_secs_f64();
        let mass = before * before * per_second / (2.0 * ramp) + self.unit(arrival);
        let at = (2.0 * mass * ramp / per_second).sqrt();
        Nanos(((at - before).max(0.0) * 1e9) as u64)
    }

    /// A gap of mean one.
    fn unit(&mut self, arrival: Arrival) -> f64 {
        match arrival {
            Arrival::Constant => 1.0,
            // Exponential; 1 - u is never zero.
            Arrival::Poisson => -(1.0 - self.random.random::<f64>()).ln(),
        }
    }
}

#[cfg(test)]
mod tests;
