//! The set's memory, threads and CPU over time.
//!
//! Owns how samples become figures. Never interpolates (`efficiency` does). Called by `analysis`.

use crate::event::SetSample;
use crate::report::model;

use super::Inputs;
use super::stat::{stat, unknown};

const NO_SAMPLE: &str = "the set was never sampled";
const NO_PSS: &str = "not read by this version";

pub(super) fn resources(inputs: &Inputs<'_>) -> model::Resources {
    let Some(observation) = inputs.observation else { return none(inputs.unobserved()) };
    let samples = &observation.samples;
    if samples.is_empty() {
        return none(NO_SAMPLE);
    }
    model::Resources {
        samples: samples
            .iter()
            .map(|s| model::Sample {
                t_ns: inputs.origin.at(s.t).0,
                processes: s.processes,
                threads: s.threads,
                rss_bytes: s.rss_bytes,
                pss_bytes: None,
                cpu_ns: s.cpu.0,
            })
            .collect(),
        rss_bytes: stat(samples.iter().map(|s| s.rss_bytes as f64), NO_SAMPLE),
        pss_bytes: unknown(NO_PSS),
        threads: stat(samples.iter().map(|s| s.threads.into()), NO_SAMPLE),
        processes: stat(samples.iter().map(|s| s.processes.into()), NO_SAMPLE),
        cpu_percent: cpu_percent(samples),
        reason: None,
    }
}

/// Of one CPU, between successive samples. The mean is over time, not over the intervals, so that
/// one late sample does not weigh like a punctual one. An interval in which the counter went back
/// says nothing and is left out.
fn cpu_percent(samples: &[SetSample]) -> model::Stat {
    let (mut percents, mut used, mut over, mut left_out) = (Vec::new(), 0.0, 0.0, 0u64);
    for pair in samples.windows(2) {
        let wall = pair[1].t.since(pair[0].t).0 as f64;
        if pair[1].cpu < pair[0].cpu || wall <= 0.0 {
            left_out += 1;
            continue;
        }
        let cpu = pair[1].cpu.saturating_sub(pair[0].cpu).0 as f64;
        percents.push(cpu / wall * 100.0);
        used += cpu;
        over += wall;
    }
    let mut s = stat(percents, "it takes two samples");
    if over > 0.0 {
        s.mean = Some(used / over * 100.0);
    }
    if left_out > 0 {
        s.reason =
            Some(format!("{left_out} of {} intervals left out: the counter went back", samples.len() - 1));
    }
    s
}

fn none(why: &str) -> model::Resources {
    model::Resources {
        samples: Vec::new(),
        rss_bytes: unknown(why),
        pss_bytes: unknown(why),
        threads: unknown(why),
        processes: unknown(why),
        cpu_percent: unknown(why),
        reason: Some(why.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{Fixture, ObservationBuilder, ms};
    use crate::units::Nanos;

    fn sample(t: u64, cpu_ms: u64) -> SetSample {
        SetSample {
            t: ms(t),
            processes: 2,
            threads: 5,
            rss_bytes: 1 << 20,
            pss_bytes: None,
            cpu: Nanos::from_millis(cpu_ms),
        }
    }

    #[test]
    fn cpu_percent_is_of_one_cpu_and_its_mean_is_over_time() {
        // 50% for 100 ms, then 200% for 300 ms.
        let s = cpu_percent(&[sample(0, 0), sample(100, 50), sample(400, 650)]);
        assert_eq!((s.count, s.min, s.max, s.last), (2, Some(50.0), Some(200.0), Some(200.0)));
        assert_eq!(s.mean, Some(162.5));
    }

    #[test]
    fn one_sample_has_no_rate() {
        let s = cpu_percent(&[sample(0, 10)]);
        assert_eq!((s.count, s.mean), (0, None));
        assert_eq!(s.reason.as_deref(), Some("it takes two samples"));
    }

    #[test]
    fn a_counter_that_went_back_gives_no_negative_rate() {
        let s = cpu_percent(&[sample(0, 100), sample(100, 90), sample(200, 140)]);
        assert_eq!((s.count, s.min), (1, Some(50.0)));
        assert_eq!(s.reason.as_deref(), Some("1 of 2 intervals left out: the counter went back"));
    }

    #[test]
    fn pss_is_unknown_and_says_so() {
        let o = ObservationBuilder::new().samples(vec![sample(0, 0), sample(100, 50)]).build();
        let r = Fixture { observation: Some(o), ..Fixture::profile() }.with(resources);
        assert_eq!((r.pss_bytes.count, r.pss_bytes.reason.as_deref()), (0, Some(NO_PSS)));
        assert_eq!(r.samples[1].pss_bytes, None);
        assert_eq!((r.rss_bytes.max, r.threads.max), (Some(1_048_576.0), Some(5.0)));
        assert_eq!((r.samples[1].t_ns, r.samples[1].cpu_ns), (100_000_000, 50_000_000));
    }

    #[test]
    fn no_sample_is_unknown_and_not_zero() {
        let o = ObservationBuilder::new().samples(vec![]).build();
        let r = Fixture { observation: Some(o), ..Fixture::profile() }.with(resources);
        assert_eq!((r.rss_bytes.max, r.reason.as_deref()), (None, Some(NO_SAMPLE)));
    }
}
