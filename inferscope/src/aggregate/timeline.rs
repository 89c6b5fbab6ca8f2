//! A series over time, in buckets that widen as the run grows.
//!
//! Owns the buckets' bound and their alignment: a bucket begins at a multiple of its width on CLOCK_MONOTONIC, and where
//! there are more than fit, each two become one. So what is kept depends on what was recorded and not on the order of
//! it: tokens come with their request's end, long after later ones. Never knows what a series means. Fed by the
//! aggregates.

use std::collections::VecDeque;

use crate::clock::Mono;
use crate::units::Nanos;

/// Buckets of a series at most, two at least.
pub const CAPACITY: usize = 1_000;
/// The width of a bucket until there are too many.
pub const WIDTH: Nanos = Nanos::from_millis(100);

/// What a stretch of time comes to.
pub trait Bucket: Default {
    /// What is recorded.
    type Value;

    fn record(&mut self, value: Self::Value);

    /// The stretch and the next one as one.
    fn merge(&mut self, other: Self);
}

/// Of values that were read at a moment: the least, the mean and the most.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Range {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Range {
    /// Values in it.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub fn min(&self) -> Option<f64> {
        (self.count > 0).then_some(self.min)
    }

    /// Of the values, not over time.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }
}

impl Bucket for Range {
    type Value = f64;

    fn record(&mut self, value: f64) {
        self.merge(Self { count: 1, sum: value, min: value, max: value });
    }

    fn merge(&mut self, other: Self) {
        if self.count == 0 {
            *self = other;
        } else if other.count > 0 {
            self.count += other.count;
            self.sum += other.sum;
            self.min = self.min.min(other.min);
            self.max = self.max.max(other.max);
        }
    }
}

/// Of things that happened: how many. Divided by a bucket's width it is their rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count(pub u64);

impl Bucket for Count {
    type Value = u64;

    fn record(&mut self, value: u64) {
        self.0 = self.0.saturating_add(value);
    }

    fn merge(&mut self, other: Self) {
        self.record(other.0);
    }
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline<B> {
    capacity: usize,
    /// In nanoseconds; beyond the clock's range where a bucket is wider than that.
    width: u128,
    /// The first bucket's number, counted from the clock's zero.
    first: u64,
    buckets: VecDeque<B>,
}

impl<B: Bucket> Timeline<B> {
    /// Nothing yet; at most `capacity` buckets, and two at least: two moments may lie on both sides of any multiple.
    #[must_use]
    pub fn new(width: Nanos, capacity: usize) -> Self {
        // Of two nanoseconds at least, so that no bucket has the last number that there is.
        Self { capacity: capacity.max(2), width: width.0.max(2).into(), first: 0, buckets: VecDeque::new() }
    }

    /// Something at `t`.
    pub fn record(&mut self, t: Mono, value: B::Value) {
        loop {
            let number = self.number(t);
            if self.buckets.is_empty() {
                self.first = number;
            }
            let last = self.first + self.buckets.len().saturating_sub(1) as u64;
            let (begin, end) = (self.first.min(number), last.max(number));
            if end - begin >= self.capacity as u64 {
                self.widen();
                continue;
            }
            for _ in begin..self.first {
                self.buckets.push_front(B::default());
            }
            self.first = begin;
            while self.buckets.len() as u64 <= end - begin {
                self.buckets.push_back(B::default());
            }
            let place = number - begin;
            if let Some(bucket) = usize::try_from(place).ok().and_then(|place| self.buckets.get_mut(place)) {
                bucket.record(value);
            }
            return;
        }
    }

    /// Each bucket's begin, and what is in it, without a gap.
    pub fn buckets(&self) -> impl Iterator<Item = (Mono, &B)> {
        let begin = |number: u64| Mono(u64::try_from(u128::from(number) * self.width).unwrap_or(u64::MAX));
        (self.first..).map(begin).zip(&self.buckets)
    }

    #[must_use]
    pub fn width(&self) -> Nanos {
        Nanos(u64::try_from(self.width).unwrap_or(u64::MAX))
    }

    fn number(&self, t: Mono) -> u64 {
        // The one division a value: of 64 bits where it can be.
        match u64::try_from(self.width) {
            Ok(width) => t.0 / width,
            Err(_) => 0,
        }
    }

    /// Each two buckets become one.
    fn widen(&mut self) {
        let mut wider: VecDeque<B> = VecDeque::with_capacity(self.buckets.len() / 2 + 1);
        for (number, bucket) in (self.first..).zip(std::mem::take(&mut self.buckets)) {
            match wider.back_mut() {
                // An odd one is the second of its pair.
                Some(pair) if number % 2 == 1 => pair.merge(bucket),
                _ => wider.push_back(bucket),
            }
        }
        self.buckets = wider;
        self.width *= 2;
        self.first /= 2;
    }
}

impl<B: Bucket> Default for Timeline<B> {
    fn default() -> Self {
        Self::new(WIDTH, CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Moments over all orders of magnitude, the clock's ends among them.
    fn moments() -> impl Strategy<Value = Vec<u64>> {
        let near = prop::collection::vec(0..2_000u64, 0..60);
        let far = prop::collection::vec(
            prop_oneof![any::<u64>(), (0..64u32).prop_map(|n| 1 << n), Just(u64::MAX)],
            0..20,
        );
        prop_oneof![near, far]
    }

    fn counted(capacity: usize, moments: &[u64]) -> Timeline<Count> {
        let mut timeline = Timeline::new(Nanos(10), capacity);
        moments.iter().for_each(|t| timeline.record(Mono(*t), 1));
        timeline
    }

    proptest! {
        #[test]
        fn each_value_is_in_the_bucket_of_its_moment(moments in moments(), capacity in 2..40usize) {
            let timeline = counted(capacity, &moments);
            prop_assert!(timeline.buckets.len() <= capacity);
            let mut truth: BTreeMap<u64, u64> = BTreeMap::new();
            for t in &moments {
                *truth.entry(timeline.number(Mono(*t))).or_default() += 1;
            }
            let told = (timeline.first..).zip(&timeline.buckets).filter(|(_, bucket)| bucket.0 > 0);
            let told: BTreeMap<u64, u64> = told.map(|(number, bucket)| (number, bucket.0)).collect();
            prop_assert_eq!(told, truth);
        }

        #[test]
        fn the_order_of_the_moments_changes_nothing(
            (moments, shuffled) in moments().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
            capacity in 2..40usize,
        ) {
            prop_assert_eq!(counted(capacity, &moments), counted(capacity, &shuffled));
        }

        #[test]
        fn buckets_are_no_wider_than_the_bound_asks_for(moments in moments(), capacity in 2..40usize) {
            let timeline = counted(capacity, &moments);
            let (Some(first), Some(last)) = (moments.iter().min(), moments.iter().max()) else { return Ok(()) };
            let span = |width: u128| u128::from(*last) / width - u128::from(*first) / width + 1;
            prop_assert!(span(timeline.width) <= capacity as u128);
            prop_assert!(timeline.width == 10 || span(timeline.width / 2) > capacity as u128);
        }

        #[test]
        fn a_bucket_holds_the_least_the_mean_and_the_most_of_its_values(
            values in prop::collection::vec((0..3_000u64, -1_000..1_000i32), 1..80),
        ) {
            let mut timeline = Timeline::<Range>::new(Nanos(10), 8);
            values.iter().for_each(|(t, v)| timeline.record(Mono(*t), f64::from(*v)));
            for (begin, bucket) in timeline.buckets() {
                let end = begin.plus(timeline.width());
                let within = values.iter().filter(|(t, _)| (begin.0..end.0).contains(t)).map(|(_, v)| *v);
                let within: Vec<i32> = within.collect();
                prop_assert_eq!(bucket.count(), within.len() as u64);
                prop_assert_eq!(bucket.min(), within.iter().min().map(|v| f64::from(*v)));
                prop_assert_eq!(bucket.max(), within.iter().max().map(|v| f64::from(*v)));
                let mean = (!within.is_empty()).then(|| f64::from(within.iter().sum::<i32>()) / within.len() as f64);
                prop_assert_eq!(bucket.mean(), mean);
            }
        }
    }

    /// An hour at 100 tokens a second.
    #[test]
    fn a_long_run_has_as_many_buckets_as_a_short_one() {
        let mut timeline = Timeline::<Count>::default();
        (0..360_000u64).for_each(|n| timeline.record(Mono(5_000_000_000 + n * 10_000_000), 1));
        assert!((CAPACITY / 2..=CAPACITY).contains(&timeline.buckets.len()));
        assert_eq!(timeline.buckets().map(|(_, bucket)| bucket.0).sum::<u64>(), 360_000);
        let width = timeline.width().as_secs_f64();
        let full = timeline.buckets().skip(1).map(|(_, bucket)| bucket.0 as f64 / width);
        assert!(full.take(CAPACITY / 2 - 2).all(|rate| (rate - 100.0).abs() < 1e-9));
    }

    #[test]
    fn nothing_recorded_is_no_bucket() {
        assert_eq!(Timeline::<Range>::default().buckets().count(), 0);
        assert_eq!(
            (Range::default().min(), Range::default().mean(), Range::default().max()),
            (None, None, None)
        );
    }
}
