//! How wrong an area under readings of power is whose power rises and falls between them.
//!
//! Owns the error of readings as samples of a signal that nobody sees whole: decode draws its power in a rhythm of some
//! milliseconds, and a device refreshes what it tells every 100 ms. Looks are at random places of their intervals
//! (`observe/gpu`), so that their mean errs as that of random samples does: by their deviation over the root of their number,
//! and, for levels that none of them met, by the share of time that can hide from so many. A part of `energy`.

use crate::event::PowerPoint;
use crate::units::Nanos;

/// Current devices refresh their power every 100.6 ms: a reading may be as old as this, and two of them may be one. Where
/// the readings show that theirs is refreshed more often, that counts.
const REFRESH: Nanos = Nanos::from_millis(105);
/// A level that lasts this many parts in `n` of the time is met by one of `n` samples with 95% (the rule of three).
const UNSEEN: f64 = 3.0;
/// Fewer samples than this have no deviation worth the name: their whole range stands for it.
const FEWEST: f64 = 4.0;

/// Readings as samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fluctuation {
    /// Milliwatts, from one refresh to the next.
    deviation: f64,
    lowest: f64,
    highest: f64,
    mean: f64,
    readings: usize,
    refresh: Nanos,
    most_mw: Option<u64>,
}

impl Fluctuation {
    /// From readings in one or more stretches. `most_mw`: what the device may draw unseen.
    pub(crate) fn of<'a>(
        stretches: impl Iterator<Item = &'a [PowerPoint]> + Clone,
        most_mw: Option<u64>,
    ) -> Self {
        let refresh = stretches.clone().filter_map(changed_twice).min().map_or(REFRESH, |t| t.min(REFRESH));
        let (mut squares, mut pairs) = (0.0, 0_u32);
        for points in stretches.clone() {
            let mut next = 0;
            for a in points {
                while points.get(next).is_some_and(|b| b.t.since(a.t) < refresh) {
                    next += 1;
                }
                let Some(b) = points.get(next) else { break };
                squares += (b.mw as f64 - a.mw as f64).powi(2) / 2.0;
                pairs += 1;
            }
        }
        let all = || stretches.clone().flatten().map(|p| p.mw as f64);
        let readings = all().count();
        let (lowest, highest) = all().fold((f64::MAX, 0.0), |(l, h): (f64, f64), mw| (l.min(mw), h.max(mw)));
        Self {
            deviation: if pairs > 0 { (squares / f64::from(pairs)).sqrt() } else { highest - lowest },
            lowest: lowest.min(highest),
            highest,
            mean: if readings > 0 { all().sum::<f64>() / readings as f64 } else { 0.0 },
            readings,
            refresh,
            most_mw,
        }
    }

    /// With the refresh of `other`.
    pub(crate) const fn refreshed_as(self, other: &Self) -> Self {
        Self { refresh: other.refresh, ..self }
    }

    /// The error of the energy of so much time within the stretches, at 95%.
    pub(crate) fn error_mj(&self, time: Nanos) -> f64 {
        let seconds = time.as_secs_f64();
        let samples = (seconds / self.refresh.as_secs_f64()).min(self.readings as f64).max(1.0);
        let range = self.highest - self.lowest;
        let of_mean = if samples < FEWEST {
            range
        } else {
            student_95(samples - 1.0) * self.deviation / samples.sqrt()
        };
        let most = self.most_mw.map_or(self.highest, |mw| self.highest.max(mw as f64));
        let unseen = (UNSEEN / samples).min(1.0) * (most - self.mean).max(self.mean - self.lowest);
        of_mean.max(unseen) * seconds
    }

    /// So much time at the one end of the range for the other.
    pub(crate) fn range_mj(&self, time: Nanos) -> f64 {
        (self.highest - self.lowest) * time.as_secs_f64()
    }

    /// What a reading that is as old as a refresh moves over an end of a stretch.
    pub(crate) fn stale_mj(&self) -> f64 {
        self.range_mj(self.refresh)
    }
}

/// The shortest time in which the readings changed twice: no longer than that is one refresh.
fn changed_twice(points: &[PowerPoint]) -> Option<Nanos> {
    let changes: Vec<usize> = (1..points.len()).filter(|i| points[*i].mw != points[*i - 1].mw).collect();
    changes.windows(2).map(|pair| points[pair[1]].t.since(points[pair[0] - 1].t)).min()
}

/// Student's 97.5% quantile, within 2% from three degrees of freedom on.
fn student_95(degrees: f64) -> f64 {
    1.96 + 2.42 / degrees + 3.6 / degrees.powi(2)
}

#[cfg(test)]
mod tests;
