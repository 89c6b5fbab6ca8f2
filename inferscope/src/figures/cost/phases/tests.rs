use proptest::prelude::*;

use super::*;
use crate::clock::Mono;
use crate::event::{EnergyReading, FailureKind, GpuDevice, GpuLog, Query, RequestLog};
use crate::figures::cost::RequestSpan;
use crate::fixture::{Fixture, LoadLog, RequestBuilder, fixture, metered, ms, sweep_on, with};
use crate::report::model::{PrefillDecode, Report, Step};

const IDLE_MW: u64 = 50_000;

/// One request after another, in milliseconds: the wait before it, prefill and decode.
type Schedule = Vec<(u64, u64, u64)>;

/// When each is sent, has its first token and its last.
fn times(schedule: &[(u64, u64, u64)]) -> Vec<(u64, u64, u64)> {
    let mut t = 1_000;
    let of = schedule.iter().map(|(wait, prefill, decode)| {
        let sent = t + wait;
        t = sent + prefill + decode;
        (sent, sent + prefill, t)
    });
    of.collect()
}

fn request(id: u64, (sent, first, last): (u64, u64, u64)) -> RequestLog {
    RequestBuilder::new(id).sent(sent).content([first, last]).usage(100, 2).done(last).build()
}

/// A device that takes `prefill` and `decode` milliwatts in these parts, and a run with these requests.
fn run(schedule: &[(u64, u64, u64)], prefill: u64, decode: u64, every: u64, refresh: u64) -> Fixture {
    let all = times(schedule);
    let until = all.last().unwrap().2 + 1_000;
    let power = |t: u64| match all.iter().find(|(sent, _, last)| (*sent..*last).contains(&t)) {
        Some((_, first, _)) if t < *first => prefill,
        Some(_) => decode,
        None => IDLE_MW,
    };
    let device = with(metered(power, until, every, refresh), &[(900, Some(5))]);
    let requests = all.iter().enumerate().map(|(id, times)| request(id as u64, *times)).collect();
    Fixture { load: Some(LoadLog { requests }), ..fixture(vec![device]) }
}

fn told(report: &Report) -> &PrefillDecode {
    let e = &report.efficiency;
    e.prefill_decode.as_ref().unwrap_or_else(|| panic!("{:?}", e.prefill_decode_reason))
}

fn reason(run: &Fixture) -> String {
    let e = run.report().efficiency;
    assert_eq!(e.prefill_decode, None);
    e.prefill_decode_reason.unwrap()
}

fn plain() -> Fixture {
    run(&[(0, 600, 1_000), (5, 600, 1_000), (5, 600, 1_000)], 300_000, 150_000, 50, 100)
}

#[test]
fn prefill_and_decode_are_told_apart_where_one_request_is_in_flight() {
    let report = plain().report();
    let told = told(&report);
    // 3 × 0.6 s at 300 W, 3 × 1 s at 150 W.
    let (prefill, decode) = (told.prefill_mj.unwrap(), told.decode_mj.unwrap());
    assert!(prefill.abs_diff(540_000) <= told.prefill_error_mj.unwrap(), "{told:?}");
    assert!(decode.abs_diff(450_000) <= told.decode_error_mj.unwrap(), "{told:?}");
    // At most a refresh of the counter and a reading at both ends of each part.
    assert!(told.prefill_error_mj.unwrap() <= 3 * 300 * (100 + 50), "{told:?}");
    assert_eq!((told.requests, told.prompt_tokens, told.decode_tokens), (3, Some(300), 3));
    assert_eq!(told.joules_per_decode_token.map(|j| (j * 3_000.0).round() as u64), Some(decode));
    assert_eq!(told.joules_per_prompt_token.map(|j| (j * 300_000.0).round() as u64), Some(prefill));
    assert!(told.method.ends_with("by the energy counter"), "{}", told.method);
}

#[test]
fn parts_whose_ends_a_stall_of_the_client_moved_are_none() {
    let mut run = plain();
    let stall = |r: &mut RequestLog, from, to| {
        r.client_stalls = vec![crate::event::Stall { from: ms(from), to: ms(to) }];
        r.written = Some(r.sent);
        r.write_took = Some(ms(to).since(ms(from)));
    };
    let requests = &mut run.load.as_mut().unwrap().requests;
    // A hundredth of the time of prefill: half of what may be.
    stall(&mut requests[0], 996, 1_005);
    assert!(run.report().efficiency.prefill_decode.is_some());
    stall(&mut run.load.as_mut().unwrap().requests[0], 900, 1_050);
    assert!(
        reason(&run).contains("the client did not look for up to 150.0 ms at a time"),
        "{}",
        reason(&run)
    );
}

/// Readings that met only the high half of a wave.
#[test]
fn parts_that_the_counter_contradicts_are_none() {
    let mut f = run(&[(0, 3_000, 4_000)], 300_000, 150_000, 50, 100);
    for reading in &mut f.gpu.devices[0].energy {
        reading.mj /= 2;
    }
    // The counter's own parts are too short for it.
    f.gpu.devices[0].energy.retain(|r| !(ms(1_200)..ms(7_700)).contains(&r.before));
    let reason = reason(&f);
    assert!(reason.contains("by the readings of power, and the counter says"), "{reason}");
}

#[test]
fn long_parts_are_told_by_the_counter_where_power_is_not() {
    let mut f = run(&[(0, 3_000, 4_000)], 300_000, 150_000, 20, 100);
    f.gpu.devices[0].power.clear();
    let report = f.report();
    let told = told(&report);
    assert!(told.prefill_mj.unwrap().abs_diff(900_000) <= told.prefill_error_mj.unwrap(), "{told:?}");
    assert!(told.decode_mj.unwrap().abs_diff(600_000) <= told.decode_error_mj.unwrap(), "{told:?}");
    assert!(told.method.ends_with("by the energy counter"), "{}", told.method);
    assert_eq!(told.prefill_reason, None);
}

#[test]
fn a_part_that_is_too_rough_is_withheld_by_itself() {
    let mut f = run(&[(0, 200, 4_000)], 300_000, 150_000, 20, 100);
    f.gpu.devices[0].power.clear();
    f.gpu.devices[0].power_limit_mw = None;
    let report = f.report();
    let told = told(&report);
    assert_eq!((told.prefill_mj, told.joules_per_prompt_token), (None, None));
    let reason = told.prefill_reason.as_deref().unwrap();
    assert!(reason.contains("its parts of 200 ms are too short, longer prompts would tell"), "{reason}");
    assert!(told.decode_mj.is_some());
}

#[test]
fn parts_that_no_reading_saw_are_not_told_by_their_neighbours() {
    // Readings fall into decode alone, and show its power without any change.
    let mut f = run(&[(10, 38, 950), (12, 38, 950)], 700_000, 150_000, 50, 100);
    let times = [(1_010, 1_998), (2_010, 2_998)];
    let seen = |t| times.iter().any(|(sent, last)| t >= ms(sent + 38) && t <= ms(*last));
    f.gpu.devices[0].energy.clear();
    for point in &mut f.gpu.devices[0].power {
        point.mw = if seen(point.t) { 150_000 } else { 140_000 };
    }
    let report = f.report();
    let told = told(&report);
    let reason = told.prefill_reason.as_deref().unwrap();
    assert!(
        reason.contains("the parts of 38 ms are too short for readings of power every 50 ms"),
        "{reason}"
    );
    assert!(told.decode_mj.is_some());
}

#[test]
fn an_average_of_a_second_tells_no_parts() {
    let mut f = plain();
    f.gpu.devices[0].power_source = Some(PowerSource::Average);
    f.gpu.devices[0].energy.clear();
    f.gpu.devices[0].refused.insert(Query::Energy, "Not Supported".into());
    let reason = reason(&f);
    assert!(
        reason.contains("no energy counter (Not Supported)") && reason.contains("average of a second"),
        "{reason}"
    );
}

#[test]
fn whatever_reaches_into_the_stretch_shares_the_device() {
    let add = |request: RequestLog| {
        let mut f = plain();
        f.load.as_mut().unwrap().requests.push(request);
        f
    };
    let two = "2 requests were in flight at a time";
    assert_eq!(reason(&add(request(9, (1_700, 1_800, 1_900)))), two);
    let warmup = RequestBuilder::new(9).warmup().sent(200).content([300, 1_100]).usage(1, 2).done(1_100);
    assert_eq!(reason(&add(warmup.build())), two);
    let failed =
        RequestBuilder::new(9).sent(1_700).failed(FailureKind::Status, "busy").status(503).done(1_710);
    assert_eq!(reason(&add(failed.build())), two);
    // Over before the first was sent.
    let early = RequestBuilder::new(9).warmup().sent(200).content([300, 900]).usage(1, 2).done(1_000);
    assert!(add(early.build()).report().efficiency.prefill_decode.is_some());
    let given_up = RequestBuilder::new(9).warmup().sent(200).failed(FailureKind::Timeout, "slow").done(900);
    assert!(reason(&add(given_up.build())).contains("given up before"));
    // After the last nothing is beside it.
    let last = RequestBuilder::new(9).sent(5_820).failed(FailureKind::Timeout, "slow").done(5_900);
    let report = add(last.build()).report();
    assert_eq!(told(&report).requests, 3);
}

#[test]
fn a_failed_requests_time_is_in_neither_part() {
    let mut f = plain();
    let second = &mut f.load.as_mut().unwrap().requests[1];
    // It had come as far as a token.
    let error = RequestBuilder::new(1)
        .sent(2_605)
        .content([3_205, 4_205])
        .failed(FailureKind::ServerError, "out of memory");
    *second = error.done(4_205).build();
    let report = f.report();
    let told = told(&report);
    assert!(told.prefill_mj.unwrap().abs_diff(360_000) <= told.prefill_error_mj.unwrap(), "{told:?}");
    assert!(told.decode_mj.unwrap().abs_diff(300_000) <= told.decode_error_mj.unwrap(), "{told:?}");
    assert_eq!((told.requests, told.prompt_tokens, told.decode_tokens), (2, Some(200), 2));
}

#[test]
fn an_answer_that_begins_with_several_tokens_has_decode_in_its_prefill() {
    let with_first = |first| {
        let mut f = plain();
        let tokens = [(1_600, first), (2_600, 5)];
        f.load.as_mut().unwrap().requests[0] = RequestBuilder::new(0)
            .sent(1_000)
            .content_with_tokens(tokens)
            .usage(100, 5 + u64::from(first))
            .done(2_600)
            .build();
        f
    };
    assert!(reason(&with_first(2)).contains("its first piece was one token"));
    let report = with_first(1).report();
    assert_eq!(told(&report).decode_tokens, 7);
    // Of five tokens in two pieces nobody tells how they were cut, and without usage nothing is told.
    let mut f = plain();
    f.load.as_mut().unwrap().requests[0].usage.as_mut().unwrap().completion_tokens = Some(5);
    assert!(reason(&f).contains("its first piece was one token"));
    f.load.as_mut().unwrap().requests[0].usage = None;
    assert!(reason(&f).contains("its first piece was one token"));
}

#[test]
fn answers_of_one_token_have_no_decode() {
    let mut f = plain();
    for r in &mut f.load.as_mut().unwrap().requests {
        r.chunks.remove(1);
        r.usage.as_mut().unwrap().completion_tokens = Some(1);
    }
    let report = f.report();
    assert_eq!(told(&report).decode_reason.as_deref(), Some("no answer had a second token"));
    assert!(told(&report).prefill_mj.is_some());
}

#[test]
fn requests_that_are_not_listed_may_have_been_beside_the_others() {
    let requests = InFlight::new(std::iter::empty(), 1);
    assert_eq!(requests.parts(&[Window { from: ms(0), to: ms(1) }]), Err(EnergyReason::Unlisted(1)));
}

#[test]
fn a_shared_device_is_not_divided() {
    let mut f = plain();
    let device = f.gpu.devices.remove(0);
    f.gpu.devices.push(with(GpuDevice { processes: Vec::new(), ..device }, &[(900, Some(5)), (77, Some(5))]));
    assert!(reason(&f).contains("used by others"));
}

/// 100 W at rest; 300 W until the first token and 150 W from there on in the first step, 200 W in the next ones.
fn sweep_power(t: u64) -> u64 {
    match t {
        1_000..1_100 => 300_000,
        1_100..2_000 => 150_000,
        3_000..7_000 => 200_000,
        _ => 100_000,
    }
}

fn on(device: GpuDevice) -> Report {
    sweep_on(GpuLog {
        devices: vec![device],
        polled: Some(Window { from: ms(0), to: ms(8_000) }),
        ..GpuLog::default()
    })
}

#[test]
fn a_sweeps_steps_have_their_own_energy_and_the_first_its_parts() {
    let device = with(metered(sweep_power, 8_000, 10, 20), &[(42, Some(5))]);
    let report = on(device.clone());
    let steps = &report.sweep.as_ref().unwrap().steps;
    // Millijoules of the windows: 1,000–2,000, 3,000–4,000 and 5,000–7,000 ms.
    for (step, (truth, tokens)) in steps.iter().zip([(165_000, 50), (200_000, 100), (400_000, 200)]) {
        let energy = &step.energy;
        let (mj, error) = (energy.energy_mj.unwrap(), energy.energy_error_mj.unwrap());
        assert!(mj.abs_diff(truth) <= error && error < truth / 10, "{truth} is not {energy:?}");
        let joules = energy.joules_per_token.unwrap();
        assert!((joules * f64::from(tokens) * 1e3 - mj as f64).abs() <= 1.0, "{energy:?}");
        assert!((energy.tokens_per_joule.unwrap() * joules - 1.0).abs() < 1e-9);
        assert!(
            (energy.joules_per_token_error.unwrap() * f64::from(tokens) * 1e3 - error as f64).abs() <= 1.0
        );
    }
    // By the same way as the whole.
    let sum: u64 = steps.iter().filter_map(|s| s.energy.energy_mj).sum();
    assert!(sum.abs_diff(report.gpu_summary.as_ref().unwrap().energy_mj.unwrap()) <= 2);
    let told = steps[0].energy.prefill_decode.as_ref().unwrap();
    assert!(told.prefill_mj.unwrap().abs_diff(30_000) <= told.prefill_error_mj.unwrap(), "{told:?}");
    assert_eq!(told.decode_tokens, 49);
    let why = steps[1].energy.prefill_decode_reason.as_deref();
    assert_eq!(why, Some("2 requests were in flight at a time"));
    let e = &report.efficiency;
    assert_eq!(
        (&e.prefill_decode, e.prefill_decode_reason.as_deref()),
        (&None, Some("each step of a sweep is for itself: see sweep.steps"))
    );
    // Others came in the last step alone.
    let mut shared = device;
    let mut look = shared.processes[0].clone();
    (look.t, look.all[0].pid) = (ms(5_500), 77);
    look.all.push(shared.processes[0].all[0]);
    shared.processes.push(look);
    let report = on(shared);
    let steps = &report.sweep.as_ref().unwrap().steps;
    assert!(steps[1].energy.joules_per_token.is_some());
    assert_eq!((steps[2].energy.energy_mj, steps[2].energy.joules_per_token), (None, None));
    assert!(steps[2].energy.joules_reason.as_deref().unwrap().contains("pid 77"));
}

#[test]
fn a_sweep_without_a_step_of_one_says_why_regression_does_not_tell_either() {
    let steps = [Err(EnergyReason::NotAlone(2)), Err(EnergyReason::NotAlone(4))];
    let why = of_a_sweep(steps.iter()).to_string();
    assert!(why.starts_with("in the first step 2 requests were in flight at a time; over a sweep"), "{why}");
    assert!(why.contains("same mix of prompt and output tokens"), "{why}");
}

/// Least squares of energy on both kinds of tokens, each step's energy within 3%: how far off the joules a prompt token may
/// be, as a part of themselves. `None`: one column is a multiple of the other, and any joules a prompt token fit.
fn doubt_of_regression(steps: &[(f64, f64)]) -> Option<f64> {
    let (a_prompt, an_output) = (0.02, 0.1);
    let dot = |f: fn(&(f64, f64)) -> f64| steps.iter().map(f).sum::<f64>();
    let (pp, po, oo) = (dot(|s| s.0 * s.0), dot(|s| s.0 * s.1), dot(|s| s.1 * s.1));
    let det = pp * oo - po * po;
    let weight = |s: &(f64, f64)| (oo * s.0 - po * s.1) / det;
    let joules = |s: &(f64, f64)| a_prompt * s.0 + an_output * s.1;
    let error: f64 = steps.iter().map(|s| weight(s).abs() * 0.03 * joules(s)).sum();
    (det > pp * oo * 1e-12).then_some(error / a_prompt)
}

#[test]
fn regression_over_a_sweep_would_invent_numbers() {
    let report = on(with(metered(sweep_power, 8_000, 10, 20), &[(42, Some(5))]));
    let steps = &report.sweep.as_ref().unwrap().steps;
    let tokens = |s: &Step| (s.timing.prompt_tokens.unwrap() as f64, s.timing.output_tokens.unwrap() as f64);
    let all: Vec<(f64, f64)> = steps.iter().map(tokens).collect();
    assert_eq!(all, [(30.0, 50.0), (60.0, 100.0), (120.0, 200.0)]);
    assert_eq!(doubt_of_regression(&all), None);
    // Answers that end by themselves, 2% apart from step to step: an interval of many times the truth, and zero in it.
    let by_chance: Vec<_> = all.iter().zip([1.0, 1.02, 0.98]).map(|((p, o), by)| (*p, o * by)).collect();
    let doubt = doubt_of_regression(&by_chance).unwrap();
    assert!(doubt > 10.0, "{doubt}");
    // The reckoning itself: mixes that do differ would tell.
    assert!(doubt_of_regression(&[(4_000.0, 10.0), (10.0, 1_000.0)]).unwrap() < 0.1);
}

#[test]
fn a_hundred_thousand_requests_and_an_hour_of_readings_take_no_time() {
    let schedule: Schedule = vec![(6, 10, 20); 100_000];
    let all = times(&schedule);
    let device = GpuDevice {
        energy: (0..72_000)
            .map(|n| EnergyReading { before: ms(n * 50), after: ms(n * 50), mj: n / 2 * 10_000 })
            .collect(),
        power: (0..72_000).map(|n| PowerPoint { t: ms(n * 50), mw: 100_000 + n % 2 }).collect(),
        ..GpuDevice { power_source: Some(PowerSource::Instant), ..GpuDevice::default() }
    };
    let parts: Vec<Window> =
        all.iter().take(90_000).map(|(a, _, c)| Window { from: ms(*a), to: ms(*c) }).collect();
    let begun = std::time::Instant::now();
    let (energy, _) = best(&Metered::new(&device), &parts).unwrap();
    // 30 of 36 ms at 100 W.
    assert!((energy.mj - 90_000.0 * 3_000.0).abs() < 1e6, "{energy:?}");
    let span = |(id, (sent, first, last)): (u64, &(u64, u64, u64))| RequestSpan {
        id,
        flight: Window { from: ms(*sent), to: ms(*last) },
        first_token: Some(ms(*first)),
        last_token: Some(ms(*last)),
        ok: true,
        warmup: false,
        given_up: false,
    };
    let requests = InFlight::new((0..).zip(&all).map(span), 0);
    let whole = Window { from: Mono(0), to: Mono(u64::MAX) };
    assert_eq!(requests.parts(&[whole]).unwrap().requests, 100_000);
    // What takes readings times requests takes minutes in a debug build.
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_truth_is_within_each_parts_error(
        schedule in proptest::collection::vec((0_u64..120, 5_u64..700, 5_u64..1_200), 1..8),
        prefill in 20_000_u64..700_000,
        decode in 20_000_u64..700_000,
        every in 5_u64..70,
        refresh in 20_u64..150,
    ) {
        let f = run(&schedule, prefill, decode, every, refresh);
        let device = Metered::new(&f.gpu.devices[0]);
        let all = times(&schedule);
        let of = |from: fn(&(u64, u64, u64)) -> u64, to: fn(&(u64, u64, u64)) -> u64| -> Vec<Window> {
            all.iter().map(|t| Window { from: ms(from(t)), to: ms(to(t)) }).collect()
        };
        let parts = [(of(|t| t.0, |t| t.1), prefill), (of(|t| t.1, |t| t.2), decode)];
        for (parts, mw) in parts {
            let seconds: f64 = parts.iter().map(|p| p.length().as_secs_f64()).sum();
            let truth = seconds * mw as f64;
            if let Ok(energy) = by_power(&device, &parts) {
                prop_assert!((energy.mj - truth).abs() <= energy.error_mj + 1.0, "power: {truth} is not {energy:?}");
            }
            if let Ok(energy) = counted(&device, &parts) {
                // The counter shows whole millijoules.
                let slack = 2.0 * parts.len() as f64;
                prop_assert!((energy.mj - truth).abs() <= energy.error_mj + slack, "counter: {truth} is not {energy:?}");
            }
        }
        // In the report: within the error, or not there.
        let report = f.report();
        if let Some(told) = &report.efficiency.prefill_decode {
            let truth = |n: fn(&(u64, u64, u64)) -> u64, mw: u64| schedule.iter().map(n).sum::<u64>() * mw / 1_000;
            let slack = 2 * schedule.len() as u64 + 1;
            if let (Some(mj), Some(error)) = (told.prefill_mj, told.prefill_error_mj) {
                prop_assert!(mj.abs_diff(truth(|s| s.1, prefill)) <= error + slack, "{told:?}");
            }
            if let (Some(mj), Some(error)) = (told.decode_mj, told.decode_error_mj) {
                prop_assert!(mj.abs_diff(truth(|s| s.2, decode)) <= error + slack, "{told:?}");
            }
        }
    }
}
