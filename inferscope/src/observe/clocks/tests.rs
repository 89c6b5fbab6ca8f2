use proptest::prelude::*;

use super::*;

const TICK: Tick = Tick { length: Nanos::from_millis(4), longest: Nanos::from_millis(16) };
/// What the scheduler's clock is ahead of CLOCK_MONOTONIC; that of most machines is behind.
const AHEAD: u64 = u64::MAX - 5_000_000;
/// What one reading takes.
const READING: u64 = 1_000;

/// A thread that runs all the time, from `since` on, and is charged at `phase` of each `period`.
#[derive(Debug, Clone)]
struct Thread {
    pid: u32,
    since: u64,
    period: u64,
    phase: u64,
    ends: u64,
}

impl Thread {
    fn new(pid: u32, phase: u64) -> Self {
        Self { pid, since: 0, period: 4_000_000, phase, ends: u64::MAX }
    }

    fn charged_at(&self, now: u64) -> u64 {
        if now >= self.ends {
            return self.ends;
        }
        let ticks = (now + self.period - self.phase) / self.period;
        (ticks * self.period + self.phase).saturating_sub(self.period).max(self.since).min(now)
    }

    fn charged(&self, now: u64) -> u64 {
        self.charged_at(now).saturating_sub(self.since)
    }

    fn used(&self, now: u64) -> u64 {
        now.min(self.ends).saturating_sub(self.since)
    }
}

/// A machine with a CPU for each thread. Every reading takes its time.
struct Machine {
    now: u64,
    threads: Vec<Thread>,
    tells: bool,
}

impl Machine {
    fn new(now: u64, threads: Vec<Thread>) -> Self {
        Self { now, threads, tells: true }
    }

    fn used(&self, pid: u32, now: u64) -> u64 {
        self.threads.iter().filter(|t| t.pid == pid).map(|t| t.used(now)).sum()
    }
}

const fn id(pid: u32) -> Id {
    Id { host_pid: pid + 1_000, start_boottime_ns: 7 }
}

impl Kernel for Machine {
    fn look(&mut self) -> Option<Look> {
        if !self.tells {
            return None;
        }
        let now = self.now;
        self.now += READING;
        let running = (0_u32..).zip(&self.threads).filter(|(_, t)| t.since <= now && now < t.ends);
        let running = running.map(|(n, t)| Running {
            id: id(t.pid),
            host_tid: 5_000 + n,
            charged_at: t.charged_at(now).wrapping_add(AHEAD),
        });
        let running = running.collect();
        Some(Look { t: Mono(now), scheduler_at_t: now.wrapping_add(AHEAD), unsure: Nanos::ZERO, running })
    }

    fn clock(&mut self, pid: u32) -> Option<Nanos> {
        let charged = self.threads.iter().filter(|t| t.pid == pid).map(|t| t.charged(self.now)).sum();
        self.now += READING;
        (pid != 404).then_some(Nanos(charged))
    }

    fn now(&mut self) -> Mono {
        Mono(self.now)
    }
}

fn members(pids: &[u32]) -> Vec<Member> {
    pids.iter().enumerate().map(|(index, &pid)| Member { index, pid, id: id(pid) }).collect()
}

#[test]
fn what_runs_is_brought_up_to_the_moment() {
    let mut machine = Machine::new(51_000_000, vec![Thread::new(7, 1_000_000), Thread::new(7, 3_500_000)]);
    let clocks = read(&members(&[7, 8]), TICK, &mut machine);
    assert_eq!(clocks.total(0), Some(Nanos(2 * clocks.t.0)));
    assert_eq!((clocks.total(1), clocks.some_gone), (Some(Nanos(0)), false));
    // The one was charged at 49 ms, the other at 47.5 ms.
    assert_eq!(clocks.uncharged.0, 2 * clocks.t.0 - 49_000_000 - 47_500_000);
    assert!(clocks.error.unwrap() < Nanos(20_000), "{clocks:?}");
}

#[test]
fn a_charge_between_the_looks_is_not_added_twice() {
    // At 53 ms, before, between and after the readings.
    for now in 52_995_000..53_001_000 {
        let mut machine = Machine::new(now, vec![Thread::new(7, 1_000_000)]);
        let clocks = read(&members(&[7]), TICK, &mut machine);
        assert_eq!(clocks.total(0), Some(Nanos(clocks.t.0)), "at {now}");
    }
}

#[test]
fn a_process_that_is_charged_all_the_time_is_known_to_what_one_charge_adds() {
    // Sooner than two looks can follow one another.
    let thread = Thread { period: 1_500, ..Thread::new(7, 0) };
    let mut machine = Machine::new(51_000_000, vec![thread]);
    let clocks = read(&members(&[7]), TICK, &mut machine);
    let off = clocks.total(0).unwrap().0.abs_diff(clocks.t.0);
    assert!(off <= 2_000 && Nanos(off) <= clocks.error.unwrap(), "{clocks:?}");
}

#[test]
fn who_is_gone_has_no_clock_and_is_missed() {
    let mut machine = Machine::new(51_000_000, vec![Thread::new(7, 0)]);
    let clocks = read(&members(&[404, 7]), TICK, &mut machine);
    assert_eq!((clocks.total(0), clocks.some_gone), (None, true));
    assert_eq!(clocks.total(1), Some(Nanos(clocks.t.0)));
    assert_eq!(clocks.totals().count(), 1);
}

#[test]
fn without_the_kernels_word_the_clocks_are_as_charged_and_the_error_is_not_known_here() {
    let mut machine = Machine::new(51_000_000, vec![Thread::new(7, 1_000_000)]);
    machine.tells = false;
    let clocks = read(&members(&[7, 404]), TICK, &mut machine);
    assert_eq!((clocks.total(0), clocks.error), (Some(Nanos(49_000_000)), None));
    assert_eq!((clocks.uncharged, clocks.some_gone), (Nanos::ZERO, true));
}

#[test]
fn a_clock_that_makes_no_sense_corrects_nothing_and_is_told_as_an_error() {
    let late = |charged_at: u64| {
        let late = Late::of(1_000_000_000, charged_at, TICK);
        (late.time, late.unsure)
    };
    assert_eq!(late(998_000_000), (Nanos(2_000_000), Nanos::ZERO));
    // The two clocks are put together with some noise.
    assert_eq!(late(1_000_010_000), (Nanos::ZERO, Nanos::ZERO));
    assert_eq!(late(1_001_000_000), (Nanos::ZERO, TICK.length));
    assert_eq!(late(900_000_000), (Nanos::ZERO, Nanos(100_000_000)));
    assert_eq!(late(1_000_000_000_u64.wrapping_sub(1 << 62)), (Nanos::ZERO, MOST_UNSURE));
    let tickless = Tick { longest: MOST_UNSURE, ..TICK };
    assert_eq!(Late::of(1_000_000_000, 0, tickless).time, Nanos(1_000_000_000));
}

proptest! {
    #[test]
    fn every_total_is_within_its_error(
        now in 50_000_000_u64..60_000_000,
        threads in proptest::collection::vec((1_u32..4, 0_u64..4_000_000, prop_oneof![Just(u64::MAX), 49_990_000_u64..60_000_000]), 0..6),
    ) {
        let threads: Vec<Thread> =
            threads.into_iter().map(|(pid, phase, ends)| Thread { ends, ..Thread::new(pid, phase) }).collect();
        let mut machine = Machine::new(now, threads);
        let clocks = read(&members(&[1, 2, 3]), TICK, &mut machine);
        let error = clocks.error.unwrap();
        prop_assert!(error <= Nanos(100_000));
        for (index, total) in clocks.totals() {
            let used = machine.used(index as u32 + 1, clocks.t.0);
            prop_assert!(Nanos(total.0.abs_diff(used)) <= error, "{} for {}, {:?}", total.0, used, clocks);
        }
    }
}
