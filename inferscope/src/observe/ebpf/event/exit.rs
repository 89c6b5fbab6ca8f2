//! A member ended.

use inferscope_common::event::exit::ExitRecord;

use super::record::{Decode, What, text};
use crate::event::ExitStatus;
use crate::observe::ebpf::tracepoint::{Stage, Tracepoint};
use crate::observe::ebpf::usage::GroupUsage;

pub(super) const ON_EXIT: Tracepoint = Tracepoint {
    program: "on_exit",
    at: "sched_process_exit",
    stage: Stage::Deaths,
    // The last switch reports it too.
    spares: 1,
    is_used: |_| true,
    missed: |runs| &mut runs.exits,
};

/// The last switch away from a task, which is never skipped.
pub(super) const ON_SWITCH: Tracepoint =
    Tracepoint { program: "on_switch", at: "sched_switch", spares: 0, ..ON_EXIT };

impl Decode for ExitRecord {
    fn decode(&self, page_bytes: u64) -> What {
        What::Exit {
            status: ExitStatus::from_wait_status(self.status),
            peak_threads: self.peak_threads,
            usage: GroupUsage::new(&self.usage, page_bytes),
            base: self.base,
            is_final: self.is_final != 0,
            comm: text(&self.comm),
        }
    }
}
