//! What is needed for what, found by taking it away: capabilities one at a time, BTF, a readable /proc,
//! cgroup2, NVML. What can't be had is said and never made up; `doctor` names it.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use inferscope_tests::binary::{self, Ended, Running};
use inferscope_tests::elevated::{Elevated, NOBODY};
use inferscope_tests::known_load::Counted;
use inferscope_tests::process::{Group, children};
use inferscope_tests::report::{Named, Report};
use inferscope_tests::requirements;
use inferscope_tests::script;
use inferscope_tests::timed_server::{Answer, TimedServer};
use inferscope_tests::wait::wait_until;
use serde_json::Value;

const NOTHING_MEASURED: i32 = 3;
const PRIVILEGE_MISSING: i32 = 5;

const PROGRAMS: u64 = 30;
const LIMIT: Duration = Duration::from_secs(60);
/// Of the CPU total against the shell's own account, which is in milliseconds, four of them.
const CPU_TOLERANCE_NS: u64 = 5_000_000;

/// `inferscope ARGS…` with what `reduction` says taken away.
fn command(reduction: &[&str], program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reduced"));
    command.args(reduction).arg("--").arg(program).args(args);
    command
}

fn start(reduction: &[&str], args: &[&str]) -> Running {
    binary::start_as(command(reduction, &binary::inferscope_bin(), args))
}

fn run(reduction: &[&str], args: &[&str]) -> Ended {
    start(reduction, args).wait()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// A whole run over a target whose truth is known, checked against it; the report.
fn observe(running: impl FnOnce(&str) -> Running, target: Counted) -> Report {
    let mut target = target;
    let mut running = running(&target.pid().to_string());
    running.wait_until_observing();
    let cpu = target.run();
    let programs = target.programs();
    target.end();
    let report = running.wait().report();
    let tree = &report["processes"];
    let counts = &tree["counts"];
    let total = tree["cpu"].whole("total_ns");
    if tree["tracker"] == "ebpf" {
        for (name, want) in [("forks", programs), ("execs", programs), ("exits", programs + 1)] {
            assert_eq!(counts.whole(name), want, "{name}: {counts:#}");
        }
        assert_eq!(tree["complete"], true, "{:#?}", report.validity);
        assert_eq!(counts.whole("lost_events"), 0);
        // Where the last figure did not come, a time slice is missing, and the report says so.
        let short = if report.has("cpu_not_final") { programs * 3_000_000 } else { CPU_TOLERANCE_NS };
        assert!(total <= cpu + CPU_TOLERANCE_NS && total + short >= cpu, "{total} ns against {cpu} ns");
    } else {
        assert_eq!(tree["tracker"], "proc");
        assert!(tree["tracker_reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{tree:#}");
        assert_eq!(tree["complete"], false);
        // Never more than there was; what can't be counted is unknown and no 0.
        assert!(counts.whole("forks") <= programs, "{counts:#}");
        assert!(total <= cpu + CPU_TOLERANCE_NS, "{total} ns against {cpu} ns");
        assert!(counts["execs"].is_null() && counts["threads"].is_null(), "{counts:#}");
    }
    report
}

fn observe_reduced(reduction: &[&str], more: &[&str]) -> Report {
    observe(
        |pid| start(reduction, &[&["observe", "--json", "--pid", pid], more].concat()),
        Counted::start(PROGRAMS, &["/usr/bin/env"]),
    )
}

/// The target's root, as it is listed.
fn root(report: &Value) -> &Value {
    let pid = &report["target"]["pid"];
    list(&report["processes"]["list"])
        .iter()
        .find(|process| &process["pid"] == pid)
        .expect("the root is listed")
}

/// `doctor --json` with that taken away, and the codes of what is `missing` and `limited`.
struct Doctor {
    answer: Value,
}

impl Doctor {
    fn ask(reduction: &[&str], more: &[&str]) -> Self {
        let ended = run(reduction, &[&["doctor", "--json"], more].concat());
        let answer = ended.json();
        let works = answer["works"] == true;
        assert_eq!(ended.code, Some(if works { 0 } else { PRIVILEGE_MISSING }), "{ended:#?}");
        Self { answer }
    }

    fn check(&self, code: &str) -> &Value {
        let checks = list(&self.answer["checks"]);
        checks.iter().find(|check| check["code"] == code).unwrap_or_else(|| panic!("no check {code}"))
    }

    fn with(&self, status: &str) -> BTreeSet<&str> {
        let those = list(&self.answer["checks"]).iter().filter(|check| check["status"] == status);
        those.map(|check| text(&check["code"])).collect()
    }

    /// What the tracker lacks, by name.
    fn tracker_lacks(&self) -> Vec<&str> {
        list(&self.check("tracker")["missing"]).iter().map(text).collect()
    }
}

/// One set of capabilities for a user, against a server of root's.
fn check_row(uid: &str, capabilities: &[&str], server: &str) -> String {
    let has = |name: &str| capabilities.contains(&name);
    let tracker = has("SYS_ADMIN") || has("BPF") && has("PERFMON");
    let insight = has("SYS_PTRACE");
    // Root's files can be listed by root without more.
    let listener = insight && (uid == "0" || has("DAC_READ_SEARCH"));
    let list = capabilities.join(",");
    let reduction = ["--uid", uid, "--caps", &list];
    let shown = format!("uid {uid} with {{{list}}}");

    let report = observe_reduced(&reduction, &[]);
    assert_eq!(report["processes"]["tracker"] == "ebpf", tracker, "{shown}: {:#}", report["processes"]);
    let exe = &root(&report)["exe"];
    assert_eq!(exe.is_string(), insight, "{shown}: {exe}");
    assert!(insight || exe.is_null());
    // Newer kernels let CAP_PERFMON read memory maps (`may_access_mm` of kernel/fork.c): asked, not known.
    let rollup = format!("/proc/{}/smaps_rollup", std::process::id());
    let read = command(&reduction, Path::new("/bin/cat"), &[&rollup]).output().expect("there is cat");
    let with_pss = read.status.success();
    assert!(with_pss || !insight, "{shown}");
    let pss = &report["resources"]["pss_bytes"];
    assert_eq!(pss["max"].is_number(), with_pss, "{shown}: {pss}");
    assert_eq!(pss["reason"].is_string(), !with_pss, "{shown}: {pss}");
    assert!(root(&report).whole("max_rss_bytes") > 0, "{shown}");
    if !tracker {
        let pid = std::process::id().to_string();
        let refused = run(&reduction, &["observe", "--tracker", "ebpf", "--pid", &pid]);
        assert_eq!(refused.code, Some(PRIVILEGE_MISSING), "{shown}: {refused:#?}");
        assert!(refused.stderr.contains("CAP_BPF and CAP_PERFMON"), "{shown}: {refused:#?}");
        assert_eq!(refused.stdout, "");
    }

    let found = run(&reduction, &["observe", "--json", "--duration", "100ms", "--endpoint", server]);
    if listener {
        assert_eq!(found.report()["target"]["pid"], std::process::id(), "{shown}");
    } else {
        assert_eq!(found.code, Some(NOTHING_MEASURED), "{shown}: {found:#?}");
        assert!(found.stderr.contains("can't be seen") && found.stderr.contains("--pid"), "{found:#?}");
    }

    let doctor = Doctor::ask(&reduction, &[]);
    let lacking = |wanted: &[(&'static str, &str)], covered: bool| {
        let lacking = wanted.iter().filter(|(_, name)| !covered && !has(name));
        lacking.map(|(code, _)| *code).collect::<Vec<_>>()
    };
    let of_tracker = lacking(&[("cap_bpf", "BPF"), ("cap_perfmon", "PERFMON")], has("SYS_ADMIN"));
    let mut missing: BTreeSet<&str> = of_tracker.iter().copied().collect();
    missing.extend((!tracker).then_some("tracker"));
    assert_eq!(doctor.with("missing"), missing, "{shown}");
    let names: Vec<_> = of_tracker.iter().map(|code| code.to_uppercase()).collect();
    assert_eq!(doctor.tracker_lacks(), names, "{shown}");
    let limited = doctor.with("limited");
    assert_eq!(limited.contains("cap_sys_ptrace"), !insight, "{shown}");
    assert_eq!(limited.contains("cap_dac_read_search"), !has("DAC_READ_SEARCH"), "{shown}");
    assert!(insight || limited.contains("other_processes"), "{shown}");

    let yes = |is| if is { "yes" } else { "no" };
    let (mode, who) = (if tracker { "ebpf" } else { "proc" }, if uid == "0" { "root" } else { "other" });
    format!("| {who} | {list} | {mode} | {} | {} | {} |", yes(with_pss), yes(insight), yes(listener))
}

fn check_rows(uid: &str, rows: &[&[&str]]) {
    if !requirements::kernel("capabilities, taken away one at a time") {
        return;
    }
    let server = TimedServer::start(Answer::Stream(script::steady(1, 1, 1)));
    let mut table =
        "\n| user | capabilities | tracker | PSS | exe | listener found |\n|---|---|---|---|---|---|"
            .to_owned();
    for row in rows {
        table = format!("{table}\n{}", check_row(uid, row, &server.endpoint()));
    }
    requirements::say(&table);
}

const ROWS: [&[&str]; 8] = [
    &["BPF", "PERFMON"],
    &["BPF"],
    &["PERFMON"],
    &[],
    &["SYS_ADMIN"],
    &["BPF", "PERFMON", "SYS_PTRACE"],
    &["BPF", "PERFMON", "DAC_READ_SEARCH"],
    &["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"],
];

#[test]
fn capabilities_of_root_are_needed_for_what_the_readme_says() {
    check_rows("0", &ROWS);
}

#[test]
fn capabilities_of_an_ordinary_user_are_needed_for_what_the_readme_says() {
    check_rows(NOBODY, &ROWS);
}

#[test]
fn cap_sys_resource_changes_nothing() {
    let shown = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = shown.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    if u64::from_str_radix(bounding, 16).unwrap() >> 24 & 1 == 0 {
        // All other rows are without it, so that it is not needed is shown all the same.
        requirements::say("privileges: CAP_SYS_RESOURCE can't be given here; every other row is without it");
        return;
    }
    check_rows(NOBODY, &[&["BPF", "PERFMON", "SYS_RESOURCE"]]);
}

#[test]
fn a_server_of_the_own_user_needs_two_capabilities_and_no_more() {
    if !requirements::kernel("a server of the own user") {
        return;
    }
    let tracer = ["--uid", NOBODY, "--caps", "BPF,PERFMON"];
    let target = [env!("CARGO_BIN_EXE_reduced"), "--uid", NOBODY, "--caps", "", "--"];
    let report = observe(
        |pid| start(&tracer, &["observe", "--json", "--pid", pid]),
        Counted::start(PROGRAMS, &target),
    );
    assert_eq!(report["processes"]["tracker"], "ebpf");
    assert!(root(&report).text("exe").ends_with("bash"));
    let pss = &report["resources"]["pss_bytes"];
    assert!(pss["max"].as_f64().is_some_and(|bytes| bytes > 0.0), "{pss}");
}

#[test]
fn file_capabilities_are_as_good_as_root() {
    if !requirements::kernel("file capabilities") {
        return;
    }
    let elevated = Elevated::by_capabilities();
    let report = observe(
        |pid| binary::start_as(elevated.command(["observe", "--json", "--pid", pid])),
        Counted::start(PROGRAMS, &["/usr/bin/env"]),
    );
    assert_eq!(report["processes"]["tracker"], "ebpf");
    assert!(root(&report).text("exe").ends_with("bash"));
}

#[test]
fn without_btf_proc_takes_over_and_says_why() {
    if !requirements::kernel("a kernel whose BTF is out of sight") {
        return;
    }
    let reduction = ["--hide", "/sys/kernel/btf"];
    let report = observe_reduced(&reduction, &[]);
    assert_eq!(report["processes"]["tracker"], "proc");
    let reason = report["processes"].text("tracker_reason");
    assert!(reason.contains("BTF"), "{reason}");
    let pid = std::process::id().to_string();
    let refused = run(&reduction, &["observe", "--tracker", "ebpf", "--pid", &pid]);
    assert_eq!(refused.code, Some(PRIVILEGE_MISSING), "{refused:#?}");
    assert!(refused.stderr.contains("BTF"), "{refused:#?}");
    let doctor = Doctor::ask(&reduction, &[]);
    assert_eq!(doctor.with("missing"), BTreeSet::from(["btf", "tracker"]));
    assert_eq!(doctor.tracker_lacks(), ["/sys/kernel/btf/vmlinux"]);
}

#[test]
fn hidden_processes_are_no_target_and_cap_sys_ptrace_shows_them() {
    if !requirements::kernel("a /proc with hidepid") {
        return;
    }
    let reduction = |capabilities| ["--uid", NOBODY, "--caps", capabilities, "--hidepid"];
    let pid = std::process::id().to_string();
    let hidden = run(&reduction("BPF,PERFMON"), &["observe", "--json", "--pid", &pid]);
    assert_eq!(hidden.code, Some(NOTHING_MEASURED), "{hidden:#?}");
    assert_eq!(hidden.stdout, "", "nothing was measured, so that nothing is reported");
    assert!(hidden.stderr.contains(&pid) && hidden.stderr.contains("hidepid"), "{hidden:#?}");
    let doctor = Doctor::ask(&reduction("BPF,PERFMON"), &[]);
    assert!(doctor.with("limited").contains("proc"));
    assert_eq!(doctor.check("proc")["value"], "hidepid");

    let report = observe_reduced(&reduction("BPF,PERFMON,SYS_PTRACE"), &[]);
    assert_eq!(report["processes"]["tracker"], "ebpf");
}

#[test]
fn a_hidden_member_is_unreadable_and_has_not_ended() {
    if !requirements::kernel("a member that /proc hides") {
        return;
    }
    // Root's shell starts a child of root's, and becomes an ordinary user's.
    const MIXED: &str =
        r#"read -r word <&0 & exec "$0" --uid 65534 --caps "" -- /bin/bash -c 'read -r word'"#;
    let mut shell = Command::new("bash");
    shell.args(["-c", MIXED, env!("CARGO_BIN_EXE_reduced")]);
    let mut target = Group::talking(&mut shell);
    let is_ready = |target: &Group| {
        let uid = std::fs::metadata(format!("/proc/{}", target.pid())).map(|dir| dir.uid()).ok();
        uid.is_some_and(|uid| uid.to_string() == NOBODY) && children(target.pid()).len() == 1
    };
    wait_until("it becomes another user's", || is_ready(&target));
    let child = children(target.pid())[0];
    let pid = target.pid().to_string();
    let reduction = ["--uid", NOBODY, "--caps", "BPF,PERFMON", "--hidepid"];
    let ended = run(&reduction, &["observe", "--json", "--duration", "200ms", "--pid", &pid]);
    drop(target.stdin());
    let report = ended.report();
    let tree = &report["processes"];
    let process = list(&tree["list"]).iter().find(|process| process["pid"] == child).expect("it is listed");
    assert!(process["exited_ns"].is_null() && process["exit"].is_null(), "it lives: {process:#}");
    assert!(process["cpu_user_ns"].is_null(), "{process:#}");
    assert_eq!(tree["counts"].whole("exits"), 0);
    assert!(tree["counts"].whole("unreadable") > 0, "{tree:#}");
    assert_eq!(tree["complete"], false);
}

#[test]
fn few_open_files_are_enough_for_many_processes() {
    if !requirements::kernel("more processes than open files") {
        return;
    }
    const PROCESSES: u64 = 200;
    let mut shell = Command::new("bash");
    let script =
        format!("for ((i = 0; i < {PROCESSES}; i++)); do read -r word <&0 & done; echo ready; read -r word");
    let mut target = Group::talking(shell.args(["-c", &script]));
    assert_eq!(target.line(LIMIT), "ready");
    let pid = target.pid().to_string();
    let ended = run(&["--files", "150"], &["observe", "--json", "--duration", "300ms", "--pid", &pid]);
    drop(target.stdin());
    let report = ended.report();
    let counts = &report["processes"]["counts"];
    assert_eq!((counts.whole("seen"), counts.whole("unreadable")), (PROCESSES + 1, 0), "{counts:#}");
    assert_eq!(report["processes"]["complete"], true);
    let fewest = &report["resources"]["processes"]["min"];
    assert_eq!(fewest.as_f64(), Some((PROCESSES + 1) as f64), "each look sees all");
}

#[test]
fn without_proc_nothing_is_reported() {
    let reduction = ["--no-proc"];
    let pid = std::process::id().to_string();
    let ended = run(&reduction, &["observe", "--json", "--pid", &pid]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(NOTHING_MEASURED), ""), "{ended:#?}");
    assert!(ended.stderr.contains("/proc is not mounted"), "{ended:#?}");
    let doctor = Doctor::ask(&reduction, &[]);
    assert!(doctor.with("missing").contains("proc"));
}

#[test]
fn without_cgroup2_a_tree_is_observed_and_a_cgroup_is_refused() {
    if !requirements::kernel("no cgroup2") {
        return;
    }
    let reduction = ["--no-cgroup2"];
    let report = observe_reduced(&reduction, &[]);
    assert_eq!(report["processes"]["tracker"], "ebpf");
    assert!(root(&report)["cgroup"].is_null());
    let refused = run(&reduction, &["observe", "--json", "--duration", "100ms", "--cgroup", "/"]);
    assert!(!matches!(refused.code, Some(0) | None), "{refused:#?}");
    assert_eq!(refused.stdout, "");
    assert!(refused.stderr.contains("cgroup"), "{refused:#?}");
    let doctor = Doctor::ask(&reduction, &[]);
    let layout = doctor.check("cgroup_layout");
    assert_eq!((&layout["status"], &layout["missing"][0]), (&"limited".into(), &"cgroup2".into()));
    assert!(matches!(layout["value"].as_str(), Some("v1" | "none")), "{layout}");
}

#[test]
fn without_nvml_there_are_no_gpus_and_a_reason() {
    let library = ["--nvml-lib", "/nowhere/libnvidia-ml.so.1"];
    let report = observe_reduced(&[], &library);
    assert_eq!(report["gpus"], Value::Array(Vec::new()));
    assert!(report.has("gpu_none"), "{:#?}", report.validity);
    let pid = std::process::id().to_string();
    let all = run(&[], &[&["observe", "--pid", &pid, "--gpu", "all"], &library[..]].concat());
    assert_eq!(all.code, Some(PRIVILEGE_MISSING), "{all:#?}");
    let doctor = Doctor::ask(&[], &library);
    let nvml = doctor.check("nvml");
    assert_eq!((&nvml["status"], &nvml["missing"][0]), (&"limited".into(), &"libnvidia-ml.so.1".into()));
}

#[test]
fn doctor_with_everything_is_content_and_leaves_nothing() {
    if !requirements::kernel("doctor with every privilege") {
        return;
    }
    let doctor = Doctor::ask(&[], &[]);
    assert_eq!(doctor.with("missing"), BTreeSet::new());
    assert_eq!(doctor.check("tracker")["status"], "ok");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(doctor.check("kernel")["value"], release.trim());
    let said = binary::run(&["doctor"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(said.stderr, "");
    for check in list(&doctor.answer["checks"]) {
        assert!(said.stdout.contains(text(&check["name"])), "{said:#?}");
    }
}
