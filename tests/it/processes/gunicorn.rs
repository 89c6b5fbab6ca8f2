//! A gunicorn whose workers are recycled under load and spawn helpers: all of them are in the report, and the
//! CPU time is what the kernel accounts to their cgroup.

use std::collections::{BTreeSet, HashMap, HashSet};

use inferscope_tests::cgroup::Cgroup;
use inferscope_tests::gunicorn::{Gunicorn, WORKERS};
use inferscope_tests::report::Named;
use inferscope_tests::stats::relative_error;
use inferscope_tests::{binary, requirements};
use serde_json::Value;

const REQUESTS: u32 = 320;
const HELPER_CPU_MS: u64 = 5;
/// The kernel accounts to a cgroup what no process has: up to 1.6 µs of a process's end.
const CPU_TOLERANCE: f64 = 0.002;
/// Where the last time slice of some processes is missing, and the report says so.
const CPU_TOLERANCE_PROVISIONAL: f64 = 0.01;
const INTERRUPTED: i32 = 130;

#[test]
fn every_recycled_worker_and_every_helper_of_gunicorn_is_accounted() {
    const WHAT: &str = "gunicorn with recycled workers";
    if !requirements::kernel(WHAT) {
        return;
    }
    let Some(python) = requirements::peer("python", WHAT) else { return };
    let Some(cgroup) = Cgroup::make(WHAT) else { return };
    let helper = format!("'{}' {HELPER_CPU_MS}", env!("CARGO_BIN_EXE_burner"));
    let gunicorn = Gunicorn::start(&python, cgroup, &helper);
    let arbiter = gunicorn.arbiter();

    // Idle workers use some CPU while inferscope starts and ends, so the truth lies between two readings of the
    // cgroup: one around the whole observation and one within.
    let before = gunicorn.settled();
    let outer = gunicorn.cgroup.cpu_ns();
    let mut running =
        binary::start(&["observe", "--pid", &arbiter.to_string(), "--tracker", "ebpf", "--json"]);
    running.wait_until_observing();
    let inner = gunicorn.cgroup.cpu_ns();
    gunicorn.load(REQUESTS);
    let after = gunicorn.settled();
    let inner = gunicorn.cgroup.cpu_ns() - inner;
    running.process.interrupt();
    let ended = running.wait();
    let outer = gunicorn.cgroup.cpu_ns() - outer;
    assert_eq!(gunicorn.truth(), after, "a worker came or went while the observation ended");
    let report = ended.report_of(INTERRUPTED);

    let tree = &report["processes"];
    assert_eq!(tree["complete"], true, "{:#?}", report.validity);
    let forks = after.forks_since(&before);
    assert!(after.helpers.len() >= REQUESTS as usize, "{} helpers", after.helpers.len());
    // Between 20 and 25 requests each, and a few more that came before they noticed.
    assert!(after.workers.len() >= 2 * WORKERS + 2, "only {} workers lived", after.workers.len());
    let counts = &tree["counts"];
    for (name, want) in [
        ("lost_events", 0),
        ("alive_at_start", WORKERS + 1),
        ("forks", forks),
        ("exits", forks),
        ("execs", after.helpers.len()),
    ] {
        assert_eq!(counts[name], want, "{name}: {counts:#}");
    }

    let list = tree.list("list");
    assert_eq!(list.len(), WORKERS + 1 + forks);
    // A pid can have come round again, so they are counted.
    let mut listed: HashMap<u64, usize> = HashMap::new();
    for process in list {
        *listed.entry(process.whole("pid")).or_default() += 1;
    }
    for pid in [arbiter].iter().chain(&after.workers).chain(&after.helpers) {
        let left = listed.get_mut(&u64::from(*pid)).filter(|left| **left > 0);
        *left.unwrap_or_else(|| panic!("pid {pid} is missing in the report")) -= 1;
    }

    let workers: HashSet<u64> = after.workers.iter().copied().map(u64::from).collect();
    let mut places = BTreeSet::new();
    for process in list {
        let pid = process.whole("pid");
        let of_app = process["comm"] != "burner";
        let role = match () {
            () if pid == u64::from(arbiter) => "arbiter",
            () if of_app && workers.contains(&pid) => "worker",
            () => "helper",
        };
        assert_eq!(process["role"], role, "{process:#}");
        if role == "worker" {
            places.insert((process.whole("slot"), process.whole("generation")));
        }
    }
    assert_eq!(places.len(), after.workers.len(), "two workers in one place at once: {places:?}");
    for slot in 0..WORKERS as u64 {
        let generations: Vec<u64> =
            places.iter().filter(|place| place.0 == slot).map(|place| place.1).collect();
        assert!(!generations.is_empty(), "place {slot} never had a worker: {places:?}");
        assert!(generations.iter().copied().eq(0..generations.len() as u64), "place {slot}: {places:?}");
    }

    let cpu = |process: &Value| process.whole("cpu_user_ns") + process.whole("cpu_system_ns");
    let of_helpers = list.iter().filter(|process| process["comm"] == "burner").map(cpu).sum::<u64>();
    let burnt = after.helpers.len() as u64 * HELPER_CPU_MS * 1_000_000;
    assert!(
        of_helpers as f64 >= burnt as f64 * (1.0 - CPU_TOLERANCE_PROVISIONAL),
        "{of_helpers} of {burnt} ns"
    );
    let total = tree["cpu"].whole("total_ns");
    let error = relative_error(total as f64, total.clamp(inner, outer) as f64);
    requirements::say(&format!(
        "gunicorn: {} workers in {WORKERS} places, {} helpers; cpu {total} ns against the cgroup's {inner} to {outer}",
        after.workers.len(),
        after.helpers.len(),
    ));
    let provisional = report.has("cpu_not_final");
    let tolerance = if provisional { CPU_TOLERANCE_PROVISIONAL } else { CPU_TOLERANCE };
    assert!(error < tolerance, "cpu {total} against {inner} to {outer}: off by {:.3}%", error * 100.0);
}
