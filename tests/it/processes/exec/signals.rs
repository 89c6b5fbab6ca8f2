//! Signals: passed on, counted once, and the second one meant seriously.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use inferscope_tests::binary;
use inferscope_tests::process::is_pending;
use rustix::process::Signal;

use super::*;

const INTERRUPTED: i32 = 130;
/// Signals of one wish come closer together (`inferscope/src/launch/signal_forwarding.rs`).
const SECOND_WISH: Duration = Duration::from_millis(500);

/// Notes each signal in its first argument and goes on, but for those that end a run.
const TRAPS: &str = r#"
trap 'echo USR1 >> "$1"' USR1
trap 'echo USR2 >> "$1"' USR2
trap 'echo HUP >> "$1"; exit 4' HUP
trap 'echo QUIT >> "$1"; exit 5' QUIT
trap 'echo TERM >> "$1"; exit 3' TERM
echo $$ >> "$1"
for i in $(seq 3000); do sleep 0.02; done"#;

#[test]
fn a_signal_is_passed_on_and_the_report_is_still_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("signals");
    let running = binary::start(&command_line(&["--json"], TRAPS, &[file.to_str().unwrap()]));
    let inferscope = running.process.pid();
    lines(&file, 1);
    for (n, signal) in [Signal::USR1, Signal::USR2, Signal::USR1].into_iter().enumerate() {
        send(inferscope, signal);
        lines(&file, n + 2);
    }
    send(inferscope, Signal::TERM);
    let ended = running.wait();
    assert_eq!(ended.code, Some(INTERRUPTED), "{ended:#?}");
    assert_eq!(lines(&file, 5)[1..], ["USR1", "USR2", "USR1", "TERM"]);
    let report = ended.json();
    assert_eq!(report["run"]["interrupted"], true);
    assert_eq!(report["target"]["exit"]["code"], 3);
    assert_nothing_is_left(&report);
}

#[test]
fn a_terminal_that_goes_ends_the_run_with_its_report() {
    let dir = tempfile::tempdir().unwrap();
    for (signal, name, code) in [(Signal::HUP, "HUP", 4), (Signal::QUIT, "QUIT", 5)] {
        let file = dir.path().join(name);
        let running = binary::start(&command_line(&["--json"], TRAPS, &[file.to_str().unwrap()]));
        lines(&file, 1);
        send(running.process.pid(), signal);
        let ended = running.wait();
        assert_eq!(ended.code, Some(INTERRUPTED), "{ended:#?}");
        assert_eq!(lines(&file, 2)[1..], [name]);
        let report = ended.json();
        assert_eq!(report["target"]["exit"]["code"], code);
        assert_nothing_is_left(&report);
    }
}

#[test]
fn the_command_keeps_back_and_ignores_what_the_caller_did() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signals");
    let script = r#"grep -E 'SigBlk|SigIgn' /proc/self/status > "$1""#;
    for (caller, ignored) in [("", 0), ("trap '' HUP;", 1)] {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!(r#"{caller} exec "$0" "$@""#)).arg(binary::inferscope_bin());
        command.args(command_line(&["--tracker", "proc"], script, &[path.to_str().unwrap()]));
        let ended = binary::start_as(command).wait();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let sets: Vec<u64> = (std::fs::read_to_string(&path).unwrap().lines())
            .map(|line| u64::from_str_radix(line.split_whitespace().next_back().unwrap(), 16).unwrap())
            // Beyond are the C library's own and the real-time signals, of which inferscope knows nothing.
            .map(|set| set & 0x7fff_ffff)
            .collect();
        assert_eq!(sets, [0, ignored], "blocked and ignored: a dead pipe ends it as always");
    }
}

#[test]
fn a_second_signal_kills_and_one_that_comes_twice_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script =
        r#"trap '' INT TERM; sleep 60 & echo $$ $! > "$1"; for i in $(seq 1200); do wait; sleep 0.05; done"#;
    let args = command_line(&["--json", "--grace", "60s"], script, &[file.to_str().unwrap()]);
    let running = binary::start(&args);
    let inferscope = running.process.pid();
    let pids = pids(&file);
    send(inferscope, Signal::INT);
    // As timeout(1) does: to the process and to its group. At once, the kernel would make one of the two.
    wait_until("the first is taken", || !is_pending(inferscope, Signal::INT));
    send(inferscope, Signal::INT);
    std::thread::sleep(SECOND_WISH);
    assert!(pids.iter().all(|pid| lives(*pid)), "one wish is no kill");
    let asked = Instant::now();
    send(inferscope, Signal::INT);
    let ended = running.wait();
    assert!(asked.elapsed() < LIMIT, "{:?}", asked.elapsed());
    assert_eq!(ended.code, Some(INTERRUPTED), "{ended:#?}");
    let report = ended.json();
    assert_eq!(report["target"]["exit"]["signal"], 9);
    assert!(!pids.iter().any(|pid| lives(*pid)));
    assert_nothing_is_left(&report);
}

#[test]
fn a_command_that_does_not_listen_is_killed_when_its_grace_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = r#"trap '' INT TERM; echo $$ > "$1"; for i in $(seq 1200); do sleep 0.05; done"#;
    let args = command_line(&["--json", "--grace", "300ms"], script, &[file.to_str().unwrap()]);
    let running = binary::start(&args);
    pids(&file);
    running.process.interrupt();
    let ended = running.wait();
    assert_eq!(ended.code, Some(INTERRUPTED), "{ended:#?}");
    assert_eq!(ended.json()["target"]["exit"]["signal"], 9);
    assert_nothing_is_left(&ended.json());
}

#[test]
fn a_terminals_key_reaches_the_command_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("signals");
    let (document, report) = document(dir.path());
    let (terminal, theirs) = pseudo_terminal();
    let mut command = Command::new(binary::inferscope_bin());
    let flags = ["--quiet", "--grace", "60s", &document];
    command.arg("exec").args(flags).args(["--", env!("CARGO_BIN_EXE_interrupts")]).arg(&file);
    let share = || Stdio::from(theirs.try_clone().unwrap());
    command.stdin(share()).stdout(share()).stderr(share());
    let fd = theirs.as_raw_fd();
    let lead = move || {
        // SAFETY: async-signal-safe calls only, on an open descriptor.
        let failed = unsafe { libc::setsid() } < 0;
        // SAFETY: as above.
        let failed = failed || unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) } < 0;
        if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: see `lead`.
    unsafe { command.pre_exec(lead) };
    let mut inferscope = command.spawn().unwrap();
    // The terminal's only users are the processes now.
    drop((command, theirs));
    // What is shown has to be read, or it could not be written.
    let mut shown = terminal.try_clone().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut shown, &mut std::io::sink()));
    lines(&file, 1);
    let mut terminal = terminal;
    terminal.write_all(b"\x03").unwrap();
    assert_eq!(lines(&file, 2)[1..], ["INT 1"]);
    std::thread::sleep(SECOND_WISH);
    // Had it been passed on too, there would be two by now.
    assert_eq!(lines(&file, 2)[1..], ["INT 1"]);
    terminal.write_all(b"\x03").unwrap();
    let status = inferscope.wait().unwrap();
    assert_eq!(status.code(), Some(INTERRUPTED));
    let report = report();
    assert_eq!(report["target"]["exit"]["signal"], 9, "the second key kills: {:#}", report["target"]);
    assert_nothing_is_left(&report);
    // A read fails when the last process has closed the terminal.
    let _ = reader.join().unwrap();
}

fn pseudo_terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: two valid pointers to fill; a null asks for the defaults.
    let failed =
        unsafe { libc::openpty(&raw mut ours, &raw mut theirs, none, std::ptr::null(), std::ptr::null()) }
            != 0;
    assert!(!failed, "{}", std::io::Error::last_os_error());
    for fd in [ours, theirs] {
        // SAFETY: an open descriptor.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: just opened, and nobody else's.
    let ours = unsafe { File::from_raw_fd(ours) };
    // SAFETY: as above.
    (ours, unsafe { OwnedFd::from_raw_fd(theirs) })
}
