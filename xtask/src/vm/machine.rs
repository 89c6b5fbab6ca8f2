//! The emulated machine: QEMU out of Debian's packages, and one boot.
//!
//! Owns the list of packages, QEMU's arguments and the time limit of a boot. Never installs one. Needs no KVM and no
//! network. Called by `vm.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::kernels::Machine;
use crate::apt::{self, Apt};
use crate::peers::library_dirs;
use crate::steps::step;

const PACKAGES: [&str; 3] = ["qemu-system-x86", "qemu-system-arm", "busybox-static"];
/// Firmware and the like, which QEMU's packages depend on. Whatever else they need is libraries.
const DATA: [&str; 4] = ["qemu-system-common", "qemu-system-data", "seabios", "ipxe-qemu"];

/// A boot with all checks takes 16 s on an idle machine, and two minutes beside builds.
const LIMIT: Duration = Duration::from_secs(420);

pub(super) struct Qemu {
    dir: PathBuf,
}

/// The parts of one boot.
pub(super) struct Boot<'a> {
    pub(super) machine: Machine,
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// Further arguments of the kernel. The kernel passes unknown ones to `/init` as environment.
    pub(super) append: &'a str,
    /// The file for the console and for QEMU's output.
    pub(super) out: &'a Path,
}

/// The result of a boot.
pub(super) struct Booted {
    pub(super) console: String,
    pub(super) took: Duration,
    /// `None`: it took too long and was ended.
    pub(super) ended: Option<std::process::ExitStatus>,
}

impl Qemu {
    /// Unpacked into the cache, unless it is there.
    pub(super) fn prepare(cache: &Path, system: &dyn Fn() -> Result<Apt>) -> Result<Self> {
        let dir = cache.join("qemu");
        if !dir.is_dir() {
            let apt = step("fetching Debian's package index", system)?;
            let needed = |name: &str| DATA.contains(&name) || apt::is_missing_library(name);
            let packages = apt.with_dependencies(&PACKAGES, needed)?;
            step(&format!("unpacking QEMU with what it needs, {} packages", packages.len()), || {
                apt.unpack(&packages, &dir)
            })?;
        }
        Ok(Self { dir })
    }

    /// A static program with everything that a guest's scripts need, for this machine's architecture.
    pub(super) fn busybox(&self) -> Result<PathBuf> {
        // Its place depends on the release.
        let places = ["bin/busybox", "usr/bin/busybox"].map(|place| self.dir.join(place));
        places.into_iter().find(|place| place.is_file()).context("the unpacked packages hold no busybox")
    }

    /// Boots it and waits for its end.
    pub(super) fn boot(&self, boot: &Boot<'_>) -> Result<Booted> {
        let console = boot.out.join("console");
        let output = fs::File::create(boot.out.join("qemu"))?;
        // An earlier boot may have left it.
        let _ = fs::remove_file(&console);
        let started = Instant::now();
        let mut child = self
            .command(boot, &console)?
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start QEMU")?;
        let ended = wait(&mut child, started)?;
        let console = fs::read(&console).unwrap_or_default();
        Ok(Booted { console: String::from_utf8_lossy(&console).into_owned(), took: started.elapsed(), ended })
    }

    fn command(&self, boot: &Boot<'_>, console: &Path) -> Result<Command> {
        let (program, machine, processor, terminal) = match boot.machine {
            Machine::X86 => ("qemu-system-x86_64", "q35", "max", "ttyS0"),
            // With the architecture's own pointer authentication each function call would cost microseconds.
            Machine::Arm => ("qemu-system-aarch64", "virt", "max,pauth-impdef=on", "ttyAMA0"),
        };
        // Other programs of this machine go first.
        let mut command = Command::new("nice");
        command.args(["-n", "3"]).arg(self.dir.join("usr/bin").join(program));
        let libraries = std::env::join_paths(library_dirs(&self.dir)?)?;
        command.env("LD_LIBRARY_PATH", libraries);
        for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(self.dir.join(firmware));
        }
        // Several threads emulate faster and crash one boot in eight.
        command.args(["-machine", machine, "-cpu", processor, "-accel", "tcg,thread=single"]);
        command.args([
            "-m",
            "1024",
            "-smp",
            "2",
            "-display",
            "none",
            "-monitor",
            "none",
            "-nic",
            "none",
            "-no-reboot",
        ]);
        command.arg("-kernel").arg(boot.kernel).arg("-initrd").arg(boot.initramfs);
        // Emulated on a busy machine, the timer looks broken to a kernel that tries it out.
        let append = format!("console={terminal} quiet panic=-1 no_timer_check {}", boot.append);
        command.args(["-append", append.trim_end()]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        Ok(command)
    }
}

fn wait(child: &mut Child, started: Instant) -> Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > LIMIT {
            child.kill().context("cannot end QEMU")?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
