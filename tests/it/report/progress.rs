//! What a person sees while a load runs: a bar on a terminal, elsewhere a line at each phase's end, and nothing
//! of either within the report.

use std::process::Command;

use inferscope_tests::binary::{self, inferscope_bin};
use inferscope_tests::script;
use inferscope_tests::terminal::{self, Seen};
use inferscope_tests::timed_server::{Answer, TimedServer};
use inferscope_tests::wait::wait_until;

/// Some 0.9 s an answer.
fn server() -> TimedServer {
    TimedServer::start(Answer::Stream(script::steady(40, 100, 20)))
}

fn args<'a>(endpoint: &'a str, load: &[&'a str]) -> Vec<&'a str> {
    [&["--endpoint", endpoint, "--tracker", "proc"], load].concat()
}

const SWEEP: [&str; 5] = ["--sweep", "concurrency=1,2", "--sweep-all", "--requests", "2"];

fn on_terminal(load: &[&str], variables: &[(&str, &str)], stdout_too: bool) -> Seen {
    let server = server();
    let mut command = Command::new(inferscope_bin());
    command.args(args(&server.endpoint(), load));
    binary::clean(&mut command);
    command.env("TERM", "xterm").env_remove("NO_COLOR").envs(variables.iter().copied());
    let seen = terminal::run_on(command, 120, stdout_too);
    assert_eq!(seen.code, Some(0), "{seen:#?}");
    seen
}

#[test]
fn a_bar_tells_how_far_the_load_is_and_is_gone_before_the_report() {
    let seen = on_terminal(&["--requests", "3", "--warmup", "1"], &[], true);
    let (before, report) =
        seen.screen.split_once("inferscope 0.").expect("the report is on the terminal, too");
    for said in
        ["░ warm-up 0/1 · 1 in flight", "█", "1/3 · ETA ", " tok/s · TTFT ", ", p99 ", " · 1 in flight"]
    {
        assert!(before.contains(said), "{said:?} is not in {before:?}");
    }
    assert!(!before.contains("FAILED"), "{before:?}");
    // It was wiped, and nothing of it came later.
    assert!(before.trim_end_matches("\x1b[1m").ends_with("\x1b[2K"), "{before:?}");
    assert!(
        !report.contains('░') && !report.contains("\x1b[2K") && report.contains("inferscope itself"),
        "{report:?}"
    );
    let drawn = before.matches('░').count() as f64 / 10.0;
    let most = seen.took.as_secs_f64() * 4.0 + 2.0;
    assert!(before.matches("\x1b[2K").count() as f64 <= most, "drawn more than 4 times a second: {before:?}");
    assert!(drawn >= 3.0, "{before:?}");
    println!("{} drawings in {:?}", before.matches("\x1b[2K").count(), seen.took);
}

#[test]
fn each_step_of_a_sweep_leaves_a_line_on_the_terminal() {
    let seen = on_terminal(&SWEEP, &[], false);
    for step in ["step 1/2, concurrency 1: 2 ok, 0 failed; ", "step 2/2, concurrency 2: 2 ok, 0 failed; "] {
        assert_eq!(seen.screen.matches(step).count(), 1, "{:?}", seen.screen);
    }
    assert!(seen.screen.contains("step 1/2, concurrency 1 · ") && !seen.stdout.contains('░'), "{seen:#?}");
    assert!(seen.stdout.contains("sweep over concurrency"), "{}", seen.stdout);
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let seen = on_terminal(&SWEEP, &[("TERM", "dumb")], false);
    assert!(!seen.screen.contains('\x1b') && !seen.screen.contains('░'), "{:?}", seen.screen);
    assert_eq!(
        seen.screen.matches("step 1/2, concurrency 1: 2 ok, 0 failed; ").count(),
        1,
        "{:?}",
        seen.screen
    );
}

#[test]
fn no_color_is_kept_by_the_bar_and_the_report() {
    let colors = |seen: &Seen| {
        let codes = seen.screen.split("\x1b[").skip(1);
        codes
            .filter(|c| c.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
            .count()
    };
    let plain = on_terminal(&["--requests", "1"], &[("NO_COLOR", "1")], true);
    assert_eq!(colors(&plain), 0, "{:?}", plain.screen);
    assert!(plain.screen.contains('░'), "{:?}", plain.screen);
    let colored = on_terminal(&["--requests", "1"], &[], true);
    assert!(colors(&colored) > 0, "{:?}", colored.screen);
}

#[test]
fn quiet_means_neither_bar_nor_lines() {
    let mut load = SWEEP.to_vec();
    load.push("--quiet");
    let seen = on_terminal(&load, &[], false);
    assert_eq!(seen.screen, "");
}

#[test]
fn off_a_terminal_there_is_a_line_a_phase_and_none_for_a_load_of_one() {
    let server = server();
    let endpoint = server.endpoint();
    let ended = binary::run(&args(&endpoint, &SWEEP));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [first, second] = lines[..] else { panic!("{ended:#?}") };
    assert!(first.starts_with("step 1/2, concurrency 1: 2 ok, 0 failed; "), "{first}");
    assert!(second.starts_with("step 2/2, concurrency 2: 2 ok, 0 failed; "), "{second}");
    // The figure of the line is the report's.
    let rate = first.split("; ").nth(1).and_then(|part| part.strip_suffix(" tokens/s")).expect(first);
    let row =
        ended.stdout.lines().find(|line| line.trim_start().trim_start_matches("knee ").starts_with("1 "));
    let row = row.unwrap_or_else(|| panic!("no row of step 1: {}", ended.stdout));
    assert!(row.split_whitespace().any(|cell| cell == rate), "{rate} is not in {row}");

    let mut quiet = SWEEP.to_vec();
    quiet.push("--quiet");
    for load in [&quiet[..], &["--requests", "1"]] {
        let ended = binary::run(&args(&endpoint, load));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
    }
}

/// The run's time is some 5 s.
#[test]
fn a_terminal_that_takes_nothing_keeps_no_report() {
    let server = server();
    let endpoint = server.endpoint();
    // A bar takes some 300 bytes: the terminal fills within the run, or before.
    for (room, sweep) in [(0, false), (700, false), (5_000, true)] {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let path = dir.path().join("p.json");
        let load = if sweep { &SWEEP[..] } else { &["--requests", "5"] };
        let mut command = Command::new(inferscope_bin());
        command.args(args(&endpoint, load)).arg("-o").arg(&path);
        binary::clean(&mut command);
        command.env("TERM", "xterm");
        let (mut group, _terminal) = terminal::stuck(command, room, false);
        let status = group.wait(std::time::Duration::from_secs(30));
        assert_eq!(status.code(), Some(0), "room of {room} bytes");
        let report = std::fs::read_to_string(&path).expect("it was written");
        assert!(report.ends_with("}\n"), "{report}");
    }
}

#[test]
fn a_signal_ends_a_report_that_a_terminal_does_not_take() {
    let server = server();
    let endpoint = server.endpoint();
    for room in [0, 700] {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let path = dir.path().join("p.json");
        let mut command = Command::new(inferscope_bin());
        command.args(args(&endpoint, &["--requests", "1"])).arg("-o").arg(&path);
        binary::clean(&mut command);
        command.env("TERM", "xterm");
        let (mut group, _terminal) = terminal::stuck(command, room, true);
        wait_until(&format!("a report with a room of {room} bytes"), || path.exists());
        // Now it writes to the terminal, and waits.
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert!(group.child.try_wait().expect("it is a child").is_none(), "it waited for no terminal");
        group.interrupt();
        let status = group.wait(std::time::Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "the file has the report: room of {room} bytes");
    }
}
