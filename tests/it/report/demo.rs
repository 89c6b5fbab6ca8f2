//! `inferscope demo`: every process of every generation, each helper of a few milliseconds included.

use std::collections::BTreeMap;

use inferscope_tests::process::living_comm;
use inferscope_tests::report::{Named, Report};
use inferscope_tests::{binary, requirements};
use serde_json::Value;

const REQUESTS: u64 = 12;
const WORKERS: u64 = 2;
/// What the demo's helper and workers do at the least (`inferscope/src/demo/worker.rs`).
const HELPER_CPU_NS: u64 = 5_000_000;
const HELPER_BYTES: u64 = 32 << 20;
const WORKER_BYTES: u64 = 80 << 20;
/// After that a worker has set itself up, and a vacant slot is filled, with room for a busy machine.
const YOUNG_NS: i64 = 250_000_000;

fn demo(tracker: &str) -> Report {
    let requests = REQUESTS.to_string();
    let args = ["demo", "--json", "--requests", &requests, "--tracker", tracker];
    let report = binary::run(&args).report();
    assert_eq!(report["run"]["mode"], "demo");
    assert!(report.has("synthetic_tokens"), "{:#?}", report.validity);
    assert_eq!(report["load"]["requests_ok"], REQUESTS);
    assert!(report["timing"].whole("output_tokens") > REQUESTS);
    assert!(report["processes"]["cpu"].whole("total_ns") > 0);
    assert_nothing_is_left(&report);
    report
}

fn processes(report: &Value) -> &[Value] {
    report["processes"].list("list")
}

fn assert_nothing_is_left(report: &Value) {
    for process in processes(report) {
        let pid = u32::try_from(process.whole("pid")).unwrap();
        // The number may belong to somebody else by now, but hardly to somebody of that name.
        if let Some(comm) = living_comm(pid) {
            assert_ne!(process["comm"], comm, "{process:#} is still there");
        }
    }
}

#[test]
fn every_worker_and_every_helper_is_counted_and_accounted() {
    if !requirements::kernel("the demo under the kernel tracker") {
        return;
    }
    let report = demo("ebpf");
    let tree = &report["processes"];
    assert_eq!(tree["tracker"], "ebpf");
    assert_eq!(tree["complete"], true, "{:#?}", report.validity);
    let counts = &tree["counts"];
    assert_eq!(counts["lost_events"], 0);
    assert_eq!(report["self"]["ring_lost"], 0);

    // Who is whose child tells what everybody is, without the report's own opinion (`role`).
    let list = processes(&report);
    let mut children: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for process in list {
        children.entry(process.whole("ppid")).or_default().push(process);
    }
    let root = report["target"].whole("pid");
    let [arbiter] = children[&root][..] else { panic!("a wrapper has one child: {tree:#}") };
    let workers = &children[&arbiter.whole("pid")];
    let helpers: Vec<&Value> =
        workers.iter().filter_map(|worker| children.get(&worker.whole("pid"))).flatten().copied().collect();
    assert_eq!(list.len(), 2 + workers.len() + helpers.len(), "nobody else: {tree:#}");

    // One helper for each completion, warm-up included.
    let completions = REQUESTS + report["load"].whole("warmup");
    assert_eq!(helpers.len() as u64, completions);
    let (replaced, living): (Vec<&Value>, Vec<&Value>) =
        workers.iter().partition(|worker| !worker["exited_ns"].is_null());
    assert!(replaced.len() >= 2, "workers are replaced after four requests: {workers:#?}");
    // Whose last request was the last of all may have ended and not been replaced within the run, or been
    // replaced by one that had no time for anything.
    let end_ns = report["run"].whole("duration_ns");
    let born = workers.len() as u64 - WORKERS;
    let young = |worker: &Value| {
        let started_ns = worker["started_ns"].as_i64().unwrap();
        worker["exited_ns"].is_null() && started_ns + YOUNG_NS > i64::try_from(end_ns).unwrap()
    };
    let just_ended = replaced.iter().filter(|w| w.whole("exited_ns") + YOUNG_NS as u64 > end_ns).count();
    assert!((WORKERS - (living.len() as u64)) <= just_ended as u64, "each slot is filled: {workers:#?}");

    assert_eq!(counts.whole("alive_at_start"), 2 + WORKERS);
    assert_eq!(counts.whole("forks"), helpers.len() as u64 + born);
    assert_eq!(counts.whole("exits"), (helpers.len() + replaced.len()) as u64);
    assert_eq!(counts.whole("execs"), helpers.len() as u64, "only helpers exec");
    assert_eq!(counts.whole("seen"), list.len() as u64);
    let (threads, at_work) =
        (counts.whole("threads"), born - living.iter().filter(|w| young(w)).count() as u64);
    assert!((at_work..=born).contains(&threads), "each new worker has an engine thread: {threads} of {born}");

    for helper in &helpers {
        assert_eq!(helper["exit"]["code"], 0, "{helper:#}");
        assert!(cpu(helper) >= HELPER_CPU_NS, "{helper:#}");
        // Where it was no larger than its worker at its fork, there is only a bound.
        let told = ["max_rss_at_most_bytes", "max_rss_bytes"].map(|name| helper[name].as_u64());
        assert!(told[0].or(told[1]).is_some_and(|bytes| bytes >= HELPER_BYTES), "{helper:#}");
    }
    for worker in workers.iter().filter(|worker| !young(worker)) {
        assert!(cpu(worker) > 0, "{worker:#}");
        assert!(worker.whole("max_rss_bytes") >= WORKER_BYTES, "{worker:#}");
        assert_eq!(worker["peak_threads"], 2, "{worker:#}");
    }
    for worker in &replaced {
        assert_eq!(worker["exit"]["code"], 0, "{worker:#}");
    }

    let total = tree["cpu"].whole("total_ns");
    assert_eq!(tree["cpu"].whole("user_ns") + tree["cpu"].whole("system_ns"), total);
    assert_eq!(tree["cpu"].whole("exited_ns") + tree["cpu"].whole("live_ns"), total);
    assert_eq!(list.iter().map(cpu).sum::<u64>(), total, "the processes add up to the set");
    let samples = report["resources"].list("samples");
    assert!(samples.last().unwrap().whole("cpu_ns") <= total, "no sample knows more than the end");
}

fn cpu(process: &Value) -> u64 {
    process.whole("cpu_user_ns") + process.whole("cpu_system_ns")
}

#[test]
fn without_the_kernel_program_the_report_says_what_it_misses() {
    let report = demo("proc");
    assert_eq!(report["processes"]["tracker"], "proc");
    assert_eq!(report["processes"]["complete"], false);
    assert!(report.has("tracker_proc"), "{:#?}", report.validity);
    assert_eq!(report["processes"]["counts"]["execs"], Value::Null, "polling can't see them");
}

#[test]
fn the_text_says_that_the_tokens_are_synthetic() {
    let ended = binary::run(&["demo", "--requests", "2", "--tracker", "proc"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("SYNTHETIC TOKENS"), "{}", ended.stdout);
}
