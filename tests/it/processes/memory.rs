//! How much memory the set took: never less than a process is known to have held, and nothing of a parent's is told as
//! a child's.

use inferscope_tests::report::{Named, Report};
use inferscope_tests::{binary, requirements};
use serde_json::Value;

const MIB: u64 = 1 << 20;
/// The most that a sample may come late by before these tests mean nothing: none is taken between the first and
/// the last.
const NEVER: &str = "60s";

/// What follows `x` being made and touched.
fn holding(mib: u64, then: &str) -> String {
    format!("x = bytearray({mib} << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n{then}")
}

fn report(python: &std::path::Path, program: &str, args: &[&str]) -> Report {
    let mut all = vec!["exec", "--json", "--tracker", "ebpf"];
    all.extend(args);
    let python = python.to_string_lossy();
    all.extend(["--", &python, "-c", program]);
    binary::run(&all).report()
}

#[test]
fn a_peak_between_two_samples_is_told_and_is_no_number_to_size_a_set_by() {
    const WHAT: &str = "a peak between two samples";
    if !requirements::kernel(WHAT) {
        return;
    }
    let Some(python) = requirements::peer("python", WHAT) else { return };
    // A child that lasts, a short spike of the parent beside it.
    let spike = format!(
        "import os, time\nif os.fork() == 0:\n time.sleep(1)\n os._exit(0)\n{}",
        holding(200, "del x\nos.wait()")
    );
    let report = report(&python, &spike, &["--sample-interval", NEVER]);
    let resources = &report["resources"];
    let root = report["target"]["pid"].clone();
    assert!(resources["rss_bytes"].whole("max") < 100 * MIB, "the spike was sampled: {resources:#}");
    assert!(resources.whole("peak_rss_bytes") >= 200 * MIB, "{resources:#}");
    assert_eq!((&resources["peak_rss_kind"], &resources["peak_rss_pid"]), (&"at_least".into(), &root));
    // By the cgroup's own account, or by none.
    let by = &resources["size_memory_by"];
    assert_ne!(by, "pss_at_peak_rss", "{resources:#}");
    match resources["size_memory_by_bytes"].as_u64() {
        Some(bytes) => assert!(by == "cgroup_peak_of_run" && bytes >= 200 * MIB, "{resources:#}"),
        None => assert!(resources["size_memory_by_reason"].is_string(), "{resources:#}"),
    }
}

#[test]
fn a_small_child_of_a_large_parent_is_not_told_to_be_large() {
    const WHAT: &str = "the memory of a child that executes a program";
    if !requirements::kernel(WHAT) {
        return;
    }
    let Some(python) = requirements::peer("python", WHAT) else { return };
    // Spawned as vfork and as fork do, and a child that grows beyond its parent.
    let children = holding(
        150,
        "import subprocess, sys\nsubprocess.run(['/bin/true'])\nsubprocess.run(['/bin/true'], preexec_fn=lambda: None)\n\
         subprocess.run([sys.executable, '-c', 'x = b\"1\" * (250 << 20)'])",
    );
    let report = report(&python, &children, &[]);
    let list = report["processes"].list("list");
    let small: Vec<&Value> = list.iter().filter(|p| p["comm"] == "true").collect();
    assert_eq!(small.len(), 2, "{list:#?}");
    for child in small {
        // Nothing, a sample's bound, or a mark of its own, but not its parent's.
        assert!(child["max_rss_bytes"].as_u64().is_none_or(|n| n < 50 * MIB), "{child:#}");
        assert!(child["max_rss_at_most_bytes"].as_u64().is_none_or(|n| n >= 100 * MIB), "{child:#}");
        let unknown = child["max_rss_bytes"].is_null();
        assert_eq!(unknown, child["max_rss_reason"].is_string(), "{child:#}");
    }
    let root = &report["target"]["pid"];
    let largest = list.iter().filter(|p| p["pid"] != *root).filter_map(|p| p["max_rss_bytes"].as_u64()).max();
    assert!(largest.is_some_and(|n| n >= 250 * MIB), "{list:#?}");
}
