//! The set's memory, threads and CPU over time.
//!
//! Owns how samples become figures, the set's peak, and what to size memory by. Never interpolates. A part of `set`.

use crate::event::{CgroupAccounting, Observation, ProcessRecord, SetSample};
use crate::figures::stat::{Stat, stat};
use crate::reason::SetReason;
use crate::units::Nanos;

use super::Scope;

#[derive(Debug, Clone)]
pub(crate) struct SetResources<'a> {
    /// Without a sample there are no figures but the cgroup's own.
    pub(crate) sampled: Result<SampledResources, SetReason>,
    pub(crate) cgroup_peak: CgroupPeak<'a>,
}

/// Of at least one sample.
#[derive(Debug, Clone)]
pub(crate) struct SampledResources {
    pub(crate) peak_rss: PeakRss,
    pub(crate) size_by: Result<(u64, SizedBy), SetReason>,
    pub(crate) rss_bytes: Option<Stat<u64>>,
    pub(crate) pss_bytes: Result<Stat<u64>, SetReason>,
    pub(crate) threads: Option<Stat<u64>>,
    pub(crate) processes: Option<Stat<u64>>,
    pub(crate) cpu_percent: CpuPercent,
}

/// Of one CPU.
#[derive(Debug, Clone)]
pub(crate) struct CpuPercent {
    pub(crate) stat: Result<Stat<f64>, SetReason>,
    /// Intervals that say nothing.
    pub(crate) left_out: Option<SetReason>,
}

/// The largest that is known of the set's resident memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeakRss {
    pub(crate) bytes: u64,
    pub(crate) kind: PeakRssKind,
    /// The process whose own peak it is; `None`: it is a sample's sum.
    pub(crate) pid: Option<u32>,
    /// The largest sum that a sample saw.
    sampled: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeakRssKind {
    /// The set was one process, and the kernel keeps its high-water mark.
    Exact,
    AtLeast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SizedBy {
    /// The peak of a cgroup that was made for the run.
    CgroupPeakOfRun,
    /// The cgroup's peak since it was made.
    CgroupPeakOfLife,
    PssAtPeakRss,
}

/// The cgroup's own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CgroupPeak<'a> {
    pub(crate) bytes: Option<u64>,
    pub(crate) file: Option<&'a str>,
    pub(crate) limit_bytes: Option<u64>,
    /// Beside a figure: what else is in it.
    pub(crate) reason: Option<SetReason>,
}

impl<'a> SetResources<'a> {
    pub(super) fn of(scope: &Scope<'_>, o: &'a Observation) -> Self {
        Self { sampled: sampled(scope, o), cgroup_peak: CgroupPeak::of(o.accounting.as_ref()) }
    }

    pub(crate) fn peak_rss_bytes(&self) -> Option<u64> {
        self.sampled.as_ref().ok().map(|r| r.peak_rss.bytes)
    }

    pub(crate) fn peak_pss_bytes(&self) -> Option<u64> {
        self.sampled.as_ref().ok()?.pss_bytes.as_ref().ok().map(|s| s.max)
    }
}

fn sampled(scope: &Scope<'_>, o: &Observation) -> Result<SampledResources, SetReason> {
    let samples = &o.samples;
    if samples.is_empty() {
        return Err(SetReason::NeverSampled);
    }
    let peak_rss = PeakRss::of(o, scope.descendants);
    let no_pss = || o.pss_reason.clone().map_or(SetReason::NoPss, SetReason::Observed);
    Ok(SampledResources {
        size_by: size_by(o, &peak_rss, scope.cgroup_of_run),
        peak_rss,
        rss_bytes: stat(samples.iter().map(|s| s.rss_bytes)),
        pss_bytes: stat(samples.iter().filter_map(|s| s.pss_bytes)).ok_or_else(no_pss),
        threads: stat(samples.iter().map(|s| u64::from(s.threads))),
        processes: stat(samples.iter().map(|s| u64::from(s.processes))),
        cpu_percent: cpu_percent(samples, scope.sample_interval),
    })
}

impl PeakRss {
    fn of(o: &Observation, descendants: bool) -> Self {
        let sampled = o.samples.iter().map(|s| s.rss_bytes).max().unwrap_or(0);
        let largest = o.processes.iter().max_by_key(|p| p.max_rss_bytes);
        let of_one = largest.and_then(|p| Some((p, p.max_rss_bytes?)));
        let alone = o.processes.len() == 1 && (!descendants || is_all(o));
        match of_one {
            Some((p, bytes)) if alone && p.max_rss_is_peak => {
                Self { bytes: bytes.max(sampled), kind: PeakRssKind::Exact, pid: Some(p.pid), sampled }
            }
            Some((p, bytes)) if bytes > sampled => {
                Self { bytes, kind: PeakRssKind::AtLeast, pid: Some(p.pid), sampled }
            }
            _ => Self { bytes: sampled, kind: PeakRssKind::AtLeast, pid: None, sampled },
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
fn size_by(o: &Observation, rss: &PeakRss, cgroup_of_run: bool) -> Result<(u64, SizedBy), SetReason> {
    if o.processes.iter().any(|p| p.oom_killed == Some(true)) {
        return Err(SetReason::OomKilled);
    }
    let account = o.accounting.as_ref().filter(|a| a.memory_reason.is_none());
    if let Some((peak, a)) = account.and_then(|a| Some((a.memory_peak_bytes?, a))) {
        if let Some(bytes) = a.memory_limit_bytes.filter(|limit| near(peak, *limit)) {
            return Err(SetReason::MemoryLimitMet { bytes });
        }
        let by = if cgroup_of_run { SizedBy::CgroupPeakOfRun } else { SizedBy::CgroupPeakOfLife };
        return Ok((peak, by));
    }
    let at_peak =
        o.samples.iter().filter(|s| near(s.rss_bytes, rss.sampled)).filter_map(|s| s.pss_bytes).max();
    let pss = at_peak.ok_or(SetReason::NoPssAtPeak)?;
    if !is_all(o) {
        return Err(SetReason::NotEveryProcess);
    }
    let beyond: Option<u64> = o.processes.iter().map(beyond_samples).sum();
    match beyond {
        Some(beyond) if near(rss.sampled, rss.sampled.saturating_add(beyond)) => {
            Ok((pss, SizedBy::PssAtPeakRss))
        }
        Some(_) => Err(SetReason::MoreBetweenSamples),
        None => Err(SetReason::PeaksUnknown),
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
fn cpu_percent(samples: &[SetSample], interval: Nanos) -> CpuPercent {
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
    let stat = stat(percents).map(|s| Stat { mean: used / over * 100.0, ..s });
    let intervals = samples.len().saturating_sub(1);
    CpuPercent {
        stat: stat.ok_or(SetReason::TwoSamples),
        left_out: (left_out > 0).then_some(SetReason::CounterWentBack { left_out, intervals }),
    }
}

impl<'a> CgroupPeak<'a> {
    fn of(accounting: Option<&'a CgroupAccounting>) -> Self {
        let Some(a) = accounting else {
            return Self { bytes: None, file: None, limit_bytes: None, reason: Some(SetReason::NoCgroup) };
        };
        let unread = a.memory_peak_bytes.is_none().then_some(SetReason::CgroupPeakNotRead);
        Self {
            bytes: a.memory_peak_bytes,
            file: a.memory_file.as_deref(),
            limit_bytes: a.memory_limit_bytes,
            reason: a.memory_reason.clone().map(SetReason::Observed).or(unread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::ms;

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
        let s = s.stat.unwrap();
        assert_eq!((s.count, s.min, s.max, s.last), (2, 50.0, 200.0, 200.0));
        assert_eq!(s.mean, 162.5);
    }

    #[test]
    fn one_sample_has_no_rate() {
        let s = cpu_percent(&[sample(0, 10)], Nanos::from_millis(50));
        assert_eq!((s.stat, s.left_out), (Err(SetReason::TwoSamples), None));
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
        let s = cpu_percent(&samples, Nanos::from_millis(100)).stat.unwrap();
        assert_eq!((s.count, s.min, s.last), (3, 100.0, 103.0 / 101.0 * 100.0));
        assert!(s.max < 103.0, "{s:?}");
        // Nothing is left out of the mean.
        assert_eq!(s.mean, 303.0 / 301.0 * 100.0);
        let short = cpu_percent(&samples[1..3], Nanos::from_millis(100));
        assert_eq!(short.stat, Err(SetReason::TwoSamples));
    }

    #[test]
    fn a_counter_that_went_back_gives_no_negative_rate() {
        let s = cpu_percent(&[sample(0, 100), sample(100, 90), sample(200, 140)], Nanos::from_millis(50));
        assert_eq!(s.stat.map(|s| (s.count, s.min)), Ok((1, 50.0)));
        assert_eq!(s.left_out, Some(SetReason::CounterWentBack { left_out: 1, intervals: 2 }));
    }
}
