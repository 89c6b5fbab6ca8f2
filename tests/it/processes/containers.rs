//! Real containers: wherever the tracer is, it tells the same of the same processes.

use std::collections::BTreeSet;
use std::process::Command;

use inferscope_tests::binary::{self, Ended, Running};
use inferscope_tests::contained_server::{
    ContainedServer, FORKS, NESTED, REQUESTS, REQUESTS_A_WORKER, WRAPPED,
};
use inferscope_tests::container::{
    INSIDE, Inside, Namespace, Runtime, Spec, TRACER, USUAL, namespace_pids, tree,
};
use inferscope_tests::known_load::Counted;
use inferscope_tests::process::{children, living_comm, signal};
use inferscope_tests::report::{Named, Report};
use inferscope_tests::requirements;
use inferscope_tests::stats::relative_error;
use inferscope_tests::wait::wait_for;
use rustix::process::Signal;
use serde_json::{Value, json};

const INTERRUPTED: i32 = 130;
const NOTHING_MEASURED: i32 = 3;

/// Of two views of the same processes.
const CPU_TOLERANCE: f64 = 0.001;
/// A cgroup accounts a little that no process has.
const CPU_TOLERANCE_CGROUP: f64 = 0.005;
/// Where an ended process has its CPU as of its exit.
const NOT_FINAL_NS: f64 = 3_000_000.0 * FORKS as f64;

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

/// What every view of the server has to tell, whoever looks from where.
fn check_counts(report: &Report, alive_at_start: u64) {
    let tree = &report["processes"];
    assert_eq!(tree["tracker"], "ebpf", "{:#}", tree["tracker_reason"]);
    let counts = &tree["counts"];
    for (name, want) in [
        ("alive_at_start", alive_at_start),
        ("forks", FORKS),
        ("exits", FORKS),
        ("execs", REQUESTS),
        ("threads", REQUESTS / REQUESTS_A_WORKER),
        ("lost_events", 0),
        ("unreadable", 0),
    ] {
        assert_eq!(counts.whole(name), want, "{name}: {counts:#}");
    }
    assert_eq!(tree["complete"], true, "{:#?}", report.validity);
    assert_eq!(list(&tree["list"]).len() as u64, alive_at_start + FORKS);
}

/// Pids are those of the tracer's own namespace, `level` below the host's, and host_pid is the host's.
fn check_pids(report: &Value, level: usize) {
    let mut compared = 0;
    for process in list(&report["processes"]["list"]) {
        assert!(process.whole("pid") > 0 && process.whole("host_pid") > 0, "{process:#}");
        if !process["exited_ns"].is_null() {
            continue;
        }
        let host_pid = process.whole("host_pid") as u32;
        let pids = namespace_pids(host_pid).unwrap_or_else(|| panic!("the host has no {host_pid}"));
        assert_eq!(process.whole("pid"), u64::from(pids[level]), "{pids:?}: {process:#}");
        compared += 1;
    }
    assert!(compared >= 2, "only {compared} processes live that could be compared");
}

fn host_pids(report: &Value) -> BTreeSet<u64> {
    list(&report["processes"]["list"]).iter().map(|process| process.whole("host_pid")).collect()
}

fn cpu(report: &Value) -> f64 {
    report["processes"]["cpu"].whole("total_ns") as f64
}

#[track_caller]
fn check_cpu(what: &str, report: &Report, truth: f64, tolerance: f64) {
    let got = cpu(report);
    let not_final = report.has("cpu_not_final");
    let error = relative_error(got, truth);
    requirements::say(&format!("containers: {what}: CPU {got} ns against {truth} ns, {:.3}%", error * 100.0));
    let allowed = truth * tolerance + if not_final { NOT_FINAL_NS } else { 0.0 };
    assert!((got - truth).abs() <= allowed, "{what}: {got} ns against {truth} ns");
}

/// Two views of one set.
fn check_same(outer: &Report, inner: &Report) {
    assert_eq!(host_pids(outer), host_pids(inner), "both list the same processes");
    check_cpu("seen from inside against the host's view", inner, cpu(outer), CPU_TOLERANCE);
}

fn runtime(what: &str) -> Option<Runtime> {
    if requirements::kernel(what) { Runtime::find(what) } else { None }
}

fn observe_from_host(target: &[&str]) -> Running {
    let mut running = binary::start(&[&["observe", "--json", "--tracker", "ebpf"], target].concat());
    running.wait_until_observing();
    running
}

const OBSERVE_INIT: [&str; 6] = ["observe", "--json", "--tracker", "ebpf", "--pid", "1"];

#[test]
fn tracer_on_the_host_and_target_in_a_container() {
    let Some(runtime) = runtime("a tracer on the host, its target in a container") else { return };
    let served = ContainedServer::start(&runtime, WRAPPED, Namespace::Host, &[]);
    let init = served.container.init.to_string();
    let by_pid = observe_from_host(&["--pid", &init]);
    let by_cgroup = observe_from_host(&["--cgroup-of", &init]);
    let by_socket = observe_from_host(&["--endpoint", &served.endpoint()]);
    let before = served.container.cpu_ns();
    served.serve();
    let truth = (served.container.cpu_ns() - before) as f64;

    let by_pid = by_pid.interrupted_report();
    check_counts(&by_pid, 3);
    check_pids(&by_pid, 0);
    check_cpu("by pid, against the cgroup", &by_pid, truth, CPU_TOLERANCE_CGROUP);
    assert_eq!(by_pid["target"].whole("pid"), u64::from(served.container.init));
    for process in list(&by_pid["processes"]["list"]) {
        assert_eq!(process["pid"], process["host_pid"], "{process:#}");
    }

    let by_cgroup = by_cgroup.interrupted_report();
    check_counts(&by_cgroup, 3);
    check_same(&by_pid, &by_cgroup);

    // The shell has no part in the socket.
    let by_socket = by_socket.interrupted_report();
    check_counts(&by_socket, 2);
    assert_eq!(by_socket["target"].whole("pid"), u64::from(served.arbiter));
    check_cpu("by socket, against the host's view", &by_socket, cpu(&by_pid), CPU_TOLERANCE);
}

#[test]
fn target_in_a_network_namespace_of_its_own() {
    let Some(runtime) = runtime("a target with a network of its own") else { return };
    let served = ContainedServer::start(&runtime, WRAPPED, Namespace::Own, &[]);
    // Its 127.0.0.1 is not ours: that is said, with the pid to pass, and nothing else is taken for it.
    let ended = binary::run(&["observe", "--json", "--endpoint", &served.endpoint()]);
    assert_eq!(ended.code, Some(NOTHING_MEASURED), "{ended:#?}");
    assert_eq!(ended.stdout, "");
    let hinted = tree(served.arbiter).iter().any(|pid| ended.stderr.contains(&format!("--pid {pid}")));
    assert!(hinted && ended.stderr.contains("network namespace"), "{ended:#?}");

    let running = observe_from_host(&["--pid", &served.container.init.to_string()]);
    served.serve();
    let report = running.interrupted_report();
    check_counts(&report, 3);
    check_pids(&report, 0);
}

#[test]
fn tracer_inside_of_the_targets_container() {
    let Some(runtime) = runtime("a tracer in its target's container") else { return };
    let served = ContainedServer::start(&runtime, WRAPPED, Namespace::Own, &TRACER);
    let host = observe_from_host(&["--pid", &served.container.init.to_string()]);
    let mut by_pid = served.container.exec(&OBSERVE_INIT);
    by_pid.wait_until_observing();
    let endpoint = served.endpoint();
    let mut by_socket = served.container.exec(&["observe", "--json", "--endpoint", &endpoint]);
    by_socket.wait_until_observing();
    served.serve();

    let host = host.interrupted_report();
    let by_pid = by_pid.running.interrupted_report();
    check_counts(&by_pid, 3);
    check_pids(&by_pid, 1);
    check_same(&host, &by_pid);
    assert_eq!(by_pid["target"]["pid"], 1);

    let by_socket = by_socket.running.interrupted_report();
    check_counts(&by_socket, 2);
    check_pids(&by_socket, 1);
    let arbiter = namespace_pids(served.arbiter).expect("it lives")[1];
    assert_eq!(by_socket["target"]["pid"], arbiter);
}

#[test]
fn tracer_in_a_sidecar_that_shares_the_pid_namespace() {
    let Some(runtime) = runtime("a tracer in a sidecar") else { return };
    let served = ContainedServer::start(&runtime, WRAPPED, Namespace::Own, &[]);
    let host = observe_from_host(&["--pid", &served.container.init.to_string()]);
    let args = [&[INSIDE], &OBSERVE_INIT[..]].concat();
    let capabilities = [&USUAL[..], &TRACER].concat();
    let spec = Spec {
        args: &args,
        pid: Namespace::Of(&served.container),
        network: Namespace::Of(&served.container),
        capabilities: &capabilities,
    };
    let mut sidecar = Inside::start(&runtime, spec);
    sidecar.wait_until_observing();
    assert_eq!(namespace_pids(sidecar.host_pid).expect("it lives").len(), 2);
    let args = [INSIDE, "observe", "--json", "--cgroup-of", "1"];
    let mut by_cgroup = Inside::start(&runtime, Spec { args: &args, ..spec });
    by_cgroup.wait_until_observing();
    served.serve();

    let host = host.interrupted_report();
    for inner in [sidecar, by_cgroup].map(|tracer| tracer.running.interrupted_report()) {
        check_counts(&inner, 3);
        check_pids(&inner, 1);
        check_same(&host, &inner);
    }
}

#[test]
fn tracer_in_a_container_with_the_hosts_pids() {
    let Some(runtime) = runtime("a tracer with the host's pids") else { return };
    let served = ContainedServer::start(&runtime, WRAPPED, Namespace::Own, &[]);
    let init = served.container.init.to_string();
    let host = observe_from_host(&["--pid", &init]);
    let capabilities = [&USUAL[..], &TRACER].concat();
    let args = [INSIDE, "observe", "--json", "--tracker", "ebpf", "--pid", &init];
    let spec =
        Spec { args: &args, pid: Namespace::Host, network: Namespace::Own, capabilities: &capabilities };
    let mut tracer = Inside::start(&runtime, spec);
    tracer.wait_until_observing();
    served.serve();

    let host = host.interrupted_report();
    let contained = tracer.running.interrupted_report();
    check_counts(&contained, 3);
    check_pids(&contained, 0);
    check_same(&host, &contained);
}

#[test]
fn namespace_without_a_container() {
    if !requirements::kernel("an unshared pid namespace") {
        return;
    }
    const PROGRAMS: u64 = 30;
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"];
    let mut target = Counted::start(PROGRAMS, &unshare);
    let shell = child_named(target.pid(), "bash");
    let unshare = target.pid();
    let host = observe_from_host(&["--pid", &unshare.to_string()]);
    let mut command = Command::new("nsenter");
    command.args(["--pid", "--mount", "--target", &shell.to_string(), "--"]);
    command.arg(binary::inferscope_bin()).args(OBSERVE_INIT);
    let mut inner = binary::start_as(command);
    let tracer = child_named(inner.process.pid(), "inferscope");
    inner.wait_until_process_observes(tracer);
    let _ = target.run();

    // nsenter passes no signal on; it gives the tracer's code.
    signal(tracer, Signal::INT);
    let ended = inner.wait();
    let (inner, host) = (ended.report_of(INTERRUPTED), host.interrupted_report());
    for (report, pid, alive_at_start) in [(&host, unshare, 2), (&inner, 1, 1)] {
        let counts = &report["processes"]["counts"];
        assert_eq!(report["target"]["pid"], pid);
        for (name, want) in [
            ("alive_at_start", alive_at_start),
            ("forks", PROGRAMS),
            ("execs", PROGRAMS),
            ("exits", PROGRAMS),
            ("lost_events", 0),
        ] {
            assert_eq!(counts.whole(name), want, "{name}: {counts:#}");
        }
        assert_eq!(report["processes"]["complete"], true);
    }
    let of = |report: &Value, host_pid: u32| {
        let all = list(&report["processes"]["list"]).clone();
        all.into_iter().find(|process| process["host_pid"] == host_pid).expect("it is listed")
    };
    assert_eq!((&of(&host, shell)["pid"], &of(&inner, shell)["pid"]), (&json!(shell), &json!(1)));
    target.end();
}

/// The process's child, once it has that name.
fn child_named(parent: u32, name: &str) -> u32 {
    wait_for(&format!("{parent} starts a {name}"), || {
        children(parent).into_iter().find(|pid| living_comm(*pid).is_some_and(|comm| comm == name))
    })
}

#[test]
fn target_that_makes_a_pid_namespace_within() {
    let Some(runtime) = runtime("a pid namespace within a container") else { return };
    let more = [&TRACER[..], &["SYS_ADMIN"]].concat();
    let served = ContainedServer::start(&runtime, NESTED, Namespace::Own, &more);
    assert_eq!(namespace_pids(served.arbiter).expect("it lives").len(), 3);
    let host = observe_from_host(&["--pid", &served.container.init.to_string()]);
    let mut inner = served.container.exec(&OBSERVE_INIT);
    inner.wait_until_observing();
    served.serve();

    // The shell, unshare, and the server's two.
    let host = host.interrupted_report();
    check_counts(&host, 4);
    check_pids(&host, 0);
    let inner = inner.running.interrupted_report();
    check_counts(&inner, 4);
    check_pids(&inner, 1);
    check_same(&host, &inner);
}

/// A sidecar that was given the network, and not the pids.
fn from_apart(runtime: &Runtime, served: &ContainedServer, args: &[&str]) -> Ended {
    let args = [&[INSIDE], args].concat();
    let capabilities = [&USUAL[..], &TRACER].concat();
    let network = Namespace::Of(&served.container);
    let spec = Spec { args: &args, pid: Namespace::Own, network, capabilities: &capabilities };
    Inside::start(runtime, spec).running.wait()
}

#[test]
fn sidecar_that_does_not_share_the_pid_namespace_says_so() {
    let Some(runtime) = runtime("a sidecar without its target's pids") else { return };
    let served = ContainedServer::start(&runtime, WRAPPED, Namespace::Own, &[]);
    let endpoint = served.endpoint();
    let by_socket = from_apart(&runtime, &served, &["observe", "--json", "--endpoint", &endpoint]);
    assert_eq!(by_socket.code, Some(NOTHING_MEASURED), "{by_socket:#?}");
    assert_eq!(by_socket.stdout, "");
    assert!(by_socket.stderr.contains("pid namespace"), "{by_socket:#?}");
    assert!(by_socket.stderr.contains("--pid="), "{by_socket:#?}");

    let host_pid = served.container.init.to_string();
    let by_pid = from_apart(&runtime, &served, &["observe", "--json", "--pid", &host_pid]);
    assert_eq!((by_pid.code, by_pid.stdout.as_str()), (Some(NOTHING_MEASURED), ""), "{by_pid:#?}");
    for word in [&host_pid, "pid namespace", "--pid=container:", "shareProcessNamespace"] {
        assert!(by_pid.stderr.contains(word), "{word}: {by_pid:#?}");
    }

    let doctor = from_apart(&runtime, &served, &["doctor", "--json"]);
    assert_eq!(doctor.code, Some(0), "{doctor:#?}");
    let doctor = doctor.json();
    let check = list(&doctor["checks"]).iter().find(|check| check["code"] == "pid_namespace");
    let check = check.expect("doctor looks at it");
    assert_eq!((&check["status"], &check["value"]), (&json!("limited"), &json!("inner")));
    let remedies = check["remedies"].to_string();
    assert!(remedies.contains("--pid=container:") && remedies.contains("shareProcessNamespace"), "{check:#}");
}
