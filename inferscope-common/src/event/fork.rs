//! A process (not a thread) was born into the set.

use bytemuck::{Pod, Zeroable};

use super::{Header, WireRecord};
use crate::{COMM_LEN, Totals};

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ForkRecord {
    pub header: Header,
    pub parent_tgid: u32,
    pub _pad: u32,
    pub cgroup_id: u64,
    pub comm: [u8; COMM_LEN],
}

const _: () = assert!(size_of::<ForkRecord>() == 64);

impl WireRecord for ForkRecord {
    const KIND: u32 = 1;

    fn lost(totals: &mut Totals) -> &mut u64 {
        &mut totals.lost_forks
    }
}
