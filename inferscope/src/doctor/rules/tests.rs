use super::*;
use crate::doctor::facts::{
    Cgroups, Clock, Cpus, Hierarchy, Layout, Limit, Namespace, Namespaces, Nvml, Others, OwnProcess, Proc,
    Restrictions,
};
use crate::doctor::{Diagnosis, Status};

const ALL: u64 = (1 << 41) - 1;
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_RESOURCE: u64 = 1 << 24;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// A machine on which everything is there.
fn machine() -> Facts {
    Facts {
        kernel_release: "6.18.44".into(),
        btf: Ok(()),
        tracker: Ok(()),
        own: OwnProcess {
            uid: 0,
            exe: Some("/usr/bin/inferscope".into()),
            capabilities: Some(ALL),
            elevated: false,
            observer_keeps: vec!["CAP_SYS_PTRACE".into(), "CAP_BPF".into()],
            filters: Ok(()),
            no_new_privs: false,
            seccomp_filter: false,
        },
        restrictions: Restrictions {
            lockdown: None,
            unprivileged_bpf_disabled: Some(2),
            perf_event_paranoid: Some(2),
        },
        namespaces: Namespaces {
            pid: Namespace::Initial,
            user: Namespace::Initial,
            network: Namespace::Initial,
            proc_is_foreign: false,
        },
        cgroups: Cgroups {
            layout: Layout::V2,
            hierarchies: vec![Hierarchy {
                name: "cgroup2",
                mount: "/sys/fs/cgroup".into(),
                made: Ok(()),
                files: vec!["cpu.stat", "memory.peak"],
            }],
        },
        proc: Proc { mounted: true, hidepid: None, others: Others { tried: 40, ..Others::default() } },
        nvml: Nvml::Works { devices: 2, driver: Some("570.86".into()) },
        clock: Clock { resolution_ns: 1, source: Some("tsc".into()), offset_ns: 0 },
        open_files: Limit { soft: Some(1_024), hard: Some(1 << 20) },
        cpus: Cpus { online: Some(8), usable: Some(8) },
    }
}

fn with(change: impl FnOnce(&mut Facts)) -> Vec<Check> {
    let mut facts = machine();
    change(&mut facts);
    checks(&facts)
}

fn refused() -> Result<(), String> {
    Err("the kernel refused it: Operation not permitted".into())
}

#[track_caller]
fn find<'a>(checks: &'a [Check], code: &str) -> &'a Check {
    checks.iter().find(|check| check.code == code).unwrap_or_else(|| panic!("no check {code}"))
}

/// The checks that are not ok, as `code:status`.
fn complaints(checks: &[Check]) -> Vec<String> {
    let not_ok = checks.iter().filter(|check| check.status != Status::Ok);
    not_ok.map(|check| format!("{}:{:?}", check.code, check.status)).collect()
}

fn works(checks: Vec<Check>) -> bool {
    Diagnosis { checks }.works()
}

#[test]
fn nothing_is_complained_about_where_everything_is_there() {
    let checks = checks(&machine());
    assert_eq!(complaints(&checks), [""; 0]);
    assert!(checks.iter().all(|check| check.remedies.is_empty() && check.missing.is_empty()));
    assert!(works(checks));
}

#[test]
fn a_kernel_that_is_too_old_is_named_with_the_oldest_that_is_not() {
    let old = with(|f| {
        f.kernel_release = "5.10.0-28-amd64".into();
        f.tracker = Err(crate::observe::too_old(&f.kernel_release).unwrap());
    });
    let of = |code| old.iter().find(|check| check.code == code).unwrap();
    let oldest = crate::observe::KernelVersion::OLDEST;
    let said = format!(": kernel 5.10: the kernel tracker needs {oldest} or later");
    assert!(of("tracker").finding.ends_with(&said));
    assert_eq!(of("tracker").missing, ["a newer kernel"]);
    for code in ["kernel", "tracker"] {
        assert!(of(code).remedies[0].starts_with(&format!("use Linux {oldest} or later")), "{:?}", of(code));
    }
    // With the oldest, and with an old one that has what it takes all the same, nothing is said of it.
    let oldest = with(|f| f.kernel_release = format!("{oldest}.0-427.el9"));
    assert_eq!(complaints(&oldest), [""; 0]);
}

#[test]
fn every_complaint_has_a_remedy_and_codes_are_unique() {
    let worst = with(|f| {
        f.kernel_release = "5.4.0".into();
        f.btf = Err("No such file".into());
        f.tracker = refused();
        f.own.capabilities = Some(0);
        f.namespaces = Namespaces {
            pid: Namespace::Inner,
            user: Namespace::Inner,
            network: Namespace::Inner,
            proc_is_foreign: false,
        };
        f.cgroups = Cgroups { layout: Layout::None, hierarchies: Vec::new() };
        f.proc = Proc {
            mounted: true,
            hidepid: Some("2".into()),
            others: Others { tried: 9, without_pss: 9, without_exe: 9, without_sockets: 9, example: Some(1) },
        };
        f.nvml = Nvml::NotFound { why: "no file".into(), driver: false };
        f.clock = Clock { resolution_ns: 4_000_000, source: Some("jiffies".into()), offset_ns: 0 };
        f.open_files.hard = Some(256);
        f.cpus.usable = Some(1);
    });
    let silent: Vec<_> =
        worst.iter().filter(|c| c.status != Status::Ok && c.remedies.is_empty()).map(|c| c.code).collect();
    assert_eq!(silent, [""; 0]);
    assert!(complaints(&worst).len() >= 15, "{:?}", complaints(&worst));
    let codes: std::collections::BTreeSet<_> = worst.iter().map(|check| check.code).collect();
    assert_eq!(codes.len(), worst.len());
}

#[test]
fn either_capability_of_the_tracker_that_is_missing_is_named_alone() {
    for (bit, code, name) in [(BPF, "cap_bpf", "CAP_BPF"), (PERFMON, "cap_perfmon", "CAP_PERFMON")] {
        let checks = with(|f| {
            f.own.capabilities = Some(ALL & !bit & !SYS_ADMIN);
            f.tracker = refused();
        });
        assert_eq!(complaints(&checks), ["tracker:Missing".to_owned(), format!("{code}:Missing")]);
        for check in ["tracker", code].map(|code| find(&checks, code)) {
            assert_eq!(check.missing, [name]);
            let ways = check.remedies.join("\n");
            for way in ["setcap", "docker run --cap-add BPF --cap-add PERFMON", "Kubernetes"] {
                assert!(ways.contains(way), "{way}: {ways}");
            }
        }
        assert!(!works(checks));
    }
}

#[test]
fn root_is_not_told_to_become_root_and_setcap_is_not_advised_where_it_has_no_effect() {
    let ways = |uid, no_new_privs| {
        let checks = with(|f| {
            f.own = OwnProcess { uid, no_new_privs, capabilities: Some(0), ..f.own.clone() };
            f.tracker = refused();
        });
        find(&checks, "tracker").remedies.join("\n")
    };
    assert!(!ways(0, false).contains("sudo)") && ways(1_000, false).contains("as root (sudo)"));
    assert!(
        ways(1_000, false)
            .contains("setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep /usr/bin/inferscope")
    );
    assert!(!ways(1_000, true).contains("sudo setcap"));
}

#[test]
fn cap_sys_admin_stands_in_for_both() {
    let checks = with(|f| f.own.capabilities = Some(ALL & !BPF & !PERFMON));
    assert_eq!(complaints(&checks), [""; 0]);
}

#[test]
fn two_capabilities_and_nothing_else_are_enough_for_the_tracker() {
    let checks = with(|f| {
        f.own.capabilities = Some(BPF | PERFMON);
        f.own.uid = 1_000;
    });
    assert_eq!(complaints(&checks), ["cap_sys_ptrace:Limited", "cap_dac_read_search:Limited"]);
    assert!(works(checks));
}

#[test]
fn what_only_looks_into_others_is_a_limit() {
    for (bit, code) in [(SYS_PTRACE, "cap_sys_ptrace"), (DAC_READ_SEARCH, "cap_dac_read_search")] {
        for uid in [0, 1_000] {
            let checks = with(|f| {
                f.own.capabilities = Some(ALL & !bit & !DAC_OVERRIDE);
                f.own.uid = uid;
            });
            assert_eq!(complaints(&checks), [format!("{code}:Limited")]);
            assert!(works(checks));
        }
    }
    assert_eq!(complaints(&with(|f| f.own.capabilities = Some(ALL & !DAC_READ_SEARCH))), [""; 0]);
}

#[test]
fn cap_sys_resource_and_cap_sys_admin_are_not_asked_for() {
    for bit in [SYS_RESOURCE, SYS_ADMIN] {
        assert_eq!(complaints(&with(|f| f.own.capabilities = Some(ALL & !bit))), [""; 0]);
    }
}

#[test]
fn the_attempt_outweighs_the_list_of_capabilities() {
    let checks = with(|f| f.own.capabilities = Some(0));
    assert!(works(checks));
    let checks = with(|f| f.tracker = refused());
    assert_eq!(complaints(&checks), ["tracker:Missing"]);
}

#[test]
fn without_btf_the_tracker_is_explained_by_it() {
    let checks = with(|f| {
        f.btf = Err("No such file".into());
        f.tracker = Err("the kernel has no BTF".into());
        f.own.capabilities = Some(0);
    });
    assert_eq!(find(&checks, "tracker").missing, ["/sys/kernel/btf/vmlinux"]);
    assert_eq!(find(&checks, "btf").missing, ["/sys/kernel/btf/vmlinux"]);
}

#[test]
fn what_stands_in_the_way_of_full_capabilities_is_named() {
    type Change = fn(&mut Facts);
    let ways: [(Change, &str); 3] = [
        (|f| f.namespaces.user = Namespace::Inner, "user namespace"),
        (|f| f.restrictions.lockdown = Some("confidentiality".into()), "lockdown"),
        (|f| f.own.seccomp_filter = true, "seccomp"),
    ];
    for (change, word) in ways {
        let checks = with(|f| {
            f.tracker = refused();
            change(f);
        });
        let tracker = find(&checks, "tracker");
        assert!(tracker.remedies.concat().contains(word), "{word}: {tracker:?}");
        assert!(!works(checks));
    }
}

#[test]
fn lockdown_that_lets_the_program_load_is_no_fault() {
    let checks = with(|f| f.restrictions.lockdown = Some("integrity".into()));
    assert_eq!(complaints(&checks), [""; 0]);
}

#[test]
fn surroundings_limit_and_never_forbid() {
    type Change = fn(&mut Facts);
    let ways: [(Change, &str); 15] = [
        (|f| f.namespaces.pid = Namespace::Inner, "pid_namespace"),
        (|f| f.namespaces.proc_is_foreign = true, "pid_namespace"),
        (|f| f.namespaces.user = Namespace::Inner, "user_namespace"),
        (|f| f.namespaces.network = Namespace::Inner, "network_namespace"),
        (|f| f.cgroups.layout = Layout::V1, "cgroup_layout"),
        (|f| f.cgroups.hierarchies[0].made = Err("read-only".into()), "cgroup_create"),
        (|f| f.cgroups.hierarchies[0].files = vec!["cpu.stat"], "cgroup_accounting"),
        (|f| f.proc.hidepid = Some("invisible".into()), "proc"),
        (|f| f.proc.others.without_pss = 1, "other_processes"),
        (|f| f.nvml = Nvml::Unusable("version mismatch".into()), "nvml"),
        (|f| f.nvml = Nvml::NotFound { why: "x".into(), driver: true }, "nvml"),
        (|f| f.clock.source = Some("hpet".into()), "clock"),
        (|f| f.clock.offset_ns = -7_000_000_000, "clock"),
        (|f| f.open_files.hard = Some(1_024), "open_files"),
        (|f| f.cpus.usable = Some(1), "cpus"),
    ];
    for (change, code) in ways {
        let checks = with(change);
        assert_eq!(complaints(&checks), [format!("{code}:Limited")]);
        assert!(works(checks), "{code}");
    }
}

#[test]
fn without_proc_nothing_works() {
    let checks = with(|f| f.proc.mounted = false);
    assert_eq!(find(&checks, "proc").missing, ["/proc"]);
    assert!(!works(checks));
}

#[test]
fn values_are_words_to_compare() {
    let checks = checks(&machine());
    for (code, value) in [
        ("kernel", "6.18.44"),
        ("cap_bpf", "effective"),
        ("pid_namespace", "initial"),
        ("cgroup_layout", "v2"),
        ("cgroup_create", "yes"),
        ("proc", "open"),
        ("other_processes", "all"),
        ("nvml", "works"),
        ("clock", "tsc"),
        ("open_files", "1048576"),
        ("cpus", "8"),
    ] {
        assert_eq!(find(&checks, code).value.as_deref(), Some(value), "{code}");
    }
}
