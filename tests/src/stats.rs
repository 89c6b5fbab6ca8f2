//! Summaries of a handful of numbers, exact.
//!
//! Owns the arithmetic by which tests judge errors; deliberately shares no code with what it judges.

/// Of the absolute values.
#[derive(Debug, Clone, Copy)]
pub struct Errors {
    pub count: usize,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub worst: f64,
}

impl Errors {
    /// # Panics
    /// When there is nothing to judge: a test that compared nothing fails.
    #[must_use]
    pub fn of(errors: &[f64]) -> Self {
        assert!(!errors.is_empty(), "nothing was compared");
        let mut sorted: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |p: f64| sorted[((sorted.len() as f64 * p).ceil() as usize).clamp(1, sorted.len()) - 1];
        Self {
            count: sorted.len(),
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            p50: rank(0.5),
            p90: rank(0.9),
            worst: rank(1.0),
        }
    }
}

/// The middle one, or the mean of the two in the middle.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// How far `a` is from `b`, as a share of `b`.
#[must_use]
pub fn relative_error(a: f64, b: f64) -> f64 {
    (a - b).abs() / b.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
