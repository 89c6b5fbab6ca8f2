//! An ended member's figures are final.

use inferscope_common::event::free::FreeRecord;

use super::record::{Decode, What};
use crate::observe::ebpf::tracepoint::{Stage, Tracepoint};
use crate::observe::ebpf::usage::GroupUsage;

pub(super) const ON_FREE: Tracepoint = Tracepoint {
    program: "on_free",
    at: "sched_process_free",
    stage: Stage::Deaths,
    spares: 0,
    is_used: |_| true,
    missed: |runs| &mut runs.frees,
};

impl Decode for FreeRecord {
    fn decode(&self, page_bytes: u64) -> What {
        What::Free { usage: GroupUsage::new(&self.usage, page_bytes), base: self.base }
    }
}
