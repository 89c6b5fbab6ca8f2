//! Real containers, made by `runc` from an OCI bundle.
//!
//! Owns the bundle, whose root file system is the host's own programs, read-only, and the container's end.
//! What runs inside is `inferscope` or a server; the directory that it was built to is `/inferscope` there.
//! Knows no image and no registry. Called by `containers.rs`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binary::{self, Running};
use crate::process::{Group, children};
use crate::requirements;
use crate::wait::wait_for;

/// Where the programs of this build are inside.
pub const INSIDE: &str = "/inferscope/inferscope";

const LIMIT: Duration = Duration::from_secs(60);

/// What a container engine gives by default.
pub const USUAL: [&str; 9] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
];
/// What a tracer needs beside.
pub const TRACER: [&str; 4] = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"];

/// Which namespace of a kind a container is in.
#[derive(Debug, Clone, Copy)]
pub enum Namespace<'a> {
    Own,
    Host,
    Of(&'a Container),
}

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    pub args: &'a [&'a str],
    pub pid: Namespace<'a>,
    pub network: Namespace<'a>,
    /// Without their `CAP_`.
    pub capabilities: &'a [&'a str],
}

/// The programs that make containers.
#[derive(Debug, Clone)]
pub struct Runtime {
    runc: PathBuf,
}

impl Runtime {
    /// `runc`, where it was set up and this user can use it.
    ///
    /// # Panics
    /// When it was not, although `INFERSCOPE_REQUIRE_PEERS=1`.
    #[must_use]
    pub fn find(what: &str) -> Option<Self> {
        requirements::peer("runc", what).map(|runc| Self { runc })
    }
}

/// A running container; ends with this value. Should the test be killed, its standard input ends, and with
/// it whatever the tests put inside.
#[derive(Debug)]
pub struct Container {
    bundle: Bundle,
    group: Group,
    /// Its first process, as the host sees it.
    pub init: u32,
}

impl Container {
    /// Starts it, with pipes to its standard input and output.
    ///
    /// # Panics
    /// When it does not start within a minute.
    #[must_use]
    pub fn start(runtime: &Runtime, spec: Spec<'_>) -> Self {
        let bundle = Bundle::new(runtime, spec);
        let mut command = bundle.run();
        command.stderr(Stdio::inherit());
        let group = Group::talking(&mut command);
        let init = bundle.wait_for_pid("init");
        Self { bundle, group, init }
    }

    /// The next line that it prints.
    ///
    /// # Panics
    /// When none comes within a minute.
    #[must_use]
    pub fn line(&self) -> String {
        self.group.line(LIMIT)
    }

    /// `inferscope ARGS…` inside, beside what runs there.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn exec(&self, args: &[&str]) -> Inside {
        let name = format!("exec-{}", next());
        let mut command = self.bundle.runc();
        command.args(["exec", "--pid-file"]).arg(self.bundle.pid_file(&name));
        for capability in USUAL.iter().chain(&TRACER) {
            command.arg("--cap").arg(format!("CAP_{capability}"));
        }
        command.arg(&self.bundle.id).arg(INSIDE).args(args);
        let running = binary::start_as(command);
        Inside { running, host_pid: self.bundle.wait_for_pid(&name), bundle: None }
    }

    /// Runs `work` in its network namespace.
    ///
    /// # Panics
    /// When that namespace can't be entered, or `work` panics.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.init)).expect("it lives");
        // A thread has a network namespace of its own, so it must not be used for anything else afterwards.
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                let link = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), link)
                    .expect("root may enter it");
                work()
            });
            there.join().expect("the work does not panic")
        })
    }

    /// CPU time of all that ever ran in its cgroup, by the kernel's own account.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        let number = |text: String| text.trim().parse::<u64>().expect("it is a number");
        let v1 = Path::new("/sys/fs/cgroup/cpuacct").join(&self.bundle.id).join("cpuacct.usage");
        if let Ok(usage) = fs::read_to_string(v1) {
            return number(usage);
        }
        let v2 = Path::new("/sys/fs/cgroup").join(&self.bundle.id).join("cpu.stat");
        let stat = fs::read_to_string(&v2).unwrap_or_else(|e| panic!("{}: {e}", v2.display()));
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).expect("it is told");
        number(usage.to_owned()) * 1_000
    }
}

/// `inferscope` in a container.
#[derive(Debug)]
pub struct Inside {
    pub running: Running,
    pub host_pid: u32,
    /// Of a container that is for it alone.
    bundle: Option<Bundle>,
}

impl Inside {
    /// Starts a container whose only process it is.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn start(runtime: &Runtime, spec: Spec<'_>) -> Self {
        let bundle = Bundle::new(runtime, spec);
        let running = binary::start_as(bundle.run());
        // One that ends at once may have left no file to find.
        let host_pid = bundle.pid("init").unwrap_or(0);
        Self { running, host_pid, bundle: Some(bundle) }
    }

    /// Waits until it observes.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_until_observing(&mut self) {
        if let Some(bundle) = &self.bundle {
            self.host_pid = bundle.wait_for_pid("init");
        }
        self.running.wait_until_process_observes(self.host_pid);
    }
}

/// What `runc` makes a container from, and its name.
#[derive(Debug)]
struct Bundle {
    runc: PathBuf,
    dir: TempDir,
    id: String,
}

/// One more in each call, so that no two names are the same.
fn next() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

impl Bundle {
    fn new(runtime: &Runtime, spec: Spec<'_>) -> Self {
        let dir = tempfile::tempdir().expect("there is room for a bundle");
        let id = format!("contained-{}-{}", std::process::id(), next());
        let rootfs = dir.path().join("rootfs");
        let binds = root_file_system(&rootfs).expect("a bundle can be filled");
        let config = config(spec, &id, &binds);
        fs::write(dir.path().join("config.json"), config.to_string()).expect("a bundle can be filled");
        Self { runc: runtime.runc.clone(), dir, id }
    }

    fn runc(&self) -> Command {
        let mut command = Command::new(&self.runc);
        command.arg("--root").arg(self.dir.path().join("state"));
        command
    }

    fn run(&self) -> Command {
        let mut command = self.runc();
        command.args(["run", "--bundle"]).arg(self.dir.path());
        command.arg("--pid-file").arg(self.pid_file("init")).arg(&self.id);
        command
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.pid"))
    }

    fn pid(&self, name: &str) -> Option<u32> {
        fs::read_to_string(self.pid_file(name)).ok()?.trim().parse().ok()
    }

    fn wait_for_pid(&self, name: &str) -> u32 {
        wait_for("runc starts something", || self.pid(name))
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let mut command = self.runc();
        command.args(["delete", "--force", &self.id]).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = command.status();
    }
}

/// The host's programs by bind mounts, everything else empty; what is to be bound.
fn root_file_system(rootfs: &Path) -> io::Result<Vec<PathBuf>> {
    for dir in ["proc", "sys", "dev", "tmp", "run", "root", "inferscope"] {
        fs::create_dir_all(rootfs.join(dir))?;
    }
    let mut binds = Vec::new();
    for name in ["usr", "etc", "bin", "sbin", "lib", "lib64"] {
        let host = Path::new("/").join(name);
        match fs::read_link(&host) {
            Ok(target) => symlink(target, rootfs.join(name))?,
            Err(_) if host.is_dir() => {
                fs::create_dir(rootfs.join(name))?;
                binds.push(host);
            }
            Err(_) => {}
        }
    }
    Ok(binds)
}

fn config(spec: Spec<'_>, id: &str, binds: &[PathBuf]) -> Value {
    let capabilities: Vec<String> = spec.capabilities.iter().map(|name| format!("CAP_{name}")).collect();
    let bind = |from: &Path, to: &Path| json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", "ro"]});
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]}),
        bind(Path::new("/sys"), Path::new("/sys")),
    ];
    mounts.extend(binds.iter().map(|path| bind(path, path)));
    let program = binary::inferscope_bin();
    mounts.push(bind(program.parent().unwrap_or(&program), Path::new("/inferscope")));
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "ipc"}), json!({"type": "uts"})];
    for (kind, file, which) in [("pid", "pid", spec.pid), ("network", "net", spec.network)] {
        match which {
            Namespace::Host => {}
            Namespace::Own => namespaces.push(json!({"type": kind})),
            Namespace::Of(other) => {
                namespaces.push(json!({"type": kind, "path": format!("/proc/{}/ns/{file}", other.init)}));
            }
        }
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": spec.args, "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "RUST_BACKTRACE=1"],
            "capabilities": {"bounding": &capabilities, "effective": &capabilities, "permitted": &capabilities},
        },
        "root": {"path": "rootfs"},
        "hostname": "contained",
        "mounts": mounts,
        "linux": {"namespaces": namespaces, "cgroupsPath": format!("/{id}")},
    })
}

/// Pids of the process in each of its pid namespaces, the host's first.
#[must_use]
pub fn namespace_pids(host_pid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{host_pid}/status")).ok()?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_whitespace().map(|pid| pid.parse().ok()).collect()
}

/// The process with all its descendants, as the host sees them now.
#[must_use]
pub fn tree(root: u32) -> Vec<u32> {
    let mut pids = vec![root];
    let mut at = 0;
    while at < pids.len() {
        pids.extend(children(pids[at]));
        at += 1;
    }
    pids
}
