//! The exit codes, which scripts rely on.

pub const OK: u8 = 0;
pub const INTERNAL: u8 = 1;
pub const USAGE: u8 = 2;
pub const NOTHING_MEASURED: u8 = 3;
pub const SLO_MISSED: u8 = 4;
pub const PRIVILEGE_MISSING: u8 = 5;
pub const INTERRUPTED: u8 = 130;
