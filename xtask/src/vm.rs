//! `cargo xtask vm [KERNEL…]`: Debian's kernels under QEMU, with a storm whose truth is known.
//!
//! Owns the order of steps: fetch, build, boot, judge, report. Never installs anything. Needs no root, no KVM and no
//! network but the package archive. Called by `main.rs` and, for some kernels, by `ci.rs`.

mod arm;
mod console;
mod initramfs;
mod judge;
mod kernels;
mod machine;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::apt::{self, Apt};
use crate::steps::{say, seconds, step, visibly};
use crate::workspace::Workspace;
use crate::{setup, toolchain};

use console::Results;
use initramfs::Programs;
use judge::Verdict;
use kernels::{Kernel, Machine, Store};
use machine::{Boot, Qemu};

/// Raised whenever what is unpacked changes, so that an older folder is not taken for a current one.
const RECIPE: &str = "r1";

/// The programs that the scripts under `guest/` call.
const APPLETS: [&str; 36] = [
    "sh", "mount", "ip", "chmod", "mkdir", "cut", "gzip", "base64", "rm", "timeout", "cat", "uname", "cp",
    "sleep", "su", "kill", "dmesg", "sync", "poweroff", "mkfifo", "grep", "unshare", "dd", "true", "false",
    "echo", "ls", "ps", "env", "head", "tail", "id", "nproc", "seq", "sed", "test",
];

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Options {
    /// A line of Debian's kernels (6.12), or newest; with -rt, -arm64 or -arm64-16k after it [default: eleven]
    kernels: Vec<String>,
    /// Those of the gate
    #[arg(long, conflicts_with = "kernels")]
    gate: bool,
    /// Checks to run, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    checks: Vec<String>,
    /// For inferscope's environment in the guest, and the kernel's command line (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    append: Vec<String>,
    /// Write docs/kernels.md: rows of other kernels stay
    #[arg(long)]
    write: bool,
    /// Fetch the kernels' current versions, also where there are others
    #[arg(long)]
    update: bool,
    /// A binary to run, and not this checkout's release build
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// The kernels of the gate. On other systems than Debian and its derivatives it reports that it did not run.
pub(crate) fn gate(workspace: &Workspace) -> Result<()> {
    if let Some(tool) = apt::missing_tool() {
        say(format_args!("vm: not run, because there is no {tool} to fetch kernels with"));
        return Ok(());
    }
    run(workspace, &Options { gate: true, ..Options::default() })
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if let Some(tool) = apt::missing_tool() {
        bail!("cannot fetch kernels: there is no {tool}\n  run this on Debian or its kin");
    }
    let names: Vec<&str> = match (options.gate, options.kernels.is_empty()) {
        (true, _) => kernels::GATE.to_vec(),
        (false, true) => kernels::ALL.to_vec(),
        (false, false) => options.kernels.iter().map(String::as_str).collect(),
    };
    let kernels = names.into_iter().map(Kernel::parse).collect::<Result<Vec<_>>>()?;
    let cache = toolchain::cache().context("no cache folder: set HOME or XDG_CACHE_HOME")?;
    let cache = cache.join("vm").join(format!("{RECIPE}-{}", std::env::consts::ARCH));
    fs::create_dir_all(&cache)?;
    let lock = apt::lock(&cache)?;
    let system = || {
        let apt = Apt::at(&cache.join("apt"))?;
        apt.update()?;
        Ok(apt)
    };
    let qemu = Qemu::prepare(&cache, &system)?;
    let images = Store::at(&cache).images(&kernels, options.update, &system)?;
    drop(lock);
    let out = workspace.target.join("vm");
    fs::create_dir_all(&out)?;

    let mut guests = Guests {
        workspace,
        qemu: &qemu,
        cache: &cache,
        system: &system,
        options,
        out: &out,
        made: Vec::new(),
    };
    let mut rows = Vec::new();
    for (kernel, image) in kernels.iter().zip(images) {
        let image = match image {
            Ok(image) => image,
            // A kernel that Debian no longer has must not stop the gate.
            Err(error) if options.gate => {
                say(format_args!("{kernel}: not run: {error:#}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        let started = Instant::now();
        let row = guests.examine(kernel, &image).with_context(|| format!("kernel {kernel}"))?;
        say(format_args!("{kernel} ({}): {}", row.version, seconds(started.elapsed())));
        for verdict in &row.verdicts {
            say(format_args!("  {verdict}"));
        }
        rows.push(row);
    }
    ensure!(!rows.is_empty(), "no kernel could be had, so nothing was checked");
    if options.write {
        let path = workspace.root.join("docs/kernels.md");
        table::write(&path, &rows)?;
        say(format_args!("table: {}", path.display()));
    }
    let failed: Vec<&str> = rows.iter().filter(|row| row.failed()).map(|row| row.kernel.as_str()).collect();
    ensure!(
        failed.is_empty(),
        "checks failed on {}; what they left is in {}",
        failed.join(", "),
        out.display()
    );
    Ok(())
}

/// The result of one kernel.
pub(crate) struct Row {
    /// The name on the command line.
    kernel: String,
    /// The release, as in `uname -r`.
    version: String,
    verdicts: Vec<Verdict>,
}

impl Row {
    fn failed(&self) -> bool {
        self.verdicts.iter().any(Verdict::failed)
    }
}

struct Guests<'a> {
    workspace: &'a Workspace,
    qemu: &'a Qemu,
    cache: &'a Path,
    system: &'a dyn Fn() -> Result<Apt>,
    options: &'a Options,
    out: &'a Path,
    /// Initial file systems, by architecture.
    made: Vec<(Machine, PathBuf)>,
}

impl Guests<'_> {
    fn examine(&mut self, kernel: &Kernel, image: &Path) -> Result<Row> {
        let initramfs = self.initramfs(kernel.machine())?;
        let out = self.out.join(&kernel.name);
        apt::remove_tree(&out)?;
        fs::create_dir_all(&out)?;
        let mut append = self.options.append.join(" ");
        if !self.options.checks.is_empty() {
            append += &format!(" checks={}", self.options.checks.join(","));
        }
        let boot = Boot {
            machine: kernel.machine(),
            kernel: image,
            initramfs: &initramfs,
            append: &append,
            out: &out,
        };
        // The emulation itself fails at times, and the boot is repeated. A failed check is not.
        let mut results = self.boot(kernel, &boot)?;
        if results.text("kernel").is_none() || !results.done {
            say(format_args!("{kernel}: the boot did not come to its end; once more"));
            fs::rename(out.join("console"), out.join("console.first"))?;
            results = self.boot(kernel, &boot)?;
        }
        for (name, content) in results.files() {
            fs::write(out.join(name), content)?;
        }
        let version =
            results.text("kernel").map_or_else(|| "did not boot".to_owned(), |text| text.trim().to_owned());
        Ok(Row {
            kernel: kernel.name.clone(),
            version,
            verdicts: judge::judge(&results, &self.options.checks),
        })
    }

    fn boot(&self, kernel: &Kernel, boot: &Boot<'_>) -> Result<Results> {
        let booted = step(&format!("booting {kernel}"), || self.qemu.boot(boot))?;
        let results = Results::of(&booted.console);
        if !results.done {
            let ended =
                booted.ended.map_or_else(|| "ended for taking too long".to_owned(), |s| s.to_string());
            let last = results.steps.last().map_or("nothing", String::as_str);
            say(format_args!(
                "{kernel}: QEMU {ended} after {}; the guest's last word: {last}",
                seconds(booted.took)
            ));
        }
        Ok(results)
    }

    fn initramfs(&mut self, machine: Machine) -> Result<PathBuf> {
        if let Some((_, path)) = self.made.iter().find(|(made, _)| *made == machine) {
            return Ok(path.clone());
        }
        let programs = match machine {
            Machine::X86 => self.programs()?,
            Machine::Arm => arm::programs(self.workspace, self.cache, self.system)?,
        };
        let path = self.out.join(format!("{machine:?}.cpio"));
        fs::write(&path, initramfs::make(&programs, &APPLETS)?)?;
        self.made.push((machine, path.clone()));
        Ok(path)
    }

    fn programs(&self) -> Result<Programs> {
        let inferscope = match &self.options.binary {
            Some(binary) => binary.clone(),
            None => {
                setup::toolchain(self.workspace)?;
                say("building inferscope");
                visibly(self.workspace.cargo().args(["build", "--release", "--package", "inferscope"]))?;
                self.workspace.binary("release", "inferscope")
            }
        };
        // The tests use the same profile, so nothing is built twice.
        visibly(self.workspace.cargo().args([
            "build",
            "--package",
            "inferscope-tests",
            "--bin",
            "forkstorm",
        ]))?;
        let forkstorm = self.workspace.binary("debug", "forkstorm");
        let libraries = initramfs::libraries_here(&[&inferscope, &forkstorm])?;
        Ok(Programs { busybox: self.qemu.busybox()?, inferscope, forkstorm, libraries })
    }
}
