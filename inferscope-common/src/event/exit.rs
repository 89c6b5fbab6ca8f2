//! The last thread of a member ended.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::{Header, WireRecord};
use crate::{COMM_LEN, Run, Totals, Usage};

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ExitRecord {
    pub header: Header,
    /// As wait(2) reports it.
    pub status: u32,
    pub peak_threads: u32,
    /// Not zero: as wait(2) reports it. Else CPU is short by what the dying threads still use, and a
    /// [`FreeRecord`](super::free::FreeRecord) follows.
    pub is_final: u32,
    pub _pad: u32,
    pub usage: Usage,
    /// What it had used before it came into the set.
    pub base: Run,
    /// Its last name: processes rename themselves without an exec.
    pub comm: [u8; COMM_LEN],
}

const _: () = {
    assert!(size_of::<ExitRecord>() == 152);
    assert!(offset_of!(ExitRecord, usage) == 48);
};

impl WireRecord for ExitRecord {
    const KIND: u32 = 3;

    fn lost(totals: &mut Totals) -> &mut u64 {
        &mut totals.lost_exits
    }
}
