//! A signal at any moment ends a run with its report, or says that there is nothing to report; nothing of the run is left.
//!
//! `INFERSCOPE_MOMENTS=200` for more of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use inferscope_tests::binary::{self, Running};
use inferscope_tests::process::{Group, signal};
use inferscope_tests::timed_server::{Answer, TimedServer};
use inferscope_tests::wait::wait_until;
use inferscope_tests::{requirements, script};
use rustix::process::Signal;
use serde_json::Value;

const INTERRUPTED: i32 = 130;
const INTERNAL: i32 = 1;
/// On a machine that does several such runs at a time, with debug builds.
const LIMIT: Duration = Duration::from_secs(30);
const MOMENTS: usize = 60;
const AT_A_TIME: usize = 4;
const SEED: u64 = 0x1d_5ca1_ab1e;
const OLD: &str = "an older report";
const SIGNALS: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];
const NOTHING: &str = "interrupted before anything was measured";
/// Its value tells the processes of one run from all others, whoever adopts them.
const MARK: &str = "MOMENT_OF_TEST";

/// Waits for its first instruction; what comes before that is the dynamic loader's.
fn wait_until_it_runs(running: &Running) {
    let path = format!("/proc/{}/status", running.process.pid());
    wait_until("it keeps signals back", || {
        let status = std::fs::read_to_string(&path).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() >> (Signal::TERM.as_raw() - 1) & 1 == 1
    });
}

fn start(args: &[&str], mark: &str) -> Running {
    let mut command = Command::new(binary::inferscope_bin());
    command.args(args).env(MARK, mark);
    binary::start_as(command)
}

/// Processes that have the mark and are no zombies.
fn marked(mark: &str) -> Vec<PathBuf> {
    let wanted = format!("{MARK}={mark}");
    let dirs = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has_it = |dir: &PathBuf| {
        let environment = std::fs::read(dir.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    dirs.filter(has_it).collect()
}

/// Cgroups that are named after a process.
fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    let names = [format!("inferscope-{pid}"), format!("inferscope-{pid}.")];
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name == names[0] || name.starts_with(&names[1]) {
                    found.push(entry.path());
                }
                todo.push(entry.path());
            }
        }
    }
    found
}

fn report_in(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(report["schema_version"], 1);
    report
}

/// One run and its end.
#[derive(Debug, Clone, Copy)]
struct Moment {
    number: usize,
    command: &'static str,
    signal: Signal,
    delay: Duration,
    has_older: bool,
}

impl Moment {
    /// Every command with every signal; half of them in the first 300 ms, a quarter right at the start.
    fn nth(number: usize, random: &mut impl FnMut() -> u64) -> Self {
        let range = [20_000, 300_000, 1_500_000, 3_000_000][number / 16 % 4];
        Self {
            number,
            command: ["profile", "observe", "exec", "demo"][number % 4],
            signal: SIGNALS[number / 4 % 4],
            delay: Duration::from_micros(random() % range),
            has_older: random().is_multiple_of(2),
        }
    }

    /// Whether there is a report.
    fn check(self, endpoint: &str, target: u32) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        if self.has_older {
            std::fs::write(&path, OLD).unwrap();
        }
        let target = target.to_string();
        let mut args = vec![self.command, "--quiet", "-o", path.to_str().unwrap()];
        let further: &[&str] = match self.command {
            "profile" => {
                &["--endpoint", endpoint, "--requests", "100000", "--concurrency", "2", "--gpu", "off"]
            }
            "observe" => &["--pid", &target, "--gpu", "off"],
            "exec" => &["--grace", "2s", "--gpu", "off", "--", "sh", "-c", "sleep 90 & sleep 91"],
            _ => &["--requests", "100000"],
        };
        args.extend_from_slice(further);
        let mark = format!("{}-{}", std::process::id(), self.number);
        let running = start(&args, &mark);
        let pid = running.process.pid();
        wait_until_it_runs(&running);
        std::thread::sleep(self.delay);
        signal(pid, self.signal);
        let asked = Instant::now();
        let ended = running.wait();
        assert!(asked.elapsed() < LIMIT, "{self:?}: {:?}", asked.elapsed());
        assert_eq!(ended.code, Some(INTERRUPTED), "{self:?}: {ended:#?}");
        assert!(!ended.stderr.contains("panicked"), "{self:?}: {ended:#?}");
        let has_report = !ended.stderr.contains(NOTHING);
        if has_report {
            let report = report_in(&path);
            assert_eq!(report["run"]["interrupted"], true, "{self:?}");
            assert_eq!(report["run"]["mode"], self.command, "{self:?}");
        } else {
            assert_eq!(ended.stdout, "", "{self:?}");
            let left = std::fs::read_to_string(&path).ok();
            assert_eq!(left.as_deref(), self.has_older.then_some(OLD), "{self:?}");
        }
        let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(files.len(), usize::from(has_report || self.has_older), "{self:?}: {files:?}");
        // A killed process is on its way out, not gone, when kill(2) returns.
        wait_until(&format!("{self:?}: its processes are gone"), || marked(&mark).is_empty());
        assert_eq!(cgroups_of(pid), [""; 0].map(PathBuf::from), "{self:?}");
        has_report
    }
}

#[test]
fn a_signal_at_any_moment_ends_with_the_report_and_leaves_nothing() {
    if !requirements::kernel("signals at any moment") {
        return;
    }
    let moments = std::env::var("INFERSCOPE_MOMENTS").ok().map_or(MOMENTS, |count| count.parse().unwrap());
    let server = TimedServer::start(Answer::Stream(script::steady(20, 20, 5)));
    let target = Group::start(
        Command::new("bash").args(["-c", "while ((SECONDS < 600)); do /bin/true; sleep 0.05; done"]),
    );
    let mut state = SEED;
    // xorshift64
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let all: Vec<Moment> = (0..moments).map(|number| Moment::nth(number, &mut random)).collect();
    let endpoint = server.endpoint();
    let (next, reports) = (Mutex::new(all.iter()), Mutex::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(moment) = next.lock().unwrap().next() else { break };
                    if moment.check(&endpoint, target.pid()) {
                        *reports.lock().unwrap() += 1;
                    }
                }
            });
        }
    });
    let reports = *reports.lock().unwrap();
    assert!(reports >= moments / 8, "{reports} of {moments} had a report");
    let rest = moments - reports;
    requirements::say(&format!(
        "moments: {reports} with a report, {rest} with nothing measured, {:?}",
        started.elapsed()
    ));
}

#[test]
fn a_start_that_waits_is_ended_by_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .unwrap();
    // Takes connections and answers nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let fifo = at("fifo");
    let report = at("report.json");
    let cases: [(&str, &[&str]); 4] = [
        ("prompts", &["--endpoint", "http://127.0.0.1:1", "--prompt-file", &fifo]),
        ("a data set", &["--endpoint", "http://127.0.0.1:1", "--dataset", &fifo]),
        ("the model list", &["--endpoint", &silent, "--tracker", "proc"]),
        (
            "exec's prompts",
            &["exec", "--endpoint", "http://127.0.0.1:1", "--prompt-file", &fifo, "--", "sleep", "60"],
        ),
    ];
    for (what, args) in cases {
        let args = if args[0] == "exec" {
            [&args[..1], &["-o", &report], &args[1..]].concat()
        } else {
            [&["-o", &report], args].concat()
        };
        let mark = format!("{}-{what}", std::process::id());
        let running = start(&args, &mark);
        wait_until_it_runs(&running);
        std::thread::sleep(Duration::from_millis(400));
        signal(running.process.pid(), Signal::TERM);
        let asked = Instant::now();
        let ended = running.wait();
        assert!(asked.elapsed() < Duration::from_secs(8), "{what}: {:?}", asked.elapsed());
        assert_eq!(ended.code, Some(INTERRUPTED), "{what}: {ended:#?}");
        assert!(ended.stderr.starts_with(&format!("error: {NOTHING}\n")), "{what}: {ended:#?}");
        assert!(!Path::new(&report).exists(), "{what}");
        wait_until(&format!("{what}: its processes are gone"), || marked(&mark).is_empty());
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the FIFO");
}

#[test]
fn a_hangup_that_the_caller_ignored_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let own = std::process::id().to_string();
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" HUP QUIT; exec "$0" "$@""#]).arg(binary::inferscope_bin());
    command.args([
        "observe",
        "--tracker",
        "proc",
        "--gpu",
        "off",
        "--pid",
        &own,
        "-o",
        path.to_str().unwrap(),
    ]);
    let mut running = binary::start_as(command);
    running.wait_until_observing();
    for ignored in [Signal::HUP, Signal::QUIT] {
        signal(running.process.pid(), ignored);
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(running.process.child.try_wait().unwrap().is_none(), "it goes on");
    signal(running.process.pid(), Signal::INT);
    assert_eq!(running.wait().code, Some(INTERRUPTED));
    assert_eq!(report_in(&path)["run"]["interrupted"], true);
}

#[test]
fn a_second_signal_while_the_report_is_written_does_not_lose_it() {
    let (dir, tmp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("report.json");
    for has_file in [true, false] {
        let server = TimedServer::start(Answer::Stream(script::steady(200, 1, 1)));
        // Nobody reads from it, and a report is longer than what it holds.
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let mut command = Command::new(binary::inferscope_bin());
        let endpoint = server.endpoint();
        command.args(["--endpoint", &endpoint, "--requests", "100000", "--json", "--quiet", "--gpu", "off"]);
        command.args(["--tracker", "proc"]).env("TMPDIR", tmp.path());
        if has_file {
            command.arg("-o").arg(&path);
        }
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        binary::clean(&mut command);
        let mut running = Group::start(&mut command);
        drop(command);
        server.wait_for_exchanges(20);
        signal(running.pid(), Signal::INT);
        if has_file {
            wait_until("the file is written", || path.exists());
        }
        std::thread::sleep(Duration::from_millis(700));
        for again in [Signal::INT, Signal::HUP] {
            signal(running.pid(), again);
        }
        let status = running.wait(LIMIT);
        drop(reader);
        let written = if has_file {
            assert_eq!(status.code(), Some(INTERRUPTED));
            path.clone()
        } else {
            // It was to go to standard output alone, and nobody took it there.
            assert_eq!(status.code(), Some(INTERNAL));
            std::fs::read_dir(tmp.path()).unwrap().next().unwrap().unwrap().path()
        };
        assert_eq!(report_in(&written)["run"]["interrupted"], true);
    }
}
