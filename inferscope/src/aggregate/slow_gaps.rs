//! The longest gaps between two tokens of an answer, each with its window.
//!
//! Owns the bound on how many are kept and the order that decides which. Never knows why a gap was long. Fed by
//! `aggregate::load` with the gaps of each request that ended.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Window;
use crate::units::Nanos;

/// Gaps kept for a whole run.
pub const CAPACITY: usize = 1_000;

/// The time between two chunks with text of one choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowGap {
    /// From the arrival of one chunk to that of the next.
    pub window: Window,
    pub request: u64,
    /// Index of the choice.
    pub choice: u16,
    /// Index of the later chunk among the choice's chunks with text.
    pub chunk: u64,
}

impl SlowGap {
    #[must_use]
    pub const fn length(&self) -> Nanos {
        self.window.length()
    }

    /// The longer gap is the greater one; of two of one length the earlier one.
    const fn key(&self) -> (Nanos, Reverse<Window>, Reverse<u64>, Reverse<u16>, Reverse<u64>) {
        let Self { window, request, choice, chunk } = *self;
        (window.length(), Reverse(window), Reverse(request), Reverse(choice), Reverse(chunk))
    }
}

impl Ord for SlowGap {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for SlowGap {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The longest gaps of all that were offered, in whichever order that was.
#[derive(Debug, Clone)]
pub struct SlowGaps {
    capacity: usize,
    /// The shortest on top.
    kept: BinaryHeap<Reverse<SlowGap>>,
}

impl SlowGaps {
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self { capacity, kept: BinaryHeap::new() }
    }

    pub fn offer(&mut self, gap: SlowGap) {
        if self.kept.len() < self.capacity {
            self.kept.push(Reverse(gap));
        } else if let Some(mut shortest) = self.kept.peek_mut().filter(|shortest| gap > shortest.0) {
            *shortest = Reverse(gap);
        }
    }

    /// The longest first.
    #[must_use]
    pub fn longest_first(&self) -> Vec<SlowGap> {
        let mut all: Vec<SlowGap> = self.kept.iter().map(|gap| gap.0).collect();
        all.sort_unstable_by_key(|gap| Reverse(*gap));
        all
    }
}

impl Default for SlowGaps {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Mono;

    fn gap() -> impl Strategy<Value = SlowGap> {
        // Few different values, so that lengths tie.
        (0..50u64, 0..8u64, 0..6u64, 0..2u16, 0..4u64).prop_map(|(from, length, request, choice, chunk)| {
            let window = Window { from: Mono(from), to: Mono(from + length) };
            SlowGap { window, request, choice, chunk }
        })
    }

    fn kept(capacity: usize, gaps: &[SlowGap]) -> Vec<SlowGap> {
        let mut all = SlowGaps::new(capacity);
        gaps.iter().for_each(|gap| all.offer(*gap));
        all.longest_first()
    }

    proptest! {
        #[test]
        fn the_kept_gaps_are_the_longest_of_all(
            gaps in prop::collection::vec(gap(), 0..80),
            capacity in 0..20usize,
        ) {
            let mut sorted = gaps.clone();
            sorted.sort_by_key(|gap| (Reverse(gap.length()), gap.window.from, gap.request, gap.choice, gap.chunk));
            sorted.truncate(capacity);
            prop_assert_eq!(kept(capacity, &gaps), sorted);
        }

        #[test]
        fn the_order_in_which_gaps_come_changes_nothing(
            (gaps, shuffled) in prop::collection::vec(gap(), 0..60)
                .prop_flat_map(|gaps| (Just(gaps.clone()), Just(gaps).prop_shuffle())),
        ) {
            prop_assert_eq!(kept(7, &gaps), kept(7, &shuffled));
        }
    }

    #[test]
    fn memory_does_not_grow_beyond_the_bound() {
        let mut all = SlowGaps::default();
        for n in 0..10 * CAPACITY as u64 {
            let window = Window { from: Mono(n), to: Mono(2 * n) };
            all.offer(SlowGap { window, request: n, choice: 0, chunk: 1 });
        }
        assert_eq!(all.kept.len(), CAPACITY);
        assert!(all.kept.capacity() <= 2 * CAPACITY);
        assert_eq!(all.longest_first()[0].length(), Nanos(10 * CAPACITY as u64 - 1));
    }
}
