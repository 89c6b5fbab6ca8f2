//! The set's memory, threads and CPU over time.
//!
//! Owns how samples become figures. Never interpolates (`efficiency` does). Called by `analysis`.

use crate::event::{CgroupAccounting, SetSample};
use crate::report::model;

use super::Inputs;
use super::stat::{stat, unknown};

const NO_SAMPLE: &str = "the set was never sampled";
const NO_PSS: &str = "no sample holds it";
const NO_CGROUP: &str = "the target is a process tree, which no cgroup accounts by itself";
const NO_PEAK: &str = "the cgroup's peak was not read";

pub(super) fn resources(inputs: &Inputs<'_>) -> model::Resources {
    let Some(observation) = inputs.observation else {
        return none(inputs.unobserved(), Peak::unknown(inputs.unobserved()));
    };
    let samples = &observation.samples;
    let peak = Peak::of(observation.accounting.as_ref());
    if samples.is_empty() {
        return none(NO_SAMPLE, peak);
    }
    let no_pss = observation.pss_reason.as_deref().unwrap_or(NO_PSS);
    model::Resources {
        samples: samples
            .iter()
            .map(|s| model::Sample {
                t_ns: inputs.origin.at(s.t).0,
                processes: s.processes,
                threads: s.threads,
                rss_bytes: s.rss_bytes,
                pss_bytes: s.pss_bytes,
                cpu_ns: s.cpu.0,
            })
            .collect(),
        rss_bytes: stat(samples.iter().map(|s| s.rss_bytes), NO_SAMPLE),
        pss_bytes: stat(samples.iter().filter_map(|s| s.pss_bytes), no_pss),
        memory_peak_bytes: peak.bytes,
        memory_peak_source: peak.source,
        memory_peak_reason: peak.reason,
        threads: stat(samples.iter().map(|s| u64::from(s.threads)), NO_SAMPLE),
        processes: stat(samples.iter().map(|s| u64::from(s.processes)), NO_SAMPLE),
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

/// The cgroup's own.
struct Peak {
    bytes: Option<u64>,
    source: Option<String>,
    reason: Option<String>,
}

impl Peak {
    fn of(accounting: Option<&CgroupAccounting>) -> Self {
        let Some(a) = accounting else { return Self::unknown(NO_CGROUP) };
        // A reason beside a figure says what else is in it.
        let unread = a.memory_peak_bytes.is_none().then(|| NO_PEAK.to_owned());
        Self {
            bytes: a.memory_peak_bytes,
            source: a.memory_file.clone(),
            reason: a.memory_reason.clone().or(unread),
        }
    }

    fn unknown(why: &str) -> Self {
        Self { bytes: None, source: None, reason: Some(why.to_owned()) }
    }
}

fn none(why: &str, peak: Peak) -> model::Resources {
    model::Resources {
        samples: Vec::new(),
        rss_bytes: unknown(why),
        pss_bytes: unknown(why),
        memory_peak_bytes: peak.bytes,
        memory_peak_source: peak.source,
        memory_peak_reason: peak.reason,
        threads: unknown(why),
        processes: unknown(why),
        cpu_percent: unknown(why),
        reason: Some(why.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{Fixture, ObservationBuilder, accounting, ms};
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

    fn of(o: crate::event::Observation) -> model::Resources {
        Fixture { observation: Some(o), ..Fixture::profile() }.with(resources)
    }

    #[test]
    fn samples_are_on_the_timeline_and_keep_their_figures() {
        let r = of(ObservationBuilder::new().samples(vec![sample(0, 0), sample(100, 50)]).build());
        assert_eq!((r.rss_bytes.max, r.threads.max), (Some(1_048_576), Some(5)));
        assert_eq!((r.samples[1].t_ns, r.samples[1].cpu_ns), (100_000_000, 50_000_000));
    }

    #[test]
    fn pss_is_over_the_samples_that_have_it() {
        let with = |t, pss_bytes| SetSample { pss_bytes, ..sample(t, 0) };
        let samples = vec![with(0, Some(600)), with(50, None), with(100, Some(400)), with(150, None)];
        let r = of(ObservationBuilder::new().samples(samples).build());
        assert_eq!((r.pss_bytes.count, r.pss_bytes.mean, r.pss_bytes.max), (2, Some(500.0), Some(600)));
        assert_eq!((r.pss_bytes.last, &r.pss_bytes.reason), (Some(400), &None));
        assert_eq!([r.samples[0].pss_bytes, r.samples[1].pss_bytes], [Some(600), None]);
    }

    #[test]
    fn pss_that_nobody_could_read_is_unknown_and_says_why() {
        let mut o = ObservationBuilder::new().samples(vec![sample(0, 0), sample(100, 50)]).build();
        assert_eq!(of(o.clone()).pss_bytes.reason.as_deref(), Some(NO_PSS));
        o.pss_reason = Some("another user's smaps_rollup".into());
        let r = of(o);
        assert_eq!((r.pss_bytes.count, r.pss_bytes.max), (0, None));
        assert_eq!(r.pss_bytes.reason.as_deref(), Some("another user's smaps_rollup"));
    }

    #[test]
    fn the_cgroups_peak_has_its_file_or_a_reason() {
        let mut o = ObservationBuilder::new().samples(vec![sample(0, 0)]).build();
        assert_eq!(of(o.clone()).memory_peak_reason.as_deref(), Some(NO_CGROUP));
        o.accounting = Some(accounting());
        let r = of(o.clone());
        assert_eq!((r.memory_peak_bytes, r.memory_peak_reason), (Some(640 << 20), None));
        assert_eq!(r.memory_peak_source, accounting().memory_file);
        // It needs no sample.
        o.samples.clear();
        assert_eq!(of(o.clone()).memory_peak_bytes, Some(640 << 20));
        let unread = |reason: Option<String>| {
            let memory_reason = reason;
            let a = CgroupAccounting { memory_peak_bytes: None, memory_reason, ..accounting() };
            let r = of(crate::event::Observation { accounting: Some(a), ..o.clone() });
            assert_eq!(r.memory_peak_bytes, None);
            r.memory_peak_reason.unwrap()
        };
        assert_eq!(unread(None), NO_PEAK);
        assert_eq!(unread(Some("no memory controller".into())), "no memory controller");
    }

    #[test]
    fn no_sample_is_unknown_and_not_zero() {
        let o = ObservationBuilder::new().samples(vec![]).build();
        let r = of(o);
        assert_eq!((r.rss_bytes.max, r.reason.as_deref()), (None, Some(NO_SAMPLE)));
    }
}
