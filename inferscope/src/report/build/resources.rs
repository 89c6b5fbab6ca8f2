//! `resources` of the report: memory, threads and CPU over time.
//!
//! Owns nothing but the way from figures to rows. A part of `build`.

use crate::clock::Origin;
use crate::event::Observation;
use crate::figures::set::{CgroupPeak, PeakRssKind, SetFigures, SetResources, SizedBy};
use crate::reason::{Apart, SetReason};
use crate::report::model;

use super::stat::{of_samples, stat};

/// `unobserved`: why there are no figures, where there are none.
pub(crate) fn resources(origin: Origin, set: Result<&SetFigures<'_>, &SetReason>) -> model::Resources {
    match set {
        Ok(set) => observed(origin, set.observation, &set.resources),
        Err(why) => {
            let peak = CgroupPeak { bytes: None, file: None, limit_bytes: None, reason: Some(why.clone()) };
            none(why, &peak)
        }
    }
}

fn observed(origin: Origin, o: &Observation, resources: &SetResources<'_>) -> model::Resources {
    let peak = &resources.cgroup_peak;
    let sampled = match &resources.sampled {
        Ok(sampled) => sampled,
        Err(why) => return none(why, peak),
    };
    let (size_by, size_memory_by_reason) = sampled.size_by.clone().apart();
    let cpu_percent = model::Stat {
        reason: sampled.cpu_percent.left_out.as_ref().map(ToString::to_string),
        ..stat(&sampled.cpu_percent.stat)
    };
    model::Resources {
        samples: o
            .samples
            .iter()
            .map(|s| model::Sample {
                t_ns: origin.at(s.t).0,
                processes: s.processes,
                threads: s.threads,
                rss_bytes: s.rss_bytes,
                pss_bytes: s.pss_bytes,
                cpu_ns: s.cpu.0,
                cpu_error_ns: Some(s.cpu_error.0),
            })
            .collect(),
        peak_rss_bytes: Some(sampled.peak_rss.bytes),
        peak_rss_kind: Some(match sampled.peak_rss.kind {
            PeakRssKind::Exact => model::PeakKind::Exact,
            PeakRssKind::AtLeast => model::PeakKind::AtLeast,
        }),
        peak_rss_pid: sampled.peak_rss.pid,
        size_memory_by_bytes: size_by.map(|by| by.0),
        size_memory_by: size_by.map(|by| match by.1 {
            SizedBy::CgroupPeakOfRun => model::SizeBy::CgroupPeakOfRun,
            SizedBy::CgroupPeakOfLife => model::SizeBy::CgroupPeakOfLife,
            SizedBy::PssAtPeakRss => model::SizeBy::PssAtPeakRss,
        }),
        size_memory_by_reason,
        rss_bytes: of_samples(sampled.rss_bytes),
        pss_bytes: stat(&sampled.pss_bytes),
        memory_peak_bytes: peak.bytes,
        memory_peak_source: peak.file.map(str::to_owned),
        memory_limit_bytes: peak.limit_bytes,
        memory_peak_reason: peak.reason.as_ref().map(ToString::to_string),
        threads: of_samples(sampled.threads),
        processes: of_samples(sampled.processes),
        cpu_percent,
        reason: None,
    }
}

fn none(why: &SetReason, peak: &CgroupPeak<'_>) -> model::Resources {
    model::Resources {
        samples: Vec::new(),
        peak_rss_bytes: None,
        peak_rss_kind: None,
        peak_rss_pid: None,
        size_memory_by_bytes: None,
        size_memory_by: None,
        size_memory_by_reason: Some(why.to_string()),
        rss_bytes: stat(&Err(why)),
        pss_bytes: stat(&Err(why)),
        memory_peak_bytes: peak.bytes,
        memory_peak_source: peak.file.map(str::to_owned),
        memory_limit_bytes: peak.limit_bytes,
        memory_peak_reason: peak.reason.as_ref().map(ToString::to_string),
        threads: stat(&Err(why)),
        processes: stat(&Err(why)),
        cpu_percent: stat(&Err(why)),
        reason: Some(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CgroupAccounting, SetSample};
    use crate::fixture::{Fixture, ObservationBuilder, ProcessBuilder, accounting, ms};
    use crate::report::model::{PeakKind, SizeBy};
    use crate::units::Nanos;

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

    fn of(o: crate::event::Observation) -> model::Resources {
        Fixture { observation: Some(o), ..Fixture::profile() }.report().resources
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
        assert_eq!(of(o.clone()).pss_bytes.reason.as_deref(), Some(&*SetReason::NoPss.to_string()));
        o.pss_reason = Some("another user's smaps_rollup".into());
        let r = of(o);
        assert_eq!((r.pss_bytes.count, r.pss_bytes.max), (0, None));
        assert_eq!(r.pss_bytes.reason.as_deref(), Some("another user's smaps_rollup"));
    }

    #[test]
    fn the_cgroups_peak_has_its_file_or_a_reason() {
        let mut o = ObservationBuilder::new().samples(vec![sample(0, 0)]).build();
        assert_eq!(of(o.clone()).memory_peak_reason.as_deref(), Some(&*SetReason::NoCgroup.to_string()));
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
        assert_eq!(unread(None), SetReason::CgroupPeakNotRead.to_string());
        assert_eq!(unread(Some("no memory controller".into())), "no memory controller");
    }

    #[test]
    fn no_sample_is_unknown_and_not_zero() {
        let o = ObservationBuilder::new().samples(vec![]).build();
        let r = of(o);
        assert_eq!(
            (r.rss_bytes.max, r.reason.as_deref()),
            (None, Some(&*SetReason::NeverSampled.to_string()))
        );
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
        assert_eq!(exec.report().resources.size_memory_by, Some(SizeBy::CgroupPeakOfRun));
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
