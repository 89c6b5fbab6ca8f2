//! The process set and what it used: membership by the kernel's events, CPU, memory, cgroups, containers, commands that
//! inferscope starts, and the privileges that all of it takes.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy does not see helpers as tests"
)]

mod cgroup;
mod containers;
mod cpu_clock;
mod discovery;
mod events;
mod exec;
mod gunicorn;
mod least_privilege;
mod leftovers;
mod max_memory;
mod memory;
mod odd_targets;
mod own;
mod privileges;
mod roles;
mod storm;
