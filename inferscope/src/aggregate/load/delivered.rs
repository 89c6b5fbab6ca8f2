//! The load's window, and what was delivered in it.
//!
//! Owns which time of a phase the figures are of that divide by time, tokens or requests, so that both sides of each are of
//! the same time: the loaded part where the load ended by the clock (what came after it is the tail), the whole one
//! where it ended by a number of requests. Never formats. Fed by `totals`; its windows are used wherever a figure is of the
//! load.
//!
//! A token counts where its chunk arrived, whoever asked for it: a ramp's request that runs into the window, one that
//! fails later, one that Ctrl-C cuts off. The server worked for all of them.

use crate::clock::{Mono, Window};
use crate::event::{Loaded, PhaseLog};
use crate::units::Nanos;

use super::request_figures::RequestFigures;
use super::token_sum::TokenSum;
use super::tokens::TokenSource;

/// The stretches of a phase in which something was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PhaseWindows {
    /// While the load was full.
    pub(crate) loaded: Window,
    /// Up to the last byte.
    pub(crate) whole: Window,
    timed: bool,
}

impl PhaseWindows {
    /// `None` where no measured request was sent.
    pub(crate) fn of(phase: &PhaseLog) -> Option<Self> {
        let from = phase.measured_from.filter(|_| phase.measured_sent > 0)?;
        let end = phase.last_byte.max(from);
        // A load that nobody stopped ends with its last request.
        let to = phase.loaded_to.unwrap_or(phase.sent_all).max(from);
        Some(Self {
            loaded: Window { from, to },
            whole: Window { from, to: end.max(to) },
            timed: phase.timed,
        })
    }

    /// What the rates and costs are of.
    pub(crate) const fn main(&self) -> Window {
        if self.timed { self.loaded } else { self.whole }
    }

    /// What the main one leaves out.
    pub(crate) const fn tail(&self) -> Option<Window> {
        if self.timed { Some(Window { from: self.loaded.to, to: self.whole.to }) } else { None }
    }
}

/// What arrived in a stretch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Told by the server, or one a chunk of a successful answer.
    told: u64,
    /// Of them, of failed requests.
    told_of_failed: u64,
    /// Chunks with text of failed requests that the server did not count: it counts at an answer's end.
    uncounted: u64,
    pub(crate) chunks: u64,
    /// Of successful requests whose first token arrived in it.
    pub(crate) prompt: TokenSum,
    /// That succeeded and ended in it.
    pub(crate) requests: u64,
    /// Of them, within the service level.
    pub(crate) good: u64,
}

impl Delivered {
    /// What of an answer arrived between the two; `to`: `None` where that is not before the answer's end.
    fn add(&mut self, answer: &RequestFigures<'_>, from: Mono, to: Option<Mono>, good: bool) {
        let r = answer.request;
        let within = |t: Mono| t >= from && to.is_none_or(|to| t <= to);
        let failed = r.failure.is_some();
        let (tokens, chunks) = arrived(answer, from, to);
        self.chunks = self.chunks.saturating_add(chunks);
        if failed && answer.tokens.source == Some(TokenSource::Chunks) {
            self.uncounted = self.uncounted.saturating_add(tokens);
        } else {
            self.told = self.told.saturating_add(tokens);
            self.told_of_failed = self.told_of_failed.saturating_add(if failed { tokens } else { 0 });
        }
        if failed {
            return;
        }
        if answer.first_token().is_some_and(within) {
            self.prompt.add(answer.usage.prompt);
        }
        if within(r.done) {
            self.requests += 1;
            self.good += u64::from(good);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.told = self.told.saturating_add(other.told);
        self.told_of_failed = self.told_of_failed.saturating_add(other.told_of_failed);
        self.uncounted = self.uncounted.saturating_add(other.uncounted);
        self.chunks = self.chunks.saturating_add(other.chunks);
        self.prompt.merge(other.prompt);
        self.requests += other.requests;
        self.good += other.good;
    }

    /// All tokens; `a_chunk`: how many a chunk of the successful answers held on average.
    pub(crate) fn tokens(&self, a_chunk: f64) -> u64 {
        self.told.saturating_add(whole(self.uncounted, a_chunk))
    }

    /// Of them, of failed requests.
    pub(crate) fn tokens_of_failed(&self, a_chunk: f64) -> u64 {
        self.told_of_failed.saturating_add(whole(self.uncounted, a_chunk))
    }
}

fn whole(chunks: u64, a_chunk: f64) -> u64 {
    (chunks as f64 * a_chunk).round() as u64
}

/// What was delivered, and when: over the phases of a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// One a phase.
    pub(crate) windows: Vec<Window>,
    pub(crate) delivered: Delivered,
}

impl Stretch {
    fn push(&mut self, window: Window, delivered: &Delivered) {
        self.windows.push(window);
        self.delivered.merge(delivered);
    }

    fn merge(&mut self, other: &Self) {
        self.windows.extend_from_slice(&other.windows);
        self.delivered.merge(&other.delivered);
    }

    /// One phase after another.
    pub(crate) fn length(&self) -> Option<Nanos> {
        (!self.windows.is_empty()).then(|| self.windows.iter().map(|w| w.length()).sum())
    }
}

/// What is delivered in one phase, and its stretches when it has ended; merged, those of several.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    /// Of the phase under way: while it is loaded, and after.
    loaded: Delivered,
    tail: Delivered,
    /// What rates and costs divide by.
    pub(crate) main: Stretch,
    /// While the load was full; where every request was sent at once there is none.
    pub(crate) steady: Stretch,
    /// After a load that ended by the clock.
    pub(crate) after: Stretch,
    /// To the last byte.
    pub(crate) whole: Vec<Window>,
}

impl Work {
    /// An answer of whatever kind; `loaded` as it was known when it ended.
    pub(crate) fn add(&mut self, answer: &RequestFigures<'_>, loaded: Loaded, good: bool) {
        let Some(from) = loaded.from.filter(|from| answer.request.done >= *from) else { return };
        self.loaded.add(answer, from, loaded.to, good);
        if let Some(to) = loaded.to.filter(|to| answer.request.done > *to) {
            self.tail.add(answer, to.max(from).plus(Nanos(1)), None, good);
        }
    }

    /// The phase has ended.
    pub(crate) fn close(&mut self, phase: &PhaseLog) {
        let (loaded, tail) = (std::mem::take(&mut self.loaded), std::mem::take(&mut self.tail));
        let Some(windows) = PhaseWindows::of(phase) else { return };
        self.whole.push(windows.whole);
        let mut main = loaded;
        match windows.tail() {
            Some(after) => self.after.push(after, &tail),
            None => main.merge(&tail),
        }
        self.main.push(windows.main(), &main);
        // What was sent before anything had ended tells nothing of a steady state.
        if loaded.requests > 0 && windows.loaded.length() > Nanos::ZERO {
            self.steady.push(windows.loaded, &loaded);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.main.merge(&other.main);
        self.steady.merge(&other.steady);
        self.after.merge(&other.after);
        self.whole.extend_from_slice(&other.whole);
    }
}

/// Tokens and chunks with text between the two. Where the tokens of each chunk are unknown they are shared out by the
/// chunks' bytes; what the server counted beyond the text arrives with the last of it.
fn arrived(answer: &RequestFigures<'_>, from: Mono, to: Option<Mono>) -> (u64, u64) {
    let (chunks, total) = (&answer.request.chunks, answer.tokens.total.unwrap_or(0));
    let within = |t: Mono| t >= from && to.is_none_or(|to| t <= to);
    let Some((first, last)) = chunks.first().zip(chunks.last()) else {
        return (if within(answer.request.done) { total } else { 0 }, 0);
    };
    if within(first.t) && within(last.t) {
        return (total, answer.tokens.chunks);
    }
    let count = answer.text_chunks().filter(|c| within(c.t)).count() as u64;
    let told: Option<u64> = chunks.iter().map(|c| answer.tokens.in_chunk(c).map(u64::from)).sum();
    if let Some(told) = told {
        let sent = chunks.iter().filter(|c| within(c.t));
        let sent: u64 = sent.filter_map(|c| answer.tokens.in_chunk(c)).map(u64::from).sum();
        let end = answer.last_token().unwrap_or(answer.request.done);
        let beyond = if within(end) { total.saturating_sub(told) } else { 0 };
        return (sent + beyond, count);
    }
    let bytes = |until: &dyn Fn(Mono) -> bool| -> u128 {
        answer.text_chunks().filter(|c| until(c.t)).map(|c| u128::from(c.bytes.max(1))).sum()
    };
    let all = bytes(&|_| true).max(1);
    // Rounded where the stretch begins and where it ends, so that stretches that meet add up.
    let up_to = |until: &dyn Fn(Mono) -> bool| {
        u64::try_from(u128::from(total) * bytes(until) / all).unwrap_or(u64::MAX)
    };
    let end = up_to(&|t| to.is_none_or(|to| t <= to));
    (end.saturating_sub(up_to(&|t| t < from)), count)
}

#[cfg(test)]
mod tests;
