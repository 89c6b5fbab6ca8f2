//! When the requests of an open loop are due.
//!
//! Owns the arrivals of one stage, as times since it began: how many there are is settled beforehand, so that the rate sent
//! is the rate asked for. Poisson arrivals given their number are independent and uniform over the time (in a ramp, over
//! what has been sent); a long stage is cut into stretches with a number each, so that each part of it has the rate, too.
//! Keeps no list. Asked by `schedule`.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::plan::Arrival;
use crate::units::Nanos;

/// A stretch is at least so long and holds so many arrivals: what is bursty within one stays so.
const LEAST_STRETCH_S: f64 = 10.0;
const LEAST_ARRIVALS: f64 = 50.0;

/// How the rate runs over a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    Level,
    /// From zero in a straight line.
    Rising,
}

/// What a stage is to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stage {
    pub(super) course: Course,
    pub(super) arrival: Arrival,
    /// Requests in all.
    pub(super) number: u64,
    /// Over so many seconds.
    pub(super) seconds: f64,
}

impl Stage {
    /// `per_second` for `seconds`, no more than `most`.
    pub(super) fn level(arrival: Arrival, per_second: f64, seconds: Option<f64>, most: Option<u64>) -> Self {
        let stage = |number: u64, seconds| {
            // Of equal steps the last is over after the time where it does not hold them evenly.
            let even = number as f64 / per_second;
            let seconds = if arrival == Arrival::Constant { even } else { seconds };
            Self { course: Course::Level, arrival, number, seconds }
        };
        // All that lie within the time; at least one, as a load of none measures nothing.
        let held = seconds.map(|s| match arrival {
            Arrival::Constant => (per_second * s - 1e-9).ceil().max(1.0) as u64,
            Arrival::Poisson => (per_second * s).round().max(1.0) as u64,
        });
        match (held.zip(seconds), most) {
            (Some((held, seconds)), most) if most.is_none_or(|most| held <= most) => stage(held, seconds),
            (_, Some(most)) => stage(most, most as f64 / per_second),
            (Some((held, seconds)), None) => stage(held, seconds),
            (None, None) => stage(0, 0.0),
        }
    }

    /// From nothing to `per_second` in `seconds`.
    pub(super) fn rising(arrival: Arrival, per_second: f64, seconds: f64) -> Self {
        let number = (per_second * seconds / 2.0).round() as u64;
        Self { course: Course::Rising, arrival, number, seconds }
    }

    fn stretches(&self) -> u64 {
        let per_second = self.number as f64 / self.seconds.max(1e-9);
        let length = LEAST_STRETCH_S.max(LEAST_ARRIVALS / per_second.max(1e-9));
        match self.course {
            Course::Level => ((self.seconds / length) as u64).max(1),
            Course::Rising => 1,
        }
    }
}

/// The arrivals of one stage, one after another.
#[derive(Debug)]
pub(super) struct Arrivals {
    random: SmallRng,
    stage: Stage,
    stretches: u64,
    /// The stretch under way, what is left of it, and how far into it the last one was.
    stretch: u64,
    left: u64,
    at: f64,
    taken: u64,
    /// Drawn and not yet taken.
    pending: Option<Nanos>,
}

impl Arrivals {
    pub(super) fn new(stage: Stage, seed: u64) -> Self {
        let stretches = stage.stretches();
        let random = SmallRng::seed_from_u64(seed);
        let mut all =
            Self { random, stage, stretches, stretch: 0, left: 0, at: 0.0, taken: 0, pending: None };
        all.left = all.up_to(1);
        all
    }

    /// Arrivals in the first `n` stretches: rounded sums, so that the whole is exact.
    fn up_to(&self, n: u64) -> u64 {
        let number = u128::from(self.stage.number) * u128::from(n);
        let all = u128::from(self.stretches);
        u64::try_from((number + all / 2) / all).unwrap_or(u64::MAX).min(self.stage.number)
    }

    /// When the next one is due; `None`: there is no more.
    pub(super) fn peek(&mut self) -> Option<Nanos> {
        if self.pending.is_none() && self.taken < self.stage.number {
            self.pending = Some(self.draw());
        }
        self.pending
    }

    pub(super) fn take(&mut self) {
        if self.pending.take().is_some() {
            self.taken += 1;
        }
    }

    fn draw(&mut self) -> Nanos {
        let seconds = self.stage.seconds;
        let part = match self.stage.arrival {
            Arrival::Constant => self.taken as f64 / self.stage.number as f64,
            Arrival::Poisson => self.poisson(),
        };
        // Of a rate that rises, the part that has been sent grows with the square of the time.
        let at = match self.stage.course {
            Course::Level => part * seconds,
            Course::Rising => part.sqrt() * seconds,
        };
        Nanos((at * 1e9).round() as u64)
    }

    /// The next of so many sorted uniform numbers, as part of the stage.
    fn poisson(&mut self) -> f64 {
        while self.left == 0 && self.stretch + 1 < self.stretches {
            self.stretch += 1;
            self.left = self.up_to(self.stretch + 1) - self.up_to(self.stretch);
            self.at = 0.0;
        }
        // The least of `left` uniform numbers over what is left of the stretch; 1 - u is never zero.
        let least = 1.0 - (1.0 - self.random.random::<f64>()).powf(1.0 / self.left.max(1) as f64);
        self.at += (1.0 - self.at) * least;
        self.left = self.left.saturating_sub(1);
        (self.stretch as f64 + self.at) / self.stretches as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(stage: Stage, seed: u64) -> Vec<f64> {
        let mut arrivals = Arrivals::new(stage, seed);
        std::iter::from_fn(|| {
            let due = arrivals.peek()?;
            arrivals.take();
            Some(due.0 as f64 / 1e9)
        })
        .collect()
    }

    fn poisson(per_second: f64, seconds: f64) -> Stage {
        Stage::level(Arrival::Poisson, per_second, Some(seconds), None)
    }

    #[test]
    fn the_rate_sent_is_the_rate_asked_for_whatever_the_seed() {
        for seed in 0..200 {
            for (per_second, seconds, number) in [(5.0, 20.0, 100), (4.0, 10.0, 40), (0.3, 10.0, 3)] {
                let all = due(poisson(per_second, seconds), seed);
                assert_eq!(all.len(), number, "seed {seed}");
                assert!(all.is_sorted() && all.iter().all(|t| (0.0..seconds).contains(t)), "{all:?}");
            }
        }
    }

    #[test]
    fn each_stretch_of_a_long_run_has_the_rate_too() {
        // 10 s at 7.3 a second: 73 each.
        let all = due(poisson(7.3, 600.0), 3);
        assert_eq!(all.len(), 4_380);
        for n in 0..60 {
            let held = all.iter().filter(|t| (n as f64 * 10.0..(n + 1) as f64 * 10.0).contains(*t)).count();
            assert_eq!(held, 73, "in stretch {n}");
        }
        // At a slow rate a stretch is longer: two of 50 s and no more.
        let all = due(poisson(1.0, 100.0), 3);
        assert_eq!(all.iter().filter(|t| **t < 50.0).count(), 50);
        // A stretch's part of a request is carried on.
        assert_eq!(due(poisson(5.05, 100.0), 1).len(), 505);
    }

    #[test]
    fn gaps_are_as_independent_arrivals_have_them() {
        let all = due(poisson(50.0, 400.0), 11);
        let gaps: Vec<f64> = all.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = (gaps.iter().map(|g| (g - mean) * (g - mean)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean - 0.02).abs() < 1e-4, "{mean}");
        assert!((spread / mean - 1.0).abs() < 0.05, "an exponential's spread is its mean: {spread}");
        // Within a second they vary as Poisson's do: the variance is near the mean.
        let mut counts = [0f64; 400];
        all.iter().for_each(|t| counts[*t as usize] += 1.0);
        let variance = counts.iter().map(|n| (n - 50.0) * (n - 50.0)).sum::<f64>() / 400.0;
        assert!((30.0..70.0).contains(&variance), "{variance}");
    }

    #[test]
    fn a_constant_rate_is_exact_to_the_last() {
        let all = due(Stage::level(Arrival::Constant, 3.0, Some(1_000.0), None), 0);
        assert_eq!((all.len(), all[0]), (3_000, 0.0));
        assert!((all[2_999] - 2_999.0 / 3.0).abs() < 1e-9, "no rounding adds up: {}", all[2_999]);
        let few = due(Stage::level(Arrival::Constant, 4.0, None, Some(5)), 0);
        assert_eq!(few, [0.0, 0.25, 0.5, 0.75, 1.0]);
        let cut = due(Stage::level(Arrival::Constant, 4.0, Some(9.0), Some(3)), 0);
        assert_eq!(cut, [0.0, 0.25, 0.5]);
    }

    #[test]
    fn a_rising_rate_sends_a_quarter_in_its_first_half() {
        for arrival in [Arrival::Constant, Arrival::Poisson] {
            let all = due(Stage::rising(arrival, 1_000.0, 2.0), 5);
            assert_eq!(all.len(), 1_000);
            let half = all.iter().filter(|t| **t < 1.0).count();
            assert!((200..300).contains(&half), "{half}");
        }
    }

    #[test]
    fn one_seed_repeats_and_another_differs() {
        let of = |seed| due(poisson(5.0, 20.0), seed);
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }
}
