//! Verdicts by figures of real runs (an H200 with llama.cpp and `transformers serve`), and by made-up ones.

use proptest::prelude::*;

use super::evidence::{Evidence, Units};
use super::{Limit, rule};
use crate::clock::Window;
use crate::event::{GpmMetric, GpmWindow, GpuDevice, GpuLog};
use crate::fixture::{device, fixture, ms, sweep_on, with};
use crate::reason::DeviceReason;
use crate::report::model::{Gpu, LimitedBy, Report};
use crate::units::Nanos;

const fn units(sm_active: f64, integer: f64, tensor: f64, dram: f64) -> Units {
    Units { sm_active, tensor, dram, other: ("integer", integer), occupancy: None }
}

fn judged(busy: f64, units: Units) -> Result<Limit, String> {
    reason(&Evidence::made_up(busy, Ok(units)))
}

fn reason(evidence: &Evidence) -> Result<Limit, String> {
    rule::verdict(evidence).limit
}

#[test]
fn real_runs_are_judged_as_their_other_runs_showed() {
    // 7B at 1: 248 tokens/s, and 945 at 16.
    assert_eq!(judged(84.6, units(75.0, 47.0, 0.01, 21.5)), Ok(Limit::Latency));
    // 32B at 1: 75 tokens/s, and 416 at 16.
    assert_eq!(judged(93.0, units(86.5, 56.0, 0.01, 28.7)), Ok(Limit::Latency));
    // 7B at 16: the device has no work for 61% of the time.
    assert_eq!(judged(38.9, units(26.0, 5.0, 1.1, 5.7)), Ok(Limit::Host));
    // 32B at 16: it waits for a third of the time and is not near a limit in the rest.
    let both = judged(66.0, units(52.0, 9.5, 2.3, 12.5)).unwrap_err();
    assert!(
        both.contains("66% of the time: it partly waits") && both.contains("none of its units"),
        "{both}"
    );
    // transformers serve: kernels ran 17% of the time, each of 1,100 launches a token by itself.
    let transformers = Evidence::made_up(17.0, Err(DeviceReason::CountersNotRead));
    assert_eq!(reason(&transformers), Ok(Limit::Host));
}

#[test]
fn a_unit_near_its_limit_limits_and_one_in_between_is_not_judged() {
    assert_eq!(judged(98.0, units(95.0, 20.0, 71.0, 30.0)), Ok(Limit::Tensor));
    assert_eq!(judged(98.0, units(95.0, 20.0, 5.0, 72.0)), Ok(Limit::Bandwidth));
    assert_eq!(judged(98.0, units(95.0, 91.0, 0.0, 20.0)), Ok(Limit::Compute));
    assert!(judged(98.0, units(95.0, 20.0, 5.0, 50.0)).unwrap_err().contains("bandwidth were in use 50%"));
    assert!(
        judged(98.0, units(95.0, 70.0, 5.0, 20.0)).unwrap_err().contains("its integer units were in use 70%")
    );
    assert!(judged(98.0, units(95.0, 20.0, 66.0, 64.0)).unwrap_err().contains("both near their limits"));
}

proptest! {
    /// Runs alike differ by some points; none of them is told the opposite of the other.
    #[test]
    fn figures_that_differ_little_never_turn_one_verdict_into_another(
        (busy, integer, tensor, dram) in (0.0..100.0f64, 0.0..100.0f64, 0.0..100.0f64, 0.0..100.0f64),
        (in_flight, together) in (0.0..100.0f64, 0.0..100.0f64),
        off in prop::array::uniform6(-3.5..3.5f64),
    ) {
        let of = |sign: f64| {
            let part = |value: f64, n: usize| sign.mul_add(off[n], value).clamp(0.0, 100.0);
            let told = units(part(busy, 0), part(integer, 1), part(tensor, 2), part(dram, 3));
            let mut evidence = Evidence::made_up(part(busy, 0), Ok(told));
            evidence.in_flight = Some(part(in_flight.max(55.0), 4));
            evidence.in_flight_least = evidence.in_flight;
            evidence.busy_together = Some(part(busy.max(together), 5));
            rule::verdict(&evidence).limit
        };
        if let (Ok(a), Ok(b)) = (of(1.0), of(-1.0)) {
            prop_assert_eq!(a, b);
        }
    }
}

#[test]
fn a_device_waits_for_the_host_only_where_it_had_requests_and_nothing_else_to_wait_for() {
    let waiting = || Evidence::made_up(30.0, Ok(units(20.0, 5.0, 1.0, 5.0)));
    let with = |change: fn(&mut Evidence)| {
        let mut evidence = waiting();
        change(&mut evidence);
        reason(&evidence)
    };
    assert_eq!(reason(&waiting()), Ok(Limit::Host));
    assert_eq!(with(|e| e.in_flight = Some(35.0)), Ok(Limit::Idle));
    assert!(with(|e| e.in_flight = Some(75.0)).unwrap_err().contains("no request was in flight for 25%"));
    let unlisted = |e: &mut Evidence| (e.in_flight, e.in_flight_least) = (None, Some(97.0));
    assert_eq!(with(unlisted), Ok(Limit::Host));
    assert!(with(|e| (e.in_flight, e.in_flight_least) = (None, Some(40.0))).is_err());
    assert!(with(|e| e.busy_together = Some(60.0)).unwrap_err().contains("wait for each other"));
    assert!(with(|e| e.pcie = Some(24_000.0)).unwrap_err().contains("wait for copies"));
    assert!(with(|e| e.shared = true).unwrap_err().contains("other processes computed"));
    assert_eq!(with(|e| e.client = true), Ok(Limit::Client));
    let unsent = |e: &mut Evidence| (e.in_flight, e.in_flight_least, e.was_sent) = (None, None, false);
    assert!(with(unsent).unwrap_err().contains("nothing was sent"));
}

#[test]
fn without_counters_a_busy_device_gets_bounds_and_no_verdict() {
    let mut evidence =
        Evidence::made_up(86.0, Err(DeviceReason::Nvml("the requested operation is not available".into())));
    (evidence.memory_time, evidence.most_read) = (Some(44.0), Some(29.4));
    let why = reason(&evidence).unwrap_err();
    for part in [
        "kernels ran 86% of the time, which is no measure of how much of it they used",
        "not to be had: the requested operation is not available",
        "its memory was accessed 44% of the time, whatever the amount",
        "decoding read at most 29% of what its memory can deliver",
    ] {
        assert!(why.contains(part), "{part:?} is not in {why}");
    }
}

/// A device of the target's with these means in every window from `from` to `to`, in milliseconds.
fn counted(from: u64, to: u64, busy: f64, [sm, integer, tensor, dram]: [f64; 4]) -> GpuDevice {
    let mut values = [None; GpmMetric::ALL.len()];
    for (metric, value) in [
        (GpmMetric::Busy, busy),
        (GpmMetric::SmActive, sm),
        (GpmMetric::Integer, integer),
        (GpmMetric::Tensor, tensor),
        (GpmMetric::Dram, dram),
    ] {
        values[metric as usize] = Some(value);
    }
    let windows = (from..to).step_by(250).map(|t| GpmWindow { from: ms(t), to: ms(t + 250), values });
    GpuDevice {
        name: Some("NVIDIA H200".into()),
        gpm: windows.collect(),
        ..with(device(0, 300), &[(900, Some(5_600_000_000))])
    }
}

fn only(report: &Report) -> &Gpu {
    &report.gpus[0]
}

#[test]
fn a_server_that_spins_while_it_waits_is_not_what_the_device_waits_for() {
    // One thread at 1.01 CPUs all through the load, as llama.cpp's in cudaStreamSynchronize.
    let mut f = fixture(vec![counted(0, 4_000, 85.0, [75.0, 47.0, 0.0, 21.5])]);
    let o = f.observation.as_mut().unwrap();
    o.processes[0].cpu.as_mut().unwrap().user = Nanos::from_millis(2_020);
    let report = f.report();
    assert_eq!(only(&report).limited_by, Some(LimitedBy::Latency));
    let insight = report.insights.iter().find(|i| i.code == "gpu_latency_bound").unwrap();
    assert_eq!(
        insight.headline,
        "device 0 (NVIDIA H200) is busy, but none of its units is near its limit: it had work 85% of the time; SMs active \
         75%, occupancy an unknown part; tensor units 0%, integer 47%, memory bandwidth 22%"
    );
    assert!(insight.advice.starts_with("more requests at a time can use that room"), "{}", insight.advice);
    assert_eq!(insight.evidence["dram_percent"], 21.5);
    assert_eq!(only(&report).limited_by_evidence["busy_source"], "counters");
}

#[test]
fn counters_of_less_than_half_the_load_are_no_evidence_of_it() {
    let report = |to| fixture(vec![counted(0, to, 85.0, [75.0, 47.0, 0.0, 21.5])]).report();
    assert_eq!(only(&report(2_500)).limited_by, Some(LimitedBy::Latency));
    // The driver's share of the time, 40%, is what is left, and the load had a request all along.
    let early = report(1_750);
    assert_eq!(only(&early).limited_by, Some(LimitedBy::Host));
    assert_eq!(only(&early).limited_by_evidence["busy_source"], "driver");
}

#[test]
fn of_a_device_that_the_target_is_not_known_to_use_nothing_is_said() {
    let foreign = GpuDevice { processes: Vec::new(), ..counted(0, 4_000, 85.0, [75.0, 47.0, 0.0, 72.0]) };
    let report = fixture(vec![with(foreign, &[(7, None)])]).report();
    assert_eq!((only(&report).limited_by, only(&report).limited_by_evidence.len()), (None, 0));
    assert!(report.insights.iter().all(|i| !i.code.starts_with("gpu_")));
}

/// 50, 100 and 100 tokens a second at 1, 2 and 4.
#[test]
fn a_sweeps_steps_are_judged_each_and_never_against_what_the_next_one_measured() {
    let report = |figures| {
        let device = with(counted(0, 8_000, 97.0, figures), &[(42, Some(5))]);
        sweep_on(GpuLog {
            devices: vec![device],
            polled: Some(Window { from: ms(0), to: ms(8_000) }),
            ..GpuLog::default()
        })
    };
    let limits = |report: &Report| -> Vec<Option<LimitedBy>> {
        report.sweep.as_ref().unwrap().steps.iter().map(|step| step.devices[0].limited_by).collect()
    };
    let (tensor, latency) = (Some(LimitedBy::Tensor), Some(LimitedBy::Latency));
    let near = report([95.0, 20.0, 70.0, 30.0]);
    assert_eq!(limits(&near), [None, tensor, tensor]);
    let steps = &near.sweep.as_ref().unwrap().steps;
    let why = steps[0].devices[0].limited_by_reason.as_deref().unwrap();
    assert!(why.contains("with 2.0 times the load, gave 2.0 times the tokens a second"), "{why}");
    assert_eq!(steps[0].devices[0].limited_by_evidence["next_step_tokens_ratio"], 2.0);
    // The steps differ, so the device as a whole has no verdict.
    assert_eq!((only(&near).limited_by, only(&near).limited_by_reason.is_some()), (None, true));
    let far = report([75.0, 47.0, 0.0, 21.5]);
    assert_eq!(limits(&far), [latency, None, latency]);
    let told: Vec<_> = far.insights.iter().filter(|i| i.code == "gpu_latency_bound").collect();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].headline.starts_with("device 0 (NVIDIA H200) at concurrency 1 is busy"),
        "{}",
        told[0].headline
    );
    assert_eq!(
        told[0].advice,
        "more requests at a time use that room: 2.0 times as many gave 2.0 times the tokens a second"
    );
    assert_eq!(only(&report([95.0, 20.0, 5.0, 72.0])).limited_by, Some(LimitedBy::Bandwidth));
}
