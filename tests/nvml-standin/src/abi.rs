//! The structures of the public header (nvml.h 13.5, PyPI `nvidia-nvml-dev`), and writing through a caller's pointer.
//!
//! Owns layout and return codes; knows no scenario. Called by the exported functions.

use std::ffi::{c_char, c_double, c_int, c_uint, c_ulonglong};

pub(crate) type Code = c_uint;

pub(crate) const SUCCESS: Code = 0;
pub(crate) const UNINITIALIZED: Code = 1;
pub(crate) const INVALID_ARGUMENT: Code = 2;
pub(crate) const NOT_SUPPORTED: Code = 3;
pub(crate) const NOT_FOUND: Code = 6;
pub(crate) const INSUFFICIENT_SIZE: Code = 7;
pub(crate) const DRIVER_NOT_LOADED: Code = 9;
pub(crate) const FUNCTION_NOT_FOUND: Code = 13;
pub(crate) const MEMORY: Code = 20;
pub(crate) const ARGUMENT_VERSION_MISMATCH: Code = 25;

/// `NVML_VALUE_NOT_AVAILABLE` as an `unsigned long long`.
pub(crate) const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;
/// No GPU or compute instance.
pub(crate) const NO_INSTANCE: c_uint = c_uint::MAX;

/// `NVML_VALUE_TYPE_…`
pub(crate) const TYPE_UNSIGNED_INT: c_uint = 1;
pub(crate) const TYPE_UNSIGNED_LONG_LONG: c_uint = 3;

pub(crate) const FIELD_ENERGY: c_uint = 83;
pub(crate) const FIELD_NVLINK_TX: c_uint = 138;
pub(crate) const FIELD_NVLINK_RX: c_uint = 139;
pub(crate) const FIELD_PCIE_TX: c_uint = 197;
pub(crate) const FIELD_PCIE_RX: c_uint = 198;
pub(crate) const FIELD_POWER_AVERAGE: c_uint = 185;
pub(crate) const FIELD_POWER_INSTANT: c_uint = 186;

#[repr(C)]
pub struct Memory {
    pub total: c_ulonglong,
    pub free: c_ulonglong,
    pub used: c_ulonglong,
}

#[repr(C)]
pub struct MemoryV2 {
    pub version: c_uint,
    pub total: c_ulonglong,
    pub reserved: c_ulonglong,
    pub free: c_ulonglong,
    pub used: c_ulonglong,
}

/// `NVML_STRUCT_VERSION(Memory, 2)`
pub(crate) const MEMORY_V2: c_uint = size_of::<MemoryV2>() as c_uint | 2 << 24;

#[repr(C)]
pub struct Utilization {
    pub gpu: c_uint,
    pub memory: c_uint,
}

#[repr(C)]
pub struct ProcessV1 {
    pub pid: c_uint,
    pub memory: c_ulonglong,
}

/// Of `…_v2` and `…_v3` both.
#[repr(C)]
pub struct ProcessV2 {
    pub pid: c_uint,
    pub memory: c_ulonglong,
    pub gpu_instance: c_uint,
    pub compute_instance: c_uint,
}

/// What the first drivers of R535 wrote for `…_v3`, against their own later header.
#[repr(C)]
pub(crate) struct ProcessR535 {
    pub(crate) process: ProcessV2,
    pub(crate) protected_memory: c_ulonglong,
}

#[repr(C)]
pub struct ProcessUtilization {
    pub pid: c_uint,
    pub timestamp_us: c_ulonglong,
    pub sm: c_uint,
    pub memory: c_uint,
    pub encoder: c_uint,
    pub decoder: c_uint,
}

#[repr(C)]
pub union Value {
    pub double: c_double,
    pub int: c_int,
    pub uint: c_uint,
    pub ulonglong: c_ulonglong,
}

#[repr(C)]
pub struct Sample {
    pub timestamp_us: c_ulonglong,
    pub value: Value,
}

#[repr(C)]
pub struct FieldValue {
    pub field: c_uint,
    pub scope: c_uint,
    pub timestamp_us: i64,
    pub latency_us: i64,
    pub value_type: c_uint,
    pub code: Code,
    pub value: Value,
}

const _: () = {
    assert!(size_of::<Memory>() == 24 && size_of::<MemoryV2>() == 40);
    assert!(size_of::<ProcessV1>() == 16 && size_of::<ProcessV2>() == 24);
    assert!(size_of::<ProcessR535>() == 32);
    assert!(size_of::<ProcessUtilization>() == 32);
    assert!(size_of::<Sample>() == 16 && size_of::<FieldValue>() == 40);
    assert!(
        std::mem::offset_of!(FieldValue, value_type) == 24 && std::mem::offset_of!(FieldValue, value) == 32
    );
};

/// Writes `value` where the caller wants it.
pub(crate) fn put<T>(place: *mut T, value: T) -> Code {
    if place.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: by NVML's contract a pointer that is not null points to room for a `T`.
    unsafe { place.write(value) };
    SUCCESS
}

/// Writes `values` into an array of the caller's, which has room for `*count`, as NVML does: too little room, or no
/// array, tells how much is needed.
pub(crate) fn put_all<T>(values: Vec<T>, count: *mut c_uint, places: *mut T) -> Code {
    let Some(room) = get(count) else { return INVALID_ARGUMENT };
    let needed = c_uint::try_from(values.len()).unwrap_or(c_uint::MAX);
    put(count, needed);
    if needed == 0 {
        return SUCCESS;
    }
    if places.is_null() || room < needed {
        return INSUFFICIENT_SIZE;
    }
    for (i, value) in values.into_iter().enumerate() {
        put(places.wrapping_add(i), value);
    }
    SUCCESS
}

pub(crate) fn get<T: Copy>(place: *const T) -> Option<T> {
    if place.is_null() {
        return None;
    }
    // SAFETY: by NVML's contract a pointer that is not null points to a `T`.
    Some(unsafe { place.read() })
}

/// A C string with its NUL; NVML refuses where it does not fit.
pub(crate) fn put_text(text: &str, place: *mut c_char, length: c_uint) -> Code {
    if place.is_null() {
        return INVALID_ARGUMENT;
    }
    if text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    for (i, byte) in text.bytes().chain([0]).enumerate() {
        put(place.wrapping_add(i), byte.cast_signed());
    }
    SUCCESS
}
