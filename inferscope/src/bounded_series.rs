//! A bounded list of readings over time.
//!
//! Owns what is dropped when a run outgrows the list: neighbours are merged into the heavier of them,
//! so that a peak is never lost, only the moments around it. Pure. Used by the aggregates.

#[derive(Debug, Clone)]
pub(crate) struct BoundedSeries<T> {
    kept: Vec<T>,
    /// The heaviest of the `waiting` readings that make the next kept one.
    next: Option<T>,
    waiting: u32,
    /// Readings that are merged into one.
    stride: u32,
    limit: usize,
    dropped: u64,
    heavier: fn(&T, &T) -> bool,
}

impl<T: Copy> BoundedSeries<T> {
    /// Keeps at most `limit` readings; `heavier(a, b)` says that `a` is worth more than `b`.
    pub(crate) fn new(limit: usize, heavier: fn(&T, &T) -> bool) -> Self {
        Self { kept: Vec::new(), next: None, waiting: 0, stride: 1, limit: limit.max(2), dropped: 0, heavier }
    }

    pub(crate) fn push(&mut self, reading: T) {
        self.next = Some(match self.next.take() {
            None => reading,
            Some(other) => {
                self.dropped += 1;
                self.heavier_of(other, reading)
            }
        });
        self.waiting += 1;
        if self.waiting >= self.stride {
            self.flush();
        }
    }

    /// All that was kept, in the order of time, and how many were dropped. `last` is kept as it is.
    pub(crate) fn finish(mut self, last: Option<T>) -> (Vec<T>, u64) {
        self.flush();
        self.kept.extend(last);
        (self.kept, self.dropped)
    }

    fn flush(&mut self) {
        self.waiting = 0;
        let Some(reading) = self.next.take() else { return };
        if self.kept.len() >= self.limit {
            let halves: Vec<T> = self
                .kept
                .chunks(2)
                .map(|pair| pair.iter().copied().reduce(|a, b| self.heavier_of(a, b)))
                .collect::<Option<_>>()
                .unwrap_or_default();
            self.dropped += (self.kept.len() - halves.len()) as u64;
            self.kept = halves;
            self.stride = self.stride.saturating_mul(2);
        }
        self.kept.push(reading);
    }

    fn heavier_of(&self, a: T, b: T) -> T {
        if (self.heavier)(&b, &a) { b } else { a }
    }
}

#[cfg(test)]
mod tests {
    use super::BoundedSeries;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_peak_and_the_order_survive_any_thinning(values in proptest::collection::vec(0_u32..1_000, 1..400), limit in 2_usize..20) {
            let mut series = BoundedSeries::new(limit, |a: &(usize, u32), b| a.1 > b.1);
            for reading in values.iter().copied().enumerate() {
                series.push(reading);
            }
            let (kept, dropped) = series.finish(None);
            prop_assert_eq!(kept.iter().map(|k| k.1).max(), values.iter().copied().max());
            prop_assert!(kept.is_sorted_by_key(|k| k.0));
            prop_assert!(kept.len() <= limit + 1);
            prop_assert_eq!(kept.len() as u64 + dropped, values.len() as u64);
        }
    }
}
