//! The figures of an ended member are final.

use bytemuck::{Pod, Zeroable};

use super::{Header, WireRecord};
use crate::{Run, Totals, Usage};

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct FreeRecord {
    pub header: Header,
    pub usage: Usage,
    /// What it had used before it came into the set.
    pub base: Run,
}

const _: () = assert!(size_of::<FreeRecord>() == 120);

impl WireRecord for FreeRecord {
    const KIND: u32 = 4;

    fn lost(totals: &mut Totals) -> &mut u64 {
        &mut totals.lost_frees
    }
}
