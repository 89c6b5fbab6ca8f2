//! RAPL: the energy of the CPU packages, as the kernel's powercap shows it.
//!
//! Owns the reading of the counters and their wrapping round. Never estimates: a package that can't be read makes all
//! of it unknown. Since Linux 5.10 only root may read it. Called by the poll.

use std::fs;
use std::path::{Path, PathBuf};

use crate::clock::Mono;
use crate::event::EnergyReading;

pub(super) const POWERCAP: &str = "/sys/class/powercap";

#[derive(Debug)]
struct Zone {
    counter: PathBuf,
    /// Where it wraps round.
    range_uj: u64,
    last_uj: u64,
}

/// All packages of the machine, as one counter from 0.
#[derive(Debug)]
pub(super) struct Packages {
    zones: Vec<Zone>,
    total_uj: u64,
}

impl Packages {
    /// # Errors
    /// In words, why there is nothing to read.
    pub(super) fn open(powercap: &Path) -> Result<Self, String> {
        let listed = fs::read_dir(powercap).map_err(|_| "the kernel shows no RAPL counters".to_owned())?;
        let mut zones = Vec::new();
        for entry in listed.flatten() {
            let dir = entry.path();
            // `intel-rapl:0` is a package (AMD's too); `intel-rapl:0:1` is a part of it.
            let name = entry.file_name();
            let parts = name.to_string_lossy().matches(':').count();
            let is_package =
                fs::read_to_string(dir.join("name")).is_ok_and(|name| name.starts_with("package"));
            if parts != 1 || !is_package || !name.to_string_lossy().starts_with("intel-rapl:") {
                continue;
            }
            let counter = dir.join("energy_uj");
            let last_uj = number(&counter)
                .ok_or_else(|| format!("{} can't be read: only root may", counter.display()))?;
            let range_uj = number(&dir.join("max_energy_range_uj")).unwrap_or(u64::MAX);
            zones.push(Zone { counter, range_uj, last_uj });
        }
        if zones.is_empty() {
            return Err("the kernel shows no RAPL counter of a CPU package".to_owned());
        }
        Ok(Self { zones, total_uj: 0 })
    }

    /// `None` where one can't be read any more.
    pub(super) fn read(&mut self) -> Option<EnergyReading> {
        let before = Mono::now();
        for zone in &mut self.zones {
            let now = number(&zone.counter)?;
            let grown = match now.checked_sub(zone.last_uj) {
                Some(grown) => grown,
                None => zone.range_uj.checked_sub(zone.last_uj)?.checked_add(now)?,
            };
            zone.last_uj = now;
            self.total_uj = self.total_uj.saturating_add(grown);
        }
        Some(EnergyReading { before, after: Mono::now(), mj: self.total_uj / 1_000 })
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(dir: &Path, zone: &str, name: &str, uj: u64) {
        let dir = dir.join(zone);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("name"), format!("{name}\n")).unwrap();
        fs::write(dir.join("energy_uj"), format!("{uj}\n")).unwrap();
        fs::write(dir.join("max_energy_range_uj"), "100000\n").unwrap();
    }

    #[test]
    fn packages_are_summed_parts_are_not_and_a_counter_wraps_round() {
        let dir = tempfile::tempdir().unwrap();
        zone(dir.path(), "intel-rapl:0", "package-0", 95_000);
        zone(dir.path(), "intel-rapl:1", "package-1", 10_000);
        zone(dir.path(), "intel-rapl:0:0", "core", 1);
        zone(dir.path(), "intel-rapl:2", "psys", 1);
        let mut packages = Packages::open(dir.path()).unwrap();
        assert_eq!(packages.read().unwrap().mj, 0);
        zone(dir.path(), "intel-rapl:0", "package-0", 3_000);
        zone(dir.path(), "intel-rapl:1", "package-1", 12_000);
        zone(dir.path(), "intel-rapl:0:0", "core", 9_000);
        // 8,000 µJ round the end of the range, and 2,000.
        assert_eq!(packages.read().unwrap().mj, 10);
    }

    #[test]
    fn a_counter_that_cannot_be_read_makes_all_unknown() {
        let dir = tempfile::tempdir().unwrap();
        zone(dir.path(), "intel-rapl:0", "package-0", 1);
        fs::remove_file(dir.path().join("intel-rapl:0/energy_uj")).unwrap();
        assert!(Packages::open(dir.path()).unwrap_err().contains("only root may"));
        assert!(Packages::open(&dir.path().join("none")).unwrap_err().contains("no RAPL"));
    }
}
