//! The CPU clocks of the set at one moment.
//!
//! Owns the correction of what the kernel has not charged yet. A thread that runs is charged at the scheduler's tick and
//! when it leaves the CPU, and every clock of another process (clock_gettime(2), /proc/PID/stat, cpu.stat) shows what
//! is charged: each running thread's is late by up to a tick. Where the kernel tells which threads run and since when
//! they are not charged, that time is added; elsewhere the error is told. Pure: what is read is a [`Kernel`]'s to read.
//! Called by `observer`.

use std::collections::{HashMap, HashSet};

use super::ebpf::Id;
use crate::clock::Mono;
use crate::units::Nanos;

/// Readings of one process that is charged meanwhile.
const ATTEMPTS: u32 = 4;
/// The scheduler's clock and CLOCK_MONOTONIC are put together to this, at worst.
const NOISE: Nanos = Nanos(50_000);

/// No CPU goes without a tick for longer.
const MOST_UNSURE: Nanos = Nanos::from_millis(1_100);

/// What is read.
pub(crate) trait Kernel {
    /// Which threads run; `None` where that can't be told.
    fn look(&mut self) -> Option<Look>;
    /// A process's CPU clock; `None` where there is none any more.
    fn clock(&mut self, pid: u32) -> Option<Nanos>;
    fn now(&mut self) -> Mono;
}

/// Which threads run at one moment, the whole machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) t: Mono,
    /// What the scheduler's clock shows at `t`.
    pub(crate) scheduler_at_t: u64,
    /// How far off that may be.
    pub(crate) unsure: Nanos,
    pub(crate) running: Vec<Running>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Running {
    pub(crate) id: Id,
    pub(crate) host_tid: u32,
    /// On the scheduler's clock.
    pub(crate) charged_at: u64,
}

/// A process whose clock is to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// The table's.
    pub(crate) index: usize,
    pub(crate) pid: u32,
    pub(crate) id: Id,
}

/// How late the kernel charges.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    pub(crate) length: Nanos,
    /// A CPU without a tick (nohz_full) is looked after once a second.
    pub(crate) longest: Nanos,
}

/// The clocks of the set, all as of `t`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) t: Mono,
    /// By the table's index, in its order. Who is not here had no clock.
    totals: Vec<(usize, Nanos)>,
    /// The part of all of them that the kernel has not charged.
    pub(crate) uncharged: Nanos,
    /// `None`: what runs was not told, so that each running thread may be a tick behind.
    pub(crate) error: Option<Nanos>,
    /// A process was gone.
    pub(crate) some_gone: bool,
}

impl Clocks {
    pub(crate) fn total(&self, index: usize) -> Option<Nanos> {
        let at = self.totals.binary_search_by_key(&index, |&(index, _)| index).ok()?;
        Some(self.totals[at].1)
    }

    pub(crate) fn totals(&self) -> impl Iterator<Item = (usize, Nanos)> + '_ {
        self.totals.iter().copied()
    }
}

/// A reading of one process and what is to be added to it.
struct Read {
    member: Member,
    clock: Nanos,
    /// Its threads that ran: up to when each is charged, and whether that held while the clock was read.
    ran: Vec<(u64, bool)>,
}

/// Reads every member, in the table's order.
pub(crate) fn read(members: &[Member], tick: Tick, kernel: &mut impl Kernel) -> Clocks {
    let Some(first) = kernel.look() else { return as_charged(members, kernel) };
    let began = first.t;
    let (mut reads, mut some_gone, mut most_running) = (Vec::with_capacity(members.len()), false, 1);
    let mut pending = members.to_vec();
    let mut before = first;
    for attempt in 1..=ATTEMPTS {
        let clocks: Vec<_> = pending.iter().map(|member| kernel.clock(member.pid)).collect();
        // What no second look confirms counts as changed.
        let after = kernel.look();
        let same: HashSet<Running> = after.iter().flat_map(|look| &look.running).copied().collect();
        let mut running: HashMap<Id, Vec<(u64, bool)>> = HashMap::new();
        for thread in &before.running {
            running.entry(thread.id).or_default().push((thread.charged_at, same.contains(thread)));
        }
        let mut again = Vec::new();
        let mut members_running = 0;
        for (member, clock) in pending.into_iter().zip(clocks) {
            let Some(clock) = clock else {
                some_gone = true;
                continue;
            };
            let ran = running.remove(&member.id).unwrap_or_default();
            members_running += ran.len() as u64;
            if attempt < ATTEMPTS && ran.iter().any(|(_, same)| !same) {
                again.push(member);
            } else {
                reads.push(Read { member, clock, ran });
            }
        }
        most_running = members_running.max(most_running);
        pending = again;
        before = after.unwrap_or(before);
        if pending.is_empty() {
            break;
        }
    }
    let mut clocks = at(&before, reads, tick);
    clocks.some_gone = some_gone;
    // Who began or ceased to run between the first look and the last is off by that time at most.
    let apart = Nanos(before.t.since(began).0.saturating_mul(most_running));
    clocks.error = clocks.error.map(|error| error + apart);
    clocks
}

/// Every reading brought to the moment of `look`.
fn at(look: &Look, reads: Vec<Read>, tick: Tick) -> Clocks {
    let (mut uncharged, mut error) = (Nanos::ZERO, Nanos::ZERO);
    let mut totals: Vec<(usize, Nanos)> = reads
        .into_iter()
        .map(|Read { member, clock, ran }| {
            let mut own = Nanos::ZERO;
            for (charged_at, same) in ran {
                let late = Late::of(look.scheduler_at_t, charged_at, tick);
                let (late, unsure) = if same { (late.time, late.unsure) } else { late.perhaps() };
                own += late;
                error += unsure + look.unsure;
            }
            uncharged += own;
            (member.index, clock + own)
        })
        .collect();
    totals.sort_unstable_by_key(|&(index, _)| index);
    Clocks { t: look.t, totals, uncharged, error: Some(error), some_gone: false }
}

/// How much of a thread's run time is not charged.
struct Late {
    time: Nanos,
    unsure: Nanos,
}

impl Late {
    fn of(now: u64, charged_at: u64, tick: Tick) -> Self {
        // Negative where the charge is later, which is the two clocks' noise.
        let late = now.wrapping_sub(charged_at).cast_signed();
        if late < -NOISE.0.cast_signed() || late > tick.longest.0.cast_signed() {
            // Clocks that differ between the CPUs, or a CPU that stood still.
            let unsure = Nanos(late.unsigned_abs()).max(tick.length);
            return Self { time: Nanos::ZERO, unsure: unsure.min(MOST_UNSURE) };
        }
        let time = Nanos(late.max(0).unsigned_abs());
        Self { time, unsure: Nanos::ZERO }
    }

    /// Charged meanwhile: before its process's clock was read or after it.
    const fn perhaps(self) -> (Nanos, Nanos) {
        let half = Nanos(self.time.0 / 2);
        (half, Nanos(half.0.saturating_add(self.unsure.0)))
    }
}

fn as_charged(members: &[Member], kernel: &mut impl Kernel) -> Clocks {
    let totals: Vec<_> = members.iter().filter_map(|m| Some((m.index, kernel.clock(m.pid)?))).collect();
    Clocks {
        t: kernel.now(),
        uncharged: Nanos::ZERO,
        error: None,
        some_gone: totals.len() < members.len(),
        totals,
    }
}

#[cfg(test)]
mod tests;
