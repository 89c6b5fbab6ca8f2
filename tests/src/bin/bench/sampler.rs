//! What reading living processes costs: inferscope's sampler beside procfs, psutil and pidstat.
//!
//! Owns the sleeping processes' number and the two tables. CPU time is always that of the reader, over a stretch
//! in which it does nothing else, divided by the readings in it. Called by `main.rs`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use inferscope_tests::process::Group;
use inferscope_tests::report::Named;
use inferscope_tests::{binary, clock, cpu, requirements};

use crate::storm::Storm;

const SIZES: [u32; 4] = [10, 100, 1_000, 5_000];
/// The size at which the readers are compared.
const COMPARED: u32 = 1_000;
const STRETCH: Duration = Duration::from_secs(3);
/// The default.
const INTERVAL_MS: u64 = 50;

pub(crate) fn run() {
    println!("\n### Sampler: CPU time for one reading of one sleeping process\n");
    println!(
        "| live processes | inferscope, a reading | a tick | ticks with PSS | interval, asked for {INTERVAL_MS} ms | overruns |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    let mut at_compared = 0.0;
    for size in SIZES {
        requirements::say(&format!("bench: sampler, {size} processes"));
        let ours = ours(size);
        println!(
            "| {size} | {:.2} µs | {:.2} ms | {} of {} | {:.0} ms | {} |",
            ours.us, ours.tick_ms, ours.with_pss, ours.ticks, ours.interval_ms, ours.overruns
        );
        if size == COMPARED {
            at_compared = ours.us;
        }
    }

    println!("\n| reader of {COMPARED} processes | CPU a reading | against inferscope |\n|---|--:|--:|");
    let row = |name: &str, us: f64| println!("| {name} | {us:.2} µs | ×{:.2} |", us / at_compared);
    row("inferscope", at_compared);
    let mut storm = Storm::start(1);
    let pids = storm.sleepers(COMPARED);
    row("procfs 0.18: stat and statm, through an open directory", procfs(&pids));
    match requirements::find_peer("python") {
        Some(python) => row("psutil: cpu_times, memory_info, num_threads in oneshot", psutil(&python, &pids)),
        None => requirements::say("bench: left out: psutil: python was not set up"),
    }
    match requirements::find_peer("pidstat") {
        Some(program) => row("pidstat -u -r", pidstat(&program, &pids)),
        None => requirements::say("bench: left out: pidstat: it was not set up"),
    }
}

struct Ours {
    us: f64,
    tick_ms: f64,
    /// What the sampler had stretched its interval to at the end.
    interval_ms: f64,
    /// In the stretch.
    ticks: u64,
    with_pss: usize,
    /// In the whole run.
    overruns: u64,
}

/// The whole process's CPU time: that of draining an idle ring is in it, and that of reading PSS when it is due.
fn ours(size: u32) -> Ours {
    let mut storm = Storm::start(1);
    storm.sleepers(size);
    let (root, interval) = (storm.root().to_string(), format!("{INTERVAL_MS}ms"));
    let args = ["observe", "--pid", &root, "--tracker", "ebpf", "--gpu", "off", "--json"];
    let mut running = binary::start(&[&args[..], &["--sample-interval", &interval]].concat());
    let pid = running.process.pid();
    running.wait_until_observing();
    // The first looks open what later ones use.
    std::thread::sleep(Duration::from_millis(500));
    let (from, cpu_from) = (clock::monotonic_ns(), cpu::used_ns(pid).expect("it observes"));
    std::thread::sleep(STRETCH);
    let (to, cpu_to) = (clock::monotonic_ns(), cpu::used_ns(pid).expect("it observes"));
    running.process.interrupt();
    let report = running.wait().json();
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("not a count: {value}"));
    let origin = number(&report["run"]["origin_monotonic_ns"]);
    let samples = report["resources"].list("samples");
    let within = samples.iter().filter(|sample| (from..to).contains(&(origin + number(&sample["t_ns"]))));
    let with_pss = within.clone().filter(|sample| !sample["pss_bytes"].is_null()).count();
    let (ticks, readings) = within.fold((0_u64, 0), |(ticks, readings), sample| {
        assert_eq!(number(&sample["processes"]), u64::from(size) + 1, "it reads all of them");
        (ticks + 1, readings + number(&sample["processes"]))
    });
    assert!(ticks > 0, "no sample in {STRETCH:?}");
    let cpu_us = (cpu_to - cpu_from) as f64 / 1e3;
    Ours {
        us: cpu_us / readings as f64,
        tick_ms: cpu_us / 1e3 / ticks as f64,
        interval_ms: number(&report["self"]["sample_interval_ns"]) as f64 / 1e6,
        ticks,
        with_pss,
        overruns: number(&report["self"]["sample_overruns"]),
    }
}

/// In this process, with nothing around it.
fn procfs(pids: &[u32]) -> f64 {
    let open =
        |pid: &u32| procfs::process::Process::new(i32::try_from(*pid).expect("a pid")).expect("it lives");
    let processes: Vec<_> = pids.iter().map(open).collect();
    let look = || {
        for process in &processes {
            let (stat, statm) = (process.stat().expect("it lives"), process.statm().expect("it lives"));
            std::hint::black_box((stat.utime, stat.stime, stat.num_threads, statm.resident));
        }
    };
    look();
    let own = || cpu::used_ns(std::process::id()).expect("it lives");
    let (from, rounds) = (own(), 20);
    (0..rounds).for_each(|_| look());
    (own() - from) as f64 / 1e3 / f64::from(rounds) / pids.len() as f64
}

fn psutil(python: &Path, pids: &[u32]) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("py/psutil_read.py");
    let group = Group::talking(Command::new(python).arg(script).args(pids.iter().map(u32::to_string)));
    group.line(Duration::from_secs(60)).parse().expect("it prints a number")
}

/// It reads once a second, at most. Its CPU time is taken between two readings.
fn pidstat(program: &Path, pids: &[u32]) -> f64 {
    const SECONDS: u64 = 3;
    let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut command = Command::new(program);
    command.args(["-u", "-r", "-p", &list, "1", "6"]).stdin(Stdio::null()).stdout(Stdio::null());
    let group = Group::start(&mut command);
    let used = || cpu::used_ns(group.pid()).expect("it reports six times");
    std::thread::sleep(Duration::from_millis(1_500));
    let from = used();
    std::thread::sleep(Duration::from_secs(SECONDS));
    (used() - from) as f64 / 1e3 / SECONDS as f64 / pids.len() as f64
}
