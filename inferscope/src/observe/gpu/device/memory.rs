//! A device's memory, and the processes that hold it.
//!
//! Owns which version of the memory query the driver has. A part of `device`.

use std::collections::BTreeMap;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use super::super::caller::Caller;
use super::super::nvml_ffi;
use super::super::processes::{Pids, decode};
use crate::clock::Mono;
use crate::event::{DeviceAnswer, GpuProcess, MemoryTotals, ProcessLook, Query};

/// `NVML_VALUE_NOT_AVAILABLE`
const NOT_AVAILABLE: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The second version of the memory query is missing.
    is_v1: bool,
    total: Option<u64>,
    /// The process list has entries of 32 bytes.
    wide_processes: bool,
    pids: Vec<u32>,
}

impl Memory {
    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Bytes in use.
    pub(super) fn read(&mut self, device: &Device<'_>, caller: &mut Caller<'_>) -> Option<u64> {
        let first_version = || nvml_ffi::memory_v1(device).map(|(total, used)| (total, used, None));
        let is_v1 = &mut self.is_v1;
        let answer = caller.ask(Query::MemoryUsed, || {
            if *is_v1 {
                return first_version();
            }
            match device.memory_info() {
                Ok(memory) => Ok((memory.total, memory.used, Some(memory.reserved))),
                Err(NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)) => {
                    *is_v1 = true;
                    first_version()
                }
                Err(e) => Err(e),
            }
        });
        let (total_bytes, used, reserved_bytes) = answer?;
        // A device without memory of its own may answer, and say nothing.
        if used > total_bytes || total_bytes == 0 || total_bytes == NOT_AVAILABLE {
            caller.implausible("memory_beyond_device", 1);
            return None;
        }
        self.total = Some(total_bytes);
        caller.send(DeviceAnswer::Memory(MemoryTotals { total_bytes, reserved_bytes }));
        Some(used)
    }

    pub(super) fn read_processes(&mut self, device: &Device<'_>, caller: &mut Caller<'_>, pids: &Pids) {
        let t = Mono::now();
        let queries = [(Query::ComputeProcesses, false), (Query::GraphicsProcesses, true)];
        // A list without a part of it would look like an end, so both are asked together.
        let policy = &caller.policy;
        if queries.iter().any(|(query, _)| !policy.refuses(*query) && !policy.is_due(*query, t)) {
            return;
        }
        let mut all: Vec<GpuProcess> = Vec::new();
        let mut implausible = BTreeMap::new();
        let mut any = false;
        for (query, graphics) in queries {
            let Some(list) = caller.ask(query, || nvml_ffi::processes(device, graphics)) else {
                if caller.policy.refuses(query) {
                    continue;
                }
                return;
            };
            any = true;
            let wide = &mut self.wide_processes;
            all.extend(decode(&list, graphics, self.total, pids, wide, &mut implausible));
        }
        all.sort_unstable();
        for (what, count) in implausible {
            caller.implausible(what, count);
        }
        if any {
            self.pids = all.iter().map(|p| p.pid).collect();
            let look = ProcessLook { t, all };
            caller.send(DeviceAnswer::Processes { look, wide: self.wide_processes });
        }
    }
}
