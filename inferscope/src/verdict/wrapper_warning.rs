//! The warning that the watched pid does nothing itself.
//!
//! Owns when it fires and its words. Never prints (`session` does, on stderr; `validity` puts it into
//! the report). Called by `session` and `validity`.

use crate::event::Observation;
use crate::figures::set::WRAPPER_RSS_BYTES;
use crate::units::Nanos;

/// The fewest samples to judge by.
const ENOUGH_SAMPLES: usize = 2;
/// Share of one CPU that still is none: a shell that waits uses nothing, but being waited for and
/// signalled costs some microseconds.
const NO_CPU_PER_MILLE: u64 = 1;

/// The warning, with its remedy, where in every sample the whole watched set was one thread in less
/// than 10 MiB that used no CPU: the given pid looks like a wrapper and the work is elsewhere.
///
/// Never where the tree holds the real work: then a sample shows its memory, its threads or its CPU.
#[must_use]
pub fn idle_target(observation: &Observation, roots: &[u32], descendants: bool) -> Option<String> {
    let samples = &observation.samples;
    let last = samples.last()?;
    let small = samples.iter().all(|s| s.threads == 1 && s.rss_bytes < WRAPPER_RSS_BYTES);
    if samples.len() < ENOUGH_SAMPLES || !small || !uses_no_cpu(last.cpu, last.t.since(observation.started)) {
        return None;
    }
    let peak = samples.iter().map(|s| s.rss_bytes).max()?;
    let pid = roots.first()?;
    let comm = observation.processes.iter().find(|p| p.pid == *pid).map(|p| format!(" ({})", p.comm));
    let remedy = if descendants {
        "give --pid the process that does the work, or leave --pid out to find the endpoint's listener"
    } else {
        "drop --no-descendants to watch its whole tree"
    };
    Some(format!(
        "pid {pid}{} had one thread, at most {:.1} MiB and no CPU time in all {} samples: it looks like a \
         wrapper, and the work is in another process; {remedy}",
        comm.unwrap_or_default(),
        peak as f64 / f64::from(1 << 20),
        samples.len(),
    ))
}

fn uses_no_cpu(cpu: Nanos, over: Nanos) -> bool {
    cpu.0.saturating_mul(1_000) <= over.0.saturating_mul(NO_CPU_PER_MILLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SetSample;
    use crate::fixture::{ObservationBuilder, ProcessBuilder, ms};

    const BASH_RSS: u64 = 3_500_000;

    fn sample(t: u64, threads: u32, rss_bytes: u64, cpu_us: u64) -> SetSample {
        let cpu = Nanos(cpu_us * 1_000);
        SetSample { t: ms(t), processes: 1, threads, rss_bytes, pss_bytes: None, cpu, cpu_error: Nanos::ZERO }
    }

    fn warning(samples: Vec<SetSample>, descendants: bool) -> Option<String> {
        let o = ObservationBuilder::new()
            .processes(vec![ProcessBuilder::new(42, 1, "bash")])
            .samples(samples)
            .build();
        idle_target(&o, &[42], descendants)
    }

    fn idle() -> Vec<SetSample> {
        (1..=10).map(|n| sample(n * 50, 1, BASH_RSS, 0)).collect()
    }

    #[test]
    fn an_idle_wrapper_alone_is_named_with_the_remedy() {
        let text = warning(idle(), false).unwrap();
        assert!(
            text.starts_with(
                "pid 42 (bash) had one thread, at most 3.3 MiB and no CPU time in all 10 samples"
            )
        );
        assert!(text.ends_with("drop --no-descendants to watch its whole tree"), "{text}");
    }

    #[test]
    fn an_idle_tree_is_told_to_name_another_pid() {
        assert!(warning(idle(), true).unwrap().contains("; give --pid the process that does the work"));
    }

    #[test]
    fn one_sample_is_not_enough() {
        assert_eq!(warning(idle()[..1].to_vec(), true), None);
        assert!(warning(idle()[..2].to_vec(), true).is_some());
        assert_eq!(warning(vec![], true), None);
    }

    #[test]
    fn any_sample_with_memory_threads_or_cpu_silences_it() {
        let with = |s: SetSample| {
            let mut samples = idle();
            samples[4] = s;
            warning(samples, true)
        };
        assert_eq!(with(sample(250, 1, 10 << 20, 0)), None);
        assert_eq!(with(sample(250, 2, BASH_RSS, 0)), None);
        // A set that is gone has no thread: no wrapper either.
        assert_eq!(with(sample(250, 0, 0, 0)), None);
        let mut busy = idle();
        busy.push(sample(550, 1, BASH_RSS, 600));
        assert_eq!(warning(busy, true), None);
    }

    #[test]
    fn the_microseconds_of_being_signalled_do_not_silence_it() {
        let mut samples = idle();
        samples.push(sample(550, 1, BASH_RSS, 500));
        assert!(warning(samples, true).is_some());
    }
}
