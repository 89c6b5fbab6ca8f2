//! The kernel's OOM killer chose a member.

use bytemuck::{Pod, Zeroable};

use super::{Header, WireRecord};
use crate::Totals;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct OomRecord {
    pub header: Header,
}

const _: () = assert!(size_of::<OomRecord>() == 32);

impl WireRecord for OomRecord {
    const KIND: u32 = 8;

    fn lost(totals: &mut Totals) -> &mut u64 {
        &mut totals.lost_others
    }
}
