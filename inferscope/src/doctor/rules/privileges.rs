//! The kernel tracker and the privileges.
//!
//! Owns the capabilities that each part needs, and the ways to give them. The attempt to load decides whether the
//! tracker works; everything else only explains the result.

use crate::doctor::facts::{Facts, Namespace};
use crate::doctor::{Check, Status};
use crate::observe::{self, KernelVersion};

/// A capability, by its number in include/uapi/linux/capability.h.
struct Capability {
    code: &'static str,
    name: &'static str,
    bit: u32,
    what_for: &'static str,
}

const SYS_ADMIN: Capability = Capability {
    code: "cap_sys_admin",
    name: "CAP_SYS_ADMIN",
    bit: 21,
    what_for: "stands in for CAP_BPF and CAP_PERFMON, as on kernels before 5.8",
};
/// What the kernel tracker needs, unless there is CAP_SYS_ADMIN.
const TRACKER: [Capability; 2] = [
    Capability { code: "cap_bpf", name: "CAP_BPF", bit: 39, what_for: "loads the kernel tracker" },
    Capability {
        code: "cap_perfmon",
        name: "CAP_PERFMON",
        bit: 38,
        what_for: "lets the kernel tracker read the kernel's structs",
    },
];
/// What a look into other users' processes needs.
const INSIGHT: [Capability; 2] = [
    Capability {
        code: "cap_sys_ptrace",
        name: "CAP_SYS_PTRACE",
        bit: 19,
        what_for: "reads the program's path and PSS of other users' processes (newer kernels give PSS to CAP_PERFMON too), and finds their sockets",
    },
    Capability {
        code: "cap_dac_read_search",
        name: "CAP_DAC_READ_SEARCH",
        bit: 2,
        what_for: "lists the open files of other users' processes, so that a server is found by its socket",
    },
];
const DAC_OVERRIDE: Capability =
    Capability { code: "cap_dac_override", name: "CAP_DAC_OVERRIDE", bit: 1, what_for: "reads any file" };
const SYS_RESOURCE: Capability = Capability {
    code: "cap_sys_resource",
    name: "CAP_SYS_RESOURCE",
    bit: 24,
    what_for: "raises the limit of open files, and before 5.11 that of locked memory",
};

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![kernel(facts), btf(facts), tracker(facts)];
    checks.extend(TRACKER.iter().map(|capability| for_tracker(facts, capability)));
    checks.extend(INSIGHT.iter().map(|capability| for_insight(facts, capability)));
    checks.push(needed_by_none(facts, &SYS_RESOURCE));
    checks.push(needed_by_none(facts, &SYS_ADMIN));
    checks.push(restrictions(facts));
    checks.push(plan(facts));
    checks
}

/// What the threads of a run would keep.
fn plan(facts: &Facts) -> Check {
    let (code, name) = ("least_privilege", "least privilege");
    let kept = match &facts.own.observer_keeps[..] {
        [] => "no capability".to_owned(),
        names => names.join(" and "),
    };
    let said = format!(
        "in a run the thread that watches processes keeps {kept}; the one that reads what a server sends keeps none, \
         has no_new_privs and"
    );
    let elevated = if facts.own.elevated {
        "; this binary has more than its caller (setcap): the caller's files are opened without, --nvml-lib is refused"
    } else {
        ""
    };
    let sockets = if facts.own.uid == 0 {
        "; its sockets are uid 65534's: rules of packet filters and routes for uid 0 do not hold for them"
    } else {
        ""
    };
    match &facts.own.filters {
        Ok(()) => {
            Check::ok(code, name, format!("{said} a seccomp filter{sockets}{elevated}")).value("filtered")
        }
        Err(why) => Check::limited(code, name, format!("{said} no seccomp filter: {why}{sockets}{elevated}"))
            .value("unfiltered")
            .remedy("use a kernel with CONFIG_SECCOMP_FILTER=y (every distribution's)"),
    }
}

/// `None`: the kernel does not show it.
fn has(facts: &Facts, capability: &Capability) -> Option<bool> {
    facts.own.capabilities.map(|mask| mask >> capability.bit & 1 == 1)
}

fn lacks(facts: &Facts, capability: &Capability) -> bool {
    has(facts, capability) == Some(false)
}

fn lacks_for_tracker(facts: &Facts) -> Vec<&'static str> {
    if !lacks(facts, &SYS_ADMIN) {
        return Vec::new();
    }
    TRACKER.iter().filter(|c| lacks(facts, c)).map(|c| c.name).collect()
}

fn kernel(facts: &Facts) -> Check {
    let release = &facts.kernel_release;
    let check = Check::ok("kernel", "kernel", format!("Linux {release}")).value(release);
    if observe::too_old(release).is_none() {
        return check;
    }
    Check { status: Status::Limited, ..check }.remedy(newer_kernel())
}

fn newer_kernel() -> String {
    format!(
        "use Linux {} or later (tried: 6.1 and later): the kernel program needs what came with it \
         (bpf_for_each_map_elem)",
        KernelVersion::OLDEST
    )
}

const BTF_FILE: &str = "/sys/kernel/btf/vmlinux";

fn btf(facts: &Facts) -> Check {
    match &facts.btf {
        Ok(()) => Check::ok("btf", "kernel BTF", format!("{BTF_FILE} can be read")),
        Err(why) => Check::missing("btf", "kernel BTF", format!("{BTF_FILE} can't be read: {why}"))
            .lacks([BTF_FILE])
            .remedy("use a kernel built with CONFIG_DEBUG_INFO_BTF=y (every distribution's is since 2021)")
            .remedy("in a container, give it the host's: -v /sys/kernel/btf:/sys/kernel/btf:ro"),
    }
}

fn tracker(facts: &Facts) -> Check {
    let (code, name) = ("tracker", "kernel tracker");
    let why = match &facts.tracker {
        Ok(()) => {
            return Check::ok(code, name, "the kernel program loads: every process is seen, however short");
        }
        Err(why) => why,
    };
    let check = Check::missing(
        code,
        name,
        format!(
            "the kernel program does not load, so that /proc is polled and short processes are missed: {why}"
        ),
    );
    // A kernel with backports that takes the program need not have the version.
    if observe::too_old(&facts.kernel_release).is_some() {
        return check.lacks(["a newer kernel"]).remedy(newer_kernel());
    }
    if facts.btf.is_err() {
        return check.lacks([BTF_FILE]).remedy("see kernel BTF");
    }
    let missing = lacks_for_tracker(facts);
    if !missing.is_empty() {
        return check.lacks(missing).remedies(ways_to_give(facts));
    }
    if facts.namespaces.user == Namespace::Inner {
        return check.lacks(["initial user namespace"]).remedy(
            "run it outside of the user namespace (rootless containers have one): capabilities within it do not count for BPF",
        );
    }
    if facts.restrictions.lockdown.as_deref() == Some("confidentiality") {
        return check
            .lacks(["lockdown other than confidentiality"])
            .remedy("boot without lockdown=confidentiality: it keeps BPF programs from reading the kernel");
    }
    if facts.own.seccomp_filter {
        return check.remedy(
            "a seccomp filter is in force and may refuse bpf(2): docker run --security-opt seccomp=unconfined, \
             Kubernetes securityContext.seccompProfile.type: Unconfined",
        );
    }
    check.remedy("INFERSCOPE_LOG=debug inferscope doctor shows the kernel's own words; please report them")
}

/// Everything that a full profile needs, in the syntax of each tool.
fn ways_to_give(facts: &Facts) -> Vec<String> {
    let exe =
        facts.own.exe.as_ref().map_or_else(|| "$(command -v inferscope)".into(), |p| p.display().to_string());
    let capabilities: Vec<_> = TRACKER.iter().chain(&INSIGHT).map(|c| c.name).collect();
    let file = capabilities.join(",").to_lowercase();
    let names: Vec<_> = capabilities.iter().map(|c| c.trim_start_matches("CAP_")).collect();
    let docker: Vec<_> = names.iter().map(|name| format!("--cap-add {name}")).collect();
    let mut ways = Vec::new();
    if facts.own.uid != 0 {
        ways.push("run it as root (sudo)".to_owned());
    }
    ways.push(if facts.own.no_new_privs {
        "file capabilities (setcap) have no effect here: no_new_privs is set (docker: without --security-opt no-new-privileges; Kubernetes: allowPrivilegeEscalation: true)".to_owned()
    } else {
        format!(
            "once, for the users of a group: sudo chgrp inferscope {exe} && sudo chmod 0750 {exe} && sudo setcap {file}+ep \
             {exe} (CAP_SYS_PTRACE reads the memory of any process, CAP_DAC_READ_SEARCH any file, CAP_BPF with CAP_PERFMON \
             the kernel's: whoever may run it has to be trusted with what it shows)"
        )
    });
    ways.push(format!(
        "docker run {} (before Docker 23: --cap-add SYS_ADMIN --security-opt seccomp=unconfined)",
        docker.join(" ")
    ));
    ways.push(format!("Kubernetes: securityContext.capabilities.add: [{}]", names.join(", ")));
    ways
}

fn for_tracker(facts: &Facts, capability: &Capability) -> Check {
    let new = |status, finding: String| {
        Check::new(capability.code, capability.name, status, finding).value(in_a_word(facts, capability))
    };
    match has(facts, capability) {
        None => new(Status::Limited, "unknown: capget(2) failed".into()),
        Some(true) => new(Status::Ok, format!("in effect; {}", capability.what_for)),
        Some(false) if !lacks(facts, &SYS_ADMIN) => {
            new(Status::Ok, "not in effect, and not needed beside CAP_SYS_ADMIN".into())
        }
        // The kernel has taken the program: this outweighs the rules.
        Some(false) if facts.tracker.is_ok() => {
            new(Status::Ok, "not in effect, and this kernel does not ask for it".into())
        }
        Some(false) => new(Status::Missing, format!("not in effect; {}", capability.what_for))
            .lacks([capability.name])
            .remedies(ways_to_give(facts)),
    }
}

fn for_insight(facts: &Facts, capability: &Capability) -> Check {
    let new = |status, finding: String| {
        Check::new(capability.code, capability.name, status, finding).value(in_a_word(facts, capability))
    };
    match has(facts, capability) {
        None => new(Status::Limited, "unknown: capget(2) failed".into()),
        Some(true) => new(Status::Ok, format!("in effect; {}", capability.what_for)),
        // Root in a container has the stronger one.
        Some(false) if capability.bit == INSIGHT[1].bit && has(facts, &DAC_OVERRIDE) == Some(true) => {
            new(Status::Ok, "not in effect, and not needed beside CAP_DAC_OVERRIDE".into())
        }
        Some(false) => new(Status::Limited, format!("not in effect; {}", capability.what_for))
            .lacks([capability.name])
            .remedies(ways_to_give(facts)),
    }
}

fn needed_by_none(facts: &Facts, capability: &Capability) -> Check {
    let finding = match has(facts, capability) {
        None => "unknown: capget(2) failed; not needed".to_owned(),
        Some(true) => format!("in effect; {}", capability.what_for),
        Some(false) => format!("not in effect, and not needed; {}", capability.what_for),
    };
    Check::ok(capability.code, capability.name, finding).value(in_a_word(facts, capability))
}

fn in_a_word(facts: &Facts, capability: &Capability) -> &'static str {
    match has(facts, capability) {
        Some(true) => "effective",
        Some(false) => "absent",
        None => "unknown",
    }
}

/// Settings that can forbid BPF for everybody. The attempt above has decided.
fn restrictions(facts: &Facts) -> Check {
    let r = &facts.restrictions;
    let number = |n: Option<i64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let said = format!(
        "lockdown {}, kernel.unprivileged_bpf_disabled {}, kernel.perf_event_paranoid {}, seccomp filter {}, no_new_privs {}",
        r.lockdown.as_deref().unwrap_or("none"),
        number(r.unprivileged_bpf_disabled),
        number(r.perf_event_paranoid),
        if facts.own.seccomp_filter { "on" } else { "off" },
        if facts.own.no_new_privs { "on" } else { "off" },
    );
    let (code, name) = ("restrictions", "restrictions");
    if r.lockdown.as_deref() == Some("confidentiality") {
        let check = Check::new(
            code,
            name,
            if facts.tracker.is_ok() { Status::Ok } else { Status::Missing },
            format!("{said}: lockdown keeps BPF programs from reading the kernel"),
        );
        return check.remedy("boot without lockdown=confidentiality");
    }
    Check::ok(
        code,
        name,
        format!(
            "{said}: the two sysctls do not matter, as tracing programs need the capabilities in any case"
        ),
    )
}
