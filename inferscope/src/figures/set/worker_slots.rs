//! Which worker took over from which.
//!
//! Owns the rule: a worker that was born after a sibling's end takes over the slot that was freed first and
//! is not yet filled again; siblings that live at the same time are in different slots. Never knows what a
//! process is: it is given times. Called by `roles`, for the workers of one arbiter.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// From a worker's birth up to its end, in nanoseconds on the run's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) birth: i64,
    /// `None`: it outlived the run.
    pub(super) end: Option<i64>,
}

/// Where a worker stands among its siblings; both count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The place of each life, in their order. Takes n log n steps.
pub(super) fn places(lives: &[Life]) -> Vec<Place> {
    let mut by_birth: Vec<usize> = (0..lives.len()).collect();
    by_birth.sort_by_key(|&i| lives[i].birth);
    let mut places = vec![Place { slot: 0, generation: 0 }; lives.len()];
    // The slots in use whose process ends within the run, the first to end on top.
    let mut ending: BinaryHeap<Reverse<(i64, u32)>> = BinaryHeap::new();
    let mut freed: VecDeque<u32> = VecDeque::new();
    // For each slot its last generation.
    let mut slots: Vec<u32> = Vec::new();
    for i in by_birth {
        let life = lives[i];
        while let Some(Reverse((end, slot))) = ending.peek().copied() {
            if end > life.birth {
                break;
            }
            ending.pop();
            freed.push_back(slot);
        }
        let place = match freed.pop_front() {
            Some(slot) => {
                let last = &mut slots[slot as usize];
                *last = last.saturating_add(1);
                Place { slot, generation: *last }
            }
            None => {
                // As many slots as 32-bit pids at the most.
                let slot = u32::try_from(slots.len()).unwrap_or(u32::MAX);
                slots.push(0);
                Place { slot, generation: 0 }
            }
        };
        if let Some(end) = life.end {
            // An end that seems to be before the birth is one of two clocks read apart.
            ending.push(Reverse((end.max(life.birth), place.slot)));
        }
        places[i] = place;
    }
    places
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn of(lives: &[(i64, i64)]) -> Vec<(u32, u32)> {
        let life = |&(birth, end): &(i64, i64)| Life { birth, end: (end < 1_000).then_some(end) };
        places(&lives.iter().map(life).collect::<Vec<_>>())
            .into_iter()
            .map(|p| (p.slot, p.generation))
            .collect()
    }

    /// Outlives the run.
    const ON: i64 = 1_000;

    #[test]
    fn those_alive_at_the_start_are_the_first_of_their_slots() {
        assert_eq!(of(&[(-50, ON), (-60, 20), (-40, 30)]), [(1, 0), (0, 0), (2, 0)]);
    }

    #[test]
    fn a_worker_takes_over_the_slot_that_was_freed_first() {
        let lives = [(-2, 20), (-1, 10), (30, ON), (31, 40), (41, ON)];
        assert_eq!(of(&lives), [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2)]);
    }

    #[test]
    fn one_that_was_born_before_the_end_is_a_further_slot() {
        assert_eq!(of(&[(0, 20), (19, ON)]), [(0, 0), (1, 0)]);
        assert_eq!(of(&[(0, 20), (20, ON)]), [(0, 0), (0, 1)]);
    }

    #[test]
    fn a_slot_that_nobody_refills_stays_empty() {
        assert_eq!(of(&[(0, 10), (0, 11), (20, ON)]), [(0, 0), (1, 0), (0, 1)]);
    }

    #[test]
    fn two_hundred_thousand_workers_take_no_time() {
        let lives: Vec<Life> = (0..200_000).map(|n| Life { birth: n, end: Some(n + 4) }).collect();
        let begun = std::time::Instant::now();
        let places = places(&lives);
        assert_eq!(places.iter().map(|p| p.slot).max(), Some(3));
        // A quadratic rule takes minutes in a debug build.
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }

    fn lives() -> impl Strategy<Value = Vec<Life>> {
        let life = (0_i64..60, proptest::option::of(0_i64..30));
        let life = life.prop_map(|(birth, lasts)| Life { birth, end: lasts.map(|n| birth + n) });
        proptest::collection::vec(life, 0..40)
    }

    proptest! {
        #[test]
        fn no_two_that_live_at_the_same_time_share_a_slot(lives in lives()) {
            let places = places(&lives);
            let ends = |l: &Life| l.end.unwrap_or(i64::MAX);
            for (i, a) in lives.iter().enumerate() {
                for (j, b) in lives.iter().enumerate().skip(i + 1) {
                    let together = a.birth < ends(b) && b.birth < ends(a);
                    prop_assert!(!together || places[i].slot != places[j].slot, "{:?} and {:?}", a, b);
                }
            }
        }

        #[test]
        fn the_generations_of_a_slot_follow_its_births_without_holes(lives in lives()) {
            let places = places(&lives);
            let mut slots: HashMap<u32, Vec<(i64, u32)>> = HashMap::new();
            for (life, place) in lives.iter().zip(&places) {
                slots.entry(place.slot).or_default().push((life.birth, place.generation));
            }
            for of_slot in slots.values_mut() {
                of_slot.sort_unstable_by_key(|(_, generation)| *generation);
                prop_assert!(of_slot.iter().map(|g| g.1).eq(0..of_slot.len() as u32), "{:?}", of_slot);
                prop_assert!(of_slot.is_sorted_by_key(|g| g.0), "{:?}", of_slot);
            }
        }

        #[test]
        fn no_slot_is_opened_while_another_is_free(lives in lives()) {
            let most = lives.iter().map(|at| {
                let alive = |l: &&Life| l.birth <= at.birth && l.end.is_none_or(|end| end > at.birth);
                lives.iter().filter(alive).count()
            });
            // Those that end in the moment of their birth need a slot for that moment, too.
            let momentary = lives.iter().filter(|l| l.end == Some(l.birth)).count();
            let slots = places(&lives).iter().map(|p| p.slot + 1).max().unwrap_or(0) as usize;
            prop_assert!(slots <= most.max().unwrap_or(0) + momentary);
        }
    }
}
