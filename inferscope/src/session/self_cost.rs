//! What inferscope itself cost, and what each of its threads was left with.
//!
//! Owns the report's `self` as far as only this process can tell it. Derives nothing. Called by `session::finish`.

use super::host;
use crate::event::{Observation, TrackerKind};
use crate::privilege::{self, InForce};
use crate::report::model::{Privileges, SelfCost, ThreadPrivileges};

pub(super) fn own(observation: Option<&Observation>) -> SelfCost {
    let kernel = observation.filter(|o| o.tracker == TrackerKind::Ebpf);
    SelfCost {
        cpu_ns: Some(host::own_cpu_ns()),
        max_rss_bytes: host::own_peak_rss_bytes(),
        threads: host::most_threads(),
        bpf_run_ns: None,
        bpf_run_count: None,
        bpf_reason: Some("not read: the kernel's bpf_stats cost more than the program".to_owned()),
        ring_lost: kernel.map(|o| o.loss.ring_full),
        sample_overruns: observation.map(|o| o.sample_overruns),
        privileges: Some(privileges()),
        // The rest is `report::build`'s.
        ..SelfCost::default()
    }
}

fn privileges() -> Privileges {
    let of_thread = |left: InForce| {
        let name = serde_json::to_value(left.role).ok().and_then(|name| name.as_str().map(str::to_owned));
        let thread = ThreadPrivileges {
            effective: left.effective,
            permitted: left.permitted,
            no_new_privs: left.no_new_privs,
            seccomp: left.seccomp,
            seccomp_reason: left.seccomp_reason,
            files_as_uid: left.files_as_uid,
            files_as_uid_reason: left.files_as_uid_reason,
        };
        (name.unwrap_or_default(), thread)
    };
    Privileges {
        elevated: privilege::is_elevated(),
        threads: privilege::in_force().into_iter().map(of_thread).collect(),
    }
}
