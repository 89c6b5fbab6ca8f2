use super::super::{Kind, integrated};
use super::*;
use crate::clock::Mono;
use crate::clock::Window;

/// SplitMix64: the same signals in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        self.next().mul_add(high - low, low)
    }
}

/// Power that repeats itself, in milliwatts and seconds.
struct Periodic {
    low: f64,
    high: f64,
    period: f64,
    phase: f64,
    /// The share of the time that a square wave is high.
    duty: f64,
    shape: u8,
}

impl Periodic {
    fn random(random: &mut Random) -> Self {
        let low = random.between(50e3, 300e3);
        Self {
            low,
            high: random.between(low, 700e3),
            // A millisecond to three seconds, all lengths alike.
            period: 10_f64.powf(random.between(-3.0, 0.5)),
            phase: random.next(),
            duty: random.between(0.05, 0.95),
            shape: (random.next() * 3.0) as u8,
        }
    }

    fn at(&self, t: f64) -> f64 {
        let place = (t / self.period + self.phase).rem_euclid(1.0);
        let part = match self.shape {
            0 => f64::from(u8::from(place < self.duty)),
            1 => place,
            _ => 0.5 - 0.5 * (place * std::f64::consts::TAU).cos(),
        };
        (self.high - self.low).mul_add(part, self.low)
    }

    /// Millijoules, to a thousandth of a period.
    fn energy(&self, from: f64, to: f64) -> f64 {
        let steps = ((to - from) / self.period * 1e3).clamp(1e4, 2e6);
        let step = (to - from) / steps.floor();
        (0..steps as u64).map(|n| self.at((n as f64 + 0.5).mul_add(step, from))).sum::<f64>() * step
    }
}

const fn at(seconds: f64) -> Mono {
    Mono((seconds * 1e9) as u64)
}

/// A look in each 50 ms, at a random place of it or at the same.
fn readings(power: &dyn Fn(f64) -> f64, until: f64, mut place: impl FnMut() -> f64) -> Vec<PowerPoint> {
    let times = (0..(until / 0.05) as u64).map(|n| (n as f64 + place()) * 0.05);
    times.map(|t| PowerPoint { t: at(t), mw: power(t).round() as u64 }).collect()
}

const KIND: Kind = Kind { averaged: false, most_mw: Some(700_000) };

/// Of a thousand signals: in how many the truth is within the error, and the error's mean share of the truth.
fn rate(seed: u64, shown: impl Fn(&Periodic, f64) -> f64) -> (f64, f64) {
    let mut random = Random(seed);
    let (mut within, mut shares) = (0, 0.0);
    for _ in 0..1_000 {
        let power = Periodic::random(&mut random);
        let (from, length) = (random.between(0.3, 0.6), 10_f64.powf(random.between(-0.3, 1.3)));
        let points = readings(&|t| shown(&power, t), from + length + 0.5, || random.next());
        let told = integrated(&points, Window { from: at(from), to: at(from + length) }, KIND).unwrap();
        let truth = power.energy(from, from + length);
        within += u32::from((told.mj - truth).abs() <= told.error_mj);
        shares += told.error_mj / truth;
    }
    (f64::from(within) / 1e3, shares / 1e3)
}

#[test]
fn of_random_periodic_signals_95_percent_are_within_the_error() {
    let (rate, share) = rate(1, Periodic::at);
    println!("of the moment: {rate}, error {share:.3} of the truth");
    assert!(rate >= 0.95, "{rate}");
    // Else any figure would be within it.
    assert!(share < 0.33, "{share}");
}

/// As current devices do: refreshed every 100.6 ms, and of the 25 ms before.
#[test]
fn of_signals_that_the_device_itself_refreshes_seldom_95_percent_are_within_the_error() {
    let (rate, share) = rate(2, |power, t| {
        let refreshed = (t / 0.1006).floor() * 0.1006;
        (0..5).map(|n| power.at(refreshed - f64::from(n) * 0.005)).sum::<f64>() / 5.0
    });
    println!("refreshed every 100.6 ms: {rate}, error {share:.3} of the truth");
    assert!(rate >= 0.95, "{rate}");
}

/// 300 and 100 W in turn, 25 ms each: a look every 50 ms sees one of them only.
#[test]
fn a_wave_of_the_interval_between_two_looks_is_no_level() {
    let wave = Periodic { low: 100e3, high: 300e3, period: 0.05, phase: 0.0, duty: 0.5, shape: 0 };
    let mut random = Random(3);
    let points = readings(&|t| wave.at(t), 4.0, || random.next());
    let told = integrated(&points, Window { from: at(0.5), to: at(2.375) }, KIND).unwrap();
    // 375 J.
    let truth = wave.energy(0.5, 2.375);
    assert!((told.mj - truth).abs() <= told.error_mj, "{truth} is not {told:?}");
    assert!(told.error_mj > 30_000.0, "{told:?} is too sure of itself");
}

#[test]
fn readings_that_never_change_leave_room_for_what_they_did_not_meet() {
    let points = readings(&|_| 100e3, 3.0, || 0.5);
    let told = integrated(&points, Window { from: at(0.5), to: at(2.5) }, KIND).unwrap();
    assert!((told.mj - 200_000.0).abs() < 1.0 && told.error_mj > 10_000.0, "{told:?}");
}

#[test]
fn how_often_it_is_refreshed_is_seen_where_readings_change_more_often() {
    let mut random = Random(4);
    let noise: Vec<f64> = (0..2_000).map(|_| random.between(90e3, 110e3)).collect();
    let fresh = readings(&|t| noise[(t * 100.0) as usize], 10.0, || random.next());
    let stale = readings(&|t| noise[(t / 0.1006) as usize], 10.0, || 0.5);
    let of = |points: &[PowerPoint]| Fluctuation::of([points].into_iter(), None).refresh;
    assert!(of(&fresh) < Nanos::from_millis(80), "{:?}", of(&fresh));
    assert!(of(&stale) >= Nanos::from_millis(100), "{:?}", of(&stale));
}
