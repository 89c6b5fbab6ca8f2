//! One phase of a load: the loop that sends and reads.
//!
//! Owns the requests under way, the timer and the count over time. When what is due is the schedule's to say, what is
//! in it `prompt_source`'s, and what comes of it `http`'s. Called by the driver.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use super::error::LoadError;
use super::in_flight::InFlightLog;
use super::prompts::Prompts;
use super::request::Slot;
use super::schedule::{Next, Phase, Schedule, Turn};
use super::timer::Timer;
use super::{Driver, Receiver, Served};
use crate::clock::Mono;
use crate::event::{Loaded, PhaseLog, RequestLog};
use crate::plan::Shape;
use crate::units::Nanos;

/// How often the loop looks how late its own timer is.
const BEAT: Nanos = Nanos::from_millis(20);
/// How often, in such looks, it looks at the memory of this process.
const MEMORY_BEATS: u64 = 5;
/// A timer that is later than this is not told exactly.
const MOST_LAG_NS: u64 = 60_000_000_000;

/// Which phase it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct PhaseContext<'a> {
    pub(super) step: usize,
    pub(super) repetition: u32,
    pub(super) shape: Shape,
    pub(super) server: &'a Served,
    pub(super) prompts: &'a Prompts,
}

impl Driver {
    /// Sends one phase; `ids` counts over all of them.
    pub(super) async fn phase(
        &self,
        context: PhaseContext<'_>,
        ids: &mut u64,
        timer: &mut Timer,
        mut stop: watch::Receiver<bool>,
        receiver: &mut dyn Receiver,
    ) -> Result<PhaseLog, LoadError> {
        let started = Mono::now();
        let cpu_before = thread_cpu();
        let mut schedule = Schedule::new(self.plan_of(context));
        let mut gauge = InFlightLog::new(started);
        let mut lag = Histogram::new_with_bounds(1, MOST_LAG_NS, 3).expect("these are bounds that it takes");
        let mut under_way = FuturesUnordered::new();
        let (mut last_sent, mut last_byte) = (started, started);
        let mut beat = started.plus(BEAT);
        let mut beats = 0_u64;
        let mut is_full = false;
        let mut edges = Edges::default();
        loop {
            let mut due = None;
            let mut over = *stop.borrow();
            if over {
                schedule.stop(Mono::now());
            }
            while !over {
                let now = Mono::now();
                let next = schedule.next(now, in_number(under_way.len()));
                if !is_full && schedule.measured_from().is_some_and(|from| from <= now) {
                    is_full = true;
                    receiver.full(schedule.loaded().to);
                }
                match next {
                    Next::Now(turn) => {
                        if !turn.warmup {
                            last_sent = now;
                        }
                        receiver.sent(now, turn.warmup);
                        under_way.push(self.one(turn, *ids, context, stop.clone()));
                        gauge.set(now, in_number(under_way.len()), schedule.loaded());
                        *ids += 1;
                    }
                    Next::At(t) => {
                        due = Some(t);
                        break;
                    }
                    Next::AfterOne => break,
                    Next::Over => over = true,
                }
            }
            let now = Mono::now();
            if edges.reached(now, schedule.loaded()) {
                receiver.edge();
            }
            if under_way.is_empty() && (over || due.is_none()) {
                break;
            }
            let wake = [due, edges.next(schedule.loaded())].into_iter().flatten().fold(beat, Mono::min);
            self.http.turn(Mono::now(), Some(beat));
            // What has arrived is read before anything else is begun.
            tokio::select! {
                biased;
                Some(log) = under_way.next() => {
                    let loaded = schedule.loaded();
                    gauge.set(log.done, in_number(under_way.len()), loaded);
                    last_byte = last_byte.max(log.done);
                    schedule.ended(&log);
                    receiver.request(log, loaded);
                }
                woken = timer.until(wake) => {
                    woken.map_err(|e| LoadError::Client { why: e.to_string() })?;
                    let now = Mono::now();
                    if now >= beat {
                        lag.saturating_record(now.since(beat).0.max(1));
                        beat = now.plus(BEAT);
                        beats += 1;
                        if beats.is_multiple_of(MEMORY_BEATS) {
                            self.http.look_at_memory();
                        }
                    }
                }
                _ = stop.changed(), if !over => {}
            }
        }
        // Its last byte has come.
        receiver.edge();
        let (loaded, ended) = (schedule.loaded(), Mono::now());
        self.http.turn(ended, None);
        Ok(PhaseLog {
            step: context.step,
            repetition: context.repetition,
            started,
            measured_from: schedule.measured_from(),
            sent_all: last_sent,
            loaded_to: loaded.to,
            timed: schedule.timed(),
            offered_over: schedule.offered_over(),
            prompts: context.prompts.len(),
            last_byte,
            ended,
            measured_sent: schedule.sent(),
            in_flight: gauge.finish(last_byte.max(loaded.to.unwrap_or(last_byte)), loaded),
            thread_cpu: thread_cpu().saturating_sub(cpu_before),
            timer_lag: lag,
            prompts_again: context.prompts.again(schedule.sent() + schedule.warmed()),
        })
    }

    fn plan_of(&self, context: PhaseContext<'_>) -> Phase {
        let plan = &self.plan;
        let mut offsets = Vec::new();
        let shape = match context.shape {
            Shape::Trace => match context.prompts.timed() {
                Some(times) => {
                    offsets = times;
                    Shape::Trace
                }
                None => Shape::Closed { concurrency: 1 },
            },
            shape => shape,
        };
        // Each prompt of a file once, where nobody says when to end.
        let each_once = || plan.duration.is_none().then(|| context.prompts.len().unwrap_or(1));
        Phase {
            shape,
            warmup: plan.warmup,
            requests: plan.requests.or_else(each_once),
            duration: plan.duration,
            ramp_up: plan.ramp_up,
            max_in_flight: plan.max_in_flight,
            // Other arrivals in each step and repetition, or there would be nothing to repeat.
            seed: stream(plan.load_seed, [context.step as u64, context.repetition.into()]),
            offsets,
        }
    }

    async fn one(
        &self,
        turn: Turn,
        id: u64,
        context: PhaseContext<'_>,
        mut stop: watch::Receiver<bool>,
    ) -> RequestLog {
        let prompt = context.prompts.get(context.number(turn, id));
        let (body, asked) = self.ask(&prompt, self.plan.max_tokens, context.server);
        let slot = Slot { id, warmup: turn.warmup, scheduled: turn.scheduled };
        self.http.exchange(&self.completions(), body, slot, asked, &mut stop).await
    }
}

impl PhaseContext<'_> {
    /// Which prompt. A file's are the same in each repetition, with warm-up from its other end so that no cache has
    /// the measured ones; those that are made are never sent twice.
    fn number(&self, turn: Turn, id: u64) -> u64 {
        match self.prompts.len() {
            None => id,
            Some(n) if turn.warmup => n - 1 - turn.index % n,
            Some(_) => turn.index,
        }
    }
}

/// A seed for each place: one that is drawn once has all its bits in use.
fn stream(seed: u64, place: [u64; 2]) -> u64 {
    let mut seed = SmallRng::seed_from_u64(seed);
    place.into_iter().fold(seed.random(), |so_far: u64, n| {
        seed = SmallRng::seed_from_u64(so_far ^ n);
        seed.random()
    })
}

/// Which ends of the loaded part have been reached.
#[derive(Debug, Default)]
struct Edges {
    begun: bool,
    ended: bool,
}

impl Edges {
    /// Whether one more was, by `now`.
    fn reached(&mut self, now: Mono, loaded: Loaded) -> bool {
        let passed = |edge: Option<Mono>| edge.is_some_and(|edge| edge <= now);
        let before = (self.begun, self.ended);
        self.begun |= passed(loaded.from);
        self.ended |= self.begun && passed(loaded.to);
        (self.begun, self.ended) != before
    }

    /// When the next one comes, as far as that is known.
    fn next(&self, loaded: Loaded) -> Option<Mono> {
        match (self.begun, self.ended) {
            (false, _) => loaded.from,
            (true, false) => loaded.to,
            (true, true) => None,
        }
    }
}

fn in_number(requests: usize) -> u32 {
    u32::try_from(requests).unwrap_or(u32::MAX)
}

fn thread_cpu() -> Nanos {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Nanos(t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::{Edges, Loaded, Mono};

    #[test]
    fn each_end_of_the_loaded_part_is_reached_once() {
        let mut edges = Edges::default();
        assert!(!edges.reached(Mono(5), Loaded::default()));
        let ramp = Loaded { from: Some(Mono(10)), to: None };
        assert_eq!((edges.reached(Mono(5), ramp), edges.next(ramp)), (false, Some(Mono(10))));
        assert!(edges.reached(Mono(10), ramp) && !edges.reached(Mono(11), ramp));
        let timed = Loaded { to: Some(Mono(20)), ..ramp };
        assert_eq!((edges.reached(Mono(19), timed), edges.next(timed)), (false, Some(Mono(20))));
        assert!(edges.reached(Mono(21), timed) && !edges.reached(Mono(22), timed));
        assert_eq!(edges.next(timed), None);
    }
}
