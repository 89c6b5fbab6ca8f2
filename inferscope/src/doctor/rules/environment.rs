//! Namespaces, cgroups, /proc, GPUs, clock and limits: what each of them hides from a profile.
//!
//! Owns the effect of each on a profile. Only a missing /proc prevents one.

use crate::doctor::Check;
use crate::doctor::facts::{Facts, Hierarchy, Layout, Namespace, Nvml};

/// Descriptors that are enough for more than a thousand processes: a sampled process keeps three open.
const WANTED_FILES: u64 = 4_096;

/// CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE.
const INSIGHT: u64 = 1 << 2 | 1 << 19;

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    vec![
        pid_namespace(facts),
        user_namespace(facts),
        network_namespace(facts),
        layout(facts),
        making(facts),
        accounting(facts),
        proc(facts),
        other_processes(facts),
        nvml(facts),
        clock(facts),
        open_files(facts),
        cpus(facts),
    ]
}

fn word(namespace: Namespace) -> &'static str {
    match namespace {
        Namespace::Initial => "initial",
        Namespace::OfPid1 => "pid1",
        Namespace::Inner => "inner",
        Namespace::Unknown => "unknown",
    }
}

fn pid_namespace(facts: &Facts) -> Check {
    let (code, name) = ("pid_namespace", "pid namespace");
    let namespace = facts.namespaces.pid;
    let check = match namespace {
        _ if facts.namespaces.proc_is_foreign => Check::limited(
            code,
            name,
            "a namespace of its own, and the /proc that is mounted shows another one's pids: pids do not mean the same there",
        )
        .remedy("mount its own: mount -t proc proc /proc (unshare --pid --fork --mount-proc does)"),
        Namespace::Initial => Check::ok(code, name, "the machine's: every process can be a target"),
        Namespace::Unknown => Check::limited(code, name, "unknown: /proc/self/ns/pid can't be read")
            .remedy("mount /proc"),
        Namespace::OfPid1 | Namespace::Inner => Check::limited(
            code,
            name,
            "one of its own: only processes within it can be targets; a report's pids are those seen here, the host's beside them",
        )
        .remedy("for a server in another container: docker run --pid=container:NAME, Kubernetes shareProcessNamespace: true")
        .remedy("for servers of the host: docker run --pid=host, Kubernetes hostPID: true"),
    };
    check.value(word(namespace))
}

fn user_namespace(facts: &Facts) -> Check {
    let (code, name) = ("user_namespace", "user namespace");
    let namespace = facts.namespaces.user;
    let check = match namespace {
        Namespace::Inner | Namespace::OfPid1 => {
            Check::limited(code, name, "one of its own: its capabilities do not count for the kernel tracker")
                .remedy("run it outside of it, as root of the machine (rootless containers have one)")
        }
        Namespace::Initial => Check::ok(code, name, "the machine's: capabilities count"),
        Namespace::Unknown => Check::limited(code, name, "unknown: /proc/self/ns/user can't be read"),
    };
    check.value(word(namespace))
}

fn network_namespace(facts: &Facts) -> Check {
    let (code, name) = ("network_namespace", "network namespace");
    let namespace = facts.namespaces.network;
    let check = match namespace {
        Namespace::Initial => Check::ok(code, name, "the machine's: its loopback endpoints can be reached"),
        Namespace::OfPid1 => {
            Check::ok(code, name, "that of the machine's pid 1: its loopback endpoints can be reached")
        }
        Namespace::Unknown => Check::ok(
            code,
            name,
            "may be the machine's or one of its own: 127.0.0.1 reaches the servers within it",
        ),
        Namespace::Inner => {
            Check::limited(code, name, "one of its own: 127.0.0.1 reaches only servers within it").remedy(
                "for a server elsewhere: docker run --network host or container:NAME, nsenter -t PID -n, or its routed address",
            )
        }
    };
    check.value(word(namespace))
}

fn layout(facts: &Facts) -> Check {
    let (code, name) = ("cgroup_layout", "cgroup layout");
    let mounts: Vec<_> =
        facts.cgroups.hierarchies.iter().map(|h| format!("{} at {}", h.name, h.mount.display())).collect();
    let mounts = mounts.join(", ");
    match facts.cgroups.layout {
        Layout::V2 => Check::ok(code, name, format!("cgroup v2: {mounts}")).value("v2"),
        Layout::Hybrid => Check::ok(
            code,
            name,
            format!(
                "hybrid, v1 controllers beside a cgroup v2: membership is by v2, accounting by v1: {mounts}"
            ),
        )
        .value("hybrid"),
        Layout::V1 => Check::limited(
            code,
            name,
            format!("v1 alone, so that --cgroup has no hierarchy to go by; --pid works: {mounts}"),
        )
        .value("v1")
        .lacks(["cgroup2"])
        .remedy("mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"),
        Layout::None => Check::limited(
            code,
            name,
            "no cgroup file system is mounted: no --cgroup, no totals to compare with; --pid works",
        )
        .value("none")
        .lacks(["cgroup2"])
        .remedy("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        .remedy("in a container, give it the host's: -v /sys/fs/cgroup:/sys/fs/cgroup:ro"),
    }
}

fn making(facts: &Facts) -> Check {
    let (code, name) = ("cgroup_create", "making a cgroup");
    let hierarchies = &facts.cgroups.hierarchies;
    let of =
        |made: bool| -> Vec<&Hierarchy> { hierarchies.iter().filter(|h| h.made.is_ok() == made).collect() };
    let names = |list: &[&Hierarchy]| list.iter().map(|h| h.name).collect::<Vec<_>>().join(", ");
    let (can, cannot) = (of(true), of(false));
    if cannot.is_empty() && !can.is_empty() {
        return Check::ok(code, name, format!("can be made below the own one ({})", names(&can)))
            .value("yes");
    }
    let why: Vec<_> =
        cannot.iter().filter_map(|h| Some(format!("{}: {}", h.name, h.made.as_ref().err()?))).collect();
    let why = if why.is_empty() { "there is none to make one in".to_owned() } else { why.join("; ") };
    let check = Check::limited(
        code,
        name,
        format!("can't be made, so that exec has no cgroup of its own to account by: {why}"),
    );
    check
        .value(if can.is_empty() { "no" } else { "some" })
        .lacks(cannot.iter().map(|h| h.name))
        .remedy("run it as root, or in a delegated cgroup: systemd-run --user --scope -p Delegate=yes inferscope …")
        .remedy("in a container, mount /sys/fs/cgroup writable (docker run --cgroupns=private -v /sys/fs/cgroup:/sys/fs/cgroup:rw)")
}

fn accounting(facts: &Facts) -> Check {
    let (code, name) = ("cgroup_accounting", "cgroup accounting");
    let files: Vec<_> = facts
        .cgroups
        .hierarchies
        .iter()
        .flat_map(|h| h.files.iter().map(|file| format!("{file} ({})", h.name)))
        .collect();
    let any = |wanted: [&str; 2]| {
        facts.cgroups.hierarchies.iter().any(|h| h.files.iter().any(|file| wanted.contains(file)))
    };
    let (cpu, memory) =
        (any(["cpu.stat", "cpuacct.usage"]), any(["memory.peak", "memory.max_usage_in_bytes"]));
    let said = if files.is_empty() { "no file".to_owned() } else { files.join(", ") };
    if cpu && memory {
        return Check::ok(code, name, said);
    }
    let check = Check::limited(
        code,
        name,
        format!(
            "{said}: a report has no {} to compare its own with",
            match (cpu, memory) {
                (false, true) => "CPU total of the kernel's",
                (true, false) => "memory peak of the kernel's",
                _ => "totals of the kernel's",
            }
        ),
    );
    check
        .lacks([(cpu, "cpu"), (memory, "memory")].into_iter().filter(|(there, _)| !there).map(|(_, what)| what))
        .remedy("enable the memory controller for it (echo +memory > …/cgroup.subtree_control); memory.peak needs Linux 5.19")
}

fn proc(facts: &Facts) -> Check {
    let (code, name) = ("proc", "/proc");
    if !facts.proc.mounted {
        return Check::missing(code, name, "not mounted, or not this process's: nothing can be sampled")
            .lacks(["/proc"])
            .remedy("mount -t proc proc /proc");
    }
    match &facts.proc.hidepid {
        None => Check::ok(code, name, "mounted, and hides no process").value("open"),
        Some(how) => Check::limited(
            code,
            name,
            format!("mounted with hidepid={how}: other users' processes need CAP_SYS_PTRACE to be seen"),
        )
        .value("hidepid")
        .remedy("run it as root, or mount -o remount,hidepid=0 /proc, or join the group of the mount's gid= option"),
    }
}

fn other_processes(facts: &Facts) -> Check {
    let (code, name) = ("other_processes", "other processes");
    let others = facts.proc.others;
    if others.tried == 0 {
        return Check::ok(code, name, "there is none to try").value("untried");
    }
    let lost: Vec<_> = [
        (others.without_pss, "PSS (smaps_rollup)"),
        (others.without_exe, "the program's path (exe)"),
        (others.without_sockets, "sockets (fd)"),
    ]
    .into_iter()
    .filter(|(refused, _)| *refused > 0)
    .map(|(refused, what)| format!("{what} of {refused}"))
    .collect();
    if lost.is_empty() {
        return Check::ok(code, name, format!("all {} can be looked into", others.tried)).value("all");
    }
    let example = others.example.map_or_else(String::new, |pid| format!(" (pid {pid} for one)"));
    let said = format!("of {} tried, not readable: {}{example}", others.tried, lost.join(", "));
    let check = Check::limited(code, name, format!("{said}; such fields of a report are null"));
    let has_both = facts.own.capabilities.is_some_and(|mask| mask & INSIGHT == INSIGHT);
    check.value("refused").remedy(if has_both {
        "none by privileges, which are all there: they belong to another user namespace or a security module protects them"
    } else {
        "run it as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; or as the user of the server, and pass --pid"
    })
}

fn nvml(facts: &Facts) -> Check {
    let (code, name) = ("nvml", "GPUs (NVML)");
    match &facts.nvml {
        Nvml::Works { devices: 0, .. } => {
            Check::limited(code, name, "NVML works and lists no device").value("none").remedy(
                "in a container, give it the devices: docker run --gpus all, or the device plugin of Kubernetes",
            )
        }
        Nvml::Works { devices, driver } => {
            let driver = driver.as_deref().unwrap_or("of unknown version");
            Check::ok(code, name, format!("{devices} devices, driver {driver}")).value("works")
        }
        Nvml::NotFound { why, driver: true } => {
            Check::limited(code, name, format!("the driver is there, its library can't be loaded: {why}"))
                .value("library")
                .lacks(["libnvidia-ml.so.1"])
                .remedy("in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility with the NVIDIA container toolkit")
                .remedy("elsewhere: install the driver's libnvidia-ml (Debian: libnvidia-ml1), or --nvml-lib FILE")
        }
        Nvml::NotFound { why, driver: false } => {
            Check::limited(code, name, format!("no NVIDIA driver: {why}; reports have no gpus"))
                .value("absent")
                .lacks(["libnvidia-ml.so.1"])
                .remedy("where the machine has one: install the driver, or docker run --gpus all; or --nvml-lib FILE")
        }
        Nvml::Unusable(why) => Check::limited(code, name, format!("NVML was loaded and can't be used: {why}"))
            .value("unusable")
            .remedy("nvidia-smi says the same and more; the library and the kernel module must be of one version"),
    }
}

fn clock(facts: &Facts) -> Check {
    let (code, name) = ("clock", "clock");
    let clock = &facts.clock;
    let source = clock.source.as_deref().unwrap_or("unknown");
    let said = format!("CLOCK_MONOTONIC in steps of {} ns, clocksource {source}", clock.resolution_ns);
    if clock.offset_ns != 0 {
        return Check::limited(
            code,
            name,
            format!(
                "{said}; a time namespace moves it {:.3} s from the kernel's, so that kernel events and client do not line up",
                clock.offset_ns as f64 / 1e9
            ),
        )
        .value(source)
        .remedy("run it outside of the time namespace");
    }
    if clock.resolution_ns > 1_000 {
        return Check::limited(code, name, format!("{said}: too coarse for gaps between tokens"))
            .value(source)
            .remedy("boot with highres=on");
    }
    // These clocks are read without a system call (vDSO); others take a microsecond or more for each reading.
    let quick = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];
    match &clock.source {
        Some(source) if !quick.contains(&source.as_str()) => {
            Check::limited(code, name, format!("{said}: each reading is a system call and costs a microsecond or more"))
                .value(source)
                .remedy("tsc, where the machine has a stable one: echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource")
        }
        _ => Check::ok(code, name, said).value(source),
    }
}

fn open_files(facts: &Facts) -> Check {
    let (code, name) = ("open_files", "open files");
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let limit = facts.open_files;
    let said = format!("RLIMIT_NOFILE {}, can be raised to {}", shown(limit.soft), shown(limit.hard));
    if limit.hard.is_some_and(|hard| hard < WANTED_FILES) {
        return Check::limited(
            code,
            name,
            format!("{said}: a server of more processes than that is sampled slowly or in part"),
        )
        .value(shown(limit.hard))
        .remedy(format!("ulimit -Hn {WANTED_FILES} as root, docker run --ulimit nofile={WANTED_FILES}, LimitNOFILE= of systemd"));
    }
    Check::ok(code, name, said).value(shown(limit.hard))
}

fn cpus(facts: &Facts) -> Check {
    let (code, name) = ("cpus", "CPUs");
    let shown = |n: Option<u32>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let cpus = facts.cpus;
    let said = format!("{} usable of {} online", shown(cpus.usable), shown(cpus.online));
    let check = if cpus.usable == Some(1) {
        Check::limited(code, name, format!("{said}: the server and its profiler share one"))
            .remedy("give it a second CPU, or profile a server on another machine by its address")
    } else {
        Check::ok(code, name, said)
    };
    check.value(shown(cpus.usable))
}
