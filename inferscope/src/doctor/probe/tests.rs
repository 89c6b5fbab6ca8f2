use std::os::unix::fs::symlink;

use super::*;
use crate::doctor::facts::Layout;

/// A root with these files.
fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Probe) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let probe = Probe { root: dir.path().to_owned() };
    (dir, probe)
}

const STATUS: &str = "Name:\tx\nNSpid:\t77\nSeccomp:\t2\nSeccomp_filters:\t1\n";

#[test]
fn the_own_privileges_are_those_that_proc_shows() {
    let shown = fs::read_to_string("/proc/self/status").unwrap();
    let mask = u64::from_str_radix(field(&shown, "CapEff").unwrap(), 16).unwrap();
    assert_eq!(own(STATUS).capabilities, Some(mask));
    assert!(own(STATUS).seccomp_filter && !own("Seccomp:\t0\n").seccomp_filter);
}

#[test]
fn btf_is_known_by_its_magic_and_not_by_its_name() {
    let (dir, probe) = root(&[]);
    assert!(probe.btf().unwrap_err().contains("No such file"));
    let file = dir.path().join("sys/kernel/btf/vmlinux");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for (bytes, is_btf) in [(&[][..], false), (&[0x7F, 0x45][..], false), (&[0x9F, 0xEB, 1, 0][..], true)] {
        fs::write(&file, bytes).unwrap();
        assert_eq!(probe.btf().is_ok(), is_btf, "{bytes:?}");
    }
}

#[test]
fn namespaces_are_told_by_their_constants_or_by_pid_1() {
    let (dir, probe) = root(&[]);
    for (pid, kind, link) in [
        ("self", "pid", "pid:[4026531836]"),
        ("self", "user", "user:[4026532777]"),
        ("self", "net", "net:[4026531840]"),
        ("1", "net", "net:[4026531840]"),
    ] {
        let ns = dir.path().join("proc").join(pid).join("ns");
        fs::create_dir_all(&ns).unwrap();
        symlink(link, ns.join(kind)).unwrap();
    }
    let found = probe.namespaces(STATUS);
    assert_eq!(
        (found.pid, found.user, found.network),
        (Namespace::Initial, Namespace::Inner, Namespace::OfPid1)
    );
    assert!(!found.proc_is_foreign);
    // That of pid 1 is another one, or can't be seen.
    let first = dir.path().join("proc/1/ns/net");
    fs::remove_file(&first).unwrap();
    assert_eq!(probe.namespaces(STATUS).network, Namespace::Unknown);
    symlink("net:[4026539999]", &first).unwrap();
    assert_eq!(probe.namespaces(STATUS).network, Namespace::Inner);
    // A container's pid 1 tells nothing of the machine.
    let pid = dir.path().join("proc/self/ns/pid");
    fs::remove_file(&pid).unwrap();
    symlink("pid:[4026532801]", &pid).unwrap();
    let found = probe.namespaces(STATUS);
    assert_eq!((found.pid, found.network), (Namespace::Inner, Namespace::Unknown));
    assert!(probe.namespaces("NSpid:\t9041\t7\n").proc_is_foreign);
}

#[test]
fn restrictions_are_read_where_they_are_told() {
    let (_dir, probe) = root(&[
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
    ]);
    let found = probe.restrictions();
    assert_eq!(found.lockdown.as_deref(), Some("integrity"));
    assert_eq!((found.unprivileged_bpf_disabled, found.perf_event_paranoid), (Some(2), None));
}

const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
const V1: &str = "33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
const NAMED: &str = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
const UNIFIED: &str = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

#[test]
fn the_layout_is_that_of_the_mounts() {
    for (mounts, layout) in [
        (String::new(), Layout::None),
        (V2.to_owned(), Layout::V2),
        (V1.to_owned(), Layout::V1),
        (format!("{V1}{NAMED}{UNIFIED}"), Layout::Hybrid),
        // systemd's own name beside cgroup2 controls nothing.
        (format!("{NAMED}{V2}"), Layout::V2),
    ] {
        let (_dir, probe) = root(&[("proc/self/mountinfo", &mounts)]);
        assert_eq!(probe.cgroups().layout, layout, "{mounts}");
    }
}

#[test]
fn a_cgroup_is_tried_below_the_own_one_and_nothing_is_left() {
    let mounts = "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let own = "sys/fs/cgroup/inner";
    let (dir, probe) =
        root(&[("proc/self/mountinfo", mounts), ("proc/self/cgroup", "0::/docker/abc/inner\n")]);
    let missing = &probe.cgroups().hierarchies[0];
    assert!(missing.made.as_ref().unwrap_err().contains("No such file"), "{missing:?}");
    fs::create_dir_all(dir.path().join(own)).unwrap();
    fs::write(dir.path().join(own).join("cpu.stat"), "").unwrap();
    let hierarchy = &probe.cgroups().hierarchies[0];
    assert_eq!((hierarchy.name, &hierarchy.made), ("cgroup2", &Ok(())));
    assert_eq!(fs::read_dir(dir.path().join(own)).unwrap().count(), 1);
}

#[test]
fn an_own_cgroup_outside_of_the_mount_is_not_guessed_at() {
    for own in ["0::/elsewhere\n", "0::/../..\n", ""] {
        let mounts =
            if own.contains("..") { V2 } else { "30 23 0:26 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n" };
        let (dir, probe) = root(&[("proc/self/mountinfo", mounts), ("proc/self/cgroup", own)]);
        fs::create_dir_all(dir.path().join("sys/fs/cgroup")).unwrap();
        let hierarchy = &probe.cgroups().hierarchies[0];
        assert!(hierarchy.made.as_ref().unwrap_err().contains("not below"), "{own}: {hierarchy:?}");
    }
}

#[test]
fn hidepid_is_that_of_the_proc_on_top() {
    let mounts = "22 27 0:21 / /proc rw - proc proc rw\n50 22 0:40 / /proc rw - proc proc rw,gid=4,hidepid=invisible\n";
    let (_dir, probe) = root(&[("proc/self/mountinfo", mounts)]);
    assert_eq!(probe.proc(STATUS).hidepid.as_deref(), Some("invisible"));
    assert!(!probe.proc("").mounted);
    let (_dir, probe) = root(&[("proc/self/mountinfo", "22 27 0:21 / /proc rw - proc proc rw,hidepid=0\n")]);
    assert_eq!(probe.proc(STATUS).hidepid, None);
}

#[test]
fn lists_of_cpus_are_counted_and_offsets_are_in_nanoseconds() {
    assert_eq!(monotonic_offset("monotonic      86400         5\nboottime 1 1\n"), 86_400_000_000_005);
    assert_eq!(monotonic_offset(""), 0);
}

#[test]
fn this_machine_answers() {
    let facts = Probe::of_this_machine().facts(Some(Path::new("/nowhere/libnvidia-ml.so")));
    assert!(!facts.kernel_release.is_empty() && facts.own.capabilities.is_some() && facts.proc.mounted);
    assert!(facts.clock.resolution_ns >= 1);
    assert!(facts.cpus.online >= facts.cpus.usable && facts.cpus.usable >= Some(1));
    assert!(matches!(facts.nvml, Nvml::NotFound { .. }), "{:?}", facts.nvml);
}
