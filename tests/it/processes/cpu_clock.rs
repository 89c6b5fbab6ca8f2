//! The set's CPU time against that of processes which know it themselves.

use std::fs;
use std::time::Duration;

use inferscope_tests::binary;
use inferscope_tests::cgroup::Cgroup;
use inferscope_tests::emitter::Emitter;
use inferscope_tests::report::{Named, Report};
use inferscope_tests::requirements;
use inferscope_tests::spun::{Notes, Spinner};
use serde_json::Value;

/// Beside the error that is told: what the process's first thread does, and between reading and telling.
const SLACK_NS: u64 = 100_000;

struct Sample {
    t: u64,
    cpu_ns: u64,
    error_ns: u64,
}

fn samples(report: &Value) -> Vec<Sample> {
    let origin = report["run"].whole("origin_monotonic_ns");
    let samples = report["resources"].list("samples");
    let sample = |s: &Value| Sample {
        t: origin + s.whole("t_ns"),
        cpu_ns: s.whole("cpu_ns"),
        error_ns: s.whole("cpu_error_ns"),
    };
    samples.iter().map(sample).collect()
}

/// By how much what each sample told since one of them is off, at least; every one is within its told error. That one is
/// the sample at which the processes themselves know it best.
fn off(samples: &[Sample], notes: &Notes) -> Vec<u64> {
    let known: Vec<_> = samples.iter().filter_map(|s| Some((s, notes.used_at(s.t)?))).collect();
    assert!(known.len() >= 15, "only {} samples to compare", known.len());
    let &(base, base_used) = known.iter().min_by_key(|(_, used)| used.1 - used.0).expect("there are some");
    let of = |&(s, used): &(&Sample, (u64, u64))| {
        let told = i128::from(s.cpu_ns) - i128::from(base.cpu_ns);
        let least = i128::from(used.0) - i128::from(base_used.1);
        let most = i128::from(used.1) - i128::from(base_used.0);
        let off = (least - told).max(told - most).max(0).unsigned_abs() as u64;
        let error = base.error_ns + s.error_ns + SLACK_NS;
        assert!(off <= error, "told {told}, used {least} to {most}, said to be off by {error} at most");
        off
    };
    known.iter().map(of).collect()
}

fn observed(spinner: &Spinner, more: &[&str]) -> Report {
    let pid = spinner.pid().to_string();
    let running = binary::observing(&[&["--pid", &pid, "--gpu", "off"], more].concat());
    std::thread::sleep(Duration::from_millis(1_200));
    running.interrupted_report()
}

fn at_share(sorted: &mut [u64], share: f64) -> u64 {
    sorted.sort_unstable();
    sorted[(sorted.len() as f64 * share) as usize]
}

/// What they use comes in turns of every length beside the tick's.
#[test]
fn the_cpu_of_threads_that_run_is_known_to_the_moment() {
    if !requirements::kernel("what runs on each CPU") {
        return;
    }
    for (threads, spin_us, sleep_us) in
        [(1, 1_000, 0), (2, 1_000, 0), (5, 1_000, 0), (3, 700, 300), (2, 9_000, 7_000)]
    {
        let spinner = Spinner::start(threads, spin_us, sleep_us);
        let report = observed(&spinner, &[]);
        let samples = samples(&report);
        let mut off = off(&samples, &spinner.notes());
        let mut errors: Vec<u64> = samples.iter().map(|s| s.error_ns).collect();
        let (off_90, error_50) = (at_share(&mut off, 0.9), at_share(&mut errors, 0.5));
        requirements::say(&format!(
            "{threads} threads, {spin_us}/{sleep_us} us: off by {off_90} ns at p90, {} ns at most; said to be by {error_50}",
            off[off.len() - 1]
        ));
        assert!(off_90 < 200_000, "off by {off_90} ns at p90");
        assert!(error_50 < 300_000, "said to be off by {error_50} ns");
        assert!(report["processes"]["cpu"]["error_reason"].is_null(), "{:#}", report["processes"]["cpu"]);
    }
}

/// Both are read in one moment, and neither by itself knows of what runs.
#[test]
fn the_set_and_its_cgroup_agree_to_half_a_percent_in_a_short_window() {
    if !requirements::kernel("a cgroup's CPU time") {
        return;
    }
    let Some(cgroup) = Cgroup::make("a cgroup's CPU time") else { return };
    let spinner = Spinner::start(2, 1_000, 0);
    fs::write(cgroup.v2().join("cgroup.procs"), spinner.pid().to_string()).expect("it lives");
    let path = cgroup.v2().to_str().expect("UTF-8");
    let mut apart: Vec<f64> = Vec::new();
    for _ in 0..7 {
        let running = binary::observing(&["--cgroup", path, "--gpu", "off"]);
        std::thread::sleep(Duration::from_millis(200));
        let report = running.interrupted_report();
        let cpu = &report["processes"]["cpu"];
        let percent = cpu["reconciliation_error_pct"].as_f64().unwrap_or_else(|| panic!("unknown: {cpu:#}"));
        let (total, uncharged) = (cpu.whole("total_ns"), &cpu["cgroup_uncharged_ns"]);
        requirements::say(&format!(
            "a window of {} ms of CPU: {percent:.3}% apart, {uncharged} ns not charged",
            total / 1_000_000
        ));
        assert!(uncharged.is_i64(), "{cpu:#}");
        apart.push(percent.abs());
    }
    apart.sort_unstable_by(f64::total_cmp);
    // Whoever has the CPU between the readings parts them; most windows see nobody.
    assert!(apart[3] < 0.5, "apart by {apart:?} percent");
    drop(spinner.notes());
}

/// A poller can't know, and says so.
#[test]
fn without_the_kernel_tracker_the_error_is_a_tick_for_each_running_thread() {
    let spinner = Spinner::start(2, 1_000, 0);
    let report = observed(&spinner, &["--tracker", "proc"]);
    let samples = samples(&report);
    let mut off = off(&samples, &spinner.notes());
    requirements::say(&format!("polled: off by {} ns at p90", at_share(&mut off, 0.9)));
    assert!(samples.iter().all(|s| s.error_ns >= 1_000_000), "no tick is shorter");
    let cpu = &report["processes"]["cpu"];
    assert!(cpu.whole("error_ns") >= 2_000_000, "{cpu:#}");
    assert!(cpu["error_reason"].as_str().is_some_and(|why| why.contains("tick")), "{cpu:#}");
}

/// One request of ten tokens in a fifth of a second, beside which the target does what it always does.
fn profiled(spinner: &Spinner) -> Report {
    let emitter = Emitter::start(&["--first-token", "20ms", "--interval", "20ms", "--tokens", "10"]);
    let pid = spinner.pid().to_string();
    let args = ["--endpoint", &emitter.endpoint, "--pid", &pid, "--json", "--gpu", "off", "--requests", "1"];
    binary::run(&args).report()
}

/// Runs of each kind that are compared; of a machine that leaves inferscope waiting for a CPU some are withheld.
const COMPARED: usize = 5;
const MOST_RUNS: usize = 15;

/// What a run told of its window: its ends, its CPU and that CPU's error.
struct Told {
    from: u64,
    to: u64,
    cpu_ns: f64,
    error_ns: f64,
}

/// `None` where it is withheld, with the reason.
fn told(report: &Value) -> Option<Told> {
    let (origin, window) = (report["run"].whole("origin_monotonic_ns"), &report["timing"]["window"]);
    let (span, efficiency) = (&window["spans"][0], &report["efficiency"]);
    if let Some(why) = efficiency["cpu_reason"].as_str() {
        requirements::say(&format!("withheld: {why}"));
        assert!(why.contains("give or take") && efficiency["cpu_ns_per_token"].is_null(), "{efficiency:#}");
        return None;
    }
    let times_tokens = |name: &str| {
        let one = efficiency[name].as_f64().unwrap_or_else(|| panic!("no {name}: {efficiency:#}"));
        one * window.whole("output_tokens") as f64
    };
    Some(Told {
        from: origin + span.whole("from_ns"),
        to: origin + span.whole("to_ns"),
        cpu_ns: times_tokens("cpu_ns_per_token"),
        error_ns: times_tokens("cpu_ns_per_token_error"),
    })
}

#[test]
fn cpu_a_token_in_a_fifth_of_a_second_is_right_to_half_a_percent() {
    if !requirements::kernel("what runs on each CPU") {
        return;
    }
    for (threads, spin_us, sleep_us) in [(1, 1_000, 0), (2, 9_000, 7_000)] {
        let mut apart = Vec::new();
        for _ in 0..MOST_RUNS {
            if apart.len() == COMPARED {
                break;
            }
            let spinner = Spinner::start(threads, spin_us, sleep_us);
            let Some(told) = told(&profiled(&spinner)) else { continue };
            let notes = spinner.notes();
            let at = |t| notes.used_at(t).expect("it spun all the time");
            let (begin, end) = (at(told.from), at(told.to));
            let (least, most) = ((end.0 - begin.1) as f64, (end.1 - begin.0) as f64);
            let off = (least - told.cpu_ns).max(told.cpu_ns - most).max(0.0);
            requirements::say(&format!(
                "{} ms: told {:.3} ms ± {:.3}, used {:.3} to {:.3}",
                (told.to - told.from) / 1_000_000,
                told.cpu_ns / 1e6,
                told.error_ns / 1e6,
                least / 1e6,
                most / 1e6
            ));
            assert!(off <= told.error_ns + 2.0 * SLACK_NS as f64, "off by {off} ns");
            apart.push(off / most);
        }
        apart.sort_unstable_by(f64::total_cmp);
        assert!(!apart.is_empty(), "all were withheld");
        assert!(apart[apart.len() / 2] < 0.005, "off by {apart:?} of the whole");
    }
}

#[test]
fn what_the_target_uses_at_rest_is_told_beside_a_tokens_cpu() {
    if !requirements::kernel("what runs on each CPU") {
        return;
    }
    // Withheld where the machine is too busy to tell.
    let told = (0..MOST_RUNS).find_map(|_| {
        let spinner = Spinner::start(1, 1_000, 0);
        let report = profiled(&spinner);
        let reason = &report["efficiency"]["cpu_idle_reason"];
        if reason.is_string() {
            requirements::say(&format!("withheld: {reason}"));
            assert!(report["efficiency"]["cpu_idle_ns_per_token"].is_null(), "{report:#}");
            return None;
        }
        Some((report, spinner.notes()))
    });
    let (report, notes) = told.expect("in no run it was told");
    let efficiency = &report["efficiency"];
    let ns = |name: &str| efficiency[name].as_f64().unwrap_or_else(|| panic!("no {name}: {efficiency:#}"));
    let origin = report["run"].whole("origin_monotonic_ns");
    let [from, to] = ["from_ns", "to_ns"].map(|end| origin + efficiency["cpu_rest"].whole(end));
    // Longer, as it does not rest.
    assert!((400_000_000..5_000_000_000).contains(&(to - from)), "{efficiency:#}");
    let at = |t| notes.used_at(t).expect("it spun all the time");
    let (begin, end) = (at(from), at(to));
    let tokens = report["timing"]["window"].whole("output_tokens") as f64;
    // In the time of the load's window.
    let in_window = report["timing"]["window"].whole("length_ns") as f64 / (to - from) as f64 / tokens;
    let (least, most) = ((end.0 - begin.1) as f64 * in_window, (end.1 - begin.0) as f64 * in_window);
    let (idle, error) = (ns("cpu_idle_ns_per_token"), ns("cpu_idle_ns_per_token_error"));
    requirements::say(&format!("at rest: {idle} ± {error} ns a token, used {least} to {most}"));
    let error = error + 2.0 * SLACK_NS as f64 * in_window;
    assert!(least - error <= idle && idle <= most + error);
    assert!(efficiency["definitions"]["cpu_idle_ns_per_token"].is_string(), "{efficiency:#}");
}
