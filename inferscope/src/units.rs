//! Quantities with their unit in the type.
//!
//! Owns the conversion from the kernel's units (clock ticks, pages) to the report's (nanoseconds, bytes). The
//! conversion happens once, at the edge, through these functions. Never reads the system: tick length and page size are
//! arguments. Used by every other module.

use serde::{Deserialize, Serialize};

/// A length of time in nanoseconds. 584 years fit, so sums saturate instead of wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    #[must_use]
    pub fn saturating_sub(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        // Exact to 1 ns up to 104 days, which is beyond any run.
        self.0 as f64 / 1e9
    }

    #[must_use]
    pub const fn to_duration(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }
}

impl std::ops::Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, |sum, n| sum + n)
    }
}

impl From<std::time::Duration> for Nanos {
    fn from(d: std::time::Duration) -> Self {
        Self(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Clock ticks of /proc/PID/stat (`sysconf(_SC_CLK_TCK)` a second) as nanoseconds.
#[must_use]
pub fn ticks_to_nanos(ticks: u64, ticks_per_second: u64) -> Nanos {
    let per_second = u128::from(ticks_per_second.max(1));
    Nanos(u64::try_from(u128::from(ticks) * 1_000_000_000 / per_second).unwrap_or(u64::MAX))
}

/// The size of a ring of at least this many bytes: the kernel requires a power of two of whole pages.
#[must_use]
pub const fn ring_bytes(at_least: u32, page_bytes: u32) -> Option<u32> {
    let bytes = if at_least > page_bytes { at_least } else { page_bytes };
    bytes.checked_next_power_of_two()
}

/// Pages as bytes; saturates.
#[must_use]
pub const fn pages_to_bytes(pages: u64, page_bytes: u64) -> u64 {
    pages.saturating_mul(page_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_without_overflow() {
        assert_eq!(ticks_to_nanos(1, 100), Nanos(10_000_000));
        assert_eq!(ticks_to_nanos(u64::MAX, 100), Nanos(u64::MAX));
    }

    #[test]
    fn a_ring_is_a_power_of_two_of_whole_pages_of_any_size() {
        const K: u32 = 1_024;
        // Of the smallest, of one between, of one above every page.
        let rings = |page| [4 * K, 40 * K, 512 * K].map(|bytes| ring_bytes(bytes, page));
        assert_eq!(rings(4 * K), [Some(4 * K), Some(64 * K), Some(512 * K)]);
        assert_eq!(rings(16 * K), [Some(16 * K), Some(64 * K), Some(512 * K)]);
        assert_eq!(rings(64 * K), [Some(64 * K), Some(64 * K), Some(512 * K)]);
        assert_eq!([0, 1].map(|bytes| ring_bytes(bytes, 64 * K)), [Some(64 * K), Some(64 * K)]);
        assert_eq!(ring_bytes(u32::MAX, 4 * K), None);
    }

    #[test]
    fn sums_and_pages_saturate() {
        assert_eq!(Nanos(u64::MAX) + Nanos(1), Nanos(u64::MAX));
        assert_eq!(pages_to_bytes(u64::MAX, 4096), u64::MAX);
        assert_eq!([Nanos(u64::MAX), Nanos(7)].into_iter().sum::<Nanos>(), Nanos(u64::MAX));
    }
}
