//! Rates of counters that a device keeps of bytes.
//!
//! Owns the difference of two readings. A counter that fell, or is so narrow that it may have gone round between two
//! readings, gives no rate. Pure. Used by `device`.

use super::nvml_ffi::Field;
use crate::clock::Mono;

#[derive(Debug, Default)]
pub(super) struct Counted {
    last: Option<(Mono, u64)>,
}

impl Counted {
    /// Thousands of bytes a second since the reading before; `None` where there was none that belongs to it.
    pub(super) fn rate(&mut self, t: Mono, field: Field) -> Option<u32> {
        let (before, bytes) = self.last.replace((t, field.value))?;
        let grown = field.value.checked_sub(bytes)?;
        let seconds = t.since(before).as_secs_f64();
        (seconds > 0.0).then(|| (grown as f64 / 1e3 / seconds).round() as u32)
    }

    /// What comes next belongs to nothing before.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn field(value: u64) -> Field {
        Field { value, is_wide: true }
    }

    #[test]
    fn rate_is_none_after_counter_reset() {
        let mut counted = Counted::default();
        assert_eq!(counted.rate(Mono(0), field(1_000_000)), None);
        assert_eq!(counted.rate(Mono(500_000_000), field(2_000_000)), Some(2_000));
        assert_eq!(counted.rate(Mono(1_000_000_000), field(5)), None);
        assert_eq!(counted.rate(Mono(2_000_000_000), field(1_005)), Some(1));
        counted.forget();
        assert_eq!(counted.rate(Mono(3_000_000_000), field(9_000)), None);
    }
}
