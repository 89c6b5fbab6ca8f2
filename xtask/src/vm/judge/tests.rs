//! Made-up reports, each right but for one thing.

use serde_json::{Value, json};

use super::*;

const TRUTH: &str = r#"{"forks":320,"execs":84,"threads":136,"killed":2,"waited_cpu_ns":8000000000,"daemons_cpu_ns":400000000,"root_cpu_ns":5}"#;
const KERNEL: &str = "6.12.117+deb12-cloud-amd64\n";

fn report() -> Value {
    let mut list: Vec<Value> =
        (0..321).map(|pid| json!({"pid": 10 + pid, "exit": {"signal": null}})).collect();
    for line in &mut list[5..7] {
        line["exit"]["signal"] = json!(9);
    }
    json!({
        "run": {"argv": ["inferscope", "observe", "--pid", "10"]},
        "host": {"cpus": 2, "kernel": KERNEL.trim()},
        "self": {"max_rss_bytes": 20 << 20, "threads": 2, "cpu_ns": 5},
        "validity": [],
        "processes": {
            "tracker": "ebpf", "tracker_reason": null, "complete": true, "list": list,
            "counts": {
                "forks": 320, "exits": 320, "execs": 84, "threads": 136, "alive_at_start": 1, "lost_events": 0,
                "lost": {"missed_runs": 0},
            },
            "cpu": {"exited_ns": 8_400_100_000_u64, "total_ns": 8_400_200_000_u64, "reconciliation_error_pct": -0.2},
        },
    })
}

fn by_polling() -> Value {
    let mut report = report();
    let tree = &mut report["processes"];
    tree["tracker"] = json!("proc");
    tree["tracker_reason"] = json!("the kernel has no field cgroup.ancestors");
    tree["complete"] = json!(false);
    tree["counts"]["forks"] = json!(100);
    tree["cpu"]["exited_ns"] = json!(3_000_000_000_u64);
    report
}

fn tracker_status(status: &str) -> String {
    json!({"checks": [{"code": "tracker", "status": status, "finding": "needs 5.13 or later"}]}).to_string()
}

fn judged(check: &str, kernel: &str, status: &str, report: &Value) -> Outcome {
    let results = Results::with(&[
        ("kernel", kernel),
        ("doctor.out", &tracker_status(status)),
        ("tree.truth", TRUTH),
        ("tree.json", &report.to_string()),
        ("tree.rc", "130\n"),
        ("cgroup.truth", TRUTH),
        ("cgroup.json", &report.to_string()),
        ("cgroup.rc", "130\n"),
        ("log", "Linux starts\n"),
    ]);
    let verdicts = judge(&results, &[]);
    verdicts.into_iter().find(|verdict| verdict.check == check).unwrap().outcome
}

fn faults(change: impl FnOnce(&mut Value)) -> String {
    let mut report = report();
    change(&mut report);
    match judged("tree", KERNEL, "ok", &report) {
        Outcome::Failed(faults) => faults.join("; "),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_exact_report_passes_with_its_figures() {
    assert_eq!(judged("tree", KERNEL, "ok", &report()), Outcome::Passed("320 forks, CPU +0.00%".to_owned()));
    assert_eq!(judged("self", KERNEL, "ok", &report()), Outcome::Passed("20 MiB".to_owned()));
}

#[test]
fn one_fork_too_few_fails_and_so_does_each_other_count() {
    assert_eq!(faults(|report| report["processes"]["counts"]["forks"] = json!(319)), "forks 319 of 320");
    assert_eq!(faults(|report| report["processes"]["counts"]["exits"] = json!(321)), "exits 321 of 320");
    assert_eq!(faults(|report| report["processes"]["counts"]["execs"] = json!(null)), "execs null of 84");
    assert_eq!(faults(|report| report["processes"]["counts"]["threads"] = json!(135)), "threads 135 of 136");
    assert_eq!(
        faults(|report| drop(report["processes"]["list"].as_array_mut().unwrap().pop())),
        "320 of 321 processes listed"
    );
    assert_eq!(
        faults(|report| report["processes"]["list"][0]["exit"]["signal"] = json!(9)),
        "3 of 2 listed as killed"
    );
}

#[test]
fn cpu_beyond_three_thousandths_and_five_microseconds_a_process_fails() {
    // 25.2 ms and 1.6 ms.
    let told = |ns: u64| faults(|report| report["processes"]["cpu"]["exited_ns"] = json!(ns));
    assert!(told(8_400_000_000 + 26_700_000).contains("Passed"), "{}", told(8_426_700_000));
    assert_eq!(told(8_400_000_000 - 26_900_000), "CPU of the children 8373100 µs of 8400000 (-0.32%)");
    assert_eq!(
        faults(|report| report["processes"]["cpu"]["exited_ns"] = json!(null)),
        "CPU of the children unknown"
    );
}

#[test]
fn an_incomplete_report_fails_with_what_was_missed() {
    let incomplete = faults(|report| {
        report["processes"]["complete"] = json!(false);
        report["processes"]["counts"]["lost"]["missed_runs"] = json!(24);
        report["validity"] = json!([{"level": "warning", "code": "kernel_misses"}]);
    });
    assert_eq!(incomplete, "complete false, 24 runs missed: kernel_misses");
}

#[test]
fn a_kernel_that_must_be_tracked_may_not_fall_back() {
    let Outcome::Failed(found) = judged("doctor", KERNEL, "missing", &report()) else { panic!("passed") };
    assert_eq!(found, ["the tracker can't be had: needs 5.13 or later"]);
    let old = "5.10.0-46-cloud-amd64\n";
    assert_eq!(judged("doctor", old, "missing", &report()), Outcome::FellBack(String::new()));
    assert!(matches!(judged("doctor", old, "ok", &report()), Outcome::Failed(_)));
    assert_eq!(judged("doctor", "5.15.0\n", "ok", &report()), Outcome::Passed(String::new()));
}

#[test]
fn a_fallback_says_that_it_is_one_and_never_tells_of_too_much() {
    let old = "5.10.0-46-cloud-amd64\n";
    assert_eq!(
        judged("tree", old, "missing", &by_polling()),
        Outcome::FellBack("100 of 320 forks, 36% of CPU".to_owned())
    );
    let faults = |change: fn(&mut Value)| {
        let mut report = by_polling();
        change(&mut report);
        match judged("tree", old, "missing", &report) {
            Outcome::Failed(faults) => faults.join("; "),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(faults(|report| report["processes"]["complete"] = json!(true)), "complete true, by polling");
    assert_eq!(faults(|report| report["processes"]["tracker_reason"] = json!(null)), "no tracker_reason");
    assert_eq!(faults(|report| report["processes"]["counts"]["forks"] = json!(330)), "forks 330 of 320");
    assert_eq!(
        faults(|report| report["processes"]["cpu"]["exited_ns"] = json!(8_500_000_000_u64)),
        "CPU of the children 8500000 µs of 8400000"
    );
}

#[test]
fn a_cgroup_is_held_against_the_kernels_own_figure() {
    let mut report = report();
    assert!(matches!(judged("cgroup", KERNEL, "ok", &report), Outcome::Passed(_)));
    report["processes"]["cpu"]["reconciliation_error_pct"] = json!(-3.5);
    assert_eq!(
        judged("cgroup", KERNEL, "ok", &report),
        Outcome::Failed(vec!["-3.50% apart from the cgroup's own figure".to_owned()])
    );
}

#[test]
fn a_cgroup_that_cannot_be_followed_is_refused() {
    let old = "5.10.0-46-cloud-amd64\n";
    let told = |code: &str| {
        let doctor = tracker_status("missing");
        let files =
            [("kernel", old), ("doctor.out", &*doctor), ("cgroup.rc", code), ("cgroup.err", "error: why")];
        judge(&Results::with(&files), &["cgroup".to_owned()]).remove(0).outcome
    };
    assert_eq!(told("5"), Outcome::FellBack("refused".to_owned()));
    assert_eq!(told("0"), Outcome::Failed(vec!["exit code 0: error: why".to_owned()]));
}

#[test]
fn what_is_not_there_fails() {
    for verdict in judge(&Results::with(&[("kernel", KERNEL)]), &[]) {
        assert!(verdict.failed(), "{verdict}");
    }
}

#[test]
fn checks_that_were_not_asked_for_are_not_judged() {
    let verdicts = judge(&Results::with(&[("kernel", KERNEL)]), &["tree".to_owned()]);
    assert_eq!(verdicts.iter().map(|verdict| verdict.check).collect::<Vec<_>>(), ["tree", "self", "log"]);
}

#[test]
fn a_complaint_of_the_kernel_fails_and_a_starved_cpu_does_not() {
    let told =
        |log: &str| judge(&Results::with(&[("kernel", KERNEL), ("log", log)]), &["log".to_owned()]).remove(0);
    assert!(!told("watchdog: BUG: soft lockup - CPU#1 stuck for 23s!\n").failed());
    assert!(told("WARNING: CPU: 0 PID: 12 at kernel/bpf/verifier.c:1\n").failed());
}
