//! A process moved to another cgroup.

use inferscope_common::event::cgroup_move::{MigrateRecord, MoveInRecord, MoveOutRecord};

use super::alive::alive;
use super::record::{Decode, What};
use crate::observe::ebpf::tracepoint::{Stage, Tracepoint};
use crate::observe::ebpf::usage::GroupUsage;

pub(super) const ON_CGROUP_ATTACH: Tracepoint = Tracepoint {
    program: "on_cgroup_attach",
    at: "cgroup_attach_task",
    stage: Stage::Births,
    spares: 0,
    is_used: |_| true,
    missed: |runs| &mut runs.moves,
};

impl Decode for MigrateRecord {
    fn decode(&self, _page_bytes: u64) -> What {
        What::Migrate { to_cgroup_id: self.to_cgroup_id, leaves: self.leaves != 0 }
    }
}

impl Decode for MoveInRecord {
    fn decode(&self, page_bytes: u64) -> What {
        What::MoveIn(alive(&self.task, page_bytes))
    }
}

impl Decode for MoveOutRecord {
    fn decode(&self, page_bytes: u64) -> What {
        What::MoveOut {
            to_cgroup_id: self.to_cgroup_id,
            usage: GroupUsage::new(&self.usage, page_bytes),
            base: self.base,
        }
    }
}
