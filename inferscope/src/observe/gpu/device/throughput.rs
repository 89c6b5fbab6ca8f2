//! What a device counts of the bytes that it moved.
//!
//! Owns the rates over PCIe between two readings; those over NVLink are sent as counters. A part of `device`.

use nvml_wrapper::Device;

use super::super::caller::Caller;
use super::super::counters::Counted;
use super::super::nvml_ffi::{self, Field};
use super::super::queries;
use crate::clock::Mono;
use crate::event::{Gauge, GpuReading, Query};

#[derive(Debug, Default)]
pub(super) struct Throughput {
    pcie: [Counted; 2],
}

impl Throughput {
    /// What comes next belongs to nothing before.
    pub(super) fn forget(&mut self) {
        self.pcie.iter_mut().for_each(Counted::forget);
    }

    pub(super) fn read(&mut self, device: &Device<'_>, caller: &mut Caller<'_>, reading: &mut GpuReading) {
        let all = nvml_ffi::ALL_LINKS;
        let nvlink = [
            (Query::NvlinkTx, nvml_ffi::NVLINK_DATA_TX, all),
            (Query::NvlinkRx, nvml_ffi::NVLINK_DATA_RX, all),
        ];
        let [tx, rx] = read_fields(device, caller, Query::NvlinkCounters, nvlink);
        (reading.nvlink_tx_kib, reading.nvlink_rx_kib) = (tx.map(|f| f.value), rx.map(|f| f.value));
        let t = Mono::now();
        let pcie = [
            (Query::PcieTxBytes, nvml_ffi::PCIE_TX_BYTES, 0),
            (Query::PcieRxBytes, nvml_ffi::PCIE_RX_BYTES, 0),
        ];
        let fields = read_fields(device, caller, Query::PcieCounters, pcie);
        let gauges = [Gauge::PcieTx, Gauge::PcieRx];
        for ((gauge, counted), field) in gauges.into_iter().zip(&mut self.pcie).zip(fields) {
            let Some(query) = queries::counter(gauge) else { continue };
            if field.is_some_and(|field| !field.is_wide) {
                caller.policy(|policy| {
                    policy.give_up(query, "of 32 bits: it may go round between two readings");
                });
            }
            let counter = field.filter(|field| field.is_wide);
            reading.set(gauge, counter.and_then(|field| counted.rate(t, field)));
            if caller.policy.refuses(query) || caller.policy.refuses(Query::PcieCounters) {
                let call = queries::call(gauge);
                reading.set(gauge, caller.ask(Query::Gauge(gauge), || call(device)));
            }
        }
    }
}

/// Several fields by one call, without those that were refused.
pub(super) fn read_fields<const N: usize>(
    device: &Device<'_>,
    caller: &mut Caller<'_>,
    query: Query,
    fields: [(Query, u32, u32); N],
) -> [Option<Field>; N] {
    let mut values = [None; N];
    let asked: Vec<usize> = (0..N).filter(|i| !caller.policy.refuses(fields[*i].0)).collect();
    if asked.is_empty() {
        return values;
    }
    let wanted: Vec<_> = asked.iter().map(|i| (fields[*i].1, fields[*i].2)).collect();
    let t = Mono::now();
    let answers = caller.ask(query, || nvml_ffi::fields(device, &wanted)).unwrap_or_default();
    for (i, answer) in asked.into_iter().zip(answers) {
        values[i] = caller.noted(fields[i].0, answer, t);
    }
    values
}
