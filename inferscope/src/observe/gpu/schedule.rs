//! When the devices are asked what.
//!
//! Owns when a query is due again, by what its answer is worth (`queries`) and what it cost, and at which moment of its interval
//! a look is taken. Pure. Used by `query_policy` and `worker`.

use super::queries::every;
use crate::clock::Mono;
use crate::event::Query;
use crate::units::Nanos;

/// A query takes no more than this part of a CPU, as a divisor: what costs more is made less often than below.
const CPU_SHARE: u64 = 400;
/// A call that takes longer than this
const SLOW: Nanos = Nanos::from_millis(2);
/// takes no more than this part of the time, as a divisor.
const WALL_SHARE: u64 = 10;

/// When a query is due again that began at `began` and cost that much. `buffered`: how long the driver keeps what it tells.
pub(super) fn due(query: Query, began: Mono, cost: Cost, buffered: Option<Nanos>) -> Mono {
    let by_wall = if cost.wall > SLOW { cost.wall.0.saturating_mul(WALL_SHARE) } else { 0 };
    let by_cpu = cost.cpu.0.saturating_mul(CPU_SHARE);
    // Only what costs a millisecond is put off for its CPU time: a look is to miss nothing for a busy machine's sake.
    let by_cpu = if by_cpu > LITTLE.0 { by_cpu } else { 0 };
    let wanted = buffered.map_or_else(|| every(query), |held| Nanos(held.0 / 2));
    // What the driver would forget is asked for in time, whatever it costs.
    let spared = if buffered.is_some() { by_wall } else { by_wall.max(by_cpu) };
    began.plus(Nanos(wanted.0.max(spared)))
}

/// Of a call of 0.5 ms.
const LITTLE: Nanos = Nanos::from_millis(200);

/// What a call took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) wall: Nanos,
    pub(super) cpu: Nanos,
}

/// The moments of the looks: one in each interval, at a place in it that chance has chosen. What repeats itself as often as
/// the looks, or a whole number of times between them, would else be seen in one of its phases only.
#[derive(Debug)]
pub(super) struct Looks {
    began: Mono,
    interval: Nanos,
    /// The interval that the last one was in.
    place: u64,
    random: u64,
}

impl Looks {
    pub(super) const fn new(began: Mono, interval: Nanos) -> Self {
        Self { began, interval, place: 0, random: began.0 }
    }

    /// The next one. Intervals that are over are left out.
    pub(super) fn next(&mut self, now: Mono) -> Mono {
        let interval = self.interval.0.max(1);
        self.place = (self.place + 1).max(now.since(self.began).0 / interval);
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let within = (mixed ^ (mixed >> 31)) % interval;
        self.began.plus(Nanos(self.place.saturating_mul(interval).saturating_add(within))).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Gauge;

    const fn us(wall: u64, cpu: u64) -> Cost {
        Cost { wall: Nanos(wall * 1_000), cpu: Nanos(cpu * 1_000) }
    }

    /// What a second of polling costs on an H200, as measured on one: calls a second times CPU.
    fn cpu_us_a_second(costs: &[(Query, Cost)], tick_ms: u64) -> f64 {
        let of = |(query, cost): &(Query, Cost)| {
            let interval = due(*query, Mono(0), *cost, None).0.max(tick_ms * 1_000_000);
            cost.cpu.0 as f64 / 1e3 / (interval as f64 / 1e9)
        };
        costs.iter().map(of).sum()
    }

    #[test]
    fn a_tick_costs_less_than_0_4_ms_at_the_costs_of_an_h200() {
        let costs = [
            (Query::Energy, us(6_995, 5_656)),
            (Query::Fields, us(10, 11)),
            (Query::PcieCounters, us(359, 232)),
            (Query::Gauge(Gauge::Temperature), us(3, 3)),
            (Query::Gauge(Gauge::SmClock), us(2, 2)),
            (Query::Throttle, us(2, 2)),
            (Query::MemoryUsed, us(428, 24)),
            (Query::Utilization, us(2, 2)),
            (Query::ComputeProcesses, us(49, 49)),
            (Query::GraphicsProcesses, us(18, 18)),
            (Query::ProcessSm, us(4_053, 1_497)),
        ];
        // The driver's buffers: of utilisation 16 s, of power 2.4 s.
        let buffers = 1_442.0 / 8.0 + 321.0 / 1.2;
        let a_tick = (cpu_us_a_second(&costs, 50) + buffers) / 20.0;
        assert!(a_tick < 270.0, "{a_tick} µs, without what is inferscope's own");
    }

    #[test]
    fn a_slow_query_waits_for_ten_times_its_length() {
        assert_eq!(due(Query::Power, Mono(0), us(80_000, 100), None), Mono(800_000_000));
        assert_eq!(due(Query::Power, Mono(7), us(1_900, 10), None), Mono(7));
    }

    #[test]
    fn what_costs_much_cpu_is_asked_less_often_unless_the_driver_would_forget_it() {
        assert_eq!(due(Query::Energy, Mono(0), us(6_995, 5_656), None), Mono(2_262_400_000));
        assert_eq!(due(Query::Energy, Mono(0), us(2_700, 2_500), None), Mono(1_000_000_000));
        let held = Some(Nanos::from_millis(1_000));
        assert_eq!(due(Query::SmSamples, Mono(0), us(2_522, 1_442), held), Mono(500_000_000));
    }

    #[test]
    fn each_interval_has_one_look_at_a_place_of_its_own() {
        let mut looks = Looks::new(Mono(1_000), Nanos(50_000_000));
        let mut now = Mono(1_000);
        let mut places = Vec::new();
        for n in 1..=1_000_u64 {
            now = looks.next(now);
            let within = now.since(Mono(1_000)).0 - n * 50_000_000;
            assert!(within < 50_000_000, "look {n} is not in its interval");
            places.push(within);
        }
        // All tenths of it are as good as equally frequent.
        for tenth in 0..10 {
            let inside = places.iter().filter(|w| *w / 5_000_000 == tenth).count();
            assert!((60..=140).contains(&inside), "{inside} of 1,000 looks in one tenth");
        }
    }

    #[test]
    fn intervals_that_are_over_are_left_out() {
        let mut looks = Looks::new(Mono(0), Nanos(50));
        let late = looks.next(Mono(1_000));
        assert!((1_000..1_050).contains(&late.0), "{late:?}");
        assert!((1_050..1_100).contains(&looks.next(late).0));
    }
}
