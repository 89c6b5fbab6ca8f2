//! One process, read through a handle.
//!
//! Owns descriptors of /proc/PID and of the two files in it that every tick reads. They belong to that very process, so
//! a read after its end fails (ESRCH) instead of returning a process with the same pid. With open descriptors a tick
//! costs two reads and a clock.

use std::fs::File;
use std::io::{self, Read};

use procfs::ProcError;
use procfs::process::Process;

use super::mount;
use super::stat::{self, Stat};
use crate::event::CpuTime;
use crate::observe::ebpf::cputime_adjust;
use crate::units::{Nanos, pages_to_bytes, ticks_to_nanos};

/// The machine's constants for the conversion of readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Units {
    pub(crate) page_bytes: u64,
    pub(crate) ticks_per_second: u64,
    /// /proc denies the existence of a file of another user's process.
    pub(crate) proc_hides: bool,
}

impl Units {
    pub(crate) fn of_this_machine() -> Self {
        let mounts = super::text("/proc/self/mountinfo").unwrap_or_default();
        Self {
            page_bytes: procfs::page_size(),
            ticks_per_second: procfs::ticks_per_second(),
            proc_hides: mount::hidepid(&mounts).is_some(),
        }
    }

    /// A start on CLOCK_BOOTTIME, as in /proc/PID/stat.
    pub(crate) fn start_ticks(self, start_boottime_ns: u64) -> u64 {
        start_boottime_ns / (1_000_000_000 / self.ticks_per_second.max(1))
    }
}

/// Longest line: 52 numbers of at most 20 digits, and a name.
const STAT_BYTES: usize = 1_280;

#[derive(Debug)]
pub(crate) struct Handle {
    process: Process,
    files: Files,
    units: Units,
}

/// The two files that every tick reads.
#[derive(Debug)]
struct Files {
    pid: i32,
    stat: File,
    statm: File,
}

/// One reading of a living process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) ppid: u32,
    pub(crate) comm: String,
    /// All its threads have ended, and nobody has waited for it.
    pub(crate) zombie: bool,
    pub(crate) threads: u32,
    pub(crate) rss_bytes: u64,
    /// CPU since its birth. The total is from its CPU clock; the split follows the kernel's own ratio, in ticks of 10
    /// ms.
    pub(crate) cpu: CpuTime,
    /// CPU of the children that it has waited for, and of theirs: whole ticks.
    pub(crate) waited: CpuTime,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
}

/// Why a process could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It ended: no fault.
    Gone,
    /// It lives, and /proc refused.
    Refused,
}

impl From<ProcError> for Unread {
    fn from(error: ProcError) -> Self {
        match error {
            ProcError::NotFound(_) => Self::Gone,
            ProcError::Io(e, _) if e.raw_os_error() == Some(libc::ESRCH) => Self::Gone,
            _ => Self::Refused,
        }
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Self::Gone,
            _ => Self::Refused,
        }
    }
}

impl Handle {
    /// Opens the process that has `pid` now. `start_ticks`, if known, must be its start.
    pub(crate) fn open(pid: u32, start_ticks: Option<u64>, units: Units) -> Result<Self, Unread> {
        let pid = i32::try_from(pid).map_err(|_| Unread::Gone)?;
        let unread = |error| gone_or_hidden(Unread::from(error), pid, units);
        let process = Process::new(pid).map_err(unread)?;
        let open = |name| process.open_relative(name).map_err(unread);
        let files = Files { pid, stat: open("stat")?, statm: open("statm")? };
        let handle = Self { process, files, units };
        let mut buffer = [0; STAT_BYTES];
        let found = handle.files.stat(&mut buffer)?.start_ticks;
        if start_ticks.is_some_and(|expected| expected != found) {
            return Err(Unread::Gone);
        }
        Ok(handle)
    }

    /// `total`: the corrected value of its CPU clock, or `None` to read it here.
    pub(crate) fn read(&self, total: Option<Nanos>) -> Result<Reading, Unread> {
        let ran = total.or_else(|| cpu_clock(self.process.pid));
        self.files.read(ran, self.units).map(|(reading, _)| reading)
    }

    /// Command line and executable of a process born before the tracker: for later ones exec events have them.
    pub(crate) fn identity(&self) -> (Option<String>, Option<Vec<String>>) {
        let exe = self.process.exe().ok().map(|p| p.to_string_lossy().into_owned());
        let argv = self.bytes("cmdline").map(|bytes| arguments(&bytes)).filter(|a| !a.is_empty());
        (exe, argv)
    }

    /// Its proportional share of memory: a page that several processes map counts by its part. The read walks page
    /// tables, so it costs more for a larger process. Another user's process may refuse it.
    pub(crate) fn pss_bytes(&self) -> Result<u64, Unread> {
        let rollup = match self.process.smaps_rollup().map_err(Unread::from) {
            // The file shows the memory of the first thread; others still have it.
            Err(Unread::Gone) if self.works_without_leader() => return Err(Unread::Refused),
            read => read?,
        };
        let map = rollup.memory_map_rollup.0.first().ok_or(Unread::Gone)?;
        // A process in mid-exec or at its end has no memory and no such line.
        map.extension.map.get("Pss").copied().ok_or(Unread::Gone)
    }

    fn works_without_leader(&self) -> bool {
        let mut buffer = [0; STAT_BYTES];
        self.files.stat(&mut buffer).is_ok_and(|stat| stat.leader_ended() && !stat.is_dead())
    }

    /// VmHWM: the peak since the process's last exec.
    pub(crate) fn peak_rss_bytes(&self) -> Option<u64> {
        let status = self.bytes("status")?;
        let line = String::from_utf8_lossy(&status)
            .lines()
            .find_map(|l| Some(l.strip_prefix("VmHWM:")?.to_owned()))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib.saturating_mul(1024))
    }

    /// The text of a file with names in any bytes. procfs reads only UTF-8.
    fn bytes(&self, file: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.process.open_relative(file).ok()?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

impl Files {
    /// Reads stat, and the start in ticks.
    fn read(&self, ran: Option<Nanos>, units: Units) -> Result<(Reading, u64), Unread> {
        let mut buffer = [0; STAT_BYTES];
        let statm = read(&self.statm, &mut buffer)?;
        let mut rss_pages = stat::resident_pages(statm).ok_or(Unread::Refused)?;
        if rss_pages == 0 {
            let stat = self.stat(&mut buffer)?;
            if stat.leader_ended() && !stat.is_dead() {
                rss_pages = pages_of_threads(self.pid);
            }
        }
        // This read comes last: it succeeds only while the process exists, so the clock above was its own.
        let stat = self.stat(&mut buffer)?;
        let ticks = |t| ticks_to_nanos(t, units.ticks_per_second);
        let (user, system) = (ticks(stat.utime_ticks), ticks(stat.stime_ticks));
        let cpu = ran.map_or(CpuTime { user, system }, |total| cputime_adjust(user.0, system.0, total.0));
        let reading = Reading {
            ppid: stat.ppid,
            zombie: stat.is_dead(),
            comm: String::from_utf8_lossy(stat.comm).into_owned(),
            threads: stat.threads,
            rss_bytes: pages_to_bytes(rss_pages, units.page_bytes),
            cpu,
            waited: CpuTime { user: ticks(stat.cutime_ticks), system: ticks(stat.cstime_ticks) },
            minor_faults: stat.minor_faults,
            major_faults: stat.major_faults,
        };
        Ok((reading, stat.start_ticks))
    }

    fn stat<'b>(&self, buffer: &'b mut [u8; STAT_BYTES]) -> Result<Stat<'b>, Unread> {
        stat::stat(read(&self.stat, buffer)?).ok_or(Unread::Refused)
    }
}

/// One reading without a handle to keep, for half the cost of opening one. It is for a process that probably ends
/// before the next tick.
pub(crate) fn glance(
    pid: u32,
    start_ticks: u64,
    total: Option<Nanos>,
    units: Units,
) -> Result<Reading, Unread> {
    let pid = i32::try_from(pid).map_err(|_| Unread::Gone)?;
    let open = |name: &str| {
        let file = File::open(format!("/proc/{pid}/{name}"));
        file.map_err(|e| gone_or_hidden(Unread::from(e), pid, units))
    };
    // The first file is also read last and has the start, so the read between them is of the same process.
    let files = Files { pid, stat: open("stat")?, statm: open("statm")? };
    let (reading, found) = files.read(total.or_else(|| cpu_clock(pid)), units)?;
    if found == start_ticks { Ok(reading) } else { Err(Unread::Gone) }
}

/// Resident pages from a thread that has not ended: statm of a process is that of its first thread, which releases the
/// memory at its end.
fn pages_of_threads(pid: i32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let pages = |task: io::Result<std::fs::DirEntry>| {
        let statm = std::fs::read(task.ok()?.path().join("statm")).ok()?;
        stat::resident_pages(&statm).filter(|pages| *pages > 0)
    };
    tasks.into_iter().find_map(pages).unwrap_or(0)
}

/// Looks for a living process only where /proc hides some. Elsewhere a living one has reused the pid.
fn gone_or_hidden(unread: Unread, pid: i32, units: Units) -> Unread {
    if unread == Unread::Gone && units.proc_hides && lives(pid.cast_unsigned()) {
        Unread::Refused
    } else {
        unread
    }
}

/// Splits at NUL, which also ends the text.
fn arguments(cmdline: &[u8]) -> Vec<String> {
    let each = cmdline.strip_suffix(&[0]).unwrap_or(cmdline).split(|b| *b == 0);
    if cmdline.is_empty() {
        Vec::new()
    } else {
        each.map(|a| String::from_utf8_lossy(a).into_owned()).collect()
    }
}

/// Reads a file of /proc from its beginning: the kernel writes it anew for each read.
fn read<'b>(file: &File, buffer: &'b mut [u8; STAT_BYTES]) -> Result<&'b [u8], Unread> {
    match rustix::io::pread(file, &mut buffer[..], 0) {
        Ok(n) => Ok(&buffer[..n]),
        Err(rustix::io::Errno::SRCH) => Err(Unread::Gone),
        Err(_) => Err(Unread::Refused),
    }
}

/// A process with this pid exists, visible in /proc or not.
pub(crate) fn lives(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    // Only an existing process is refused.
    matches!(rustix::process::test_kill_process(pid), Ok(()) | Err(rustix::io::Errno::PERM))
}

/// /proc shows a process that has ended and that nobody has waited for: it has a pid, and runs no more.
pub(crate) fn is_zombie(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    super::stat::stat(&line).is_some_and(|stat| stat.is_dead())
}

/// The CPU clock of a process in nanoseconds, with all threads, also ended ones, up to the last charge of each running
/// thread (`observe::clocks`). Its clock id is `~pid << 3 | CPUCLOCK_SCHED` (clock_getcpuclockid(3)); any process may
/// read it.
pub(crate) fn cpu_clock(pid: i32) -> Option<Nanos> {
    const CPUCLOCK_SCHED: libc::clockid_t = 2;
    let clock = (!pid << 3) | CPUCLOCK_SCHED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer to a timespec; an unknown clock is an error, not undefined.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) } != 0;
    if failed {
        return None;
    }
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u64::try_from(time.tv_nsec).ok()?;
    Some(Nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_after_the_end_says_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let handle = Handle::open(child.id(), None, Units::of_this_machine()).unwrap();
        let reading = handle.read(None).unwrap();
        assert_eq!((reading.threads, reading.ppid), (1, std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(handle.read(None), Err(Unread::Gone));
    }

    #[test]
    fn a_glance_tells_what_a_handle_tells_and_of_nobody_else() {
        let units = Units::of_this_machine();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = Process::new(child.id() as i32).unwrap().stat().unwrap().starttime;
        let handle = Handle::open(child.id(), Some(start), units).unwrap();
        let total = Some(Nanos(5));
        let (glance, mut read) = (glance(child.id(), start, total, units), handle.read(total));
        // It may have executed its program between the two.
        if let (Ok(glance), Ok(read)) = (&glance, &mut read) {
            (read.comm, read.rss_bytes) = (glance.comm.clone(), glance.rss_bytes);
            (read.minor_faults, read.major_faults) = (glance.minor_faults, glance.major_faults);
        }
        let other = super::glance(child.id(), start + 1, total, units);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(glance.as_ref().is_ok_and(|g| g.rss_bytes > 0 && g.threads == 1), "{glance:?}");
        assert_eq!(glance, read);
        assert_eq!(other, Err(Unread::Gone));
        assert_eq!(super::glance(child.id(), start, total, units), Err(Unread::Gone));
    }

    #[test]
    fn a_process_that_works_on_without_its_first_thread_is_read_like_any() {
        let first_ends = "import ctypes, os, threading, time\n\
                          threading.Thread(target=time.sleep, args=(60,)).start()\n\
                          call = {'x86_64': 60, 'aarch64': 93}[os.uname().machine]\n\
                          ctypes.CDLL(None).syscall(call, 0)";
        let mut child = std::process::Command::new("python3").args(["-c", first_ends]).spawn().unwrap();
        let (units, pid) = (Units::of_this_machine(), child.id());
        let handle = Handle::open(pid, None, units).unwrap();
        let ended = || {
            let line = std::fs::read(format!("/proc/{pid}/stat")).unwrap();
            stat::stat(&line).unwrap().leader_ended()
        };
        let began = std::time::Instant::now();
        while !ended() && began.elapsed().as_secs() < 30 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let (ended, zombie, reading) = (ended(), is_zombie(pid), handle.read(None));
        child.kill().unwrap();
        let dead = || is_zombie(pid);
        while !dead() && began.elapsed().as_secs() < 30 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let (dead, read_dead) = (dead(), handle.read(None));
        child.wait().unwrap();
        let reading = reading.unwrap();
        assert!(ended && !zombie && !reading.zombie, "{reading:?}");
        assert!(reading.threads == 2 && reading.rss_bytes > 1 << 20, "{reading:?}");
        assert!(dead && read_dead.is_ok_and(|r| r.zombie && r.rss_bytes == 0));
    }

    #[test]
    fn a_process_whose_name_and_arguments_are_no_utf8_is_read_like_any() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(std::ffi::OsStr::from_bytes(b"na\xff\xfe) x"));
        std::os::unix::fs::symlink("/bin/bash", &program).unwrap();
        let mut command = std::process::Command::new(&program);
        // It waits for what never comes, and runs no other program.
        let mut child =
            command.args(["-c", "read -r word"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let handle = Handle::open(child.id(), None, Units::of_this_machine()).unwrap();
        let (comm, peak, argv) =
            (handle.read(None).unwrap().comm, handle.peak_rss_bytes(), handle.identity().1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(comm, "na\u{fffd}\u{fffd}) x");
        assert!(peak.is_some_and(|bytes| bytes > 0), "{peak:?}");
        let argv = argv.unwrap();
        assert!(argv[0].ends_with("na\u{fffd}\u{fffd}) x") && argv[1] == "-c", "{argv:?}");
    }

    #[test]
    fn another_start_time_is_another_process() {
        let units = Units::of_this_machine();
        let own = Process::myself().unwrap().stat().unwrap().starttime;
        assert!(Handle::open(std::process::id(), Some(own), units).is_ok());
        let other = Handle::open(std::process::id(), Some(own + 1), units);
        assert_eq!(other.unwrap_err(), Unread::Gone);
    }

    #[test]
    fn the_cpu_clock_agrees_with_the_own_process_clock() {
        let own = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let read = cpu_clock(std::process::id() as i32).unwrap();
        let own = Nanos(own.tv_sec as u64 * 1_000_000_000 + own.tv_nsec as u64);
        assert!(read >= own);
        assert!(read.saturating_sub(own) < Nanos::from_millis(1_000));
    }
}
