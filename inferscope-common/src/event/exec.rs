//! A member's exec succeeded.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use super::{Header, WireRecord};
use crate::{COMM_LEN, Totals};

/// Bytes of an executed file's name that a record holds; a longer one is cut.
pub const EXE_LEN: usize = 128;
/// Bytes of a command line that a record holds; a longer one is cut.
pub const ARGV_LEN: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ExecRecord {
    pub head: ExecHead,
    /// NUL-terminated unless cut.
    pub exe: [u8; EXE_LEN],
    /// NUL-separated. The bytes beyond the command line's length mean nothing.
    pub argv: [u8; ARGV_LEN],
}

/// All but the long texts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ExecHead {
    pub header: Header,
    /// Length of the whole command line, of which `argv` holds the start.
    pub argv_len: u32,
    /// The kernel's peak of resident pages up to here: of the programs before, and of a parent's pages that
    /// a fork held until this exec. 2^32 - 1 where it is more.
    pub maxrss_pages: u32,
    pub comm: [u8; COMM_LEN],
}

const _: () = {
    assert!(size_of::<ExecRecord>() == 440);
    assert!(offset_of!(ExecRecord, exe) == 56);
    assert!(offset_of!(ExecRecord, argv) == 184);
};

impl WireRecord for ExecRecord {
    const KIND: u32 = 2;

    fn lost(totals: &mut Totals) -> &mut u64 {
        &mut totals.lost_execs
    }
}
