//! What inferscope's threads may do while it runs, and what its caller can not have done with privileges that the caller has
//! not: with a binary that `setcap` or a set-user-ID bit gave more.
//!
//! The kernel's word is the truth: /proc/PID/task/TID/status of each thread, and of the command that `exec` starts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use inferscope_tests::binary::{self, Ended, Running};
use inferscope_tests::elevated::{Elevated, as_nobody};
use inferscope_tests::emitter::Emitter;
use inferscope_tests::known_load::Counted;
use inferscope_tests::report::{Named, Report};
use inferscope_tests::requirements;
use inferscope_tests::script;
use inferscope_tests::timed_server::{Answer, TimedServer};
use serde_json::{Value, json};

const USAGE: i32 = 2;
const LIMIT: Duration = Duration::from_secs(60);
/// Lines of a status file that tell what a thread may do.
const TOLD: [&str; 7] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];

const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const FOWNER: u64 = 1 << 3;
const KILL: u64 = 1 << 5;
const SYS_PTRACE: u64 = 1 << 19;
const BPF: u64 = 1 << 39;

/// The lines of [`TOLD`] in a status file's text.
fn told(status: &str) -> BTreeMap<String, String> {
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    let those = lines.filter(|(name, _)| TOLD.contains(name));
    those.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// One thread at one moment.
struct Thread {
    name: String,
    status: BTreeMap<String, String>,
    /// Real, effective, saved, and for files.
    uids: Vec<u32>,
}

impl Thread {
    fn bits(&self, set: &str) -> u64 {
        u64::from_str_radix(&self.status[set], 16).unwrap()
    }

    fn is(&self, line: &str, value: &str) -> bool {
        self.status[line] == value
    }
}

fn threads(pid: u32) -> Vec<Thread> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let read = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("status")).ok()?;
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        Some(Thread {
            name: line("Name:")?.trim().to_owned(),
            status: told(&text),
            uids: line("Uid:")?.split_whitespace().map(|id| id.parse().unwrap()).collect(),
        })
    };
    tasks.flatten().filter_map(read).collect()
}

/// Before Linux 5.19 each use of bpf(2) took a capability.
fn asks_each_time() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    release.split('.').next().unwrap().parse::<u32>().unwrap() < 6
}

/// What the threads of a run are left with, looked at again and again once all of them work.
fn watch(running: &mut Running, main_keeps: u64) {
    let pid = running.process.pid();
    let bpf = if asks_each_time() { BPF } else { 0 };
    let deadline = Instant::now() + LIMIT;
    let mut looks = 0;
    while running.process.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
        let now = threads(pid);
        let find = |name: &str| now.iter().find(|thread| thread.name == name);
        let (Some(main), Some(load), Some(observer)) = (find("inferscope"), find("load"), find("observer"))
        else {
            continue;
        };
        // The last two give up when the observation has begun.
        if !main.is("NoNewPrivs", "1") || !observer.is("Seccomp", "2") {
            continue;
        }
        looks += 1;
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(load.bits(set), 0, "{set} of the load's thread");
        }
        assert!(load.is("NoNewPrivs", "1") && load.is("Seccomp", "2"), "{:?}", load.status);
        assert_ne!(load.uids[3], 0, "root's files are closed to it");
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(observer.bits(set), DAC_READ_SEARCH | SYS_PTRACE | bpf, "{set} of the observer's");
            assert_eq!(main.bits(set), main_keeps, "{set} of the main thread");
        }
        assert!(observer.is("NoNewPrivs", "1"));
        for other in now.iter().filter(|thread| !["inferscope", "load", "observer"].contains(&&*thread.name))
        {
            assert_eq!(other.bits("CapPrm"), 0, "{}", other.name);
        }
    }
    assert!(looks >= 5, "it was looked at {looks} times");
}

/// A run against a server that answers garbage of every kind, with a process that comes and goes as its target.
fn against_a_hostile_server(start: impl FnOnce(&[&str]) -> Running, main_keeps: u64) -> Report {
    let mode = ["--mode", "garbage:all", "--first-token", "10ms", "--interval", "5ms", "--tokens", "4"];
    let emitter = Emitter::start(&mode);
    let mut target = Counted::start(30, &["/usr/bin/env"]);
    let pid = target.pid().to_string();
    let mut args = vec!["--endpoint", &emitter.endpoint, "--json", "--gpu", "off", "--timeout", "1s"];
    args.extend(["--pid", &pid, "--concurrency", "8", "--requests", "72"]);
    let mut running = start(&args);
    running.wait_until_observing();
    let cpu = target.run();
    watch(&mut running, main_keeps);
    target.end();
    drop(emitter.end());
    let report = running.wait().report();
    let tree = &report["processes"];
    assert_eq!((&tree["tracker"], &tree["complete"]), (&"ebpf".into(), &true.into()), "{tree:#}");
    for (name, want) in [("forks", 30), ("execs", 30), ("exits", 30)] {
        assert_eq!(tree["counts"][name], want, "{name}: {:#}", tree["counts"]);
    }
    let total = tree["cpu"].whole("total_ns");
    assert!(total.abs_diff(cpu) < 95_000_000, "{total} against {cpu}");
    assert!(report["resources"]["pss_bytes"]["max"].is_number(), "{:#}", report["resources"]["pss_bytes"]);
    assert!(
        tree["list"][0]["exe"].as_str().is_some_and(|exe| exe.ends_with("bash")),
        "{:#}",
        tree["list"][0]
    );
    report
}

#[test]
fn against_a_hostile_server_the_load_has_no_capability_and_the_tracker_is_complete() {
    if !requirements::kernel("the threads' privileges") {
        return;
    }
    let report =
        against_a_hostile_server(|args| binary::start(args), DAC_OVERRIDE | DAC_READ_SEARCH | FOWNER | KILL);
    let told = &report["self"]["privileges"];
    assert_eq!(told["elevated"], false);
    let load = json!({
        "effective": [], "permitted": [], "no_new_privs": true, "seccomp": true, "files_as_uid": 65_534
    });
    assert_eq!(told["threads"]["load"], load);
    let mut keeps = vec!["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"];
    keeps.extend(asks_each_time().then_some("CAP_BPF"));
    assert_eq!(told["threads"]["observer"]["effective"], json!(keeps));
}

#[test]
fn with_file_capabilities_only_the_observer_has_any_and_the_tracker_is_complete() {
    if !requirements::kernel("the threads' privileges with file capabilities") {
        return;
    }
    for elevated in [Elevated::by_capabilities(), Elevated::by_user_id()] {
        let report = against_a_hostile_server(|args| binary::start_as(elevated.command(args)), 0);
        let told = &report["self"]["privileges"];
        assert_eq!(told["elevated"], true);
        assert_eq!(told["threads"]["main"]["permitted"], json!([]));
        assert_eq!(told["threads"]["load"]["permitted"], json!([]));
    }
}

/// What `inferscope exec` starts, and what is started without, by the same `through`.
fn assert_same(through: impl Fn() -> Command, elevated: Option<&Elevated>) {
    let directly = through().args(["/bin/cat", "/proc/self/status"]).output().unwrap();
    let mut command = through();
    let program = elevated.map_or_else(binary::inferscope_bin, |elevated| elevated.dir().join("inferscope"));
    command.arg(program).args(["exec", "--json", "--gpu", "off", "--command-output"]);
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let output = dir.path().join("status");
    command.arg(&output).args(["--", "/bin/cat", "/proc/self/status"]);
    let ended = binary::start_as(command).wait();
    let report = ended.report();
    let by_exec = fs::read_to_string(&output).unwrap();
    let (directly, by_exec) = (told(&String::from_utf8(directly.stdout).unwrap()), told(&by_exec));
    assert_eq!(directly.len(), TOLD.len(), "{directly:?}");
    assert_eq!(by_exec, directly);
    assert_eq!(report["processes"]["counts"]["execs"], 1);
    let janitor = &report["self"]["privileges"]["threads"]["janitor"];
    assert_eq!(janitor["no_new_privs"], true, "{janitor:#}");
}

#[test]
fn the_command_of_exec_has_its_callers_privileges() {
    if !requirements::kernel("the command's privileges") {
        return;
    }
    let root = || Command::new("/usr/bin/env");
    assert_same(root, None);
    let by_ambient_sets = || {
        let mut command = Command::new(binary::sibling("reduced"));
        command.args(["--uid", "65534", "--caps", "BPF,PERFMON,DAC_READ_SEARCH", "--"]);
        command
    };
    assert_same(by_ambient_sets, None);
    for elevated in [Elevated::by_capabilities(), Elevated::by_user_id()] {
        assert_same(as_nobody, Some(&elevated));
    }
}

#[test]
fn the_janitor_keeps_what_ends_a_command_that_became_another_user() {
    if !requirements::kernel("the janitor's privileges") {
        return;
    }
    // Another user's, in a group of its own, which heeds no SIGTERM: only SIGKILL, by who may, ends it.
    let reduced = binary::sibling("reduced");
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = Command::new(binary::inferscope_bin());
    command.args(["exec", "--json", "--gpu", "off", "--duration", "300ms", "--grace", "100ms", "--"]);
    command.arg(reduced).args(["--uid", "65534", "--caps", "", "--", "/bin/bash", "-c", stubborn]);
    let report = binary::start_as(command).wait().report();
    assert_eq!(report["target"]["exit"]["signal"], 9, "{:#}", report["target"]);
    let janitor = &report["self"]["privileges"]["threads"]["janitor"]["permitted"];
    assert_eq!(janitor, &json!(["CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SYS_NICE"]));
    let codes: Vec<_> = report.list("validity").iter().map(|v| &v["code"]).collect();
    assert!(!codes.contains(&&"not_ended".into()) && !codes.contains(&&"cgroup_left".into()), "{codes:?}");
}

/// A library whose constructor tells what it may do, in a file named by `EVIL_OUT`.
fn evil_library(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("evil.c"), dir.join("evil.so"));
    fs::write(
        &source,
        r#"#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void run(void) {
    char line[256];
    const char *path = getenv("EVIL_OUT");
    FILE *in = fopen("/proc/thread-self/status", "r"), *out = path ? fopen(path, "w") : 0;
    while (in && out && fgets(line, sizeof line, in)) fputs(line, out);
    if (out) fclose(out);
}
"#,
    )
    .unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(built.unwrap().success(), "the linker that built this test is there");
    library
}

#[test]
fn a_library_of_the_callers_is_refused_where_the_caller_has_less() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let library = evil_library(dir.path());
    let out = dir.path().join("out");
    for elevated in [Elevated::by_capabilities(), Elevated::by_user_id()] {
        let own = std::process::id().to_string();
        let observe = ["observe", "--duration", "100ms", "--pid", &own];
        let profile = ["--endpoint", "http://127.0.0.1:9"];
        let exec = ["exec", "--", "true"];
        for args in [&observe[..], &profile, &exec, &["doctor"]] {
            let mut by_flag = elevated.command([args[0]]);
            by_flag.arg("--nvml-lib").arg(&library).args(&args[1..]);
            if args == profile {
                by_flag = elevated.command(args);
                by_flag.arg("--nvml-lib").arg(&library);
            }
            let by_flag = binary::start_as(with(by_flag, "EVIL_OUT", &out)).wait();
            // `start_as` clears what is inferscope's of the environment, so it is set behind it.
            let mut by_variable = as_nobody();
            by_variable.arg("/usr/bin/env").arg(format!("INFERSCOPE_NVML_LIB={}", library.display()));
            by_variable.arg(elevated.dir().join("inferscope")).args(args);
            let by_variable = binary::start_as(with(by_variable, "EVIL_OUT", &out)).wait();
            for ended in [by_flag, by_variable] {
                assert_eq!(ended.code, Some(USAGE), "{args:?}: {ended:#?}");
                assert!(ended.stderr.contains("--nvml-lib") && ended.stderr.contains("\n  "), "{ended:#?}");
                assert!(!out.exists(), "{args:?}: its constructor ran");
            }
        }
    }
}

fn with(mut command: Command, name: &str, value: &Path) -> Command {
    command.env(name, value);
    command
}

#[test]
fn a_library_runs_on_a_thread_that_can_not_trace_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let library = evil_library(dir.path());
    let own = std::process::id().to_string();
    let library_text = library.to_str().unwrap();
    let observe = ["observe", "--json", "--duration", "100ms", "--pid", &own, "--nvml-lib", library_text];
    for (args, code) in [(&observe[..], 0), (&["doctor", "--json", "--nvml-lib", library_text], 0)] {
        let out = dir.path().join(args[0]);
        let mut command = Command::new(binary::inferscope_bin());
        command.args(args);
        let ended = binary::start_as(with(command, "EVIL_OUT", &out)).wait();
        assert!(ended.code == Some(code) || ended.code == Some(5), "{ended:#?}");
        let status = fs::read_to_string(&out).expect("root may load what it names");
        for set in ["CapEff", "CapPrm"] {
            let bits = u64::from_str_radix(&told(&status)[set], 16).unwrap();
            assert_eq!(bits & (BPF | DAC_OVERRIDE | KILL), 0, "{set}: {status}");
        }
    }
}

#[test]
fn files_of_the_callers_are_read_and_written_as_the_caller_may() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "{\"prompt\": \"the secret\"}\n").unwrap();
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let (secret, report) = (secret.to_str().unwrap(), closed.join("report.json"));
    let report = report.to_str().unwrap();
    let server = TimedServer::start(Answer::Stream(script::steady(1, 1, 1)));
    let (http, https) = (server.endpoint(), "https://127.0.0.1:9".to_owned());
    for elevated in [Elevated::by_capabilities(), Elevated::by_user_id()] {
        let refused = |endpoint: &str, args: &[&str]| {
            let all = [&["--endpoint", endpoint, "--requests", "1", "--gpu", "off"], args].concat();
            let ended: Ended = binary::start_as(elevated.command(all)).wait();
            assert_eq!(ended.code, Some(USAGE), "{args:?}: {ended:#?}");
            assert!(ended.stderr.to_lowercase().contains("permission denied"), "{args:?}: {ended:#?}");
        };
        refused(&http, &["--prompt-file", secret]);
        refused(&http, &["--dataset", secret]);
        refused(&https, &["--cacert", secret]);
        refused(&http, &["-o", report]);
        let exec = ["exec", "--command-output", report, "--", "true"];
        let ended = binary::start_as(elevated.command(exec)).wait();
        assert_eq!(ended.code, Some(USAGE), "{ended:#?}");
        assert!(ended.stderr.to_lowercase().contains("permission denied"), "{ended:#?}");
    }
    assert!(server.exchanges().is_empty(), "what nobody may read was sent");
    assert!(!Path::new(report).exists());
}

#[test]
fn root_reads_and_writes_what_is_another_users() {
    // What its uid alone would not let it, in the face of the capabilities that the load's thread gave up.
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    let prompt = theirs.join("prompt");
    fs::write(&prompt, "a question\n").unwrap();
    fs::set_permissions(&prompt, PermissionsExt::from_mode(0o600)).unwrap();
    fs::set_permissions(&theirs, PermissionsExt::from_mode(0o700)).unwrap();
    for path in [&prompt, &theirs] {
        std::os::unix::fs::chown(path, Some(12_345), Some(12_345)).unwrap();
    }
    let server = TimedServer::start(Answer::Stream(script::steady(1, 1, 1)));
    let report = theirs.join("report.json");
    let mut args = vec!["--requests", "1", "--gpu", "off", "--prompt-file", prompt.to_str().unwrap()];
    let endpoint = server.endpoint();
    args.extend(["--endpoint", &endpoint, "-o", report.to_str().unwrap()]);
    let ended = binary::run(&args);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let written: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(written["load"]["requests_ok"], 1, "{:#}", written["load"]);
}
