//! Targets that are unusual and all the same right: process 1, and cgroups and mounts whose names are no UTF-8.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use inferscope_tests::cgroup::Cgroup;
use inferscope_tests::process::Group;
use inferscope_tests::report::Named;
use inferscope_tests::{binary, requirements};
use serde_json::Value;

const ODD: &[u8] = b"sl\xff\xfeice of \\040 x";

fn pids(report: &Value) -> Vec<u64> {
    let list = report["processes"].list("list");
    list.iter().filter_map(|p| p["pid"].as_u64()).collect()
}

/// Where the kernel shows it to no tracing program, polling follows it and the report says so.
#[test]
fn process_1_is_the_root_of_all_but_inferscope_itself() {
    let mut child = Group::start(Command::new("sleep").arg("60"));
    let running = binary::start(&["observe", "--pid", "1", "--json", "--duration", "300ms"]);
    let own = u64::from(running.process.pid());
    let report = running.wait().report();
    let told = pids(&report);
    let _ = child.child.kill();
    assert!(told.contains(&1) && told.contains(&u64::from(child.pid())), "{told:?}");
    assert!(!told.contains(&own), "{own} is inferscope: {told:?}");
    let tree = &report["processes"];
    let hidden = tree["tracker_reason"].as_str().is_some_and(|why| why.contains("show process 1"));
    assert!(tree["tracker"] == "ebpf" || hidden, "{:#}", tree["tracker_reason"]);
}

#[test]
fn process_1_of_a_pid_namespace_is_followed_by_the_kernel_program() {
    const WHAT: &str = "process 1 of a pid namespace";
    if !requirements::kernel(WHAT) {
        return;
    }
    let inferscope = binary::inferscope_bin();
    // The shell is process 1 there; what it runs is told, but for inferscope.
    let script = "sleep 60 & \"$0\" observe --pid 1 --json --duration 300ms; kill $!";
    let mut command = Command::new("unshare");
    binary::clean(command.args(["--pid", "--fork", "--mount-proc", "bash", "-c", script]).arg(inferscope));
    let ended = command.output().unwrap();
    let report: Value = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&ended.stderr)));
    assert_eq!((&report["processes"]["tracker"], &report["target"]["pid"]), (&"ebpf".into(), &1.into()));
    let list = report["processes"].list("list");
    let comms: Vec<_> = list.iter().map(|p| p.text("comm")).collect();
    assert!(comms.contains(&"sleep") && !comms.contains(&"inferscope"), "{comms:?}");
}

#[test]
fn a_cgroup_whose_name_is_no_utf8_is_a_target_like_any() {
    const WHAT: &str = "a cgroup with an odd name";
    if !requirements::kernel(WHAT) {
        return;
    }
    let Some(parent) = Cgroup::make(WHAT) else { return };
    let dir = parent.v2().join(OsStr::from_bytes(ODD));
    std::fs::create_dir(&dir).unwrap();
    let mut child = Group::start(Command::new("sleep").arg("60"));
    let pid = child.pid().to_string();
    std::fs::write(dir.join("cgroup.procs"), &pid).unwrap();
    let by_pid = ["observe", "--json", "--duration", "200ms", "--cgroup-of", &pid].map(OsStr::new);
    let by_path: Vec<&OsStr> =
        ["observe", "--json", "--duration", "200ms", "--cgroup"].map(OsStr::new).into();
    let by_path = [by_path, vec![dir.as_os_str()]].concat();
    let by_tree = ["observe", "--json", "--duration", "200ms", "--pid", &pid].map(OsStr::new);
    let ended = [binary::run(&by_pid), binary::run(&by_path), binary::run(&by_tree)];
    let _ = child.child.kill();
    let _ = child.child.wait();
    std::fs::remove_dir(&dir).unwrap();
    for ended in ended {
        let report = ended.report();
        assert_eq!(pids(&report), [u64::from(child.pid())], "{:#}", report["target"]);
        assert_eq!(report["processes"]["complete"], true, "{:#?}", report.validity);
        let cgroup = &report["processes"]["list"][0]["cgroup"];
        assert!(
            cgroup.as_str().is_some_and(|name| name.ends_with("sl\u{fffd}\u{fffd}ice of \\040 x")),
            "{cgroup}"
        );
    }
}

#[test]
fn a_mount_whose_name_is_no_utf8_hides_no_other() {
    const WHAT: &str = "a mount with an odd name";
    if !requirements::kernel(WHAT) {
        return;
    }
    let Some(cgroup) = Cgroup::make(WHAT) else { return };
    let mut child = Group::start(Command::new("sleep").arg("60"));
    let pid = child.pid().to_string();
    std::fs::write(cgroup.v2().join("cgroup.procs"), &pid).unwrap();
    let point = tempfile::tempdir().unwrap();
    let point = point.path().join(OsStr::from_bytes(b"m\xff\nount x"));
    std::fs::create_dir(&point).unwrap();
    // In a mount namespace of its own, which ends with it.
    let script =
        "mount -t tmpfs none \"$1\" && exec \"$0\" observe --json --duration 200ms --cgroup-of \"$2\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", script]).arg(binary::inferscope_bin()).arg(&point).arg(&pid);
    binary::clean(&mut command);
    let ended = command.output().unwrap();
    let _ = child.child.kill();
    let _ = child.child.wait();
    let report: Value = serde_json::from_slice(&ended.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&ended.stderr)));
    assert_eq!(pids(&report), [u64::from(child.pid())], "{:#}", report["target"]);
}
