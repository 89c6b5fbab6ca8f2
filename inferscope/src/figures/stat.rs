//! The five numbers of a sampled quantity.
//!
//! Owns how samples become a [`Stat`]. Never decides which samples count, and never rounds. Called by the figures.

/// Over samples of which there is at least one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stat<T = f64> {
    pub(crate) count: u64,
    pub(crate) min: T,
    /// Each sample counts once, unless its owner says otherwise.
    pub(crate) mean: f64,
    pub(crate) max: T,
    pub(crate) last: T,
}

/// A sample: a share, or a whole number, which stays one.
pub(crate) trait Sampled: Copy + PartialOrd {
    fn to_f64(self) -> f64;
}

impl Sampled for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

impl Sampled for u64 {
    fn to_f64(self) -> f64 {
        self as f64
    }
}

/// `None` without samples. Not-finite values do not occur in counters.
pub(crate) fn stat<T: Sampled>(values: impl IntoIterator<Item = T>) -> Option<Stat<T>> {
    let mut values = values.into_iter();
    let first = values.next()?;
    let (mut count, mut sum) = (1_u64, first.to_f64());
    let (mut min, mut max, mut last) = (first, first, first);
    for value in values {
        count = count.saturating_add(1);
        sum += value.to_f64();
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
        last = value;
    }
    Some(Stat { count, min, mean: sum / count as f64, max, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_samples_are_no_figure_and_never_zero() {
        assert_eq!(stat::<u64>([]), None);
    }

    #[test]
    fn the_last_sample_is_kept_beside_the_extremes() {
        let expected = Stat { count: 3, min: 1.0, mean: 3.0, max: 6.0, last: 1.0 };
        assert_eq!(stat([2.0, 6.0, 1.0]), Some(expected));
    }

    #[test]
    fn a_whole_number_stays_one() {
        let stat = stat([(1_u64 << 53) + 1, 2]).unwrap();
        assert_eq!((stat.max, stat.last), ((1 << 53) + 1, 2));
    }
}
