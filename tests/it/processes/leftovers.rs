//! A tracer that is killed leaves nothing in the kernel: no program, map, BTF or link, nothing pinned, no
//! cgroup; and its target goes on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inferscope_tests::binary::{self, Running};
use inferscope_tests::bpf::{self, Kind, Object};
use inferscope_tests::process::{Group, signal};
use inferscope_tests::requirements;
use inferscope_tests::wait::found_within;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::Signal;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The kernel frees after a grace period, which a busy machine stretches.
const LIMIT: Duration = Duration::from_secs(20);

/// Two shells that fork and exec without a pause; they end by themselves should the test be killed.
const STORM: &str = "for i in 1 2; do while ((SECONDS < 90)); do /bin/true; done & done; wait";

fn storm() -> Group {
    let mut command = Command::new("bash");
    Group::start(command.args(["-c", STORM]).stdin(Stdio::null()))
}

fn observe(target: &Group) -> Running {
    binary::start(&["observe", "--json", "--tracker", "ebpf", "--pid", &target.pid().to_string()])
}

/// Its pid.
fn kill(running: Running) -> u32 {
    let pid = running.process.pid();
    signal(pid, Signal::KILL);
    assert_eq!(running.wait().code, None, "it ended by the signal");
    pid
}

/// What tracers could leave in the kernel.
struct Leavings {
    orphans: BTreeSet<Object>,
    pinned: BTreeSet<PathBuf>,
}

impl Leavings {
    fn now() -> Self {
        Self { orphans: bpf::orphans(), pinned: bpf::pinned() }
    }

    /// Waits until there is nothing that was not there before, and no cgroup of the processes that had these
    /// pids.
    fn wait_for_none_since(before: &Self, pids: &[u32]) {
        let mut left = String::new();
        let none = found_within(LIMIT, || {
            let now = Self::now();
            let orphans: Vec<_> = now.orphans.difference(&before.orphans).collect();
            let pinned: Vec<_> = now.pinned.difference(&before.pinned).collect();
            let cgroups = cgroups_of(pids);
            left = format!("BPF {orphans:?}, pinned {pinned:?}, cgroups {cgroups:?}");
            (orphans.is_empty() && pinned.is_empty() && cgroups.is_empty()).then_some(())
        });
        assert!(none.is_some(), "left behind: {left}");
    }
}

/// Cgroups in any hierarchy that are named after inferscope and one of these pids.
fn cgroups_of(pids: &[u32]) -> Vec<PathBuf> {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(dir) = todo.pop() {
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        todo.extend(dirs.map(|entry| entry.path()));
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut parts = name.split('-');
        if parts.next() == Some("inferscope") && parts.any(|part| pids.iter().any(|pid| pid == part)) {
            found.push(dir);
        }
    }
    found
}

#[test]
fn a_tracer_that_is_killed_leaves_nothing_in_the_kernel() {
    if !requirements::kernel("a killed tracer") {
        return;
    }
    let mut target = storm();
    let before = Leavings::now();
    let mut running = observe(&target);
    running.wait_until_observing();
    std::thread::sleep(Duration::from_millis(300));
    let held = bpf::held_by(running.process.pid());
    let there = bpf::all();
    for kind in [Kind::Program, Kind::Map, Kind::Btf, Kind::Link] {
        assert!(held.iter().any(|(held, _)| *held == kind), "it holds no {kind:?}: {held:?}");
    }
    assert!(held.is_subset(&there), "{held:?} are not all in {there:?}");
    let pid = kill(running);

    Leavings::wait_for_none_since(&before, &[pid]);
    let left: Vec<_> = bpf::all().intersection(&held).copied().collect();
    assert_eq!(left, [], "of what it held");
    assert!(matches!(target.child.try_wait(), Ok(None)), "its target goes on");

    // And the next one works as the first would have.
    let mut running = observe(&target);
    running.wait_until_observing();
    std::thread::sleep(Duration::from_millis(100));
    running.process.interrupt();
    let report = running.wait().json();
    assert_eq!(report["processes"]["tracker"], "ebpf");
    assert_eq!(report["processes"]["counts"]["lost_events"], 0);
    assert!(report["processes"]["counts"]["forks"].as_u64().is_some_and(|forks| forks > 0));
    requirements::say(&format!("leftovers: {} objects held, none left", held.len()));
}

#[test]
fn a_tracer_that_is_killed_while_it_starts_leaves_nothing_either() {
    if !requirements::kernel("a tracer that is killed while it starts") {
        return;
    }
    let target = storm();
    let before = Leavings::now();
    // From the first map to the last link.
    let (mut moments, mut pids) = (Vec::new(), Vec::new());
    for enough in [1, 4, 8, 12, 16] {
        let running = observe(&target);
        let deadline = Instant::now() + LIMIT;
        let held = loop {
            let held = bpf::held_by(running.process.pid()).len();
            if held >= enough {
                break held;
            }
            assert!(Instant::now() < deadline, "it does not hold {enough} objects");
        };
        pids.push(kill(running));
        moments.push(held);
    }
    Leavings::wait_for_none_since(&before, &pids);
    requirements::say(&format!("leftovers: killed while they held {moments:?} objects"));
}

#[test]
fn an_exec_that_is_killed_leaves_nothing_either() {
    if !requirements::kernel("a killed exec") {
        return;
    }
    let before = Leavings::now();
    let args = ["exec", "--json", "--tracker", "ebpf", "--grace", "300ms", "--", "bash", "-c", STORM];
    let mut running = binary::start(&args);
    running.wait_until_observing();
    std::thread::sleep(Duration::from_millis(300));
    let pid = running.process.pid();
    assert!(!bpf::held_by(pid).is_empty());
    let cgroups = cgroups_of(&[pid]).len();
    kill(running);
    Leavings::wait_for_none_since(&before, &[pid]);
    requirements::say(&format!("leftovers: exec had {cgroups} cgroups, none left"));
}

#[test]
fn what_is_pinned_is_found_by_this_check() {
    if !requirements::kernel("a map that nobody holds") {
        return;
    }
    let before = bpf::orphans();
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: only this thread gets another mount namespace, and it does nothing after this test.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount("bpf", dir.path(), "bpf", MountFlags::empty(), None).unwrap();
            bpf::pin_new_map(&dir.path().join("left")).unwrap();
            let new: Vec<_> = bpf::orphans().difference(&before).copied().collect();
            assert!(new.iter().any(|(kind, _)| *kind == Kind::Map), "{new:?}");
        });
    });
    // With the namespace its mount is gone, and with that the map.
    Leavings::wait_for_none_since(&Leavings { orphans: before, pinned: bpf::pinned() }, &[]);
}

#[test]
fn doctor_leaves_nothing() {
    if !requirements::kernel("doctor's load attempt") {
        return;
    }
    let before = Leavings::now();
    let running = binary::start(&["doctor"]);
    let pid = running.process.pid();
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    Leavings::wait_for_none_since(&before, &[pid]);
}
