//! Debian's kernels: their names here, and their cache.
//!
//! Owns the names, the suites that they come from, and the cache. Never installs one. Called by `vm.rs`.

use std::cmp::Reverse;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::apt::{Apt, Packages, remove_tree};
use crate::steps::{say, step};

/// The archive's label and the suite. All have small indices. The first has 5.10, the second 6.1 and 6.12, the third
/// the later ones.
const SUITES: [(&str, &str); 3] = [
    ("Debian-Security", "bullseye-security"),
    ("Debian-Security", "bookworm-security"),
    ("Debian", "trixie-backports"),
];

/// The kernels of a run without names: the current one of each long-term line, and some that mark a change in the
/// kernel.
pub(super) const ALL: [&str; 11] = [
    "5.10",
    "6.1",
    "6.12",
    "6.18",
    "6.19",
    "7.0",
    "newest",
    "6.12-rt",
    "newest-rt",
    "6.12-arm64",
    "6.12-arm64-16k",
];
/// The kernels of the gate: one without the tracker's needs, the oldest with them, the most used, the newest.
pub(super) const GATE: [&str; 4] = ["5.10", "6.1", "6.12", "newest"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    X86,
    Arm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Cloud,
    Realtime,
    /// 64-bit ARM with pages of 4 KiB.
    Arm,
    Arm16k,
}

impl Flavour {
    /// The suffix in the names of Debian's packages.
    fn suffix(self) -> &'static str {
        match self {
            Self::Cloud => "cloud-amd64",
            Self::Realtime => "rt-amd64",
            Self::Arm => "cloud-arm64",
            Self::Arm16k => "arm64-16k",
        }
    }
}

/// A name as on the command line: `6.12`, `newest`, `7.2-rt`, `6.12-arm64-16k`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) name: String,
    /// `None`: the newest.
    line: Option<Vec<u32>>,
    flavour: Flavour,
}

impl Kernel {
    pub(super) fn parse(name: &str) -> Result<Self> {
        let (line, flavour) = name.split_once('-').unwrap_or((name, ""));
        let flavour = match flavour {
            "" => Flavour::Cloud,
            "rt" => Flavour::Realtime,
            "arm64" => Flavour::Arm,
            "arm64-16k" => Flavour::Arm16k,
            other => bail!("no kernel {name}: {other} is none of rt, arm64, arm64-16k"),
        };
        let line = match line {
            "newest" => None,
            line => {
                let numbers: Result<Vec<u32>, _> = line.split('.').map(str::parse).collect();
                Some(numbers.with_context(|| {
                    format!(
                        "no kernel {name}: give a line as 6.12, or newest, with -rt, -arm64 or -arm64-16k"
                    )
                })?)
            }
        };
        Ok(Self { name: name.to_owned(), line, flavour })
    }

    pub(super) fn machine(&self) -> Machine {
        match self.flavour {
            Flavour::Cloud | Flavour::Realtime => Machine::X86,
            Flavour::Arm | Flavour::Arm16k => Machine::Arm,
        }
    }

    /// The version in a package's name, if it is one of this kernel's.
    fn version_in<'a>(&self, package: &'a str) -> Option<&'a str> {
        let package = package.split(':').next()?;
        let rest = package.strip_prefix("linux-image-").or_else(|| package.strip_prefix("linux-binary-"))?;
        let version = rest.strip_suffix(self.flavour.suffix())?.strip_suffix('-')?;
        // `linux-image-6.12-cloud-amd64` is a meta package.
        let digits = numbers(version);
        let line = self.line.as_deref().unwrap_or(&[]);
        (digits.len() > 2 && digits.starts_with(line)).then_some(version)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Every run of digits, so that 6.12.9 comes before 6.12.100.
pub(super) fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The folder of the cached kernels.
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn at(dir: &Path) -> Self {
        Self { dir: dir.join("kernels") }
    }

    fn image(&self, kernel: &Kernel) -> PathBuf {
        self.dir.join(&kernel.name).join("vmlinuz")
    }

    /// The images of all of them, fetched if missing or if `again` is set. `Err` for each one that Debian does not
    /// have.
    pub(super) fn images(
        &self,
        kernels: &[Kernel],
        again: bool,
        system: &dyn Fn() -> Result<Apt>,
    ) -> Result<Vec<Result<PathBuf>>> {
        let there = |kernel: &Kernel| !again && self.image(kernel).is_file();
        let archive = if kernels.iter().all(there) { None } else { Some(self.archive(system)?) };
        let image = |kernel: &Kernel| match &archive {
            Some(archive) if !there(kernel) => {
                let found = archive.newest(kernel)?;
                step(&format!("unpacking {}", found.package), || self.unpack(&found, kernel))?;
                Ok(self.image(kernel))
            }
            _ => Ok(self.image(kernel)),
        };
        let images = kernels.iter().map(image).collect();
        remove_tree(&self.lists())?;
        Ok(images)
    }

    fn lists(&self) -> PathBuf {
        self.dir.join("apt")
    }

    /// A missing suite takes its own kernels along and no others.
    fn archive(&self, system: &dyn Fn() -> Result<Apt>) -> Result<Archive> {
        fs::create_dir_all(&self.dir)?;
        let mut gone = Vec::new();
        let suites = step("fetching the index of Debian's kernels", || {
            let system = system()?;
            let mut suites = Vec::new();
            for suite in SUITES {
                let apt = system.of_suites(&self.lists().join(suite.1), &[suite], &["amd64", "arm64"])?;
                match apt.update() {
                    Ok(()) => suites.push((apt.names("linux-")?, apt)),
                    Err(error) => gone.push(format!("{} can't be had: {error}", suite.1)),
                }
            }
            Ok(suites)
        })?;
        for line in gone {
            say(line);
        }
        Ok(Archive { suites })
    }

    /// Only the image is kept: modules and the rest are many times its size.
    fn unpack(&self, found: &Found<'_>, kernel: &Kernel) -> Result<()> {
        let Found { apt, package, version } = found;
        let whole = self.dir.join(format!("{}.whole", kernel.name));
        remove_tree(&whole)?;
        apt.unpack(&Packages::from([(package.clone(), version.clone())]), &whole)?;
        let image = find(&whole, &|name| name.starts_with("vmlinu"))
            .with_context(|| format!("{package} holds no kernel"))?;
        let dir = self.dir.join(&kernel.name);
        fs::create_dir_all(&dir)?;
        let partial = dir.join("vmlinuz.partial");
        fs::copy(&image, &partial)?;
        fs::write(dir.join("package"), format!("{package} {version}\n"))?;
        fs::rename(&partial, dir.join("vmlinuz"))?;
        remove_tree(&whole)
    }
}

/// The available suites, with the names in each.
struct Archive {
    suites: Vec<(Vec<String>, Apt)>,
}

/// The package that holds an image.
struct Found<'a> {
    apt: &'a Apt,
    package: String,
    version: String,
}

impl Archive {
    /// From 6.19 on in `linux-binary-…`, as `linux-image-…` is empty then.
    fn newest(&self, kernel: &Kernel) -> Result<Found<'_>> {
        let mut versions: Vec<(&str, &Apt)> = Vec::new();
        for (names, apt) in &self.suites {
            versions.extend(names.iter().filter_map(|package| Some((kernel.version_in(package)?, apt))));
        }
        versions.sort_by_key(|(version, _)| Reverse(numbers(version)));
        versions.dedup_by_key(|(version, _)| *version);
        let foreign = if kernel.machine() == Machine::Arm { ":arm64" } else { "" };
        for (version, apt) in versions {
            for kind in ["binary", "image"] {
                let package = format!("linux-{kind}-{version}-{}{foreign}", kernel.flavour.suffix());
                if let Some(version) = apt.version(&package) {
                    return Ok(Found { apt, package, version });
                }
            }
        }
        bail!("Debian has no kernel {kernel} now: its suites keep the current ones of few lines")
    }
}

/// The first regular file below `dir` whose name fits.
fn find(dir: &Path, fits: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let kind = entry.file_type().ok()?;
        if kind.is_file() && fits(&entry.file_name().to_string_lossy()) {
            return Some(entry.path());
        }
        if kind.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.iter().find_map(|folder| find(folder, fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version<'a>(name: &str, package: &'a str) -> Option<&'a str> {
        Kernel::parse(name).unwrap().version_in(package)
    }

    #[test]
    fn a_line_takes_its_own_versions_of_its_flavour_alone() {
        assert_eq!(version("6.12", "linux-image-6.12.117+deb12-cloud-amd64"), Some("6.12.117+deb12"));
        assert_eq!(version("6.1", "linux-image-6.12.117+deb12-cloud-amd64"), None);
        assert_eq!(version("6.12", "linux-image-6.12.117+deb12-rt-amd64"), None);
        assert_eq!(version("6.12-rt", "linux-image-6.12.117+deb12-rt-amd64"), Some("6.12.117+deb12"));
        assert_eq!(version("6.12", "linux-image-6.12.117+deb12-cloud-amd64-unsigned"), None);
        assert_eq!(version("6.12", "linux-image-6.12-cloud-amd64"), None);
        assert_eq!(version("newest", "linux-binary-7.3.4+deb13-cloud-amd64"), Some("7.3.4+deb13"));
        assert_eq!(
            version("6.12-arm64-16k", "linux-image-6.12.117+deb12-arm64-16k:arm64"),
            Some("6.12.117+deb12")
        );
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(numbers("6.12.100+deb12") > numbers("6.12.9+deb12"));
        assert!(numbers("6.1.0-56") > numbers("6.1.0-0.deb11.52"));
        assert!(numbers("7.3.4+deb13") > numbers("7.2.12+deb13"));
    }

    #[test]
    fn an_unknown_kernel_is_refused_by_name() {
        for name in ["6.x", "6.12-arm", ""] {
            assert!(Kernel::parse(name).unwrap_err().to_string().contains("no kernel"), "{name}");
        }
        for name in ALL.iter().chain(&GATE) {
            assert!(Kernel::parse(name).is_ok(), "{name}");
        }
    }
}
