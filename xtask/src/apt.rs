//! Unpacks Debian packages into a folder, for programs that must not be installed.
//!
//! Owns an apt with an index and archives of its own, and the choice of dependencies to unpack. Never installs a
//! package, never touches the system's apt state and needs no root. Called by `debian.rs`, `peers.rs` and `vm`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::steps::{captured, step};

/// Packages by name, with their versions.
pub(crate) type Packages = BTreeMap<String, String>;

/// Programs that are needed and not on `PATH`. Only Debian and its derivatives have them all.
pub(crate) fn missing_tool() -> Option<&'static str> {
    ["apt-get", "apt-cache", "dpkg", "dpkg-query"].into_iter().find(|tool| !on_path(tool))
}

/// A lock: two set-ups at once would build the same thing in the same place, so the second one waits.
pub(crate) fn lock(dir: &Path) -> Result<fs::File> {
    let lock = fs::File::create(dir.join("lock"))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        step("waiting for another set-up", || {
            flock(&lock, FlockOperation::LockExclusive).context("cannot lock the folder")
        })?;
    }
    Ok(lock)
}

/// apt with an index and an archive folder of its own. It uses the system's sources and keys, but not its state.
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    pub(crate) fn at(dir: &Path) -> Result<Self> {
        for sub in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let options = [
            format!("Dir::State={}", dir.join("state").display()),
            format!("Dir::Cache={}", dir.join("cache").display()),
            "Dir::State::status=/var/lib/dpkg/status".to_owned(),
            // root's apt would otherwise download as the user _apt, who cannot enter this folder.
            "APT::Sandbox::User=".to_owned() + if rustix::process::geteuid().is_root() { "root" } else { "" },
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ];
        Ok(Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() })
    }

    /// The same with other suites of the archives in the system's sources: `(archive's label, suite)`. `self` must be
    /// up to date, because its index holds the archives' addresses.
    pub(crate) fn of_suites(
        &self,
        dir: &Path,
        suites: &[(&str, &str)],
        architectures: &[&str],
    ) -> Result<Self> {
        let format = "$(LABEL) $(REPO_URI)";
        let mut targets = self.command("apt-get");
        let known = captured(targets.args(["indextargets", "--format", format, "Created-By: Packages"]))?;
        let archives: BTreeMap<&str, &str> = known.lines().filter_map(|line| line.split_once(' ')).collect();
        let mut sources = String::new();
        for &(label, suite) in suites {
            let uri = archives.get(label).with_context(|| {
                format!("apt's sources name no archive with the label {label}: add Debian's to them")
            })?;
            sources += &format!("deb{} {uri} {suite} main\n", signed_by());
        }
        let mut apt = Self::at(dir)?;
        let list = dir.join("sources.list");
        fs::write(&list, sources)?;
        let own = [
            format!("Dir::Etc::sourcelist={}", list.display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("APT::Architectures={}", architectures.join(",")),
        ];
        apt.options.extend(own.into_iter().flat_map(|option| ["-o".to_owned(), option]));
        Ok(apt)
    }

    /// All names with this prefix, including those that nothing provides.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = captured(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The download for this name, if there is one.
    pub(crate) fn version(&self, name: &str) -> Option<String> {
        let record = captured(self.command("apt-cache").args(["show", "--no-all-versions", name])).ok()?;
        field(&record, "Version").map(str::to_owned)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Package names and fields are parsed, so they must be the untranslated ones.
        command.args(&self.options).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    pub(crate) fn update(&self) -> Result<()> {
        captured(self.command("apt-get").args(["--quiet", "update"])).map(drop)
    }

    /// The packages with their direct and indirect dependencies for which `needed` is true.
    pub(crate) fn with_dependencies(
        &self,
        names: &[&str],
        needed: impl Fn(&str) -> bool,
    ) -> Result<Packages> {
        let mut wanted: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut found = Packages::new();
        let mut passed_over = BTreeSet::new();
        while let Some(name) = wanted.pop() {
            if found.contains_key(&name) || passed_over.contains(&name) {
                continue;
            }
            if !names.contains(&name.as_str()) && !needed(&name) {
                passed_over.insert(name);
                continue;
            }
            let record = captured(self.command("apt-cache").args(["show", "--no-all-versions", &name]))
                .with_context(|| format!("Debian's index has no package {name}"))?;
            let version = field(&record, "Version").with_context(|| format!("{name} has no version"))?;
            found.insert(name, version.to_owned());
            wanted.extend(dependencies(&record));
        }
        Ok(found)
    }

    /// Downloads the packages and unpacks all of them to `to`, which is complete afterwards or does not exist. Its file
    /// `packages` names them.
    pub(crate) fn unpack(&self, packages: &Packages, to: &Path) -> Result<()> {
        let [partial, archives] = ["partial", "debs"].map(|extension| to.with_extension(extension));
        remove_tree(&partial)?;
        remove_tree(&archives)?;
        fs::create_dir_all(&archives)?;
        let mut command = self.command("apt-get");
        command.current_dir(&archives).args(["--quiet", "download"]);
        captured(command.args(packages.iter().map(|(name, version)| format!("{name}={version}"))))?;
        for archive in fs::read_dir(&archives)? {
            captured(Command::new("dpkg").arg("-x").arg(archive?.path()).arg(&partial))?;
        }
        let list: String = packages.iter().map(|(name, version)| format!("{name} {version}\n")).collect();
        fs::write(partial.join("packages"), list)?;
        fs::rename(&partial, to).context("cannot put the unpacked packages in place")?;
        remove_tree(&archives)
    }
}

/// The keys for suites that are not in the system's own sources: Debian's keys if they are a file, else those that apt
/// trusts in general.
fn signed_by() -> String {
    const KEYS: [&str; 2] =
        ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
    let found = KEYS.into_iter().find(|path| Path::new(path).is_file());
    found.map(|path| format!(" [signed-by={path}]")).unwrap_or_default()
}

/// A shared library that the system lacks (a slim container may have no libz3). The user provides programs and headers.
pub(crate) fn is_missing_library(name: &str) -> bool {
    name.starts_with("lib") && !name.ends_with("-dev") && !is_installed(name)
}

fn is_installed(name: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", name]);
    captured(&mut query).is_ok_and(|status| status == "installed")
}

fn field<'a>(record: &'a str, name: &str) -> Option<&'a str> {
    record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Names in `Depends`, the first of alternatives, without versions and architectures.
fn dependencies(record: &str) -> Vec<String> {
    let names = field(record, "Depends").unwrap_or_default().split(',');
    let names = names.filter_map(|entry| entry.split(['|', '(', ':']).next());
    names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

pub(crate) fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "Package: libllvm22\nVersion: 1:22.1.8-1~deb12u1\n\
        Depends: libc6 (>= 2.34), libedit2 (>= 2.11-20080614-0), gcc:amd64, a | b (>= 1)\n";

    #[test]
    fn record_gives_version_and_first_alternatives() {
        assert_eq!(field(RECORD, "Version"), Some("1:22.1.8-1~deb12u1"));
        assert_eq!(dependencies(RECORD), ["libc6", "libedit2", "gcc", "a"]);
        assert_eq!(dependencies("Package: x\n"), Vec::<String>::new());
    }
}
