//! The kernel tracker: what the kernel program sees of the process set.
//!
//! `programs` loads the embedded object (`loader`, `syscall`) with the running kernel's offsets (`btf`, `offsets`,
//! `kernel`); `tracker` attaches it and drains its ring, whose records `event` decodes; `on_cpu` is the program that
//! looks at the CPUs. Decides nothing about processes (`observe::table` does).

mod btf;
mod error;
mod event;
mod kernel;
mod loader;
mod log;
mod mapped;
mod offsets;
mod on_cpu;
mod programs;
mod syscall;
mod tracepoint;
mod tracker;
mod usage;

pub use error::EbpfError;
pub use kernel::{Version as KernelVersion, too_old};
pub use programs::probe;

pub(crate) use event::{Alive, Id, Record, What};
pub(crate) use tracker::Tracker;
pub(crate) use usage::{GroupUsage, cpu_of, cputime_adjust};
