//! The OOM killer chose a member.

use inferscope_common::event::oom::OomRecord;

use super::record::{Decode, What};
use crate::observe::ebpf::tracepoint::{Stage, Tracepoint};

pub(super) const ON_OOM: Tracepoint = Tracepoint {
    program: "on_oom",
    at: "mark_victim",
    stage: Stage::Deaths,
    spares: 0,
    // Before 6.9 it had a pid only.
    is_used: |kernel| kernel.oom_has_task,
    missed: |runs| &mut runs.others,
};

impl Decode for OomRecord {
    fn decode(&self, _page_bytes: u64) -> What {
        What::Oom
    }
}
