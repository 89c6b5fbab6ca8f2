//! What following every process costs the followed, and what each way of doing it sees.
//!
//! Owns the rounds and the table. Each tracer's storm is compared with the two without a tracer around it, as the
//! machine's speed changes over minutes. The kernel's own statistics of BPF programs cost more than the program,
//! so that they are taken in a run apart. Called by `main.rs`.

use std::time::Duration;

use inferscope_tests::stats::median;
use inferscope_tests::{cpu, requirements};

use crate::bpf;
use crate::storm::{Storm, Told};
use crate::tracers::Tracer;

/// Several a core: one that waits for its child leaves no core idle.
const PARENTS: usize = 8;
/// Each takes about a second on two cores.
const SIZES: [(&str, u32); 2] = [("fork", 10_000), ("exec", 2_000)];
/// What is still to be worked off after a storm counts as its cost.
const AFTERMATH: Duration = Duration::from_millis(50);

/// Before each storm, traced or not: what was starved by the one before has its turn first.
const REST: Duration = Duration::from_millis(500);

/// How a storm went: children a second, and CPU time that it took itself for each. The second is the steadier,
/// and says nothing about a tracer that takes a core away.
#[derive(Clone, Copy)]
struct Pace {
    rate: f64,
    cpu_us: f64,
}

impl Pace {
    fn of(told: &Told) -> Self {
        let children = f64::from(told.children);
        Self { rate: children / told.seconds, cpu_us: told.cpu_seconds * 1e6 / children }
    }

    fn mean(self, other: Self) -> Self {
        let Self { rate, cpu_us } = other;
        Self { rate: f64::midpoint(self.rate, rate), cpu_us: f64::midpoint(self.cpu_us, cpu_us) }
    }

    /// Both as a ratio.
    fn over(self, none: Self) -> Self {
        Self { rate: self.rate / none.rate, cpu_us: self.cpu_us / none.cpu_us }
    }
}

/// One tracer in one round; both kinds of storm, as in [`SIZES`].
struct Round {
    /// Against no tracer.
    pace: [Pace; 2],
    /// The tracer's own, in microseconds a child.
    tracer_us: [f64; 2],
    /// Of all children of both storms.
    share_seen: f64,
    lost: Option<u64>,
}

pub(crate) fn run(rounds: u32) {
    if std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|on| on.trim() != "0") {
        requirements::say(
            "bench: kernel.bpf_stats_enabled is on: everything that uses BPF looks dearer than it is",
        );
    }
    let tracers: Vec<Tracer> = Tracer::ALL.into_iter().filter(|&tracer| is_there(tracer)).collect();
    let mut storm = Storm::start(PARENTS);
    let unrelated = Storm::start(1);
    // The first one pays for cold caches.
    bare(&mut storm);
    let mut none = vec![bare(&mut storm)];
    let mut rows: Vec<Vec<Round>> = tracers.iter().map(|_| Vec::new()).collect();
    let mut control = Vec::new();
    for round in 0..rounds {
        requirements::say(&format!("bench: round {} of {rounds}", round + 1));
        for place in 0..tracers.len() {
            // Nobody is always the first.
            let which = (place + round as usize) % tracers.len();
            let before = none[none.len() - 1];
            let mut measured = traced(&mut storm, tracers[which], unrelated.root());
            let after = bare(&mut storm);
            measured.pace = between(before, measured.pace, after);
            rows[which].push(measured);
            none.push(after);
        }
        let (before, measured, after) = (none[none.len() - 1], bare(&mut storm), bare(&mut storm));
        control.push(between(before, measured, after));
        none.push(after);
    }
    table(rounds, &none, &control);
    for (tracer, rounds) in tracers.iter().zip(&rows) {
        row(*tracer, rounds);
    }
    let cpu_us = [0, 1].map(|kind| median(&none.iter().map(|kinds| kinds[kind].cpu_us).collect::<Vec<_>>()));
    program(&mut storm, unrelated.root(), cpu_us);
}

/// Of both kinds of storm, the one in the middle against the two around it.
fn between(before: [Pace; 2], measured: [Pace; 2], after: [Pace; 2]) -> [Pace; 2] {
    [0, 1].map(|kind| measured[kind].over(before[kind].mean(after[kind])))
}

fn is_there(tracer: Tracer) -> bool {
    let missing = tracer.peer().filter(|name| requirements::find_peer(name).is_none());
    if let Some(name) = missing {
        requirements::say(&format!("bench: left out: {}: {name} was not set up", tracer.shown()));
    }
    missing.is_none()
}

fn bare(storm: &mut Storm) -> [Pace; 2] {
    SIZES.map(|(kind, children)| {
        std::thread::sleep(REST);
        Pace::of(&storm.make(kind, children))
    })
}

/// A round that is not yet compared with anything.
fn traced(storm: &mut Storm, tracer: Tracer, unrelated: u32) -> Round {
    let tracing = tracer.start(storm.root(), unrelated);
    let used = || cpu::used_ns(tracing.pid()).unwrap_or_else(|| panic!("{} ended", tracer.shown()));
    let (mut truth, mut tracer_us) = (0, Vec::new());
    // Whose children count: the root's children are the parents, and theirs are the rest.
    let mut parents = vec![storm.root()];
    let pace = SIZES.map(|(kind, children)| {
        std::thread::sleep(REST);
        let before = used();
        let told = storm.make(kind, children);
        std::thread::sleep(AFTERMATH);
        tracer_us.push((used() - before) as f64 / 1e3 / told.forks() as f64);
        truth += told.forks();
        parents.extend(&told.parents);
        Pace::of(&told)
    });
    let seen = tracing.end(&parents);
    let tracer_us = [tracer_us[0], tracer_us[1]];
    Round { pace, tracer_us, share_seen: seen.forks as f64 / truth as f64, lost: seen.lost }
}

/// Its head, and the rows without a tracer: `control` shows what the machine's own changes look like.
fn table(rounds: u32, none: &[[Pace; 2]], control: &[[Pace; 2]]) {
    let [(_, forks), (_, execs)] = SIZES;
    println!(
        "\n### Tracker: {PARENTS} parents, {forks} forks and {execs} fork+execs a storm, medians of {rounds} rounds\n"
    );
    println!(
        "| tracer | forks/s | fork+exec/s | the storm's CPU a fork | a fork+exec | the tracer's CPU a fork | a fork+exec | children seen | events lost |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    let of_none = |value: &dyn Fn(&[Pace; 2]) -> f64| median(&none.iter().map(value).collect::<Vec<_>>());
    println!(
        "| none | {:.0} | {:.0} | {:.1} µs | {:.1} µs | | | | |",
        of_none(&|kinds| kinds[0].rate),
        of_none(&|kinds| kinds[1].rate),
        of_none(&|kinds| kinds[0].cpu_us),
        of_none(&|kinds| kinds[1].cpu_us),
    );
    let over = |value: &dyn Fn(&[Pace; 2]) -> f64| change(&control.iter().map(value).collect::<Vec<_>>());
    println!(
        "| none, against itself | {} | {} | {} | {} | | | | |",
        over(&|kinds| kinds[0].rate),
        over(&|kinds| kinds[1].rate),
        over(&|kinds| kinds[0].cpu_us),
        over(&|kinds| kinds[1].cpu_us),
    );
}

fn row(tracer: Tracer, rounds: &[Round]) {
    let over = |value: &dyn Fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let lost: Option<u64> = rounds.iter().map(|round| round.lost).sum();
    println!(
        "| {} | {} | {} | {} | {} | {:.2} µs | {:.2} µs | {:.1}% | {} |",
        tracer.shown(),
        change(&over(&|round| round.pace[0].rate)),
        change(&over(&|round| round.pace[1].rate)),
        change(&over(&|round| round.pace[0].cpu_us)),
        change(&over(&|round| round.pace[1].cpu_us)),
        median(&over(&|round| round.tracer_us[0])),
        median(&over(&|round| round.tracer_us[1])),
        median(&over(&|round| round.share_seen)) * 100.0,
        lost.map_or("unknown".to_owned(), |lost| lost.to_string()),
    );
}

/// The median, and the middle half of the rounds.
fn change(ratios: &[f64]) -> String {
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    let quarter = sorted.len() / 4;
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let (low, high) = (sorted[quarter], sorted[sorted.len() - 1 - quarter]);
    format!("{:+.1}% ({:+.1} to {:+.1})", percent(median(ratios)), percent(low), percent(high))
}

/// What the kernel program itself takes; `cpu_us` is what a child costs without it, in both kinds of storm.
fn program(storm: &mut Storm, unrelated: u32, cpu_us: [f64; 2]) {
    let _on = match bpf::count_runs() {
        Ok(on) => on,
        Err(e) => {
            return requirements::say(&format!(
                "bench: left out: BPF ns a run: the kernel's statistics: {e}"
            ));
        }
    };
    println!("\n### The kernel program, by the kernel's own count (with which everything is slower)\n");
    println!(
        "| inferscope | storm | runs a child | ns a run | ns a child | of a child's CPU | by program: ns × runs a child |"
    );
    println!("|---|---|--:|--:|--:|--:|---|");
    for tracer in [Tracer::Ours, Tracer::OursUnmatched] {
        for ((kind, children), cpu_us) in SIZES.into_iter().zip(cpu_us) {
            let tracing = tracer.start(storm.root(), unrelated);
            let before = bpf::programs_of(tracing.pid());
            let told = storm.make(kind, children);
            let after = bpf::programs_of(tracing.pid());
            tracing.end(&told.parents);
            let programs = bpf::since(&before, after);
            let (runs, ns) = programs.iter().fold((0, 0), |(runs, ns), p| (runs + p.runs, ns + p.ns));
            let per_child = |n: u64| n as f64 / told.forks() as f64;
            let each = programs.iter().filter(|p| p.runs > 0);
            let each = each.map(|p| format!("{} {} × {:.1}", p.name, p.ns / p.runs, per_child(p.runs)));
            println!(
                "| {} | {kind} | {:.1} | {} | {:.0} | {:.2}% | {} |",
                if tracer == Tracer::Ours { "its target" } else { "not matching" },
                per_child(runs),
                ns / runs.max(1),
                per_child(ns),
                per_child(ns) / cpu_us / 10.0,
                each.collect::<Vec<_>>().join(", "),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_the_median_with_the_middle_half() {
        assert_eq!(change(&[0.98, 0.97, 1.02, 0.99, 0.9, 1.5, 0.96]), "-2.0% (-4.0 to +2.0)");
        assert_eq!(change(&[0.5]), "-50.0% (-50.0 to -50.0)");
    }

    #[test]
    fn a_pace_is_compared_with_the_storms_around_it() {
        let pace = |rate, cpu_us| Pace { rate, cpu_us };
        let none = pace(90.0, 11.0).mean(pace(110.0, 9.0));
        let ratio = pace(98.0, 10.5).over(none);
        assert_eq!((ratio.rate, ratio.cpu_us), (0.98, 1.05));
    }
}
