//! What running a command takes: wall time, CPU time and memory of its whole process tree.
//!
//! Owns starting it, looking at its tree while it runs, and reaping all of it. CPU time is the kernel's account at
//! each reaping, of what a process used itself and of what those used that it had reaped; what the command leaves
//! behind is killed, reaped by this process and counted too. Called by `client` and `streams`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inferscope_tests::process::Group;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, set_child_subreaper};

/// Between two looks at the tree's memory. A look reads a file of each process of the machine.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) status: ExitStatus,
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    /// Of its largest process, at that one's peak; at least what this process had used when it started it, which is
    /// on the account of whatever it forks.
    pub(crate) largest_bytes: u64,
    /// Of all its processes at once, at the highest look; pages that they share count for each.
    pub(crate) summed_bytes: u64,
}

/// Runs it to its end, its output into the file. What still runs after `limit` is killed.
///
/// # Errors
/// It can't be started or followed, or did not end in time.
pub(crate) fn of(command: &mut Command, output: &Path, limit: Duration) -> io::Result<Cost> {
    // What loses its parent becomes a child of this process, which can then reap it.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let said = File::create(output)?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    let started = Instant::now();
    let group = Group::start(command);
    let pid = i32::try_from(group.pid()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let done = AtomicBool::new(false);
    let (ended, wall_s, summed_bytes) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| peak_rss_bytes(group.pid(), &done));
        let ended = ends_within(pid, limit);
        let wall_s = started.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (ended, wall_s, looking.join().unwrap_or_default())
    });
    // While its leader is not reaped, the group's number is nobody else's.
    let _ = kill_process_group(pid, Signal::KILL);
    let raw = pid.as_raw_nonzero().get();
    let leader = reap(raw)?.ok_or(io::ErrorKind::NotFound)?;
    let (mut cpu_s, mut largest_bytes) = (leader.cpu_s, leader.largest_bytes);
    while let Some(left) = reap(-raw)? {
        cpu_s += left.cpu_s;
        largest_bytes = largest_bytes.max(left.largest_bytes);
    }
    if !ended? {
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {limit:?}")));
    }
    Ok(Cost { status: leader.status, wall_s, cpu_s, largest_bytes, summed_bytes })
}

fn ends_within(pid: Pid, limit: Duration) -> io::Result<bool> {
    let end = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&limit))? > 0)
}

struct Reaped {
    status: ExitStatus,
    cpu_s: f64,
    largest_bytes: u64,
}

/// Waits for one child: a process, or any of a group (its number negated). `None`: there is none.
fn reap(which: i32) -> io::Result<Option<Reaped>> {
    use std::os::unix::process::ExitStatusExt;
    let mut status = 0;
    // SAFETY: the type is plain numbers, for which zeroes are values.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both places outlive the call.
    if unsafe { libc::wait4(which, &raw mut status, 0, &raw mut usage) } < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) };
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Some(Reaped {
        status: ExitStatus::from_raw(status),
        cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        largest_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    }))
}

/// Looks until it is done.
fn peak_rss_bytes(root: u32, done: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !done.load(Ordering::Relaxed) {
        let summed: u64 = tree(root, &processes()).iter().map(|process| process.rss_bytes).sum();
        peak = peak.max(summed);
        std::thread::sleep(LOOK);
    }
    peak
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    group: u32,
    rss_bytes: u64,
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let page = procfs::page_size();
    entries
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        // One that is gone by now is in no tree.
        .filter_map(|entry| Process::parse(&fs::read_to_string(entry.path().join("stat")).ok()?, page))
        .collect()
}

impl Process {
    /// Of `/proc/PID/stat` (proc_pid_stat(5)).
    fn parse(stat: &str, page_bytes: u64) -> Option<Self> {
        let (head, tail) = stat.rsplit_once(')')?;
        let pid = head.split(' ').next()?.parse().ok()?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let pages: u64 = fields.get(21)?.parse().ok()?;
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            rss_bytes: pages * page_bytes,
        })
    }
}

/// The root, its group and all that descend from it.
fn tree(root: u32, all: &[Process]) -> Vec<&Process> {
    let parents: HashMap<u32, &Process> = all.iter().map(|process| (process.pid, process)).collect();
    let belongs = |process: &&Process| {
        let mut line = std::iter::successors(Some(*process), |process| parents.get(&process.parent).copied());
        // A list that was read while pids were reused can go round in a circle.
        line.by_ref().take(64).any(|process| process.pid == root || process.group == root)
    };
    all.iter().filter(belongs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Cost {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(dir.path());
        of(&mut command, &dir.path().join("said"), Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn the_cpu_time_of_children_and_of_orphans_counts() {
        const BUSY: &str = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let alone = run(BUSY);
        assert!(alone.cpu_s > 0.02 && alone.status.success(), "{alone:?}");
        let child = run(&format!("sh -c '{BUSY}'; exit 3"));
        assert!(child.cpu_s > alone.cpu_s * 0.3 && child.status.code() == Some(3), "{child:?} {alone:?}");
        // It has lost its parent when it is busy, and is not over when the command is.
        let orphan = format!("sh -c '(sleep 0.2; {BUSY}; touch done; exec sleep 100) &'");
        let orphan = run(&format!("{orphan}; until [ -e done ]; do sleep 0.05; done"));
        assert!(orphan.cpu_s > alone.cpu_s * 0.3 && orphan.wall_s < 60.0, "{orphan:?} {alone:?}");
    }

    #[test]
    fn what_does_not_end_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut sleep = Command::new("sleep");
        let error = of(sleep.arg("30"), &dir.path().join("said"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_tree_is_the_root_with_its_group_and_descendants() {
        let process = |stat: &str| Process::parse(stat, 4096).unwrap();
        let stat = |pid, parent, group| {
            let rest = "0 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 5 100000 25 99";
            process(&format!("{pid} (a) b) S {parent} {group} {rest}"))
        };
        let all =
            [stat(1, 0, 1), stat(7, 1, 7), stat(8, 7, 7), stat(9, 8, 9), stat(10, 1, 7), stat(11, 1, 11)];
        assert_eq!(all[0].rss_bytes, 25 * 4096);
        let pids: Vec<u32> = tree(7, &all).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [7, 8, 9, 10]);
    }
}
