//! Runs a command with less: fewer capabilities, as another user, with parts of the machine out of sight.
//!
//! Owns the taking away, all of it in this process before it becomes the command: mounts are changed in a
//! mount namespace of its own. Started as root by `privileges.rs` and others.
//!
//! Usage: `reduced [--uid N] [--caps A,B,…] [--hide DIR]… [--hidepid] [--no-cgroup2] [--no-proc]
//! [--keep-bounding] [--files N] -- CMD ARGS…`
//!
//! `--caps`: exactly these are left, in effect, whoever the user is; without it all that there are. With
//! `--keep-bounding` others can come back by a file's capabilities.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::exit;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, capability_is_in_bounding_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_thread_gid, set_thread_groups, set_thread_uid, unshare_unsafe,
};

fn main() {
    let done = Reduction::parse(std::env::args_os().skip(1)).and_then(|reduction| reduction.run());
    let Err(e) = done;
    eprintln!("reduced: {e}");
    exit(125);
}

#[derive(Default)]
struct Reduction {
    uid: Option<u32>,
    capabilities: Option<CapabilitySet>,
    hidden: Vec<CString>,
    hidepid: bool,
    no_cgroup2: bool,
    no_proc: bool,
    keep_bounding: bool,
    files: Option<u64>,
    command: Vec<CString>,
}

enum Never {}

impl Reduction {
    fn parse(mut args: impl Iterator<Item = std::ffi::OsString>) -> io::Result<Self> {
        let mut all = Self::default();
        let bad = |what: &str| io::Error::other(format!("bad or missing {what}"));
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| bad("value"));
            match arg.to_str() {
                Some("--uid") => {
                    let uid = value()?;
                    all.uid = Some(uid.to_str().and_then(|u| u.parse().ok()).ok_or_else(|| bad("--uid"))?);
                }
                Some("--files") => {
                    let files = value()?;
                    all.files =
                        Some(files.to_str().and_then(|n| n.parse().ok()).ok_or_else(|| bad("--files"))?);
                }
                Some("--caps") => all.capabilities = Some(named(&value()?.to_string_lossy())?),
                Some("--hide") => all.hidden.push(CString::new(value()?.as_bytes())?),
                Some("--hidepid") => all.hidepid = true,
                Some("--no-cgroup2") => all.no_cgroup2 = true,
                Some("--no-proc") => all.no_proc = true,
                Some("--keep-bounding") => all.keep_bounding = true,
                Some("--") => break,
                _ => return Err(bad(&arg.to_string_lossy())),
            }
        }
        for arg in args {
            all.command.push(CString::new(arg.as_bytes())?);
        }
        if all.command.is_empty() { Err(bad("command")) } else { Ok(all) }
    }

    fn run(&self) -> io::Result<Never> {
        // By descriptor, as an ordinary user may have no way to where it lies.
        let command = open(&*self.command[0], OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if !self.hidden.is_empty() || self.hidepid || self.no_cgroup2 || self.no_proc {
            self.change_mounts()?;
        }
        if let Some(files) = self.files {
            let limit = Rlimit { current: Some(files), maximum: Some(files) };
            setrlimit(Resource::Nofile, limit)?;
        }
        let wanted = self.capabilities.unwrap_or(capabilities(None)?.permitted);
        self.bound(wanted)?;
        if let Some(uid) = self.uid.filter(|uid| *uid != 0) {
            become_user(uid, wanted)?;
        }
        execute(&command, &self.command)
    }

    fn change_mounts(&self) -> io::Result<()> {
        // SAFETY: this process has a single thread, and a mount namespace shares no memory or descriptors.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        for dir in &self.hidden {
            mount("reduced", dir.as_c_str(), "tmpfs", MountFlags::empty(), c"mode=755")?;
        }
        if self.no_cgroup2 {
            for point in mounted("cgroup2")? {
                unmount(point, UnmountFlags::DETACH)?;
            }
        }
        if self.hidepid {
            mount("proc", "/proc", "proc", MountFlags::empty(), c"hidepid=invisible")?;
        }
        if self.no_proc {
            mount("reduced", "/proc", "tmpfs", MountFlags::empty(), c"mode=755")?;
        }
        Ok(())
    }

    /// What root gets at an exec is what the bounding set lets it.
    fn bound(&self, wanted: CapabilitySet) -> io::Result<()> {
        if self.capabilities.is_none() || self.keep_bounding {
            return Ok(());
        }
        for bit in 0..64 {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            // An error: beyond the last that this kernel knows.
            let Ok(bounded) = capability_is_in_bounding_set(capability) else { break };
            match (bounded, wanted.contains(capability)) {
                (true, false) => remove_capability_from_bounding_set(capability)?,
                (false, true) => return Err(io::Error::other(format!("{capability:?} can't be had here"))),
                _ => {}
            }
        }
        Ok(())
    }
}

fn become_user(uid: u32, wanted: CapabilitySet) -> io::Result<()> {
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_gid(Gid::from_raw(uid))?;
    set_thread_uid(Uid::from_raw(uid))?;
    set_capabilities(None, CapabilitySets { effective: wanted, permitted: wanted, inheritable: wanted })?;
    // What is ambient is kept at an exec.
    for capability in wanted {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Capabilities of a comma-separated list of names such as `BPF`.
fn named(list: &str) -> io::Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for name in list.split(',').filter(|name| !name.is_empty()) {
        set |= CapabilitySet::from_name(name).ok_or_else(|| io::Error::other(format!("no CAP_{name}")))?;
    }
    Ok(set)
}

/// Where file systems of that type are mounted, the topmost first.
fn mounted(kind: &str) -> io::Result<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        (system.split(' ').next() == Some(kind)).then(|| mount.split(' ').nth(4))?.map(str::to_owned)
    });
    let mut points: Vec<_> = points.collect();
    points.reverse();
    Ok(points)
}

fn execute(command: &OwnedFd, args: &[CString]) -> io::Result<Never> {
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(args), pointers(&environment));
    let empty: &CStr = c"";
    // SAFETY: both arrays end with a null pointer, and all strings outlive the call.
    unsafe {
        libc::execveat(
            command.as_raw_fd(),
            empty.as_ptr(),
            argv.as_ptr().cast(),
            envp.as_ptr().cast(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(io::Error::last_os_error())
}
