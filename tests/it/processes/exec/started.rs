//! What is seen of a command, what it is given, and how its end is told.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use inferscope_tests::report::Named;
use inferscope_tests::stats::relative_error;
use inferscope_tests::{binary, requirements};
use rustix::process::Signal;
use serde_json::json;

use super::*;

const CHILDREN: u64 = 50;
const FORKS: &str = "i=0; while [ $i -lt 50 ]; do /bin/true & i=$((i+1)); done; wait";

#[test]
fn a_command_is_followed_from_its_first_instruction() {
    if !requirements::kernel("exec under the kernel tracker") {
        return;
    }
    let report = exec(&["--json", "--tracker", "ebpf"], FORKS, &[]).report();
    let tree = &report["processes"];
    assert_eq!(tree["complete"], true, "{:#?}", report.validity);
    let counts = &tree["counts"];
    for (name, want) in [
        ("alive_at_start", 1),
        ("forks", CHILDREN),
        ("exits", CHILDREN + 1),
        ("execs", CHILDREN + 1),
        ("lost_events", 0),
    ] {
        assert_eq!(counts[name], want, "{name}: {counts:#}");
    }
    let target = &report["target"];
    assert_eq!(target["kind"], "exec");
    assert_eq!(target["exit"], json!({"code": 0, "signal": null, "core": false, "oom": null}));
    let root = processes(&report).iter().find(|p| p["pid"] == target["pid"]).unwrap();
    assert_eq!(root["argv"], json!(["sh", "-c", "***", "***"]), "the program's, not inferscope's: {root:#}");
    assert_eq!(root["comm"], "sh");
    assert_eq!(root["exit"]["code"], 0);
    assert!(root.whole("exited_ns") > 0);
    let events = tree.list("events");
    assert!(events.iter().any(|e| e["kind"] == "exec" && e["pid"] == target["pid"]), "{events:#?}");
    let of_ours = |p: &&Value| p["pid"] == own_pid(&report) || p["comm"] == "exec-janitor";
    assert_eq!(processes(&report).iter().find(of_ours), None, "it measures itself");
    assert_eq!(processes(&report).len() as u64, CHILDREN + 1);
    assert_nothing_is_left(&report);
}

/// Either of two threads that end at the same moment may be the one that ends the process.
#[test]
fn processes_whose_threads_are_killed_together_end_once_each() {
    if !requirements::kernel("killed threads") {
        return;
    }
    const KILLED: u64 = 400;
    let storm = env!("CARGO_BIN_EXE_killstorm");
    let children = KILLED.to_string();
    let report = binary::run(&["exec", "--json", "--tracker", "ebpf", "--", storm, &children]).report();
    let counts = &report["processes"]["counts"];
    for (name, want) in [("forks", KILLED), ("threads", KILLED), ("exits", KILLED + 1), ("lost_events", 0)] {
        assert_eq!(counts[name], want, "{name}: {counts:#}");
    }
}

#[test]
fn a_command_without_the_kernel_tracker_is_still_the_target() {
    let report = exec(&["--json", "--tracker", "proc"], "sleep 0.3", &[]).report();
    assert_eq!(report["processes"]["tracker"], "proc");
    assert_eq!(report["target"]["exit"]["code"], 0);
    let root = processes(&report).iter().find(|p| p["pid"] == report["target"]["pid"]).unwrap();
    assert_eq!(root["comm"], "sh", "{root:#}");
    assert_eq!(root["argv"], json!(["sh", "-c", "***", "***"]), "not inferscope's: {root:#}");
    assert!(!root.text("exe").contains("inferscope"), "{root:#}");
    assert_nothing_is_left(&report);
}

#[test]
fn how_the_command_ended_is_told_and_is_not_inferscopes_exit_code() {
    let exit =
        |code: Value, signal: Value| json!({"code": code, "signal": signal, "core": false, "oom": null});
    for (script, exit, said, shown) in [
        ("exit 7", exit(json!(7), Value::Null), "exit code 7", "exit 7"),
        ("kill -KILL $$", exit(Value::Null, json!(9)), "signal 9", "SIGKILL"),
    ] {
        let ended = exec(&["--json"], script, &[]);
        assert_eq!(ended.report()["target"]["exit"], exit, "{script}");
        assert!(ended.stderr.contains(&format!("the command ended with {said}\n")), "{ended:#?}");
        let ended = exec(&[], script, &[]);
        let text = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("): {shown} tracker")), "{text}");
    }
    let ended = exec(&["--json"], "exit 0", &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "nothing to say of that");
}

#[test]
fn a_command_that_can_not_be_run_is_a_usage_error_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("not-executable");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let interpreter = dir.path().join("no-interpreter");
    std::fs::write(&interpreter, "#!/nonexistent/sh\n").unwrap();
    std::fs::set_permissions(&interpreter, PermissionsExt::from_mode(0o755)).unwrap();
    let [file, interpreter, own_dir] =
        [&file, &interpreter, dir.path()].map(|path| path.to_str().unwrap().to_owned());
    for command in ["no-such-command-anywhere", "/nonexistent/command", &file, &interpreter, &own_dir] {
        let running = binary::start(&["exec", "--json", "--", command]);
        let pid = running.process.pid();
        let ended = running.wait();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:#?}");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "an error is one line and its remedy one more: {ended:#?}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains(command), "{ended:#?}");
        assert!(lines[1].starts_with("  "), "{ended:#?}");
        let left = cgroups_of(pid);
        assert!(left.is_empty(), "{command}: {left:?}");
    }
}

#[test]
fn standard_output_is_the_reports_alone() {
    let script = "echo printed; echo complained >&2";
    let ended = exec(&["--json"], script, &[]);
    let _ = ended.report();
    assert!(ended.stderr.contains("printed\n") && ended.stderr.contains("complained\n"), "{ended:#?}");

    let ended = exec(&["--json", "--command-output", "null"], script, &[]);
    let _ = ended.report();
    assert_eq!(ended.stderr, "");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("output");
    let ended = exec(&["--json", "--command-output", file.to_str().unwrap()], script, &[]);
    let _ = ended.report();
    assert_eq!(ended.stderr, "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "printed\ncomplained\n");

    let ended = exec(&["--json", "--command-output", "/nonexistent/x"], script, &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:#?}");
    assert!(!ended.stderr.contains("printed"), "it was not run: {ended:#?}");
}

/// Open files, limits and the working directory, as a program sees them.
const SURROUNDINGS: &str = "ulimit -n; ls /proc/self/fd; pwd";

/// Runs the command below a shell that lowers a soft limit, which inferscope raises for itself.
fn output_of(command: &[&str]) -> String {
    let lowered = ["-c", "ulimit -S -n 256; exec \"$@\"", "sh"];
    let output = Command::new("sh").args(lowered).args(command).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_command_runs_as_it_would_without_inferscope() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("output");
    let inferscope = binary::inferscope_bin();
    let flags = ["exec", "--json", "--command-output", file.to_str().unwrap(), "--"];
    // Not below a shell, which has signals of its own.
    let signals = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"];
    for command in [&signals[..], &["sh", "-c", SURROUNDINGS]] {
        let without = output_of(command);
        assert!(without.lines().count() >= 3, "{without}");
        output_of(&[&[inferscope.to_str().unwrap()][..], &flags, command].concat());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), without);
    }
}

#[test]
fn the_command_has_a_cgroup_of_its_own_where_only_counting_is_done() {
    if !requirements::kernel("exec with a cgroup of its own") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cgroups");
    // With enough to do that the microseconds in which nobody is charged don't matter.
    let script = "cat /proc/self/cgroup > \"$1\"; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    let report = exec(&["--json"], script, &[file.to_str().unwrap()]).report();
    let name = format!("inferscope-{}", own_pid(&report));
    let shown = std::fs::read_to_string(&file).unwrap();
    let within: BTreeSet<&str> = (shown.lines().filter(|line| line.ends_with(&name)))
        .map(|line| line.split(':').nth(1).unwrap())
        .collect();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let counting = ["cpuacct", "memory"].into_iter().filter(|c| own.contains(&format!(":{c}:")));
    let want: BTreeSet<&str> = std::iter::once("").chain(counting).collect();
    assert_eq!(within, want, "{shown}");
    assert!(report["target"].text("cgroup").ends_with(&name), "{:#}", report["target"]);
    assert!(!report.has("no_own_cgroup"));
    // The kernel's own sum, of nothing but the command.
    let cpu = &report["processes"]["cpu"];
    let (total, of_cgroup) = (cpu.whole("total_ns"), cpu.whole("cgroup_ns"));
    assert!(total > 0 && relative_error(total as f64, of_cgroup as f64) < 0.01, "{cpu:#}");
    if want.contains("memory") {
        let source = report["resources"].text("memory_peak_source");
        assert!(source.contains(&name), "{source}");
        assert!(report["resources"].whole("memory_peak_bytes") > 0);
    }
    assert_nothing_is_left(&report);
}

#[test]
fn a_daemon_is_left_alone_when_the_command_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let script = r#"setsid sleep 20 < /dev/null > /dev/null 2>&1 & echo $! > "$1""#;
    let report = exec(&["--json", "--command-output", "null"], script, &[file.to_str().unwrap()]).report();
    let [daemon] = pids(&file)[..] else { panic!("one pid") };
    // It had just been forked when the command ended, and goes on by itself.
    wait_until("the daemon runs on", || living_comm(daemon).as_deref() == Some("sleep"));
    let cgroup = std::fs::read_to_string(format!("/proc/{daemon}/cgroup")).unwrap();
    assert!(!cgroup.contains("inferscope-"), "{cgroup}");
    assert!(report.has("left_running"), "{:#?}", report.validity);
    assert!(cgroups_of(own_pid(&report)).is_empty());
    send(daemon, Signal::KILL);
    let listed = processes(&report).iter().find(|p| p["pid"] == daemon).expect("it is in the report");
    assert_eq!(listed["exited_ns"], Value::Null);
}

#[test]
fn a_run_of_a_given_length_ends_the_command_and_what_it_started() {
    let started = Instant::now();
    let script = "trap '' TERM; setsid sleep 60 & exec sleep 60";
    let flags = ["--json", "--duration", "300ms", "--grace", "200ms"];
    let report = exec(&flags, script, &[]).report();
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    assert_eq!(report["target"]["exit"]["signal"], 9, "it did not listen: {:#}", report["target"]);
    assert_eq!(report["run"]["interrupted"], false);
    assert_nothing_is_left(&report);

    let report = exec(&["--json", "--duration", "300ms"], "exec sleep 60", &[]).report();
    assert_eq!(report["target"]["exit"]["signal"], 15);
    assert!(report["run"].whole("duration_ns") >= 300_000_000);
    assert_nothing_is_left(&report);
}

#[test]
fn what_a_wrapper_leaves_is_asked_before_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("signals");
    let script = r#"sh -c 'trap "echo TERM >> $1; exit" TERM; echo there >> $1; for i in $(seq 3000); do sleep 0.02; done' sh "$1" &
        wait"#;
    let flags = ["--json", "--duration", "500ms", "--grace", "60s"];
    let report = exec(&flags, script, &[file.to_str().unwrap()]).report();
    assert_eq!(report["target"]["exit"]["signal"], 15, "the wrapper itself does not pass it on");
    assert_eq!(lines(&file, 2), ["there", "TERM"]);
    assert_nothing_is_left(&report);
}
