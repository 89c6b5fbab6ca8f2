//! RAPL: the energy of the CPU packages, as the kernel's powercap shows it.
//!
//! Owns the reading of the counters and their wrapping round. Never estimates: a package that can't be read makes all
//! of it unknown. Since Linux 5.10 only root may open it: it is opened with what observing may, and read by its descriptor.
//! Owns its thread, so that a driver that hangs delays no reading. Started and stopped by `session`.
//!
//! Only packages are summed (Documentation/power/powercap/powercap.rst): their parts (core, uncore) are in them, memory
//! (dram), which is listed below them, is not, and psys is the whole board.

use std::fs::{self, File};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::clock::Mono;
use crate::event::{EnergyReading, PackageEvent};
use crate::privilege::{self, ThreadRole};
use crate::units::Nanos;

use super::window_edges::{Edge, Edges};

const POWERCAP: &str = "/sys/class/powercap";
/// No package uses more, in microjoules a second.
const MOST_UJ_PER_S: u64 = 2_000_000_000;
/// A counter moves on about every millisecond; a step may be of a time before the last reading.
const SLACK: Nanos = Nanos::from_millis(1_000);

/// Where events go; never waits.
pub type PackageSink = Box<dyn Fn(PackageEvent) + Send + Sync>;

/// The thread that reads the counters, where there are any.
pub struct Rapl(Option<Reader>);

struct Reader {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    edge: Arc<Edge>,
}

impl Rapl {
    /// Reads every `interval`, and when a window begins or ends. Where there is nothing to read, the sink learns why.
    #[must_use]
    pub fn start(interval: Nanos, sink: PackageSink) -> Self {
        let sink: Arc<dyn Fn(PackageEvent) + Send + Sync> = Arc::from(sink);
        let packages = match Packages::open(Path::new(POWERCAP)) {
            Ok(packages) => packages,
            Err(why) => {
                sink(PackageEvent::Unavailable(why));
                return Self(None);
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        let edge = Arc::new(Edge::default());
        let (stopped, edges, readings) = (Arc::clone(&stop), Arc::clone(&edge), Arc::clone(&sink));
        let spawned = std::thread::Builder::new().name("rapl".into()).spawn(move || {
            privilege::shed(ThreadRole::Gpu);
            read_until(packages, interval, &stopped, &edges, &readings);
        });
        match spawned {
            Ok(thread) => Self(Some(Reader { thread, stop, edge })),
            Err(e) => {
                sink(PackageEvent::Unavailable(format!("the RAPL thread can't be started: {e}")));
                Self(None)
            }
        }
    }

    /// For whoever knows when a window begins and ends.
    #[must_use]
    pub fn edges(&self) -> Edges {
        let edges = |reader: &Reader| Edges::of(reader.thread.thread().clone(), Arc::clone(&reader.edge));
        self.0.as_ref().map(edges).unwrap_or_default()
    }

    /// After a last reading.
    pub fn finish(self) {
        let Some(reader) = self.0 else { return };
        reader.stop.store(true, Ordering::Relaxed);
        reader.thread.thread().unpark();
        // What it read before a panic was sent before it.
        let _ = reader.thread.join();
    }
}

fn read_until(
    mut packages: Packages,
    interval: Nanos,
    stop: &AtomicBool,
    edge: &Edge,
    sink: &Arc<dyn Fn(PackageEvent) + Send + Sync>,
) {
    let mut next = Mono::now();
    loop {
        let last = stop.load(Ordering::Relaxed);
        let is_edge = edge.take(Mono::now());
        let is_due = last || Mono::now() >= next;
        if (is_edge || is_due)
            && let Some(reading) = packages.read()
        {
            sink(PackageEvent::Reading(reading));
        }
        if last {
            return;
        }
        let now = Mono::now();
        if is_due {
            next = now.plus(interval);
        }
        let wake = edge.ahead().map_or(next, |ahead| next.min(ahead));
        std::thread::park_timeout(wake.since(now).to_duration());
    }
}

#[derive(Debug)]
struct Zone {
    counter: File,
    /// Where it wraps round; `None`: it can't be told.
    range_uj: Option<u64>,
    last_uj: u64,
}

impl Zone {
    /// What was added in `time`. `None`: it fell for another reason than its range (a machine that slept), or may have
    /// wrapped more than once.
    fn grown_to(&self, now_uj: u64, time: Nanos) -> Option<u64> {
        let time = u128::from((time + SLACK).0);
        let most = u64::try_from(u128::from(MOST_UJ_PER_S) * time / 1_000_000_000).ok()?;
        if self.range_uj.is_some_and(|range| range <= most) {
            return None;
        }
        let grown = match now_uj.checked_sub(self.last_uj) {
            Some(grown) => grown,
            None => self.range_uj?.checked_sub(self.last_uj)?.checked_add(now_uj)?,
        };
        (grown <= most).then_some(grown)
    }
}

/// All packages of the machine, as one counter from 0.
#[derive(Debug)]
struct Packages {
    zones: Vec<Zone>,
    total_uj: u64,
    last: Mono,
    /// What a counter did can't be told any more.
    broken: bool,
}

impl Packages {
    /// On a thread that may still raise what it has.
    ///
    /// # Errors
    /// In words, why there is nothing to read.
    fn open(powercap: &Path) -> Result<Self, String> {
        let _raised = privilege::raise();
        let listed = fs::read_dir(powercap).map_err(|_| "the kernel shows no RAPL counters".to_owned())?;
        let mut zones = Vec::new();
        for entry in listed.flatten() {
            let dir = entry.path();
            // `intel-rapl:0` is a package (AMD's too); `intel-rapl:0:1` is a part of it. The same package may be there
            // once more as `intel-rapl-mmio:0`.
            let name = entry.file_name();
            let parts = name.to_string_lossy().matches(':').count();
            if parts != 1 || !name.to_string_lossy().starts_with("intel-rapl:") {
                continue;
            }
            let called = fs::read_to_string(dir.join("name")).map_err(|_| {
                format!("{} is hidden, as container engines do: show it to the container", dir.display())
            })?;
            if !called.starts_with("package") {
                continue;
            }
            let path = dir.join("energy_uj");
            let opened = File::open(&path).map_err(|e| why_not(&e));
            let read = opened.and_then(|counter| Ok((number(&counter)?, counter)));
            let (last_uj, counter) = read.map_err(|why| format!("{} {why}", path.display()))?;
            let range_uj = File::open(dir.join("max_energy_range_uj")).ok().and_then(|f| number(&f).ok());
            zones.push(Zone { counter, range_uj, last_uj });
        }
        if zones.is_empty() {
            return Err("the kernel shows no RAPL counter of a CPU package".to_owned());
        }
        Ok(Self { zones, total_uj: 0, last: Mono::now(), broken: false })
    }

    /// `None` where one can't be read any more, or what one did can't be told.
    fn read(&mut self) -> Option<EnergyReading> {
        let before = Mono::now();
        let now: Vec<u64> =
            self.zones.iter().map(|zone| number(&zone.counter)).collect::<Result<_, _>>().ok()?;
        let after = Mono::now();
        let mj = self.take(&now, after)?;
        Some(EnergyReading { before, after, mj })
    }

    /// The sum's new value, all zones read by `at`. Once it is unknown it stays so: nothing is left out of it.
    fn take(&mut self, now_uj: &[u64], at: Mono) -> Option<u64> {
        let time = at.since(self.last);
        let grown =
            self.zones.iter().zip(now_uj).map(|(zone, now)| zone.grown_to(*now, time)).sum::<Option<u64>>();
        self.broken |= grown.is_none();
        if self.broken {
            return None;
        }
        self.total_uj = self.total_uj.saturating_add(grown?);
        self.last = at;
        for (zone, now) in self.zones.iter_mut().zip(now_uj) {
            zone.last_uj = *now;
        }
        Some(self.total_uj / 1_000)
    }
}

/// Or why not, in words that end a sentence.
fn number(file: &File) -> Result<u64, String> {
    // Longer than any number of 64 bits; the kernel makes the text anew for each reading from the beginning.
    let mut text = [0; 32];
    let read = file.read_at(&mut text, 0).map_err(|e| why_not(&e))?;
    let text = text.get(..read).and_then(|text| str::from_utf8(text).ok());
    text.and_then(|text| text.trim().parse().ok()).ok_or_else(|| "holds no number".to_owned())
}

fn why_not(error: &Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "can't be read: only root may; run as root, with CAP_DAC_READ_SEARCH, or make it readable (chmod a+r)"
                .to_owned()
        }
        _ => format!("can't be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As of most packages: 2^32 units of 61 µJ.
    const RANGE: u64 = 262_143_328_850;

    fn zone(dir: &Path, zone: &str, name: &str, uj: u64) {
        let dir = dir.join(zone);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("name"), format!("{name}\n")).unwrap();
        fs::write(dir.join("energy_uj"), format!("{uj}\n")).unwrap();
        fs::write(dir.join("max_energy_range_uj"), format!("{RANGE}\n")).unwrap();
    }

    #[test]
    fn packages_are_summed_parts_and_the_board_are_not_and_a_counter_wraps_round() {
        let dir = tempfile::tempdir().unwrap();
        zone(dir.path(), "intel-rapl:0", "package-0", RANGE - 8_000);
        zone(dir.path(), "intel-rapl:1", "package-1", 10_000);
        let others = [
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:0:1", "uncore"),
            ("intel-rapl:0:2", "dram"),
            ("intel-rapl:2", "psys"),
            ("intel-rapl-mmio:0", "package-0"),
        ];
        for (place, name) in others {
            zone(dir.path(), place, name, 1);
        }
        let mut packages = Packages::open(dir.path()).unwrap();
        assert_eq!(packages.read().unwrap().mj, 0);
        zone(dir.path(), "intel-rapl:0", "package-0", 3_000);
        zone(dir.path(), "intel-rapl:1", "package-1", 12_000);
        for (place, name) in others {
            zone(dir.path(), place, name, 90_000);
        }
        // 8,000 µJ to the end of the range, 3,000 from its beginning, and 2,000.
        assert_eq!(packages.read().unwrap().mj, 13);
    }

    fn one(range_uj: Option<u64>, last_uj: u64) -> Packages {
        let zones = vec![Zone { counter: File::open("/dev/null").unwrap(), range_uj, last_uj }];
        Packages { zones, total_uj: 0, last: Mono(0), broken: false }
    }

    #[test]
    fn a_fall_that_is_no_wrap_makes_the_rest_unknown() {
        let (at, later) = (Mono(50_000_000), Mono(100_000_000));
        // From the middle of the range: a machine that slept.
        let mut slept = one(Some(RANGE), RANGE / 2);
        assert_eq!(slept.take(&[5], at), None);
        assert_eq!(slept.take(&[6], later), None);
        // Where the range is not told a fall is no wrap.
        assert_eq!(one(None, 9_000).take(&[5], at), None);
        assert_eq!(one(None, 9_000).take(&[19_000], at), Some(10));
    }

    #[test]
    fn a_counter_that_may_have_wrapped_unseen_is_unknown() {
        let minutes = |n: u64| Mono(n * 60_000_000_000);
        assert_eq!(one(Some(RANGE), 0).take(&[1_000_000], minutes(1)), Some(1_000));
        assert_eq!(one(Some(RANGE), 0).take(&[1_000_000], minutes(3)), None);
    }

    #[test]
    fn a_counter_that_cannot_be_read_makes_all_unknown() {
        let dir = tempfile::tempdir().unwrap();
        zone(dir.path(), "intel-rapl:0", "package-0", 1);
        fs::remove_file(dir.path().join("intel-rapl:0/energy_uj")).unwrap();
        assert!(Packages::open(dir.path()).unwrap_err().contains("No such file"));
        assert!(why_not(&ErrorKind::PermissionDenied.into()).contains("run as root"));
        assert!(Packages::open(&dir.path().join("none")).unwrap_err().contains("no RAPL"));
    }

    /// As with file capabilities, where the polling thread keeps none.
    #[test]
    fn a_counter_that_is_roots_is_opened_with_what_can_be_raised_and_read_without() {
        use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
        use std::os::unix::fs::PermissionsExt as _;
        let has = |sets: &CapabilitySets| sets.permitted.contains(CapabilitySet::DAC_READ_SEARCH);
        if !rustix::process::geteuid().is_root() || !capabilities(None).is_ok_and(|sets| has(&sets)) {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        zone(dir.path(), "intel-rapl:0", "package-0", 1_000);
        let counter = dir.path().join("intel-rapl:0/energy_uj");
        fs::set_permissions(&counter, fs::Permissions::from_mode(0o400)).unwrap();
        let opened = std::thread::scope(|scope| {
            let as_another = || {
                // SAFETY: takes a number, and changes this thread alone.
                unsafe { libc::syscall(libc::SYS_setfsuid, 65_534) };
                let lowered =
                    CapabilitySets { effective: CapabilitySet::empty(), ..capabilities(None).unwrap() };
                set_capabilities(None, lowered).unwrap();
                assert!(File::open(&counter).is_err(), "it is closed to what has nothing in effect");
                Packages::open(dir.path())
            };
            scope.spawn(as_another).join().unwrap()
        });
        zone(dir.path(), "intel-rapl:0", "package-0", 8_000);
        let mut packages = opened.unwrap();
        let without = || {
            let _ = privilege::give_up(privilege::ThreadRole::Load);
            assert!(File::open(&counter).is_err());
            packages.read().map(|reading| reading.mj)
        };
        let read = std::thread::scope(|scope| scope.spawn(without).join().unwrap());
        assert_eq!(read, Some(7));
    }

    #[test]
    fn a_package_that_a_container_hides_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("intel-rapl:0")).unwrap();
        assert!(Packages::open(dir.path()).unwrap_err().contains("hidden"));
    }
}
