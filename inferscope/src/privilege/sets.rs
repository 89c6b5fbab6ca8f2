//! Capability sets of the calling thread.
//!
//! Owns the system calls, each of which changes one thread alone. Decides nothing (`privilege` does).

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use rustix::process::{getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// Capabilities by number, as in include/uapi/linux/capability.h.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const NONE: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

pub(super) fn names(set: CapabilitySet) -> Vec<String> {
    let named =
        |bit: u32| NAMES.get(bit as usize).map_or_else(|| format!("CAP_{bit}"), |name| (*name).to_owned());
    (0..64).filter(|bit| set.bits() >> bit & 1 == 1).map(named).collect()
}

pub(super) fn own_if_known() -> Option<CapabilitySets> {
    capabilities(None).ok()
}

/// The capability sets. An unknown set is empty.
pub(super) fn own() -> CapabilitySets {
    own_if_known().unwrap_or(NONE)
}

/// A setuid or setgid file started this program.
pub(super) fn ids_differ() -> bool {
    getuid() != geteuid() || getgid() != getegid()
}

/// Becomes the caller in user and group, with at most `most` in the permitted set and nothing in effect.
pub(super) fn become_caller(most: CapabilitySet) {
    let (uid, gid) = (getuid(), getgid());
    if ids_differ() {
        // A process may always take its own ids.
        let _ = set_thread_res_gid(gid, gid, gid);
        let _ = set_keep_capabilities(true);
        let _ = set_thread_res_uid(uid, uid, uid);
        let _ = set_keep_capabilities(false);
    }
    let sets = own();
    // This is Linux before 5.8, or somebody gave that capability instead.
    let tracing = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let most = if sets.permitted.contains(tracing) { most } else { most | CapabilitySet::SYS_ADMIN };
    let permitted = sets.permitted & most;
    let _ = set_capabilities(None, CapabilitySets { effective: CapabilitySet::empty(), permitted, ..sets });
}

/// Leaves exactly these, in effect. An exec hands none on.
pub(super) fn keep(these: CapabilitySet) {
    let these = these & own().permitted;
    // Giving up is never refused.
    let _ = set_capabilities(
        None,
        CapabilitySets { effective: these, permitted: these, inheritable: CapabilitySet::empty() },
    );
}

/// The same, but keeps what the caller could hand on.
pub(super) fn keep_but_inheritable(these: CapabilitySet) {
    let sets = own();
    let these = these & sets.permitted;
    let _ = set_capabilities(None, CapabilitySets { effective: these, permitted: these, ..sets });
}

/// Prevents an exec from bringing anything back. Where that is not allowed, `no_new_privs` has the same effect.
pub(super) fn bound(these: CapabilitySet) {
    if !own().effective.contains(CapabilitySet::SETPCAP) {
        return;
    }
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // An error means that this is beyond the last capability of this kernel.
        let Ok(bounded) = capability_is_in_bounding_set(capability) else { return };
        if bounded && !these.contains(capability) {
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
}

/// Makes a thread of root open files as `uid`, so that root's own files are closed to it. Its sockets belong to that
/// user, too. `None`: the thread is not root's, or may not.
///
/// # Errors
/// One of the `needed` files is closed to that user. The thread stays as it was.
pub(super) fn open_files_as(uid: u32, needed: &[&Path]) -> Result<Option<u32>, String> {
    let can = CapabilitySet::SETUID | CapabilitySet::SETGID;
    if !geteuid().is_root() || !own().effective.contains(can) {
        return Ok(None);
    }
    let groups = getgroups().unwrap_or_default();
    let _ = set_thread_groups(&[]);
    become_for_files(uid, uid);
    // SAFETY: takes a number. An invalid id changes nothing, and the call returns the present one.
    let now = unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) };
    let closed = |path: &&&Path| File::open(path).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
    if let Some(path) = needed.iter().find(closed) {
        become_for_files(geteuid().as_raw(), getegid().as_raw());
        let _ = set_thread_groups(&groups);
        return Err(format!("{} is closed to uid {uid}", path.display()));
    }
    Ok((now == libc::c_long::from(uid)).then_some(uid))
}

fn become_for_files(uid: u32, gid: u32) {
    for (call, id) in [(libc::SYS_setfsgid, gid), (libc::SYS_setfsuid, uid)] {
        // SAFETY: takes a number. The system call changes one thread, as does glibc's function.
        unsafe { libc::syscall(call, id) };
    }
}
