//! The set's memory, threads and CPU over time.
//!
//! Owns how samples become figures. Never interpolates (`efficiency` does). Called by `analysis`.

use crate::event::{CgroupAccounting, Observation, ProcessRecord, SetSample};
use crate::report::model::{self, PeakKind, SizeBy};
use crate::units::Nanos;

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
    let rss = PeakRss::of(observation, inputs.target.descendants);
    let size = size_by(observation, &rss, inputs.mode);
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
                cpu_error_ns: Some(s.cpu_error.0),
            })
            .collect(),
        peak_rss_bytes: rss.bytes,
        peak_rss_kind: rss.kind,
        peak_rss_pid: rss.pid,
        size_memory_by_bytes: size.as_ref().ok().map(|s| s.0),
        size_memory_by: size.as_ref().ok().map(|s| s.1),
        size_memory_by_reason: size.err(),
        rss_bytes: stat(samples.iter().map(|s| s.rss_bytes), NO_SAMPLE),
        pss_bytes: stat(samples.iter().filter_map(|s| s.pss_bytes), no_pss),
        memory_peak_bytes: peak.bytes,
        memory_peak_source: peak.source,
        memory_limit_bytes: peak.limit,
        memory_peak_reason: peak.reason,
        threads: stat(samples.iter().map(|s| u64::from(s.threads)), NO_SAMPLE),
        processes: stat(samples.iter().map(|s| u64::from(s.processes)), NO_SAMPLE),
        cpu_percent: cpu_percent(samples, inputs.plan.observe.sample_interval),
        reason: None,
    }
}

/// The largest that is known of the set's resident memory.
struct PeakRss {
    bytes: Option<u64>,
    kind: Option<PeakKind>,
    pid: Option<u32>,
    /// The largest sum that a sample saw.
    sampled: u64,
}

impl PeakRss {
    fn of(o: &Observation, descendants: bool) -> Self {
        let sampled = o.samples.iter().map(|s| s.rss_bytes).max().unwrap_or(0);
        let largest = o.processes.iter().max_by_key(|p| p.max_rss_bytes);
        let of_one = largest.and_then(|p| Some((p, p.max_rss_bytes?)));
        let alone = o.processes.len() == 1 && (!descendants || is_all(o));
        match of_one {
            Some((p, bytes)) if alone && p.max_rss_is_peak => Self {
                bytes: Some(bytes.max(sampled)),
                kind: Some(PeakKind::Exact),
                pid: Some(p.pid),
                sampled,
            },
            Some((p, bytes)) if bytes > sampled => {
                Self { bytes: Some(bytes), kind: Some(PeakKind::AtLeast), pid: Some(p.pid), sampled }
            }
            _ => Self { bytes: Some(sampled), kind: Some(PeakKind::AtLeast), pid: None, sampled },
        }
    }
}

/// Every process of the set is in the list.
fn is_all(o: &Observation) -> bool {
    let loss = &o.loss;
    o.tracker_is_complete
        && loss.ring_full == 0
        && loss.unmarked == 0
        && loss.undecodable == 0
        && loss.unlisted_processes == 0
}

/// What to size memory by; else why there is nothing but a lower bound.
fn size_by(o: &Observation, rss: &PeakRss, mode: model::Mode) -> Result<(u64, SizeBy), String> {
    if o.processes.iter().any(|p| p.oom_killed == Some(true)) {
        return Err("the kernel ended a process for want of memory: it takes more than was there".to_owned());
    }
    let account = o.accounting.as_ref().filter(|a| a.memory_reason.is_none());
    if let Some((peak, a)) = account.and_then(|a| Some((a.memory_peak_bytes?, a))) {
        if let Some(limit) = a.memory_limit_bytes.filter(|limit| near(peak, *limit)) {
            return Err(format!("the cgroup's memory met its limit of {limit} bytes: it may take more"));
        }
        let of_run = mode == model::Mode::Exec;
        return Ok((peak, if of_run { SizeBy::CgroupPeakOfRun } else { SizeBy::CgroupPeakOfLife }));
    }
    let at_peak =
        o.samples.iter().filter(|s| near(s.rss_bytes, rss.sampled)).filter_map(|s| s.pss_bytes).max();
    let Some(pss) = at_peak else {
        return Err("PSS was not read at the peak of RSS, and no cgroup accounts the set alone".to_owned());
    };
    if !is_all(o) {
        return Err("not every process of the set is known".to_owned());
    }
    let beyond: Option<u64> = o.processes.iter().map(beyond_samples).sum();
    match beyond {
        Some(beyond) if near(rss.sampled, rss.sampled.saturating_add(beyond)) => {
            Ok((pss, SizeBy::PssAtPeakRss))
        }
        Some(_) => Err("processes held more between two samples than any sample saw".to_owned()),
        None => Err("the peak of some processes is not known".to_owned()),
    }
}

/// What it held at its own peak beyond the most that a sample saw of it.
fn beyond_samples(p: &ProcessRecord) -> Option<u64> {
    let peak = p.max_rss_bytes.filter(|_| p.max_rss_is_peak).or(p.max_rss_at_most_bytes)?;
    Some(peak.saturating_sub(p.sampled_peak_rss_bytes.unwrap_or(0)))
}

/// Less than 2% below.
fn near(value: u64, whole: u64) -> bool {
    value >= whole.saturating_sub(whole / 50)
}

/// The samples that make intervals of at least `least`: what lies nearer to the one before, as at the load's ends, is
/// passed over, but for the last.
fn spaced(samples: &[SetSample], least: Nanos) -> Vec<&SetSample> {
    let mut kept: Vec<&SetSample> = Vec::with_capacity(samples.len());
    for sample in samples {
        if kept.last().is_none_or(|before| sample.t.since(before.t) >= least) {
            kept.push(sample);
        }
    }
    // The last interval is longer instead.
    if let (Some(last), true) = (samples.last(), kept.len() > 1) {
        kept.pop();
        kept.push(last);
    }
    kept
}

/// Of one CPU, between samples at least half of `interval` apart: in less, a few microseconds between the set's readings
/// would be a share of a CPU. The mean is over time, not over the intervals, so that one late sample does not weigh like
/// a punctual one. An interval in which the counter went back says nothing and is left out.
fn cpu_percent(samples: &[SetSample], interval: Nanos) -> model::Stat {
    let (mut percents, mut used, mut over, mut left_out) = (Vec::new(), 0.0, 0.0, 0u64);
    let samples = spaced(samples, Nanos(interval.0 / 2));
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
    let mut s = stat(percents, "it takes two samples, half an interval apart");
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
    limit: Option<u64>,
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
            limit: a.memory_limit_bytes,
            reason: a.memory_reason.clone().or(unread),
        }
    }

    fn unknown(why: &str) -> Self {
        Self { bytes: None, source: None, limit: None, reason: Some(why.to_owned()) }
    }
}

fn none(why: &str, peak: Peak) -> model::Resources {
    model::Resources {
        samples: Vec::new(),
        peak_rss_bytes: None,
        peak_rss_kind: None,
        peak_rss_pid: None,
        size_memory_by_bytes: None,
        size_memory_by: None,
        size_memory_by_reason: Some(why.to_owned()),
        rss_bytes: unknown(why),
        pss_bytes: unknown(why),
        memory_peak_bytes: peak.bytes,
        memory_peak_source: peak.source,
        memory_limit_bytes: peak.limit,
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
    use crate::analysis::fixture::{Fixture, ObservationBuilder, ProcessBuilder, accounting, ms};

    fn sample(t: u64, cpu_ms: u64) -> SetSample {
        SetSample {
            t: ms(t),
            processes: 2,
            threads: 5,
            rss_bytes: 1 << 20,
            pss_bytes: None,
            cpu: Nanos::from_millis(cpu_ms),
            cpu_error: Nanos::ZERO,
        }
    }

    #[test]
    fn cpu_percent_is_of_one_cpu_and_its_mean_is_over_time() {
        // 50% for 100 ms, then 200% for 300 ms.
        let s = cpu_percent(&[sample(0, 0), sample(100, 50), sample(400, 650)], Nanos::from_millis(50));
        assert_eq!((s.count, s.min, s.max, s.last), (2, Some(50.0), Some(200.0), Some(200.0)));
        assert_eq!(s.mean, Some(162.5));
    }

    #[test]
    fn one_sample_has_no_rate() {
        let s = cpu_percent(&[sample(0, 10)], Nanos::from_millis(50));
        assert_eq!((s.count, s.mean), (0, None));
        assert_eq!(s.reason.as_deref(), Some("it takes two samples, half an interval apart"));
    }

    #[test]
    fn samples_nearer_than_half_an_interval_make_no_rate_of_their_own() {
        // One busy thread all the time. At 102 ms and 301 ms a little more was read than had been used by then.
        let samples = [
            sample(0, 0),
            sample(100, 100),
            sample(102, 104),
            sample(200, 200),
            sample(299, 299),
            sample(301, 303),
        ];
        let s = cpu_percent(&samples, Nanos::from_millis(100));
        assert_eq!((s.count, s.min, s.last), (3, Some(100.0), Some(103.0 / 101.0 * 100.0)));
        assert!(s.max < Some(103.0), "{s:?}");
        // Nothing is left out of the mean.
        assert_eq!(s.mean, Some(303.0 / 301.0 * 100.0));
        let short = cpu_percent(&samples[1..3], Nanos::from_millis(100));
        assert_eq!((short.count, short.mean), (0, None));
    }

    #[test]
    fn a_counter_that_went_back_gives_no_negative_rate() {
        let s = cpu_percent(&[sample(0, 100), sample(100, 90), sample(200, 140)], Nanos::from_millis(50));
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

    const MIB: u64 = 1 << 20;

    fn held(t: u64, rss_mib: u64, pss_mib: Option<u64>) -> SetSample {
        SetSample { rss_bytes: rss_mib * MIB, pss_bytes: pss_mib.map(|n| n * MIB), ..sample(t, 0) }
    }

    fn member(pid: u32, peak_mib: u64, sampled_mib: u64) -> ProcessBuilder {
        let mut p = ProcessBuilder::new(pid, 42, "worker").rss_mib(peak_mib);
        p.sampled_rss_mib(sampled_mib);
        p
    }

    fn peak(r: &model::Resources) -> (Option<u64>, Option<PeakKind>, Option<u32>) {
        (r.peak_rss_bytes.map(|n| n / MIB), r.peak_rss_kind, r.peak_rss_pid)
    }

    #[test]
    fn the_peak_is_never_below_what_the_largest_member_held() {
        let o = ObservationBuilder::new()
            .processes(vec![member(42, 20, 20), member(43, 809, 540)])
            .samples(vec![held(0, 300, Some(290)), held(50, 564, Some(560))]);
        let r = of(o.clone().build());
        assert_eq!(peak(&r), (Some(809), Some(PeakKind::AtLeast), Some(43)));
        assert_eq!(r.rss_bytes.max, Some(564 * MIB));
        // The PSS of 564 MiB is no number to size by.
        assert_eq!((r.size_memory_by, r.size_memory_by_bytes), (None, None));
        assert!(r.size_memory_by_reason.unwrap().contains("between two samples"));
        let r = of(o.processes(vec![member(42, 20, 20), member(43, 540, 540)]).build());
        assert_eq!(peak(&r), (Some(564), Some(PeakKind::AtLeast), None));
    }

    #[test]
    fn only_the_mark_of_a_set_of_one_is_exact() {
        let alone =
            || ObservationBuilder::new().processes(vec![member(42, 30, 20)]).samples(vec![held(0, 20, None)]);
        assert_eq!(peak(&of(alone().build())), (Some(30), Some(PeakKind::Exact), Some(42)));
        // Polling may have missed its children.
        let polled = of(alone().proc_tracker("asked for").build());
        assert_eq!(polled.peak_rss_kind, Some(PeakKind::AtLeast));
        let lost = of(alone().loss(crate::event::Loss { ring_full: 1, ..Default::default() }).build());
        assert_eq!(lost.peak_rss_kind, Some(PeakKind::AtLeast));
    }

    #[test]
    fn pss_is_the_number_to_size_by_only_where_it_was_read_at_the_peak_of_rss() {
        let members = || vec![member(42, 200, 200), member(43, 100, 100)];
        let with = |samples, members| {
            let r = of(ObservationBuilder::new().processes(members).samples(samples).build());
            (r.size_memory_by, r.size_memory_by_bytes.map(|n| n / MIB))
        };
        let at_peak = || vec![held(0, 100, Some(90)), held(50, 297, Some(180)), held(100, 300, None)];
        assert_eq!(with(at_peak(), members()), (Some(SizeBy::PssAtPeakRss), Some(180)));
        let early = vec![held(0, 290, Some(180)), held(100, 300, None)];
        assert_eq!(with(early, members()), (None, None));
        // A helper that no sample caught may have come on top.
        let mut helper = member(44, 50, 0).forked(10).exited(20).sampled(0);
        assert_eq!(with(at_peak(), [members(), vec![helper.clone()]].concat()), (None, None));
        helper = helper.rss_mib(1);
        helper.sampled_rss_mib(0);
        assert_eq!(with(at_peak(), [members(), vec![helper]].concat()).1, Some(180));
        // Of the part of a set nothing follows for the whole.
        let o = ObservationBuilder::new().processes(members()).samples(at_peak()).proc_tracker("asked for");
        assert_eq!(of(o.build()).size_memory_by, None);
    }

    #[test]
    fn the_cgroups_peak_is_the_number_to_size_by_unless_it_met_its_limit_or_is_of_others() {
        let with = |change: fn(&mut CgroupAccounting)| {
            let mut o = ObservationBuilder::new().samples(vec![sample(0, 0)]).build();
            let mut a = accounting();
            change(&mut a);
            o.accounting = Some(a);
            let r = of(o);
            (r.size_memory_by, r.size_memory_by_bytes)
        };
        assert_eq!(with(|_| {}), (Some(SizeBy::CgroupPeakOfLife), Some(640 * MIB)));
        assert_eq!(with(|a| a.memory_limit_bytes = Some(2048 * MIB)).1, Some(640 * MIB));
        assert_eq!(with(|a| a.memory_limit_bytes = Some(640 * MIB)), (None, None));
        let beside = |a: &mut CgroupAccounting| a.memory_reason = Some("inferscope itself is in it".into());
        assert_eq!(with(beside), (None, None));
        // It was made for the run.
        let mut o = ObservationBuilder::new().samples(vec![sample(0, 0)]).build();
        o.accounting = Some(accounting());
        let exec = Fixture { observation: Some(o), mode: model::Mode::Exec, ..Fixture::profile() };
        assert_eq!(exec.with(resources).size_memory_by, Some(SizeBy::CgroupPeakOfRun));
    }

    #[test]
    fn a_run_with_an_oom_kill_names_no_size() {
        let mut o = ObservationBuilder::new().processes(vec![ProcessBuilder::new(42, 1, "a").oom_killed(50)]);
        o = o.samples(vec![held(0, 10, Some(10))]);
        let mut o = o.build();
        o.accounting = Some(accounting());
        let r = of(o);
        assert_eq!((r.size_memory_by, r.size_memory_by_bytes), (None, None));
        assert!(r.size_memory_by_reason.unwrap().contains("want of memory"));
    }
}
