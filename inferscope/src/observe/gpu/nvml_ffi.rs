//! The calls for which nvml-wrapper has no form: older versions, scoped fields, process lists of any layout.
//!
//! Owns every unsafe call of the library but those of `gpm`. Structures are those of the public header (nvml.h 13.5). Used by `device` and
//! `processes`.

use std::ffi::{c_int, c_uint};

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};

/// `NVML_FI_DEV_…`: kept by all drivers, as only 251 to 273 were ever renumbered.
pub(super) const POWER_INSTANT: c_uint = 186;
pub(super) const NVLINK_DATA_TX: c_uint = 138;
pub(super) const NVLINK_DATA_RX: c_uint = 139;
/// Of bytes; a narrow one goes round (nvml.h 13.5: "value can be wrapped").
pub(super) const PCIE_TX_BYTES: c_uint = 197;
pub(super) const PCIE_RX_BYTES: c_uint = 198;
/// NVLink's fields, of all links together.
pub(super) const ALL_LINKS: c_uint = c_uint::MAX;

/// `nvmlFieldValue_t`, its union as eight bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct FieldValue {
    field: c_uint,
    scope: c_uint,
    timestamp_us: i64,
    latency_us: i64,
    value_type: c_uint,
    code: c_uint,
    value: [u8; 8],
}

const _: () = assert!(size_of::<FieldValue>() == 40 && std::mem::offset_of!(FieldValue, value) == 32);

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) value: u64,
    /// Of 64 bits.
    pub(super) is_wide: bool,
}

/// Each field's value as an unsigned number, asked for in one call.
pub(super) fn fields(
    device: &Device<'_>,
    wanted: &[(c_uint, c_uint)],
) -> Result<Vec<Result<Field, NvmlError>>, NvmlError> {
    let call = *nvml_sym(device.nvml().lib().nvmlDeviceGetFieldValues.as_ref())?;
    let ask = |&(field, scope): &(c_uint, c_uint)| FieldValue {
        field,
        scope,
        timestamp_us: 0,
        latency_us: 0,
        value_type: 0,
        code: 0,
        value: [0; 8],
    };
    let mut values: Vec<FieldValue> = wanted.iter().map(ask).collect();
    // SAFETY: the handle outlives the call, as its library does.
    let handle = unsafe { device.handle() };
    let count = c_int::try_from(values.len()).unwrap_or(0);
    // SAFETY: `values` holds `count` structures of the header's layout.
    nvml_try(unsafe { call(handle, count, values.as_mut_ptr().cast()) })?;
    Ok(values
        .iter()
        .map(|v| nvml_try(v.code).and_then(|()| number(v.value_type, v.value).ok_or(NvmlError::NoData)))
        .collect())
}

/// By `nvmlValueType_t`; `None` for a negative number or a type that no field asked for here has.
fn number(value_type: c_uint, bytes: [u8; 8]) -> Option<Field> {
    let [a, b, c, d, ..] = bytes;
    let (value, is_wide) = match value_type {
        1 => (u32::from_ne_bytes([a, b, c, d]).into(), false),
        2 | 3 => (u64::from_ne_bytes(bytes), true),
        4 => (u64::try_from(i64::from_ne_bytes(bytes)).ok()?, true),
        5 => (u64::try_from(i32::from_ne_bytes([a, b, c, d])).ok()?, false),
        _ => return None,
    };
    Some(Field { value, is_wide })
}

/// `nvmlShutdown`: NVML counts its beginnings, and begins anew only after the last of them has ended (nvml.h).
pub(super) fn shut_down(nvml: &Nvml) -> Result<(), NvmlError> {
    let call = *nvml_sym(nvml.lib().nvmlShutdown.as_ref())?;
    // SAFETY: no handle from before is used again: every device is away then, and is looked up before it is asked.
    nvml_try(unsafe { call() })
}

/// `nvmlInit_v2` of a library that is loaded.
pub(super) fn initialise(nvml: &Nvml) -> Result<(), NvmlError> {
    let call = *nvml_sym(nvml.lib().nvmlInit_v2.as_ref())?;
    // SAFETY: takes nothing and may be called at any time (nvml.h).
    nvml_try(unsafe { call() })
}

/// What holds the clocks back, as a mask: for a bit that it does not know nvml-wrapper refuses the whole answer.
pub(super) fn throttle_reasons(device: &Device<'_>) -> Result<u64, NvmlError> {
    let call = *nvml_sym(device.nvml().lib().nvmlDeviceGetCurrentClocksThrottleReasons.as_ref())?;
    let mut mask = 0;
    // SAFETY: the handle outlives the call, as its library does.
    let handle = unsafe { device.handle() };
    // SAFETY: `mask` outlives the call.
    nvml_try(unsafe { call(handle, &raw mut mask) })?;
    Ok(mask)
}

/// Total and used bytes by the first version of the query, which counts what is reserved as used.
pub(super) fn memory_v1(device: &Device<'_>) -> Result<(u64, u64), NvmlError> {
    let call = *nvml_sym(device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = [0_u64; 3];
    // SAFETY: the handle outlives the call, as its library does.
    let handle = unsafe { device.handle() };
    // SAFETY: `nvmlMemory_t` is three `unsigned long long`: total, free, used.
    nvml_try(unsafe { call(handle, memory.as_mut_ptr().cast()) })?;
    Ok((memory[0], memory[2]))
}

/// The GPU instance and compute instance of a MIG device.
pub(super) fn instances(device: &Device<'_>) -> (Option<u32>, Option<u32>) {
    let lib = device.nvml().lib();
    let ask = |call: Result<unsafe extern "C" fn(_, *mut c_uint) -> c_uint, NvmlError>| {
        let call = call.ok()?;
        let mut id = 0;
        // SAFETY: the handle outlives the call, as its library does.
        let handle = unsafe { device.handle() };
        // SAFETY: `id` outlives the call.
        nvml_try(unsafe { call(handle, &raw mut id) }).ok().map(|()| id)
    };
    let gpu = nvml_sym(lib.nvmlDeviceGetGpuInstanceId.as_ref()).copied();
    let compute = nvml_sym(lib.nvmlDeviceGetComputeInstanceId.as_ref()).copied();
    (ask(gpu), ask(compute))
}

/// Which version of a process list was answered, and how its entries lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListVersion {
    /// Entries of 16 bytes.
    V1,
    /// Of 24; so the header says of v3 too.
    V2,
    V3,
}

/// The entries as the driver wrote them.
#[derive(Debug)]
pub(super) struct RawList {
    pub(super) version: ListVersion,
    pub(super) count: usize,
    pub(super) words: Vec<u64>,
}

/// Entries that the first try has room for.
const ROOM: usize = 64;
/// No list is longer.
const MOST: usize = 1 << 14;

/// The list of compute or graphics processes, by the newest version that the driver has.
pub(super) fn processes(device: &Device<'_>, graphics: bool) -> Result<RawList, NvmlError> {
    let missing = |e: &NvmlError| matches!(e, NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_));
    let mut answer = Err(NvmlError::FunctionNotFound);
    for version in [ListVersion::V3, ListVersion::V2, ListVersion::V1] {
        answer = list(device, version, graphics);
        if !matches!(&answer, Err(e) if missing(e)) {
            break;
        }
    }
    answer
}

fn list(device: &Device<'_>, version: ListVersion, graphics: bool) -> Result<RawList, NvmlError> {
    let lib = device.nvml().lib();
    // SAFETY: the handle outlives the calls, as its library does.
    let handle = unsafe { device.handle() };
    let mut room = ROOM;
    loop {
        // Four words an entry, whatever the version: the first drivers of R535 write that much for v3.
        let mut words = vec![0_u64; room * 4];
        let mut count = c_uint::try_from(room).unwrap_or(0);
        macro_rules! call {
            ($name:ident) => {{
                let call = *nvml_sym(lib.$name.as_ref())?;
                // SAFETY: there is room for `count` entries of the largest layout.
                unsafe { call(handle, &raw mut count, words.as_mut_ptr().cast()) }
            }};
        }
        let code = match (version, graphics) {
            (ListVersion::V3, false) => call!(nvmlDeviceGetComputeRunningProcesses_v3),
            (ListVersion::V2, false) => call!(nvmlDeviceGetComputeRunningProcesses_v2),
            (ListVersion::V1, false) => call!(nvmlDeviceGetComputeRunningProcesses),
            (ListVersion::V3, true) => call!(nvmlDeviceGetGraphicsRunningProcesses_v3),
            (ListVersion::V2, true) => call!(nvmlDeviceGetGraphicsRunningProcesses_v2),
            (ListVersion::V1, true) => call!(nvmlDeviceGetGraphicsRunningProcesses),
        };
        let count = count as usize;
        match nvml_try(code) {
            Err(NvmlError::InsufficientSize(_)) if room < MOST => room = (count * 2).clamp(room * 2, MOST),
            Err(e) => return Err(e),
            Ok(()) => return Ok(RawList { version, count: count.min(room), words }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, number};

    #[test]
    fn a_value_is_read_by_its_type_and_never_from_the_bytes_beyond_it() {
        let bytes = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(number(1, bytes), Some(Field { value: 1, is_wide: false }));
        let wide = Field { value: (1 << 56) + 2, is_wide: true };
        assert_eq!(number(3, [2, 0, 0, 0, 0, 0, 0, 1]), Some(wide));
        assert_eq!(number(5, [0xff; 8]), None);
        assert_eq!(number(0, bytes), None);
    }
}
