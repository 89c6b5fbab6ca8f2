//! A process was born into the set.

use inferscope_common::event::fork::ForkRecord;

use super::record::{Decode, What, text};
use crate::observe::ebpf::kernel::ForkHook;
use crate::observe::ebpf::tracepoint::{Stage, Tracepoint};

pub(super) const ON_FORK: Tracepoint = Tracepoint {
    program: "on_fork",
    at: "sched_process_fork",
    stage: Stage::Births,
    spares: 0,
    is_used: |kernel| kernel.forks_at(ForkHook::ProcessFork),
    missed: |runs| &mut runs.forks,
};

pub(super) const ON_WAKEUP_NEW: Tracepoint = Tracepoint {
    program: "on_wakeup_new",
    at: "sched_wakeup_new",
    is_used: |kernel| kernel.forks_at(ForkHook::WakeupNew),
    ..ON_FORK
};

impl Decode for ForkRecord {
    fn decode(&self, _page_bytes: u64) -> What {
        What::Fork { parent: self.parent_tgid, cgroup_id: self.cgroup_id, comm: text(&self.comm) }
    }
}

#[cfg(test)]
mod tests {
    use inferscope_common::COMM_LEN;
    use inferscope_common::event::{Header, WireRecord};

    use super::super::{Id, decode};
    use super::*;

    fn fork() -> ForkRecord {
        let mut comm = [0; COMM_LEN];
        comm[..4].copy_from_slice(b"work");
        ForkRecord {
            header: Header {
                kind: ForkRecord::KIND,
                tgid: 7,
                host_tgid: 70,
                _pad: 0,
                t_ns: 5,
                start_boottime_ns: 4,
            },
            parent_tgid: 3,
            _pad: 0,
            cgroup_id: 9,
            comm,
        }
    }

    #[test]
    fn a_fork_is_decoded_and_a_cut_one_is_an_error() {
        let record = fork();
        let bytes = bytemuck::bytes_of(&record);
        let decoded = decode(bytes, 4096).unwrap();
        assert_eq!((decoded.pid, decoded.id), (7, Id { host_pid: 70, start_boottime_ns: 4 }));
        assert_eq!(decoded.what, What::Fork { parent: 3, cgroup_id: 9, comm: "work".into() });
        assert!(decode(&bytes[..bytes.len() - 1], 4096).is_err());
    }
}
