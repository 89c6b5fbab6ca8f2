//! What tools see of a gunicorn whose workers are recycled and spawn helpers, against its cgroup's own account.
//!
//! Owns running inferscope, psrecord and pidstat side by side over one load, and the table. Called by `main.rs`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use inferscope_tests::cgroup::Cgroup;
use inferscope_tests::gunicorn::Gunicorn;
use inferscope_tests::process::Group;
use inferscope_tests::report::Named;
use inferscope_tests::{binary, requirements};

const REQUESTS: u32 = 640;
const HELPER_CPU_MS: u32 = 5;
const LIMIT: Duration = Duration::from_secs(30);

/// A tool that writes into a file until it is interrupted.
struct Peer {
    group: Group,
    output: PathBuf,
}

impl Peer {
    fn start(program: &Path, args: &[&str], output: PathBuf) -> Self {
        let file = File::create(&output).expect("there is room for temporary files");
        let mut command = Command::new(program);
        command.args(args).env("LC_ALL", "C").stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
        Self { group: Group::start(&mut command), output }
    }

    fn end(mut self) -> String {
        self.group.interrupt();
        self.group.wait(LIMIT);
        fs::read_to_string(self.output).expect("it was written here")
    }
}

pub(crate) fn run() {
    const WHAT: &str = "bench gunicorn";
    let Some(python) = requirements::peer("python", WHAT) else { return };
    let Some(cgroup) = Cgroup::make(WHAT) else { return };
    let helper = format!("'{}' {HELPER_CPU_MS}", binary::sibling("burner").display());
    let gunicorn = Gunicorn::start(&python, cgroup, &helper);
    let arbiter = gunicorn.arbiter().to_string();
    let dir = tempfile::tempdir().expect("there is room for temporary files");
    let file = |name: &str| dir.path().join(name);

    let before = gunicorn.settled();
    let mut running = binary::start(&["observe", "--pid", &arbiter, "--gpu", "off", "--json"]);
    running.wait_until_observing();
    let used = gunicorn.cgroup.cpu_ns();
    let psrecord = python.with_file_name("psrecord");
    let args = [&arbiter, "--include-children", "--interval", "0.1", "--duration", "120"];
    let psrecord = Peer::start(&psrecord, &args, file("psrecord"));
    let pidstat = requirements::find_peer("pidstat");
    if pidstat.is_none() {
        requirements::say("bench: left out: pidstat: it was not set up");
    }
    let pidstat = pidstat.map(|program| {
        let children =
            Peer::start(&program, &["-hH", "-T", "CHILD", "-p", &arbiter, "1", "120"], file("children"));
        // It knows no trees, so everything is asked for and the server's processes are picked out.
        let tasks = Peer::start(&program, &["-hH", "-u", "-p", "ALL", "1", "120"], file("tasks"));
        (children, tasks)
    });
    // Their first look is where they count from.
    std::thread::sleep(Duration::from_millis(1_500));

    requirements::say(&format!("bench: {REQUESTS} requests, each spawning a helper of {HELPER_CPU_MS} ms"));
    gunicorn.load(REQUESTS);
    let after = gunicorn.settled();
    // The last whole second is to be in pidstat's.
    std::thread::sleep(Duration::from_millis(1_500));
    let pidstat = pidstat.map(|(children, tasks)| (children.end(), tasks.end()));
    let psrecord = psrecord.end();
    let truth = (gunicorn.cgroup.cpu_ns() - used) as f64 / 1e9;
    running.process.interrupt();
    let report = running.wait().json();

    let tree = &report["processes"];
    let ours = tree["cpu"].real("total_ns") / 1e9;
    let forks = after.forks_since(&before);
    println!(
        "\n### gunicorn: {REQUESTS} requests, {} workers in 4 places, {} helpers\n",
        after.workers.len(),
        after.helpers.len()
    );
    println!("| | CPU time of the server | share |\n|---|--:|--:|");
    let row =
        |name: &str, seconds: f64| println!("| {name} | {seconds:.3} s | {:.1}% |", seconds / truth * 100.0);
    row("the kernel, of the server's cgroup", truth);
    row("inferscope observe --pid ARBITER", ours);
    row("psrecord ARBITER --include-children, every 0.1 s", of_psrecord(&psrecord));
    if let Some((children, tasks)) = pidstat {
        // Only of workers that ended, and with what each had used before the first second.
        row(
            "pidstat -T CHILD -p ARBITER, every second: a worker when it has ended, from its start",
            column(&children, "usr-ms", |_| true) / 1e3 + column(&children, "system-ms", |_| true) / 1e3,
        );
        let server: HashSet<u32> =
            [gunicorn.arbiter()].into_iter().chain(after.workers).chain(after.helpers).collect();
        row(
            "pidstat of all, every second, the server's summed",
            column(&tasks, "%CPU", |pid| server.contains(&pid)) / 100.0,
        );
    }
    println!(
        "\ninferscope: {} of {forks} forks, complete: {}, {} events lost",
        tree["counts"]["forks"], tree["complete"], tree["counts"]["lost_events"]
    );
}

/// Its log has the time since its start, the CPU percentage since the line before, and two memory sizes.
fn of_psrecord(log: &str) -> f64 {
    let lines = log.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<f64>);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    });
    let mut last = 0.0;
    let seconds: f64 =
        lines.map(|(t, percent)| percent / 100.0 * (t - std::mem::replace(&mut last, t))).sum();
    assert!(last > 0.0, "psrecord said nothing: {log:?}");
    seconds
}

/// The sum of a column over all lines of processes that count.
fn column(told: &str, name: &str, counts: impl Fn(u32) -> bool) -> f64 {
    let header =
        told.lines().find(|line| line.starts_with('#')).unwrap_or_else(|| panic!("no header: {told:?}"));
    let place = |name: &str| {
        // The header's first word is its mark.
        let place = header.split_whitespace().skip(1).position(|word| word == name);
        place.unwrap_or_else(|| panic!("no column {name}: {header}"))
    };
    let (pid, value) = (place("PID"), place(name));
    let lines = told.lines().filter(|line| !line.starts_with('#'));
    let number = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let pid = fields.get(pid)?.parse().ok()?;
        counts(pid).then(|| fields.get(value)?.parse::<f64>().ok())?
    };
    lines.filter_map(number).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psrecords_percentages_count_for_the_time_since_the_line_before() {
        let log = "# Elapsed time CPU (%) Real (MB) Virtual (MB)\n0.000 0.000 1.0 2.0\n1.000 50.000 1.0 2.0\n3.000 10.000 1.0 2.0\n";
        assert!((of_psrecord(log) - 0.7).abs() < 1e-9);
    }

    #[test]
    fn a_column_of_pidstat_is_summed_over_the_processes_that_count() {
        let told = "Linux 6 (vm)\n\n# Time UID PID %usr %CPU Command\n1 0 7 1.00 2.50 a\n1 0 8 1.00 9.00 b c\n\n\
            # Time UID PID %usr %CPU Command\n2 0 7 0.00 0.50 a\n";
        assert!((column(told, "%CPU", |pid| pid == 7) - 3.0).abs() < 1e-9);
    }
}
