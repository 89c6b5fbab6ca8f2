//! What the report tells of single processes: OOM kills, signals, command lines without their secrets.

use std::fs;
use std::path::PathBuf;

use inferscope_tests::binary::{self, Running};
use inferscope_tests::report::Named;
use inferscope_tests::requirements;
use inferscope_tests::shell::Shell;
use inferscope_tests::wait::found_within;
use serde_json::Value;

fn observe(shell: &Shell) -> Running {
    binary::observing(&["--tracker", "ebpf", "--pid", &shell.pid().to_string()])
}

fn list(report: &Value) -> &[Value] {
    report["processes"].list("list")
}

#[test]
fn the_kernel_programs_own_log_is_shown_where_it_is_asked_for() {
    if !requirements::kernel("the log of the kernel program") {
        return;
    }
    let said = |log: &str| {
        let mut command = std::process::Command::new(binary::inferscope_bin());
        binary::clean(&mut command);
        let own = std::process::id().to_string();
        command.args([
            "observe",
            "--json",
            "--tracker",
            "ebpf",
            "--gpu",
            "off",
            "--duration",
            "100ms",
            "--pid",
            &own,
        ]);
        command.env("INFERSCOPE_LOG", log);
        let ended = binary::start_cleaned(command).wait();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        ended.stderr
    };
    assert!(said("inferscope_ebpf=debug").contains("DEBUG inferscope_ebpf::snapshot: the tracer is "));
    assert!(!said("").contains("inferscope_ebpf"));
}

/// A memory cgroup with a limit, removed when dropped.
struct Limited {
    dir: PathBuf,
    procs: &'static str,
}

impl Limited {
    /// Of v1's memory hierarchy or of v2, whichever has the controller.
    fn make(bytes: u64) -> Option<Self> {
        let name = format!("inferscope-oom-{}", std::process::id());
        let mounts = fs::read_to_string("/proc/self/mounts").expect("it is there");
        let at = |wanted: &dyn Fn(&str, &str) -> bool| {
            mounts.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                wanted(fields[2], fields[3]).then(|| PathBuf::from(fields[1]))
            })
        };
        let v1 = at(&|kind, options| kind == "cgroup" && options.split(',').any(|o| o == "memory"));
        let (mount, file) = match v1 {
            Some(mount) => (mount, "memory.limit_in_bytes"),
            None => (at(&|kind, _| kind == "cgroup2")?, "memory.max"),
        };
        let dir = mount.join(name);
        fs::create_dir(&dir).ok()?;
        let limited = Self { dir, procs: "cgroup.procs" };
        fs::write(limited.dir.join(file), bytes.to_string()).ok()?;
        // Else it would swap for minutes.
        let _ = fs::write(limited.dir.join("memory.swap.max"), "0");
        Some(limited)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // What was killed leaves it when the kernel gets to that.
        let _ = found_within(std::time::Duration::from_secs(5), || fs::remove_dir(&self.dir).ok());
    }
}

#[test]
fn an_oom_kill_is_told_apart_from_any_other_sigkill() {
    if !requirements::kernel("an OOM kill") {
        return;
    }
    let limited = Limited::make(16 << 20);
    let Some(limited) = limited else {
        assert!(std::env::var_os("INFERSCOPE_REQUIRE_KERNEL").is_none(), "no memory cgroup can be made");
        requirements::say("skipped: needs a memory cgroup: an OOM kill");
        return;
    };
    let mut shell = Shell::start();
    let running = observe(&shell);
    let procs = limited.dir.join(limited.procs);
    // One line that never ends is kept in memory as a whole.
    let said = shell.does(&format!(
        "(echo $BASHPID > {}; exec tail /dev/zero) & echo $!; wait $!; echo $?; sleep 60 & echo $!; kill -9 $!; wait $!",
        procs.display()
    ));
    let (eater, status, other) = (&said[0], &said[1], &said[2]);
    assert_eq!(status, "137", "it was to be killed: {said:?}");
    let report = running.interrupted_report();
    let exit = |pid: &str| {
        let pid: u64 = pid.parse().unwrap();
        list(&report).iter().find(|p| p["pid"] == pid).unwrap_or_else(|| panic!("no {pid}"))["exit"].clone()
    };
    assert_eq!((&exit(eater)["signal"], &exit(eater)["oom"]), (&9.into(), &true.into()), "{}", exit(eater));
    assert_eq!((&exit(other)["signal"], &exit(other)["oom"]), (&9.into(), &false.into()), "{}", exit(other));
    let events = report["processes"].list("events");
    let ooms: Vec<&Value> = events.iter().filter(|e| e["kind"] == "oom").collect();
    assert_eq!(ooms.len(), 1);
    assert_eq!(ooms[0]["pid"].to_string(), *eater);
    let validity = report.list("validity");
    assert!(validity.iter().any(|v| v["code"] == "oom_killed"), "{validity:#?}");
}

#[test]
fn command_lines_are_told_shortened_and_without_secrets() {
    if !requirements::kernel("command lines") {
        return;
    }
    let mut shell = Shell::start();
    let running = observe(&shell);
    let long = "x".repeat(400);
    shell
        .does("/bin/true --port 80 --api-key hunter2 HF_TOKEN=hunter2 --url http://me:hunter2@h/ sk-hunter2");
    shell.does(&format!("/bin/echo {long} >/dev/null"));
    // Cut in the middle of a secret's name or value, there is nothing to recognise it by but its flag.
    shell.does(&format!("/bin/true {} --token {}", "y".repeat(230), "hunter2".repeat(20)));
    shell.does("bash -c 'exit 7'; true");
    shell.does("bash -c 'kill -TERM $$'; true");
    let report = running.interrupted_report();
    let text = report.to_string();
    assert!(!text.contains("hunter2"), "a secret reached the report");
    let argv = |n: usize| {
        let helpers: Vec<&Value> = list(&report).iter().filter(|p| p["ppid"] == shell.pid()).collect();
        helpers[n].clone()
    };
    assert_eq!(argv(0)["argv"][2], "80");
    assert_eq!(argv(0)["argv"][4], "***");
    assert_eq!((argv(0)["argv_cut"].as_bool(), argv(1)["argv_cut"].as_bool()), (Some(false), Some(true)));
    assert_eq!(argv(1)["argv"][1], "***", "nobody knows it to be harmless");
    assert_eq!(argv(2)["argv"][3].as_str(), Some("***"));
    assert_eq!((&argv(3)["exit"]["code"], &argv(4)["exit"]["signal"]), (&7.into(), &15.into()));
}
