//! What inferscope says of itself and of its machine is read: nothing of whoever started it, nothing inferred.

use std::path::Path;
use std::process::Command;

use inferscope_tests::report::{Named, Report};
use inferscope_tests::{binary, requirements};

const MIB: u64 = 1 << 20;

/// The report of a short observation of this very process, by a command that becomes inferscope.
fn report(program: &Path, before: &[&str]) -> Report {
    let mut command = Command::new(program);
    let own = std::process::id().to_string();
    command.args(before).arg(binary::inferscope_bin());
    command.args([
        "observe",
        "--json",
        "--tracker",
        "proc",
        "--gpu",
        "off",
        "--pid",
        &own,
        "--duration",
        "200ms",
    ]);
    binary::start_as(command).wait().report()
}

/// CPUs that the machine has, by the kernel's own table.
fn online() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc is mounted");
    let of_one = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    stat.lines().filter(of_one).count() as u64
}

#[test]
fn memory_and_cpu_are_not_those_of_a_launcher_that_executed_it() {
    let Some(python) = requirements::peer("python", "a large launcher") else { return };
    let large = "import os, sys, time\nx = bytearray(300 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n\
                 while time.process_time() < 3: pass\nos.execv(sys.argv[1], sys.argv[1:])";
    let own = &report(&python, &["-c", large])["self"];
    let peak = own.whole("max_rss_bytes");
    assert!((4 * MIB..100 * MIB).contains(&peak), "{own}");
    assert!(own["cpu_ns"].as_u64().is_some_and(|ns| ns > 0 && ns < 2_500_000_000), "{own}");
    // The main one, the observer's and the collector's.
    assert_eq!(own["threads"], 3, "{own}");
}

/// How often a thread left the CPU of its own accord.
fn waits(pid: u32, thread: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let statuses = tasks.flatten().filter_map(|t| std::fs::read_to_string(t.path().join("status")).ok());
    let name = format!("Name:\t{thread}\n");
    let status = statuses.into_iter().find(|status| status.starts_with(&name)).expect("it has that thread");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|n| n.trim().parse().ok()).expect("a number")
}

#[test]
fn where_nothing_happens_the_observer_wakes_for_its_samples_only() {
    if !requirements::kernel("the ring") {
        return;
    }
    let mut sleep = Command::new("sleep").arg("60").spawn().expect("sleep is there");
    let pid = sleep.id().to_string();
    let watched = ["--pid", &pid, "--tracker", "ebpf", "--sample-interval", "100ms"];
    let mut running = binary::start(&[&["observe", "--json", "--gpu", "off"][..], &watched].concat());
    running.wait_until_observing();
    let before = waits(running.process.pid(), "observer");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let waited = waits(running.process.pid(), "observer") - before;
    let _report = running.interrupted_report();
    sleep.kill().expect("it lives");
    sleep.wait().expect("it is a child");
    // 20 samples, and what a busy machine adds; a ring that is looked after every 20 ms makes it 100.
    assert!((5..60).contains(&waited), "{waited} in 2 s");
}

#[test]
fn an_affinity_is_told_apart_from_the_machines_cpus() {
    let report = report(Path::new("taskset"), &["-c", "0"]);
    let host = &report["host"];
    assert_eq!((&host["cpus"], &host["cpus_allowed"]), (&online().into(), &1.into()), "{host}");
}
