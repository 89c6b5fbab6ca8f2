//! A cgroup as the target: who is in it, who comes and goes, and when it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inferscope_tests::binary::{self, Running};
use inferscope_tests::cgroup::Cgroup;
use inferscope_tests::report::Named;
use inferscope_tests::requirements;
use inferscope_tests::shell::Shell;
use inferscope_tests::wait::wait_until;
use serde_json::Value;

/// What the shell uses while it reads and answers, and a tick of a CPU that runs when it is asked.
const SLACK_NS: u64 = 8_000_000;
const BURN: &str = "for ((i = 0; i < 150000; i++)); do :; done";

fn enter(dir: &Path, pid: u32) {
    fs::write(dir.join("cgroup.procs"), pid.to_string()).expect("the process lives");
}

/// The hierarchy's root, where the tests' own processes are.
fn outside(cgroup: &Cgroup) -> PathBuf {
    cgroup.v2().parent().expect("it lies below the mount").to_path_buf()
}

fn observe(cgroup: &Cgroup, more: &[&str]) -> Running {
    let path = cgroup.v2().to_str().expect("UTF-8");
    binary::observing(&[&["--cgroup", path], more].concat())
}

fn of_pid(report: &Value, pid: u32) -> Vec<Value> {
    let list = report["processes"].list("list");
    list.iter().filter(|p| p["pid"] == pid).cloned().collect()
}

fn cpu_of(process: &Value) -> u64 {
    process.whole("cpu_user_ns") + process.whole("cpu_system_ns")
}

fn close(what: &str, got: u64, want: u64) {
    requirements::say(&format!("{what}: {got} against {want}"));
    assert!(got.abs_diff(want) < SLACK_NS, "{what}: {got} against {want}");
}

/// One that is in from the start, one that comes, works, leaves and works on.
fn moves(strict: bool) {
    if !requirements::kernel("a cgroup target") {
        return;
    }
    let Some(cgroup) = Cgroup::make("a cgroup target") else { return };
    let (mut resident, mut guest) = (Shell::start(), Shell::start());
    enter(cgroup.v2(), resident.pid());
    // All that comes before the move is in no figure.
    guest.does(BURN);
    let running = observe(&cgroup, if strict { &["--strict-cgroup"] } else { &[] });
    resident.does("/bin/true; /bin/true");
    guest.does("/bin/true");
    let came = guest.cpu_ns();
    enter(cgroup.v2(), guest.pid());
    guest.does(BURN);
    guest.does("/bin/true; /bin/true; /bin/true");
    let left = guest.cpu_ns();
    enter(&outside(&cgroup), guest.pid());
    guest.does(BURN);
    guest.does("/bin/true; /bin/true; /bin/true; /bin/true");
    let ended = guest.cpu_ns();
    let report = running.interrupted_report();

    let counts = &report["processes"]["counts"];
    let forks = if strict { 2 + 3 } else { 2 + 3 + 4 };
    for (name, want) in [
        ("alive_at_start", 1),
        ("forks", forks),
        ("exits", forks),
        ("execs", forks),
        ("moved_in", 1),
        ("moved_out", 1),
        ("seen", 1 + forks + 1),
        ("lost_events", 0),
    ] {
        assert_eq!(counts.whole(name), want, "{name}: {counts:#}");
    }
    assert_eq!(report["processes"]["complete"], true, "{:#?}", report.validity);
    let [guest_line] = &of_pid(&report, guest.pid())[..] else { panic!("one line for the guest") };
    let until = if strict { left } else { ended };
    close("the guest's CPU", cpu_of(guest_line), until - came);
    assert_eq!(guest_line["left_ns"].is_null(), !strict, "{guest_line:#}");
    let events = report["processes"].list("events");
    let kinds: Vec<&str> =
        events.iter().filter(|e| e["pid"] == guest.pid()).filter_map(|e| e["kind"].as_str()).collect();
    assert_eq!(kinds, ["migrate_in", "migrate_out"]);
    let cpu = &report["processes"]["cpu"];
    if strict {
        let apart = cpu["reconciliation_error_pct"].as_f64().unwrap_or_else(|| panic!("unknown: {cpu:#}"));
        requirements::say(&format!("moves: {apart:.2}% apart from the cgroup's own"));
        assert!(apart.abs() < 5.0, "{cpu:#}");
    } else {
        // The set holds one that the cgroup's figure does not.
        assert!(cpu["reconciliation_error_pct"].is_null(), "{cpu:#}");
        assert!(cpu.text("reconciliation_reason").contains("moved out"), "{cpu:#}");
    }
}

#[test]
fn who_is_moved_in_is_tracked_from_then_on_and_who_is_moved_out_stays() {
    moves(false);
}

#[test]
fn a_strict_cgroup_lets_go_of_who_is_moved_out() {
    moves(true);
}

#[test]
fn a_server_with_threads_that_is_moved_in_keeps_its_place_when_a_thread_execs() {
    if !requirements::kernel("a moved group of threads") {
        return;
    }
    let Some(cgroup) = Cgroup::make("a moved group of threads") else { return };
    let mut shell = Shell::start();
    // Its thread execs when told to, some time after the move.
    let script = "import ctypes,os,threading,time\n\
                  def later():\n    time.sleep(1.5); os.execv('/bin/sleep', ['sleep', '30'])\n\
                  threading.Thread(target=later).start()\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), script).unwrap();
    let running = observe(&cgroup, &[]);
    let said = shell.does(&format!("python3 {} & echo $!", file.path().display()));
    let pid: u32 = said[0].parse().unwrap();
    let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    wait_until("a second thread", || of("status").contains("Threads:\t2"));
    enter(cgroup.v2(), pid);
    wait_until("its exec", || of("comm").trim() == "sleep");
    shell.does(&format!("kill {pid}; wait {pid}"));
    let report = running.interrupted_report();
    let counts = &report["processes"]["counts"];
    assert_eq!((counts.whole("moved_in"), counts.whole("exits")), (1, 1), "{counts:#}");
    assert_eq!(report["processes"]["complete"], true, "{:#?}", report.validity);
    let [line] = &of_pid(&report, pid)[..] else { panic!("one line") };
    assert_eq!(
        (line["comm"].as_str(), &line["exit"]["signal"]),
        (Some("sleep"), &Value::from(15)),
        "{line:#}"
    );
}

/// Its mark of old would make it a member again, whose end would tell the CPU of before once more.
#[test]
fn who_left_a_strict_cgroup_stays_away_when_a_thread_execs() {
    const WORK: Duration = Duration::from_millis(300);
    if !requirements::kernel("a group of threads that leaves") {
        return;
    }
    let Some(cgroup) = Cgroup::make("a group of threads that leaves") else { return };
    let mut shell = Shell::start();
    enter(cgroup.v2(), shell.pid());
    let (script, go) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let text = format!(
        "import os, threading, time\n\
         def later():\n    while not os.path.getsize('{}'): time.sleep(0.01)\n    \
         os.execv('/bin/sleep', ['sleep', '30'])\n\
         threading.Thread(target=later).start()\n\
         while time.thread_time_ns() < {}: pass\n",
        go.path().display(),
        WORK.as_nanos(),
    );
    fs::write(script.path(), text).unwrap();
    // What is found by that name may be a script that leads to it.
    let python = shell.does("python3 -c 'import sys; print(sys.executable)'").remove(0);
    let running = observe(&cgroup, &["--strict-cgroup"]);
    let said = shell.does(&format!("{python} -I -S {} & echo $!", script.path().display()));
    let pid: u32 = said[0].parse().unwrap();
    let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let used = || of("schedstat").split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0_u128);
    wait_until("its work", || of("status").contains("Threads:\t2") && used() > WORK.as_nanos());
    enter(&outside(&cgroup), pid);
    fs::write(go.path(), "go").unwrap();
    wait_until("its exec", || of("comm").trim() == "sleep");
    shell.does(&format!("kill {pid}; wait {pid}"));
    let report = running.interrupted_report();
    let (tree, counts) = (&report["processes"], &report["processes"]["counts"]);
    let want = [("forks", 1), ("execs", 1), ("moved_out", 1), ("exits", 0)];
    assert_eq!(want.map(|(name, _)| counts.whole(name)), want.map(|(_, count)| count), "{counts:#}");
    assert_eq!(tree["complete"], true, "{:#?}", report.validity);
    let [line] = &of_pid(&report, pid)[..] else { panic!("one line") };
    let (total, its) = (tree["cpu"].whole("total_ns"), cpu_of(line));
    assert!(u128::from(its) >= WORK.as_nanos() && total < its * 3 / 2, "{total} {line:#}");
}

#[test]
fn a_cgroup_that_is_removed_ends_the_run() {
    if !requirements::kernel("a removed cgroup") {
        return;
    }
    let Some(cgroup) = Cgroup::make("a removed cgroup") else { return };
    let inner = cgroup.v2().join("inner");
    fs::create_dir(&inner).unwrap();
    let mut shell = Shell::start();
    let mut running = binary::start(&["observe", "--json", "--cgroup", inner.to_str().unwrap()]);
    running.wait_until_observing();
    shell.does(&format!("(echo $BASHPID > {}/cgroup.procs; exec /bin/true)", inner.display()));
    // The kernel lets go of an ended process a little later.
    wait_until("the cgroup is empty", || fs::remove_dir(&inner).is_ok());
    let report = running.wait().report();
    assert_eq!(report["processes"]["counts"].whole("moved_in"), 1);
    assert_eq!(report["processes"]["counts"].whole("exits"), 1);
    let validity = report.list("validity");
    assert!(validity.iter().any(|v| v["code"] == "target_ended"), "{validity:#?}");
}

#[test]
fn the_cgroup_of_a_process_is_found_and_the_root_is_refused() {
    if !requirements::kernel("the cgroup of a process") {
        return;
    }
    let Some(cgroup) = Cgroup::make("the cgroup of a process") else { return };
    let shell = Shell::start();
    let pid = shell.pid().to_string();
    enter(&outside(&cgroup), shell.pid());
    let refused = binary::run(&["observe", "--cgroup-of", &pid, "--duration", "100ms"]);
    if fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().lines().any(|l| l == "0::/") {
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert!(
            refused.stderr.contains("the root cgroup, which holds the whole machine"),
            "{}",
            refused.stderr
        );
        assert!(refused.stderr.contains(&format!("--pid {pid}")), "{}", refused.stderr);
    }
    enter(cgroup.v2(), shell.pid());
    let report = binary::run(&["observe", "--cgroup-of", &pid, "--duration", "100ms", "--json"]).report();
    assert_eq!(report["target"]["kind"], "cgroup");
    assert_eq!(of_pid(&report, shell.pid()).len(), 1);
    let name = report["target"].text("cgroup");
    assert!(cgroup.v2().ends_with(name.trim_start_matches('/')), "{name}");
    // The same by its path within the hierarchy.
    let by_name = binary::run(&["observe", "--cgroup", name, "--duration", "100ms", "--json"]).report();
    assert_eq!(by_name["target"]["cgroup"], report["target"]["cgroup"]);
}

#[test]
fn a_path_of_a_v1_hierarchy_is_resolved_or_refused_with_the_reason() {
    if !requirements::kernel("a v1 cgroup") {
        return;
    }
    let Some(cgroup) = Cgroup::make("a v1 cgroup") else { return };
    let Some(v1) = cgroup.procs_files().nth(1) else {
        requirements::say("skipped: needs a v1 hierarchy, this machine has v2 alone: a v1 cgroup");
        return;
    };
    let v1 = v1.parent().unwrap().to_path_buf();
    let path = v1.to_str().unwrap();
    let observe = || binary::run(&["observe", "--cgroup", path, "--duration", "100ms", "--json"]);
    let empty = observe();
    assert_eq!(empty.code, Some(3));
    assert!(empty.stderr.contains("holds no process"), "{}", empty.stderr);
    let shell = Shell::start();
    enter(&v1, shell.pid());
    let apart = observe();
    assert_eq!(apart.code, Some(3));
    assert!(apart.stderr.contains("no v2 cgroup holds the same processes"), "{}", apart.stderr);
    enter(cgroup.v2(), shell.pid());
    let report = observe().report();
    assert_eq!(of_pid(&report, shell.pid()).len(), 1);
    assert!(cgroup.v2().ends_with(report["target"].text("cgroup").trim_start_matches('/')));
}

#[test]
fn a_cgroup_that_is_not_there_or_can_not_be_followed_is_an_error_with_a_remedy() {
    let missing = binary::run(&["observe", "--cgroup", "/no/such/cgroup"]);
    assert_eq!(missing.code, Some(3), "{missing:?}");
    assert!(
        missing.stderr.starts_with("error: there is no cgroup /no/such/cgroup\n  give"),
        "{}",
        missing.stderr
    );
    let Some(cgroup) = Cgroup::make("a cgroup by /proc") else { return };
    let path = cgroup.v2().to_str().unwrap();
    let by_proc = binary::run(&["observe", "--cgroup", path, "--tracker", "proc"]);
    assert_eq!(by_proc.code, Some(2), "{by_proc:?}");
    assert!(
        by_proc.stderr.contains("--tracker proc and a cgroup target can't be used together"),
        "{}",
        by_proc.stderr
    );
}
