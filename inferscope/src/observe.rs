//! The server's side: which processes it is, what they use, what the devices do.
//!
//! Owns every look at the kernel, /proc and NVML. Never knows of requests (`load` does) and draws
//! no conclusions (`figures` and `verdict` do). Spawned and joined by `session`.
//!
//! `target_discovery` finds the roots; `ebpf` or `proc` follow the set; `table` is the pure state machine that
//! both feed; `clocks` reads what it has used; `observer` is the one thread that drains, samples and keeps time; `gpu` polls
//! NVML, `rapl` the CPU packages, and `window_edges` tells both when a window begins or ends.

pub(crate) mod cgroup;
mod clocks;
pub(crate) mod cpus;
mod ebpf;
pub mod gpu;
mod observer;
pub(crate) mod proc;
mod pss_schedule;
pub mod rapl;
mod sample_clock;
mod sampler;
mod table;
pub mod target_discovery;
mod window_edges;

pub use cgroup::CgroupError;
pub use ebpf::{EbpfError, KernelVersion, probe as probe_tracker, too_old};
pub use observer::{Marker, ObserveError, Observer};
pub use window_edges::Edges;
