use crate::event::{Gauge, GpuDevice, Interruption, PowerSource, ProcessUse, Query};
use crate::fixture::{
    LoadLog, ObservationBuilder, ProcessBuilder, RequestBuilder, device, fixture, ms, with,
};
use crate::plan::{GpuChoice, Price};
use crate::report::model::Report;

fn report(devices: Vec<GpuDevice>) -> Report {
    fixture(devices).report()
}

#[test]
fn a_refused_query_is_null_with_nvmls_words() {
    let mut d = with(device(0, 100), &[]);
    d.refused.insert(Query::Gauge(Gauge::Temperature), "Not Supported".into());
    let g = &report(vec![d]).gpus[0];
    assert_eq!((g.sm_percent.mean, g.gauges.temperature_c.mean), (Some(40.0), None));
    assert_eq!(g.gauges.temperature_c.reason.as_deref(), Some("Not Supported"));
    assert_eq!(
        (g.capabilities["sm_percent"].as_str(), g.capabilities["temperature_c"].as_str()),
        ("ok", "Not Supported")
    );
}

#[test]
fn memory_divides_into_the_targets_the_others_and_the_rest() {
    let g = &report(vec![with(device(0, 100), &[(900, Some(50)), (901, Some(7))])]).gpus[0];
    assert_eq!(
        (g.used_by_target, g.target_memory_bytes, g.other_memory_bytes),
        (Some(true), Some(50), Some(7))
    );
    assert_eq!(g.unattributed_memory_bytes, Some(43));
}

#[test]
fn an_unknown_share_makes_the_sum_unknown() {
    let g = &report(vec![with(device(0, 100), &[(900, None)])]).gpus[0];
    assert_eq!((g.used_by_target, g.target_memory_bytes), (Some(true), None));
    assert!(g.target_memory_reason.is_some());
}

#[test]
fn not_used_is_only_said_where_every_process_could_have_been_found() {
    assert_eq!(report(vec![with(device(0, 100), &[(7, None)])]).gpus[0].used_by_target, Some(false));
    let mut f = fixture(vec![with(device(0, 100), &[(7, None)])]);
    f.observation.as_mut().unwrap().processes[0].host_pid = None;
    let unknown = f.clone().report();
    assert_eq!(unknown.gpus[0].used_by_target, None);
    assert!(unknown.gpus[0].used_by_target_reason.is_some());
    // In the initial namespace its own pid is the host's.
    f.gpu.pids_are_ours = true;
    assert_eq!(f.report().gpus[0].used_by_target, Some(false));
}

#[test]
fn a_pid_that_another_process_had_before_is_not_the_targets() {
    let mut f = fixture(vec![with(device(0, 100), &[(900, Some(5))])]);
    let born = ProcessBuilder::new(10, 1, "server").forked(2_500);
    let mut o = ObservationBuilder::new().processes(vec![born]).build();
    o.processes[0].host_pid = Some(900);
    f.observation = Some(o);
    assert_eq!(f.report().gpus[0].used_by_target, Some(false));
}

#[test]
fn joules_are_of_the_window_and_of_the_devices_that_the_target_uses() {
    let used = |index, watts| with(device(index, watts), &[(900, Some(5))]);
    let r = report(vec![used(0, 100), used(1, 200), with(device(2, 400), &[(77, Some(5))])]);
    let summary = r.gpu_summary.as_ref().unwrap();
    assert_eq!(summary.devices, [0, 1]);
    assert_eq!((summary.target_memory_bytes, summary.power_mw), (Some(10), Some(300_000.0)));
    // 300 W for 2 s, 100 tokens.
    let e = &r.efficiency;
    let joules = e.joules_per_token.unwrap();
    assert!((joules - 6.0).abs() <= e.joules_per_token_error.unwrap(), "{e:?}");
    assert!((joules - 6.0).abs() < 0.3 && e.joules_per_token_error.unwrap() < 1.5, "{e:?}");
    assert_eq!(e.joules_per_request, Some(joules * 100.0));
    assert!((e.tokens_per_joule.unwrap() * joules - 1.0).abs() < 1e-9);
    assert_eq!(r.gpus[0].idle_power_mw, Some(100_000));
    // At the power of rest nothing is left but the error, so that figure is withheld.
    assert_eq!(e.joules_per_token_above_idle, None);
    assert_eq!(r.gpus[0].energy_source.as_deref(), Some("counter"));
    assert_eq!(r.gpus[0].energy_refresh_ns, Some(100_000_000));
}

#[test]
fn a_device_shared_with_others_gives_no_joules_unless_they_did_nothing() {
    let mut d = with(device(0, 100), &[(900, Some(5)), (77, Some(5))]);
    let e = report(vec![d.clone()]).efficiency;
    assert_eq!(e.joules_per_token, None);
    assert!(e.joules_reason.unwrap().contains("pid 77"));
    let used = |pid, sm_percent| ProcessUse { t: ms(1_500), pid, sm_percent };
    d.process_use = vec![used(900, 40), used(77, 0)];
    let r = report(vec![d.clone()]);
    assert!(r.efficiency.joules_per_token.is_some());
    assert_eq!(r.gpus[0].target_sm_percent.mean, Some(40.0));
    d.process_use = vec![used(900, 40), used(77, 3)];
    assert_eq!(report(vec![d]).efficiency.joules_per_token, None);
}

#[test]
fn without_a_counter_power_is_integrated_and_without_power_there_is_a_reason() {
    let mut d = with(device(0, 100), &[(900, Some(5))]);
    d.energy.clear();
    d.refused.insert(Query::Energy, "Not Supported".into());
    let r = report(vec![d.clone()]);
    assert_eq!(
        (r.gpus[0].energy_source.as_deref(), r.gpus[0].energy_mj),
        (Some("integrated"), Some(200_000))
    );
    d.power.clear();
    let r = report(vec![d]);
    assert_eq!((r.gpus[0].energy_mj, r.efficiency.joules_per_token), (None, None));
    let reason = r.efficiency.joules_reason.unwrap();
    assert!(reason.contains("no energy counter (Not Supported)"), "{reason}");
}

#[test]
fn a_window_too_short_for_the_counter_gives_no_joules() {
    let mut f = fixture(vec![with(device(0, 100), &[(900, Some(5))])]);
    let request = RequestBuilder::new(0).sent(1_000).content([1_050, 1_100]).usage(1, 2).done(1_300).build();
    f.load = Some(LoadLog { requests: vec![request] });
    let e = f.report().efficiency;
    assert_eq!(e.joules_per_token, None);
    assert!(e.joules_reason.unwrap().contains("0.30 s is too short"));
}

#[test]
fn a_device_whose_use_cannot_be_told_counts_only_where_it_is_named() {
    let mut d = device(0, 100);
    d.processes_known = false;
    let mut f = fixture(vec![d]);
    let r = f.clone().report();
    assert_eq!(r.efficiency.joules_per_token, None);
    assert!(r.efficiency.joules_reason.unwrap().contains("name its devices with --gpu"));
    f.plan.observe.gpu = GpuChoice::These(vec!["0".into()]);
    let r = f.report();
    assert!(r.efficiency.joules_per_token.is_some());
    // What limits the target there is another question.
    assert_eq!(r.gpus[0].limited_by, None);
    assert_eq!(r.gpus[0].limited_by_reason.as_deref(), Some("the target is not known to use device 0"));
}

#[test]
fn an_instance_is_a_part_of_its_device_and_not_summed_with_it() {
    let parent = GpuDevice { mig_parent: true, ..with(device(0, 100), &[(900, Some(5))]) };
    let instance = GpuDevice {
        mig: Some(crate::event::MigInstance { gpu_instance: Some(1), compute_instance: Some(0) }),
        ..with(device(0, 100), &[(900, Some(5))])
    };
    let r = report(vec![parent, instance]);
    assert_eq!(r.gpu_summary.as_ref().unwrap().devices, [0]);
    assert_eq!(r.gpu_summary.unwrap().target_memory_bytes, Some(5));
    assert_eq!(r.gpus[1].energy_mj, None);
    assert!(r.gpus[1].energy_reason.as_ref().unwrap().contains("whole device"));
}

#[test]
fn a_price_is_for_an_hour_of_each_device_that_counts() {
    let mut f =
        fixture(vec![with(device(0, 100), &[(900, Some(5))]), with(device(1, 100), &[(900, Some(5))])]);
    assert_eq!(f.clone().report().efficiency.cost_reason.as_deref(), Some("no --price-per-hour was given"));
    f.plan.observe.prices = vec![Price { device: Some("l4".into()), per_hour: 0.9 }];
    let r = f.clone().report();
    let pace = r.timing.unwrap().output_tokens_per_s.unwrap();
    assert!((r.efficiency.cost_per_million_tokens.unwrap() - 1.8 / 3_600.0 / pace * 1e6).abs() < 1e-9);
    f.plan.observe.prices = vec![Price { device: Some("H100".into()), per_hour: 0.9 }];
    let r = f.report();
    assert_eq!(r.efficiency.cost_per_million_tokens, None);
    assert!(r.efficiency.cost_reason.unwrap().contains("NVIDIA L4"));
}

#[test]
fn the_packages_energy_a_token_is_withheld_where_it_is_too_rough() {
    let mut f = fixture(vec![with(device(0, 100), &[(900, Some(5))])]);
    f.packages.readings = f.gpu.devices[0].energy.clone();
    let e = f.clone().report().efficiency;
    assert_eq!((e.cpu_package_joules, e.cpu_joules_per_token), (Some(200.0), Some(2.0)));
    assert_eq!(e.cpu_joules_per_token_error.map(|j| j * 100.0), e.cpu_package_joules_error);
    // A counter that moves on every half a second: 200 J may be 150 or 250.
    for reading in &mut f.packages.readings {
        reading.mj = reading.mj / 50_000 * 50_000;
    }
    let e = f.report().efficiency;
    assert!(e.cpu_package_joules_error.unwrap() >= 50.0);
    assert_eq!((e.cpu_joules_per_token, e.cpu_joules_per_token_error), (None, None));
    assert!(e.cpu_joules_reason.unwrap().contains("may be off by"));
}

#[test]
fn a_counter_that_stands_still_gives_no_tokens_a_joule() {
    let mut d = with(device(0, 0), &[(900, Some(5))]);
    d.energy.clear();
    let e = report(vec![d]).efficiency;
    assert_eq!((e.joules_per_token, e.tokens_per_joule), (None, None));
    assert!(e.joules_reason.is_some());
}

/// Away from 500 to 600 ms, before the load.
fn was_away(mut d: GpuDevice) -> GpuDevice {
    d.interruptions = vec![Interruption { from: ms(500), to: Some(ms(600)), words: "gone".into() }];
    d
}

#[test]
fn averaged_power_of_the_second_after_a_device_was_away_is_of_that_time_too() {
    let mut d = was_away(with(device(0, 100), &[(900, Some(5))]));
    (d.energy, d.power_source) = (Vec::new(), Some(PowerSource::Instant));
    assert_eq!(report(vec![d.clone()]).gpus[0].energy_mj, Some(200_000));
    d.power_source = Some(PowerSource::Average);
    // The load begins 0.4 s after it came back.
    assert_eq!(report(vec![d]).gpus[0].energy_mj, None);
}

#[test]
fn a_counter_that_rises_faster_than_the_device_can_use_energy_began_anew() {
    let d = with(device(0, 100), &[(900, Some(5))]);
    let jumped = |mj: u64| {
        let mut d = d.clone();
        d.energy.iter_mut().filter(|r| r.before >= ms(2_000)).for_each(|r| r.mj += mj);
        report(vec![d]).gpus[0].energy_source.clone().unwrap()
    };
    // Twice 100 W for the half second of a refresh, and what was used.
    assert_eq!((jumped(50_000).as_str(), jumped(200_000).as_str()), ("counter", "integrated"));
    // One that moves on every half second is none of these, though 50 J between two looks are more than that.
    let mut slow = d.clone();
    slow.energy.iter_mut().for_each(|r| r.mj = r.mj / 50_000 * 50_000);
    slow.power.iter_mut().for_each(|p| p.mw = 30_000);
    assert_eq!(report(vec![slow]).gpus[0].energy_source.as_deref(), Some("counter"));
}

#[test]
fn power_of_which_not_all_readings_are_kept_has_no_area() {
    let mut d = with(device(0, 100), &[(900, Some(5))]);
    d.energy.clear();
    assert_eq!(report(vec![d.clone()]).gpus[0].energy_mj, Some(200_000));
    d.power_thinned = true;
    let r = report(vec![d]);
    assert_eq!(r.gpus[0].energy_mj, None);
    assert!(r.gpus[0].energy_reason.as_ref().unwrap().contains("more often than is kept"));
}
