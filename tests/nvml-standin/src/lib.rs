//! A stand-in for `libnvidia-ml.so.1`: the part of NVML's C ABI that inferscope and its peers call, as a scenario tells it.
//!
//! Owns the exported functions, with the symbol versions of the public header: v1, v2 and v3 of the process lists, both of
//! the memory query. Never invents a value: what the scenario leaves out is `NOT_SUPPORTED`. Loaded by tests and benches in
//! the driver's place, with `INFERSCOPE_NVML_SCENARIO` naming the file.

mod abi;
mod cost;
mod driver;
mod gpm;
mod readings;
mod scenario;

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};

use abi::{Code, Memory, MemoryV2, ProcessUtilization, Sample, Utilization, get, put, put_all, put_text};
use driver::{Asked, driver, handle, initialise, shut_down};
use gpm::{GpmMetricsGet, GpmSample, GpmSupport};

type Handle = *mut c_void;

/// The code of an answer: both sides are one.
fn code(answer: Result<Code, Code>) -> Code {
    answer.unwrap_or_else(|code| code)
}

/// A curve of the device's into a caller's unsigned int.
fn reading(
    call: &str,
    device: Handle,
    place: *mut c_uint,
    curve: impl Fn(&'static scenario::Device) -> Option<&'static scenario::Curve>,
) -> Code {
    code(Asked::by(call, device).and_then(|asked| Ok(put(place, asked.value(curve(asked.device))?))))
}

/// A fixed number of the device's.
fn fixed<T>(
    call: &str,
    device: Handle,
    place: *mut T,
    value: impl Fn(&scenario::Device) -> Option<T>,
) -> Code {
    code(
        Asked::by(call, device)
            .and_then(|asked| Ok(put(place, value(asked.device).ok_or(abi::NOT_SUPPORTED)?))),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Code {
    initialise()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Code {
    initialise()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Code {
    shut_down()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: Code) -> *const c_char {
    let text: &CStr = match result {
        abi::SUCCESS => c"Success",
        abi::NOT_SUPPORTED => c"Not Supported",
        abi::NOT_FOUND => c"Not Found",
        15 => c"GPU is lost",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Code {
    code(driver().map(|d| put_text(&d.scenario.driver, version, length)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) -> Code {
    code(driver().map(|d| put_text(&format!("12.{}", d.scenario.driver), version, length)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Code {
    code(driver().and_then(|d| {
        d.entered("nvmlDeviceGetCount_v2", None)?;
        Ok(put(count, d.scenario.devices.len() as c_uint))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut Handle) -> Code {
    code(driver().and_then(|d| {
        d.entered("nvmlDeviceGetHandleByIndex_v2", Some(index))?;
        let there = (index as usize) < d.scenario.devices.len();
        if there { Ok(put(device, handle(d, index, None))) } else { Err(abi::INVALID_ARGUMENT) }
    }))
}

/// # Safety
/// `uuid` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut Handle) -> Code {
    if uuid.is_null() {
        return abi::INVALID_ARGUMENT;
    }
    // SAFETY: the caller's word.
    let uuid = unsafe { CStr::from_ptr(uuid) }.to_string_lossy();
    code(driver().and_then(|d| {
        let named = |device: &scenario::Device| device.uuid == uuid;
        for (i, parent) in (0..).zip(&d.scenario.devices) {
            if named(parent) {
                return Ok(put(device, handle(d, i, None)));
            }
            let instance = parent.mig.as_ref().and_then(|all| all.iter().position(named));
            if let Some(instance) = instance {
                return Ok(put(device, handle(d, i, Some(instance as u32))));
            }
        }
        Err(abi::NOT_FOUND)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetIndex(device: Handle, index: *mut c_uint) -> Code {
    code(Asked::by("nvmlDeviceGetIndex", device).map(|asked| put(index, asked.index)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(device: Handle, name: *mut c_char, length: c_uint) -> Code {
    code(Asked::by("nvmlDeviceGetName", device).map(|asked| put_text(&asked.device.name, name, length)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(device: Handle, uuid: *mut c_char, length: c_uint) -> Code {
    code(Asked::by("nvmlDeviceGetUUID", device).map(|asked| put_text(&asked.device.uuid, uuid, length)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo(device: Handle, memory: *mut Memory) -> Code {
    code(Asked::by("nvmlDeviceGetMemoryInfo", device).and_then(|asked| {
        let (total, reserved, used) = readings::memory(&asked)?;
        // The first version counts what is reserved as used.
        let used = used + reserved;
        Ok(put(memory, Memory { total, free: total.saturating_sub(used), used }))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, memory: *mut MemoryV2) -> Code {
    code(Asked::by("nvmlDeviceGetMemoryInfo_v2", device).and_then(|asked| {
        let version = get(memory.cast::<c_uint>());
        if version != Some(abi::MEMORY_V2) {
            return Err(abi::ARGUMENT_VERSION_MISMATCH);
        }
        let (total, reserved, used) = readings::memory(&asked)?;
        let free = total.saturating_sub(used + reserved);
        Ok(put(memory, MemoryV2 { version: abi::MEMORY_V2, total, reserved, free, used }))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUtilizationRates(device: Handle, rates: *mut Utilization) -> Code {
    code(Asked::by("nvmlDeviceGetUtilizationRates", device).and_then(|asked| {
        let gpu = asked.value(asked.device.sm.as_ref())?;
        let memory = asked.device.memory_busy.as_ref().map_or(Ok(0), |curve| asked.value(Some(curve)))?;
        Ok(put(rates, Utilization { gpu, memory }))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerUsage(device: Handle, power: *mut c_uint) -> Code {
    code(Asked::by("nvmlDeviceGetPowerUsage", device).and_then(|asked| {
        let average = asked.device.power_average_ms;
        Ok(put(power, readings::power_mw(&asked, average)? as c_uint))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetEnforcedPowerLimit(device: Handle, limit: *mut c_uint) -> Code {
    fixed("nvmlDeviceGetEnforcedPowerLimit", device, limit, |d| d.power_limit_mw)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTotalEnergyConsumption(device: Handle, energy: *mut c_ulonglong) -> Code {
    code(
        Asked::by("nvmlDeviceGetTotalEnergyConsumption", device)
            .and_then(|asked| Ok(put(energy, readings::energy_mj(&asked)?))),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperature(device: Handle, _sensor: c_uint, value: *mut c_uint) -> Code {
    reading("nvmlDeviceGetTemperature", device, value, |d| d.temperature.as_ref())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetClockInfo(device: Handle, kind: c_uint, value: *mut c_uint) -> Code {
    // NVML_CLOCK_SM; no scenario has others.
    reading("nvmlDeviceGetClockInfo", device, value, |d| d.sm_clock.as_ref().filter(|_| kind == 1))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxClockInfo(device: Handle, kind: c_uint, value: *mut c_uint) -> Code {
    fixed("nvmlDeviceGetMaxClockInfo", device, value, |d| d.max_sm_clock.filter(|_| kind == 1))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetArchitecture(device: Handle, value: *mut c_uint) -> Code {
    fixed("nvmlDeviceGetArchitecture", device, value, |d| d.architecture)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(device: Handle, mask: *mut c_ulonglong) -> Code {
    code(
        Asked::by("nvmlDeviceGetCurrentClocksThrottleReasons", device)
            .and_then(|asked| Ok(put(mask, asked.value(asked.device.throttle.as_ref())?.into()))),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPcieThroughput(device: Handle, counter: c_uint, value: *mut c_uint) -> Code {
    reading("nvmlDeviceGetPcieThroughput", device, value, |d| match counter {
        0 => d.pcie_tx.as_ref(),
        _ => d.pcie_rx.as_ref(),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetFieldValues(
    device: Handle,
    count: c_int,
    values: *mut abi::FieldValue,
) -> Code {
    code(Asked::by("nvmlDeviceGetFieldValues", device).map(|asked| {
        let places = (0..usize::try_from(count).unwrap_or(0)).map(|i| values.wrapping_add(i));
        let fields = places.filter_map(|place| get(place.cast::<c_uint>()));
        asked.driver.spend("nvmlDeviceGetFieldValues", cost::of_fields(fields));
        for i in 0..usize::try_from(count).unwrap_or(0) {
            let place = values.wrapping_add(i);
            let (Some(field), Some(scope)) =
                (get(place.cast::<c_uint>()), get(place.cast::<c_uint>().wrapping_add(1)))
            else {
                return abi::INVALID_ARGUMENT;
            };
            put(place, readings::field(&asked, field, scope));
        }
        abi::SUCCESS
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSamples(
    device: Handle,
    kind: c_uint,
    last_seen_us: c_ulonglong,
    value_type: *mut c_uint,
    count: *mut c_uint,
    samples: *mut Sample,
) -> Code {
    code(Asked::by("nvmlDeviceGetSamples", device).and_then(|asked| {
        let all = readings::samples(&asked, kind, last_seen_us)?;
        put(value_type, abi::TYPE_UNSIGNED_INT);
        if samples.is_null() {
            return Ok(put(count, all.len() as c_uint));
        }
        asked.driver.spend("nvmlDeviceGetSamples", cost::of_samples(kind));
        Ok(put_all(all, count, samples))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Handle,
    values: *mut ProcessUtilization,
    count: *mut c_uint,
    last_seen_us: c_ulonglong,
) -> Code {
    code(Asked::by("nvmlDeviceGetProcessUtilization", device).and_then(|asked| {
        if !values.is_null() {
            asked.driver.spend("nvmlDeviceGetProcessUtilization", cost::PROCESS_UTILIZATION);
        }
        Ok(put_all(readings::utilization(&asked, last_seen_us)?, count, values))
    }))
}

/// The process lists, in all their versions.
macro_rules! processes {
    ($($name:ident, $graphics:literal, $form:ty;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(device: Handle, count: *mut c_uint, places: *mut $form) -> Code {
            code(Asked::by(stringify!($name), device).and_then(|asked| {
                let all = readings::processes(&asked, $graphics)?;
                // The layout that those drivers wrote, whatever the caller made room for.
                if asked.driver.scenario.r535_processes && stringify!($name).ends_with("_v3") {
                    let wide = all.into_iter().map(abi::ProcessR535::from).collect();
                    return Ok(put_all::<abi::ProcessR535>(wide, count, places.cast()));
                }
                Ok(put_all(all.into_iter().map(<$form>::from).collect(), count, places))
            }))
        }
    )*};
}

processes! {
    nvmlDeviceGetComputeRunningProcesses, false, abi::ProcessV1;
    nvmlDeviceGetComputeRunningProcesses_v2, false, abi::ProcessV2;
    nvmlDeviceGetComputeRunningProcesses_v3, false, abi::ProcessV2;
    nvmlDeviceGetGraphicsRunningProcesses, true, abi::ProcessV1;
    nvmlDeviceGetGraphicsRunningProcesses_v2, true, abi::ProcessV2;
    nvmlDeviceGetGraphicsRunningProcesses_v3, true, abi::ProcessV2;
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigMode(device: Handle, current: *mut c_uint, pending: *mut c_uint) -> Code {
    code(Asked::by("nvmlDeviceGetMigMode", device).and_then(|asked| {
        let mode =
            c_uint::from(asked.device.mig.as_ref().ok_or(abi::NOT_SUPPORTED).map(|all| !all.is_empty())?);
        put(pending, mode);
        Ok(put(current, mode))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: *mut c_uint) -> Code {
    // Of these parts; not all that may be are made.
    fixed("nvmlDeviceGetMaxMigDeviceCount", device, count, |d| d.mig.as_ref().map(|_| 7))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    index: c_uint,
    instance: *mut Handle,
) -> Code {
    code(Asked::by("nvmlDeviceGetMigDeviceHandleByIndex", device).and_then(|asked| {
        let all = asked.device.mig.as_ref().ok_or(abi::NOT_SUPPORTED)?;
        all.get(index as usize).ok_or(abi::NOT_FOUND)?;
        Ok(put(instance, handle(asked.driver, asked.index, Some(index))))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceId(device: Handle, id: *mut c_uint) -> Code {
    fixed("nvmlDeviceGetGpuInstanceId", device, id, |d| d.gpu_instance)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetComputeInstanceId(device: Handle, id: *mut c_uint) -> Code {
    fixed("nvmlDeviceGetComputeInstanceId", device, id, |d| d.compute_instance)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device: Handle, parent: *mut Handle) -> Code {
    code(Asked::by("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", device).and_then(|asked| {
        asked.instance.ok_or(abi::INVALID_ARGUMENT)?;
        Ok(put(parent, handle(asked.driver, asked.index, None)))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceIsMigDeviceHandle(device: Handle, is: *mut c_uint) -> Code {
    code(
        Asked::by("nvmlDeviceIsMigDeviceHandle", device)
            .map(|asked| put(is, c_uint::from(asked.instance.is_some()))),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmQueryDeviceSupport(device: Handle, support: *mut GpmSupport) -> Code {
    code(Asked::by("nvmlGpmQueryDeviceSupport", device).and_then(|asked| gpm::support(&asked, support)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleAlloc(sample: *mut *mut GpmSample) -> Code {
    code(driver().and_then(|d| {
        d.entered("nvmlGpmSampleAlloc", None)?;
        gpm::alloc(d, sample)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleFree(sample: *mut GpmSample) -> Code {
    gpm::free(sample)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleGet(device: Handle, sample: *mut GpmSample) -> Code {
    code(Asked::by("nvmlGpmSampleGet", device).and_then(|asked| gpm::take(&asked, None, sample)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmMigSampleGet(device: Handle, gpu_instance: c_uint, sample: *mut GpmSample) -> Code {
    code(
        Asked::by("nvmlGpmMigSampleGet", device)
            .and_then(|asked| gpm::take(&asked, Some(gpu_instance), sample)),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmMetricsGet(metrics: *mut GpmMetricsGet) -> Code {
    code(driver().and_then(|d| gpm::metrics(d, metrics)))
}
