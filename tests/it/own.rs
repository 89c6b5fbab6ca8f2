//! What inferscope says of itself and of its machine is read: nothing of whoever started it, nothing inferred.

use std::path::Path;
use std::process::Command;

use inferscope_tests::{binary, needs};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// The report of a short observation of this very process, by a command that becomes inferscope.
fn report(program: &Path, before: &[&str]) -> Value {
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
    let Some(python) = needs::peer("python", "a large launcher") else { return };
    let large = "import os, sys, time\nx = bytearray(300 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\n\
                 while time.process_time() < 3: pass\nos.execv(sys.argv[1], sys.argv[1:])";
    let own = &report(&python, &["-c", large])["self"];
    let peak = own["max_rss_bytes"].as_u64().unwrap();
    assert!((4 * MIB..100 * MIB).contains(&peak), "{own}");
    assert!(own["cpu_ns"].as_u64().is_some_and(|ns| ns > 0 && ns < 2_500_000_000), "{own}");
    // The load's, which is the main one, and the observer's.
    assert_eq!(own["threads"], 2, "{own}");
}

#[test]
fn an_affinity_is_told_apart_from_the_machines_cpus() {
    let report = report(Path::new("taskset"), &["-c", "0"]);
    let host = &report["host"];
    assert_eq!((&host["cpus"], &host["cpus_allowed"]), (&online().into(), &1.into()), "{host}");
}
