//! `inferscope exec`: a command is seen from its first instruction, ends as it would without inferscope, and
//! leaves nothing behind that it would not have left.

mod endpoint;
mod killed;
mod signals;
mod started;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inferscope_tests::binary::{self, Ended};
use inferscope_tests::process::living_comm;
use inferscope_tests::report::Named;
use inferscope_tests::wait::wait_until;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs `inferscope exec FLAGS -- sh -c SCRIPT ARGS` to its end.
fn exec(flags: &[&str], script: &str, args: &[&str]) -> Ended {
    binary::run(&command_line(flags, script, args))
}

fn command_line<'a>(flags: &[&'a str], script: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["exec"], flags, &["--", "sh", "-c", script, "sh"], args].concat()
}

/// Whole lines that a script wrote, once there are as many.
fn lines(path: &Path, count: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    wait_until(&format!("{} has {count} lines", path.display()), || {
        read().bytes().filter(|byte| *byte == b'\n').count() >= count
    });
    read().lines().map(str::to_owned).collect()
}

/// The pids of a script's one line.
fn pids(path: &Path) -> Vec<u32> {
    lines(path, 1)[0].split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn lives(pid: u32) -> bool {
    living_comm(pid).is_some()
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).expect("it is there");
}

/// Cgroups, of any hierarchy, that inferscope made and that are still there.
fn cgroups_of(inferscope: u32) -> Vec<PathBuf> {
    let names = [format!("inferscope-{inferscope}"), format!("inferscope-{inferscope}.")];
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        // Another test's directory may go in mid-look.
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name == names[0] || name.starts_with(&names[1]) {
                    found.push(entry.path());
                }
                dirs.push(entry.path());
            }
        }
    }
    found
}

/// inferscope's own pid, which its run's id holds.
fn own_pid(report: &Value) -> u32 {
    let (_, pid) = report["run"].text("id").rsplit_once('-').unwrap();
    u32::from_str_radix(pid, 16).unwrap()
}

fn processes(report: &Value) -> &[Value] {
    report["processes"].list("list")
}

/// No process of the report and no cgroup is left.
fn assert_nothing_is_left(report: &Value) {
    for process in processes(report) {
        let pid = u32::try_from(process.whole("pid")).unwrap();
        // The number may belong to somebody else by now, but hardly to somebody of that name.
        if let Some(comm) = living_comm(pid) {
            assert_ne!(process["comm"], comm, "{process:#} is still there");
        }
    }
    let left = cgroups_of(own_pid(report));
    assert!(left.is_empty(), "{left:?}");
}

/// A flag that makes the report be written to a file in `dir`, and the file.
fn document(dir: &Path) -> (String, impl Fn() -> Value + use<>) {
    let path = dir.join("report.json");
    let flag = format!("--output={}", path.display());
    (flag, move || serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap())
}
