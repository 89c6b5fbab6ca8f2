//! A fork storm whose truth is known: what the kernel told the parents by wait4(2).
//!
//! Owns three kinds of processes: the launcher (a subreaper *outside* of the tree that is to be observed),
//! the root of that tree, and the root's parents, each with children that fork, double-fork, exec (twice, or
//! in vain), spawn, run threads, exec from a thread, are killed and leave zombies. Prints `{"root": PID}`, waits for a line on standard input, makes the
//! storm, prints the truth as one JSON line and lives on until its standard input ends. Run by `storm.rs`.
//!
//! With a cgroup the root moves into it first; some children are made straight into a cgroup below it
//! (`clone3`), and the launcher, which is outside, makes some straight into it as well.
//!
//! Usage: `forkstorm PARENTS CHILDREN [MICROSECONDS_OF_CPU [CGROUP_DIRECTORY]]`

use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, set_child_subreaper, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const CHILD_CPU: Duration = Duration::from_millis(2);
const THREADS: u64 = 3;
/// The argument of a child that has exec'd once.
const AGAIN: &str = "again";

/// What a child burns, and where some of them go.
struct Storm {
    parents: u64,
    children: u64,
    child_cpu: Duration,
    cgroup: Option<PathBuf>,
}

static STORM: OnceLock<Storm> = OnceLock::new();

fn storm() -> &'static Storm {
    STORM.get().expect("set before anything is forked")
}

fn arguments() -> Option<Storm> {
    let mut args = std::env::args().skip(1);
    let mut number = || args.next().map(|arg| arg.parse::<u64>());
    let (parents, children) = (number()?.ok()?, number()?.ok()?);
    let child_cpu = match number() {
        None => CHILD_CPU,
        Some(micros) => Duration::from_micros(micros.ok()?),
    };
    Some(Storm { parents, children, child_cpu, cgroup: args.next().map(PathBuf::from) })
}

fn main() -> io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some(AGAIN) {
        return Err(work_elsewhere().exec());
    }
    let Some(storm) = arguments() else {
        eprintln!("usage: forkstorm PARENTS CHILDREN [MICROSECONDS_OF_CPU [CGROUP_DIRECTORY]]");
        exit(2);
    };
    let (parents, children) = (storm.parents, storm.children);
    let cgroup = storm.cgroup.clone();
    let _ = STORM.set(storm);
    let launcher = rustix::process::getpid();
    // Any pid switches it on.
    set_child_subreaper(Some(launcher))?;
    let (mut to_root, from_launcher) = pipe()?;
    let (to_launcher, from_root) = pipe()?;
    let root = match fork()? {
        0 => {
            // The launcher's ends have to go, or nobody would see when it is gone.
            drop((from_root, to_root));
            let done = tie_to(launcher)
                .and_then(|()| cgroup.as_deref().map_or(Ok(()), enter))
                .and_then(|()| root(parents, children, from_launcher, to_launcher));
            end(done)
        }
        pid => {
            drop((from_launcher, to_launcher));
            pid
        }
    };

    if let Some(dir) = &cgroup {
        wait_until_entered(dir, root)?;
    }
    println!("{}", json!({"root": root}));
    let mut line = String::new();
    let mut input = io::stdin().lock();
    input.read_line(&mut line)?;
    to_root.write_all(b"\n")?;
    let mut outsiders_cpu = Duration::ZERO;
    let outsiders = if cgroup.is_some() { children } else { 0 };
    for _ in 0..outsiders {
        clone_to(0, cgroup.as_deref(), || child(Kind::Plain))?;
        // A daemon may have come here first.
        outsiders_cpu += reap()?.1;
    }
    let mut said = String::new();
    io::BufReader::new(from_root).read_line(&mut said)?;
    let mut truth: Value = serde_json::from_str(&said)?;

    // The daemons came here when their parents ended, and so did the zombies.
    let daemons =
        parents * [Kind::Daemon, Kind::Zombie].map(|kind| Kind::count(children, kind)).iter().sum::<u64>();
    let mut daemons_cpu = outsiders_cpu;
    for _ in 0..daemons {
        daemons_cpu += reap()?.1;
    }
    truth["daemons"] = json!(daemons);
    truth["forks"] = json!(truth["forks"].as_u64().unwrap_or(0) + outsiders);
    truth["daemons_cpu_ns"] = nanos(daemons_cpu);
    println!("{truth}");
    input.read_line(&mut line)?;
    drop(to_root);
    reap().map(drop)
}

/// Ends with its own end, even when that is a kill.
fn tie_to(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// The root of the observed tree.
fn root(
    parents: u64,
    children: u64,
    from_launcher: io::PipeReader,
    mut to_launcher: io::PipeWriter,
) -> io::Result<()> {
    let mut line = String::new();
    let mut launcher = io::BufReader::new(from_launcher);
    launcher.read_line(&mut line)?;
    let before = own_cpu();
    for _ in 0..parents {
        fork_to(|| parent(children))?;
    }
    let mut waited_cpu = Duration::ZERO;
    for _ in 0..parents {
        // With what each of them had waited for.
        waited_cpu += reap()?.1;
    }
    let count = |kind| Kind::count(children, kind);
    let sum = |kinds: &[Kind]| kinds.iter().map(|&kind| count(kind)).sum::<u64>();
    let below = [Kind::Daemon, Kind::Grandchild, Kind::Zombie];
    let execs = [Kind::Exec, Kind::Spawn, Kind::ExecFromThread, Kind::ExecTwice, Kind::ExecTwice];
    let threads = [Kind::ExecFromThread, Kind::ExitFromThread, Kind::Killed];
    let truth = json!({
        "forks": parents + parents * (children + sum(&below)),
        "execs": parents * sum(&execs),
        "threads": parents * (THREADS * count(Kind::Threads) + sum(&threads)),
        "killed": parents * count(Kind::Killed),
        "waited_cpu_ns": nanos(waited_cpu),
        "root_cpu_ns": nanos(own_cpu() - before),
    });
    writeln!(to_launcher, "{truth}")?;
    // At its end.
    launcher.read_line(&mut line).map(drop)
}

/// What a child does; each parent goes through them over and over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Burns and ends.
    Plain,
    /// fork, then exec.
    Exec,
    /// posix_spawn, which is a vfork.
    Spawn,
    Threads,
    /// Forks a grandchild and ends before it: reparented.
    Daemon,
    /// The leader's pid goes to the thread that execs.
    ExecFromThread,
    /// The process ends from a thread that is not the leader.
    ExitFromThread,
    /// Forks another and waits for it.
    Grandchild,
    /// The parent stands still until it ends.
    Vfork,
    /// Made by clone3, straight into another cgroup where there is one.
    Clone3,
    /// An exec that fails changes nothing.
    ExecFails,
    /// What it execs execs again.
    ExecTwice,
    /// With a further thread; both end at once.
    Killed,
    /// Leaves a child that has ended and that it never waits for.
    Zombie,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Plain,
        Self::Exec,
        Self::Spawn,
        Self::Threads,
        Self::Daemon,
        Self::ExecFromThread,
        Self::ExitFromThread,
        Self::Grandchild,
        Self::Vfork,
        Self::Clone3,
        Self::ExecFails,
        Self::ExecTwice,
        Self::Killed,
        Self::Zombie,
    ];

    fn of(index: u64) -> Self {
        Self::ALL[(index % Self::ALL.len() as u64) as usize]
    }

    /// How many of a parent's children are of this kind.
    fn count(children: u64, kind: Self) -> u64 {
        (0..children).filter(|&index| Self::of(index) == kind).count() as u64
    }
}

fn parent(children: u64) -> io::Result<()> {
    const AT_ONCE: u64 = 4;
    let mut alive = 0;
    for index in 0..children {
        if alive == AT_ONCE {
            reap()?;
            alive -= 1;
        }
        let kind = Kind::of(index);
        match kind {
            // Waited for like all others, not through this handle.
            Kind::Spawn => drop(work_elsewhere().spawn()?),
            Kind::Vfork => clone_to(libc::CLONE_VFORK as u64, None, || child(kind))?,
            Kind::Clone3 => {
                let below = storm().cgroup.as_deref().map(|dir| dir.join("below"));
                clone_to(0, below.as_deref(), || child(kind))?;
            }
            _ => fork_to(|| child(kind))?,
        }
        alive += 1;
    }
    for _ in 0..alive {
        reap()?;
    }
    Ok(())
}

fn child(kind: Kind) -> io::Result<()> {
    let cpu = storm().child_cpu;
    match kind {
        Kind::Plain | Kind::Spawn | Kind::Vfork | Kind::Clone3 => burn(cpu),
        Kind::Grandchild => {
            fork_to(|| {
                burn(cpu);
                Ok(())
            })?;
            reap()?;
        }
        Kind::Exec => return Err(work_elsewhere().exec()),
        Kind::Threads => std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| burn(cpu / 2));
            }
        }),
        Kind::Daemon => {
            let parent = rustix::process::getpid();
            fork_to(|| {
                while getppid() == Some(parent) {
                    std::thread::sleep(Duration::from_micros(200));
                }
                burn(cpu);
                Ok(())
            })?;
        }
        Kind::ExecFromThread => {
            burn(cpu / 2);
            let failed = std::thread::spawn(|| work_elsewhere().exec()).join();
            return Err(failed.unwrap_or_else(|_| io::Error::other("the thread panicked")));
        }
        Kind::ExitFromThread => {
            let _ = std::thread::spawn(move || {
                burn(cpu);
                exit(0)
            })
            .join();
        }
        Kind::ExecFails => {
            drop(Command::new("/nowhere/to/be/found").exec());
            burn(cpu);
        }
        Kind::ExecTwice => {
            burn(cpu / 2);
            return Err(Command::new(std::env::current_exe()?).arg(AGAIN).exec());
        }
        Kind::Killed => {
            std::thread::spawn(|| std::thread::sleep(Duration::from_secs(20)));
            burn(cpu);
            rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)?;
        }
        Kind::Zombie => {
            fork_to(|| {
                burn(cpu);
                Ok(())
            })?;
            // It has ended, and nobody has taken note of that.
            let (any, mut info) = (libc::P_ALL, std::mem::MaybeUninit::<libc::siginfo_t>::zeroed());
            // SAFETY: the pointer leads to memory of the right type that outlives the call.
            let waited = unsafe { libc::waitid(any, 0, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
            if waited != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// A program of another name.
fn work_elsewhere() -> Command {
    let mut command = Command::new("/bin/true");
    command.stdin(Stdio::null());
    command
}

/// fork(2): 0 in the child.
fn fork() -> io::Result<i32> {
    // SAFETY: every process of this program that forks has a single thread, so the child may run any code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

/// Runs `child` in a child process, which ends with it.
fn fork_to(child: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if fork()? == 0 { end(child()) } else { Ok(()) }
}

/// The same by clone3(2), with further flags, into a cgroup.
fn clone_to(flags: u64, cgroup: Option<&Path>, child: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let dir = cgroup.map(std::fs::File::open).transpose()?;
    // SAFETY: all zeroes is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(dir) = &dir {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = std::os::fd::AsRawFd::as_raw_fd(dir) as u64;
    }
    // SAFETY: no shared memory and no own stack: like fork, of a process with a single thread.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        0 => end(child()),
        _ => Ok(()),
    }
}

/// Moves this process into the cgroup.
fn enter(dir: &Path) -> io::Result<()> {
    std::fs::write(dir.join("cgroup.procs"), b"0")
}

fn wait_until_entered(dir: &Path, pid: i32) -> io::Result<()> {
    for _ in 0..5_000 {
        let members = std::fs::read_to_string(dir.join("cgroup.procs"))?;
        if members.lines().any(|line| line == pid.to_string()) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn end(done: io::Result<()>) -> ! {
    let Err(e) = done else { exit(0) };
    eprintln!("forkstorm: {e}");
    exit(1)
}

/// Waits for any child, which must have ended well or by its own hand, and tells the CPU time of it and of all that it had
/// waited for.
fn reap() -> io::Result<(i32, Duration)> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers lead to memory of the right type that outlives the call.
    let pid = unsafe { libc::wait4(-1, &raw mut status, 0, usage.as_mut_ptr()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if status != 0 && status != libc::SIGKILL {
        return Err(io::Error::other(format!("child {pid} ended with status {status:#x}")));
    }
    // SAFETY: all zeroes is a valid rusage, and the kernel has filled it in.
    let usage = unsafe { usage.assume_init() };
    Ok((pid, time(usage.ru_utime) + time(usage.ru_stime)))
}

fn time(t: libc::timeval) -> Duration {
    // CPU times are not negative, and microseconds are below a million.
    Duration::new(t.tv_sec.unsigned_abs(), t.tv_usec.unsigned_abs() as u32 * 1_000)
}

fn own_cpu() -> Duration {
    cpu_clock(ClockId::ProcessCPUTime)
}

fn burn(cpu: Duration) {
    let end = cpu_clock(ClockId::ThreadCPUTime) + cpu;
    while cpu_clock(ClockId::ThreadCPUTime) < end {
        for i in 0..1_000 {
            black_box(i);
        }
    }
}

fn cpu_clock(clock: ClockId) -> Duration {
    let t = clock_gettime(clock);
    Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32)
}

fn nanos(t: Duration) -> Value {
    json!(t.as_nanos() as u64)
}

/// (Writer, reader).
fn pipe() -> io::Result<(io::PipeWriter, io::PipeReader)> {
    io::pipe().map(|(reader, writer)| (writer, reader))
}
