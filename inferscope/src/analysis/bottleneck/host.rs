//! Whether the server's own CPU time may be what a device waits for.
//!
//! Owns the rule. It goes by whole processes, as no thread's CPU is known: one that used a CPU's worth may hold a thread
//! that never waits. A part of `bottleneck`.

use serde_json::{Value, json};

use crate::analysis::window::Window;
use crate::clock::Mono;
use crate::event::SetSample;
use crate::report::model;

/// Of one CPU, or of all.
const BUSY: f64 = 0.9;

/// Who was busy all through the load.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::analysis) enum Busy {
    /// It used at least so many CPUs.
    Process { pid: u32, comm: String, cpus: f64 },
    /// All CPUs of the machine.
    All { cpus: f64, of: u32 },
}

impl Busy {
    /// What all other processes used in the whole run is the most that they can have used within the windows: what is
    /// left of the set's time in them is the least that the busiest process used.
    pub(in crate::analysis) fn of(
        windows: &[Window],
        samples: &[SetSample],
        processes: &model::Processes,
        machine_cpus: Option<u32>,
    ) -> Option<Self> {
        let (mut used, mut time) = (0.0, 0.0);
        for window in windows {
            used += at(samples, window.to)? - at(samples, window.from)?;
            time += window.length().0 as f64;
        }
        if time <= 0.0 {
            return None;
        }
        if let Some(of) = machine_cpus.filter(|n| used / time >= BUSY * f64::from(*n)) {
            return Some(Self::All { cpus: used / time, of });
        }
        let cpu = |p: &model::Process| Some(p.cpu_user_ns?.saturating_add(p.cpu_system_ns?));
        let known = processes.list.iter().filter_map(|p| Some((p, cpu(p)?)));
        let (busiest, most) = known.max_by_key(|known| known.1)?;
        let others = processes.cpu.total_ns?.saturating_sub(most);
        let cpus = (used - others as f64) / time;
        (cpus >= BUSY).then(|| Self::Process { pid: busiest.pid, comm: busiest.comm.clone(), cpus })
    }

    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Process { pid, comm, cpus } => {
                format!("process {pid} ({comm}) of the server used {cpus:.2} CPUs")
            }
            Self::All { cpus, of } => format!("the server used {cpus:.2} of the machine's {of} CPUs"),
        }
    }

    pub(super) const fn advice(&self) -> &'static str {
        match self {
            Self::Process { .. } => {
                "one thread of that process may be the limit, or only wait in a loop: `top -H` on it tells which"
            }
            Self::All { .. } => "more CPUs, or less work on them for each token, suggest themselves",
        }
    }

    pub(super) fn evidence(&self) -> [(&'static str, Value); 2] {
        let percent = |cpus: f64| json!((cpus * 100.0).round() as u64);
        match self {
            Self::Process { pid, cpus, .. } => {
                [("busiest_pid", json!(pid)), ("busiest_cpu_percent", percent(*cpus))]
            }
            Self::All { cpus, of } => [("machine_cpus", json!(of)), ("server_cpu_percent", percent(*cpus))],
        }
    }
}

/// The set's CPU time by then, in nanoseconds; `None` outside of the samples.
fn at(samples: &[SetSample], t: Mono) -> Option<f64> {
    let next = samples.partition_point(|s| s.t < t);
    let (after, before) = (samples.get(next)?, samples.get(next.checked_sub(1)?)?);
    let part = t.since(before.t).0 as f64 / after.t.since(before.t).0 as f64;
    Some((after.cpu.0 as f64 - before.cpu.0 as f64).mul_add(part, before.cpu.0 as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{Fixture, ObservationBuilder, ProcessBuilder};
    use crate::units::Nanos;

    const SECOND: u64 = 1_000_000_000;

    /// Two seconds of a start at 0.1 CPUs, then four of a load at `cpus`.
    fn samples(cpus: f64) -> Vec<SetSample> {
        let sample = |t: u64, cpu: f64| SetSample {
            t: Mono(t * SECOND),
            processes: 1,
            threads: 1,
            rss_bytes: 0,
            pss_bytes: None,
            cpu: Nanos((cpu * 1e9) as u64),
            cpu_error: Nanos::ZERO,
        };
        vec![sample(10, 0.0), sample(12, 0.2), sample(16, 4.0f64.mul_add(cpus, 0.2))]
    }

    /// Processes that used so many seconds in the whole run.
    fn processes(used: &[f64]) -> model::Processes {
        let one = |(pid, s): (u32, &f64)| ProcessBuilder::new(pid, 42, "python3").cpu_ms((s * 1e3) as u64, 0);
        let all = (1..).zip(used).map(one).collect();
        let observation = Some(ObservationBuilder::new().processes(all).build());
        Fixture { observation, ..Fixture::profile() }.report().processes
    }

    const LOAD: [Window; 1] = [Window { from: Mono(12 * SECOND), to: Mono(16 * SECOND) }];

    #[test]
    fn a_process_that_used_a_whole_cpu_is_busy_and_many_that_share_one_are_not() {
        let busy = |cpus, used: &[f64]| Busy::of(&LOAD, &samples(cpus), &processes(used), Some(8));
        let Some(Busy::Process { pid: 2, cpus, .. }) = busy(1.0, &[0.1, 4.1]) else { panic!() };
        assert!((0.95..=1.0).contains(&cpus), "{cpus}");
        assert_eq!(busy(1.0, &[1.05; 4]), None);
        assert_eq!(busy(0.5, &[0.1, 2.1]), None);
        // What was used before the load says nothing of it.
        assert_eq!(busy(0.5, &[0.1, 30.0]), None);
    }

    #[test]
    fn all_cpus_are_busy_whoever_uses_them() {
        let busy = Busy::of(&LOAD, &samples(1.9), &processes(&[1.0; 8]), Some(2));
        assert_eq!(busy.map(|b| b.in_words()), Some("the server used 1.90 of the machine's 2 CPUs".into()));
    }

    #[test]
    fn outside_of_the_samples_nothing_is_known() {
        let late = [Window { from: Mono(12 * SECOND), to: Mono(17 * SECOND) }];
        assert_eq!(Busy::of(&late, &samples(1.0), &processes(&[4.2]), Some(8)), None);
        assert_eq!(Busy::of(&[], &samples(1.0), &processes(&[4.2]), Some(8)), None);
    }
}
