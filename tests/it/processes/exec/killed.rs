//! What becomes of the command where inferscope is killed, and where it can't have a cgroup.

use std::process::Command;

use inferscope_tests::process::{Group, children};
use inferscope_tests::report::{Named, Report};
use inferscope_tests::{binary, requirements};
use rustix::process::Signal;

use super::*;

/// Starts a process that does not listen and one that has left its session and its parent, and tells their pids.
const DEAF: &str = r#"
trap '' TERM
(setsid sh -c 'echo $$ > "$1.daemon"; exec sleep 60' sh "$1" < /dev/null > /dev/null 2>&1 &)
while [ ! -s "$1.daemon" ]; do sleep 0.01; done
sleep 60 &
echo $$ $! $(cat "$1.daemon") > "$1"
for i in $(seq 1200); do wait; sleep 0.05; done"#;

/// Kills inferscope in mid-run: the command, its child and its daemon end, and the janitor after them.
fn assert_ends_all(inferscope: u32, file: &Path) {
    let mut all = pids(file);
    assert_eq!(all.len(), 3);
    let [janitor] = children(inferscope)[..] else { panic!("one child: the janitor") };
    assert_eq!(living_comm(janitor).as_deref(), Some("exec-janitor"));
    for fd in std::fs::read_dir(format!("/proc/{janitor}/fd")).unwrap().flatten() {
        let open = std::fs::read_link(fd.path()).unwrap();
        let own = ["/dev/null", "socket:", "pipe:", "anon_inode:[signalfd]"];
        assert!(own.iter().any(|own| open.to_str().unwrap().starts_with(own)), "the janitor holds {open:?}");
    }
    assert_ne!(session(janitor), session(inferscope), "a terminal's hang-up would reach it");
    all.push(janitor);
    assert!(all.iter().all(|pid| lives(*pid)));
    send(inferscope, Signal::KILL);
    wait_until("the command, what it started and the janitor end", || !all.iter().any(|pid| lives(*pid)));
    let left = cgroups_of(inferscope);
    assert!(left.is_empty(), "{left:?}");
}

/// 0 where the session's leader is in a pid namespace above, which is why this is not rustix's `getsid`.
fn session(pid: u32) -> i32 {
    // SAFETY: takes and returns numbers.
    let session = unsafe { libc::getsid(i32::try_from(pid).unwrap()) };
    assert_ne!(session, -1, "{}", std::io::Error::last_os_error());
    session
}

#[test]
fn a_killed_inferscope_takes_the_command_and_its_cgroup_along() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let args = command_line(&["--grace", "300ms"], DEAF, &[file.to_str().unwrap()]);
    let running = binary::start(&args);
    assert_ends_all(running.process.pid(), &file);
    assert_eq!(running.wait().code, None);
}

#[test]
fn the_command_of_a_killed_inferscope_is_asked_first() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("signals");
    let script =
        r#"trap 'echo TERM >> "$1"; exit' TERM; echo $$ >> "$1"; for i in $(seq 3000); do sleep 0.02; done"#;
    let running = binary::start(&command_line(&["--grace", "60s"], script, &[file.to_str().unwrap()]));
    let inferscope = running.process.pid();
    let command: u32 = lines(&file, 1)[0].parse().unwrap();
    send(inferscope, Signal::KILL);
    assert_eq!(lines(&file, 2)[1], "TERM");
    wait_until("the command and its cgroup are gone", || {
        !lives(command) && cgroups_of(inferscope).is_empty()
    });
    assert_eq!(running.wait().code, None);
}

/// Some of these moments are before the command was let run, some while it is.
#[test]
fn at_whatever_moment_inferscope_is_killed_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().to_str().unwrap();
    for ms in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] {
        let running = binary::start(&command_line(&["--grace", "60s"], "exec sleep 60", &[token]));
        let inferscope = running.process.pid();
        std::thread::sleep(Duration::from_millis(ms));
        send(inferscope, Signal::KILL);
        assert_eq!(running.wait().code, None);
        wait_until(&format!("nothing is left after {ms} ms"), || {
            cgroups_of(inferscope).is_empty() && with_argument(token).is_empty()
        });
    }
}

/// Living processes with this among their arguments: inferscope, its janitor, and the command until its exec.
fn with_argument(text: &str) -> Vec<String> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = std::process::id();
    pids.filter(|pid| *pid != own && lives(*pid))
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok())
        .filter(|line| line.contains(text))
        .collect()
}

/// inferscope where the v2 hierarchy can't be written to.
fn without_cgroups(args: &[&str]) -> Command {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let v2 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let v2 = v2.and_then(|line| line.split(' ').nth(1)).expect("there is a v2 hierarchy");
    let script = format!("mount -o remount,bind,ro {v2} && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(binary::inferscope_bin()).args(args);
    command
}

#[test]
fn without_a_cgroup_the_command_is_followed_as_a_tree_and_its_daemons_are_found() {
    if !requirements::kernel("exec without a cgroup") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let flags =
        ["--json", "--grace", "300ms", "--duration", "1s", "--tracker", "ebpf", "--command-output", "null"];
    let output = without_cgroups(&command_line(&flags, DEAF, &[file.to_str().unwrap()])).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = Report::from(serde_json::from_slice::<Value>(&output.stdout).unwrap());
    let target = &report["target"];
    assert_eq!((&target["kind"], &target["cgroup"]), (&Value::from("exec"), &Value::Null));
    assert!(target.text("how_found").contains("without a cgroup of its own"), "{target:#}");
    assert!(report.has("no_own_cgroup"), "{:#?}", report.validity);
    assert_eq!(report["processes"]["complete"], true, "{:#?}", report.validity);
    let pids = pids(&file);
    assert_eq!(pids.len(), 3);
    for pid in pids {
        assert!(processes(&report).iter().any(|p| p["pid"] == pid && !p["exited_ns"].is_null()), "{pid}");
    }
    assert_nothing_is_left(&report);
}

/// Only the kernel tracker follows a cgroup, and who may make one may still not load it.
#[test]
fn each_of_cgroup_and_kernel_tracker_can_be_missing_alone() {
    if !requirements::kernel("exec with less") {
        return;
    }
    for (reduction, cgroup, tracker) in [
        (&["--caps", "DAC_OVERRIDE"][..], true, "proc"),
        (&["--uid", "65534", "--caps", "BPF,PERFMON"], false, "ebpf"),
        (&["--no-cgroup2"], false, "ebpf"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reduced"));
        command.args(reduction).arg("--").arg(binary::inferscope_bin());
        command.args(command_line(&["--json"], "cat /proc/self/cgroup; sleep 0.2; exit 3", &[]));
        let ended = binary::start_as(command).wait();
        let report = ended.report();
        let own = format!("inferscope-{}", own_pid(&report));
        assert_eq!(ended.stderr.contains(&own), cgroup, "{reduction:?}: {ended:#?}");
        assert_eq!(report.has("no_own_cgroup"), !cgroup, "{reduction:?}");
        assert_eq!(report["processes"]["tracker"], tracker, "{reduction:?}");
        let target = &report["target"];
        assert_eq!((&target["kind"], &target["cgroup"]), (&Value::from("exec"), &Value::Null), "{target:#}");
        assert_eq!(target["exit"]["code"], 3);
        assert!(processes(&report).iter().any(|p| p["pid"] == target["pid"]));
        assert_nothing_is_left(&report);
    }
}

#[test]
fn a_killed_inferscope_without_a_cgroup_takes_the_tree_along() {
    if !requirements::kernel("exec without a cgroup") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let args = command_line(&["--grace", "300ms", "--quiet"], DEAF, &[file.to_str().unwrap()]);
    let mut inferscope = Group::start(&mut without_cgroups(&args));
    // `unshare`, the shell and inferscope become one another.
    assert_ends_all(inferscope.pid(), &file);
    assert_eq!(inferscope.wait(LIMIT).code(), None);
}

#[test]
fn a_killed_janitor_is_said_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = r#"sleep 60 & echo $$ $! > "$1"; wait"#;
    let running = binary::start(&command_line(&["--json"], script, &[file.to_str().unwrap()]));
    let inferscope = running.process.pid();
    let pids = pids(&file);
    let [janitor] = children(inferscope)[..] else { panic!("one child: the janitor") };
    send(janitor, Signal::KILL);
    let ended = running.wait();
    let report = ended.report();
    assert!(report.has("janitor_lost"), "{:#?}", report.validity);
    assert!(!report.has("left_running"), "{:#?}", report.validity);
    wait_until("the command is gone", || !pids.iter().any(|pid| lives(*pid)));
    assert!(cgroups_of(inferscope).is_empty());
}
