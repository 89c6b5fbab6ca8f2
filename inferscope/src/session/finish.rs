//! What a run saw, on its way to the analysis.
//!
//! Owns the facts that only this process knows: its version, its host, what it cost itself. Derives nothing
//! (`analysis` does). Filled by `session` and `session::exec`.

use super::host;
use crate::analysis::{self, Inputs, Measured, TargetFound};
use crate::clock::{Mono, Origin};
use crate::event::{GpuLog, Observation, TrackerKind};
use crate::plan::Plan;
use crate::privilege::{self, InForce};
use crate::report::model::{Mode, Privileges, Report, SelfCost, ThreadPrivileges, Tool, Validity};

/// Everything that one run saw.
pub(super) struct Gathered {
    pub(super) origin: Origin,
    pub(super) interrupted: bool,
    pub(super) found: TargetFound,
    pub(super) log: Option<Measured>,
    pub(super) model: Option<String>,
    pub(super) observation: Option<Observation>,
    pub(super) gpu: GpuLog,
    pub(super) notes: Vec<Validity>,
    pub(super) mode: Mode,
}

/// What tells this run from others, on this machine and any other.
pub(super) fn run_id(origin: Origin) -> String {
    format!("{:x}-{:x}", origin.unix_ns / 1_000_000, std::process::id())
}

impl Gathered {
    pub(super) fn report(self, plan: &Plan) -> Report {
        let own = self.own();
        analysis::report(Inputs {
            tool: Tool {
                name: "inferscope".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: env!("INFERSCOPE_COMMIT").to_owned(),
            },
            host: host::describe(),
            run_id: run_id(self.origin),
            mode: self.mode,
            plan,
            origin: self.origin,
            ended: Mono::now(),
            interrupted: self.interrupted,
            target: self.found,
            load: self.log.as_ref(),
            model: self.model,
            observation: self.observation.as_ref(),
            gpu: &self.gpu,
            notes: self.notes,
            own,
        })
    }

    fn own(&self) -> SelfCost {
        let kernel = self.observation.as_ref().filter(|o| o.tracker == TrackerKind::Ebpf);
        SelfCost {
            cpu_ns: Some(host::own_cpu_ns()),
            max_rss_bytes: host::own_peak_rss_bytes(),
            threads: host::most_threads(),
            bpf_run_ns: None,
            bpf_run_count: None,
            bpf_reason: Some("not read: the kernel's bpf_stats cost more than the program".to_owned()),
            ring_lost: kernel.map(|o| o.loss.ring_full),
            sample_overruns: self.observation.as_ref().map(|o| o.sample_overruns),
            privileges: Some(privileges()),
            // The rest is the analysis's.
            ..SelfCost::default()
        }
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
