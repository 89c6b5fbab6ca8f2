//! The programs at the kernel's tracepoints: one module an event.
//!
//! Each owns its programs and the writing of its records, whose layout `inferscope_common::event` has. Membership is
//! `members`' business, what lived before `snapshot`'s.

pub(crate) mod alive;
mod cgroup_move;
mod exec;
mod exit;
mod fork;
mod free;
mod oom;
