//! How far repeated runs agree.
//!
//! Owns the confidence intervals over the runs of one load. The runs are the sample: requests within a run
//! share its conditions and say nothing of another run's. Called by `load_aggregate`.

use std::collections::BTreeMap;

use crate::report::model;

use super::load_totals::Fold;
use super::timing::rate;

/// The figures of one run.
#[derive(Debug, Clone)]
pub(super) struct Run(BTreeMap<&'static str, f64>);

impl Run {
    pub(super) fn of(fold: &Fold) -> Self {
        let all = &fold.distributions;
        let window = fold.sums.window_length();
        let per_second = |n: Option<u64>| n.zip(window).and_then(|(n, window)| rate(n, window));
        // Within a burst they mean nothing.
        let even = !fold.sums.bursts.is_bursty();
        let gap = |q| all.inter_chunk.quantile(q).filter(|_| even).map(|v| v as f64);
        let figures = [
            ("ttft_ns.mean", all.ttft.mean()),
            ("ttft_ns.p50", all.ttft.quantile(0.5).map(|v| v as f64)),
            ("ttft_ns.p99", all.ttft.quantile(0.99).map(|v| v as f64)),
            ("inter_chunk_ns.p50", gap(0.5)),
            ("inter_chunk_ns.p99", gap(0.99)),
            ("e2e_ns.mean", all.e2e.mean()),
            ("e2e_ns.p99", all.e2e.quantile(0.99).map(|v| v as f64)),
            ("output_tokens_per_s", per_second(fold.sums.tokens_in_windows())),
            (
                "requests_per_s",
                per_second((fold.sums.ok > 0).then_some(fold.sums.work.main.delivered.requests)),
            ),
        ];
        Self(figures.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

/// The intervals of the runs; `None` where the load was not repeated.
pub(super) fn repeat(runs: &[Run], planned: u32) -> Option<model::Repeat> {
    if planned < 2 {
        return None;
    }
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for run in runs {
        for (name, value) in &run.0 {
            values.entry(name).or_default().push(*value);
        }
    }
    Some(model::Repeat {
        runs: u32::try_from(runs.len()).unwrap_or(u32::MAX),
        confidence: 0.95,
        figures: values.into_iter().map(|(name, values)| (name.to_owned(), interval(values))).collect(),
    })
}

/// Of the mean, on a logarithmic scale, as no figure is below 0: mean / f to mean x f, with
/// f = exp(t x s / (mean x sqrt n)). Where the runs agree to some percent that is mean ± t x s / sqrt n. Of runs that do
/// not, it holds the mean more often than that does (92% against 84% of 3 runs whose logarithms have a deviation of
/// 1) or an interval of the logarithms, which is of the geometric mean.
fn interval(values: Vec<f64>) -> model::Interval {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let factor = t_975(values.len()).map(|t| {
        // Of the sample: n - 1.
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
        let half = t * (variance / n).sqrt();
        if mean > 0.0 { (half / mean).exp() } else { 1.0 }
    });
    model::Interval { mean, low: factor.map(|f| mean / f), high: factor.map(|f| mean * f), values }
}

/// Student's t at 97.5% for `n` values (n - 1 degrees of freedom); any table of the distribution has these.
/// Between the rows the one for fewer values holds, which errs to the wider interval.
fn t_975(n: usize) -> Option<f64> {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042,
    ];
    let freedom = n.checked_sub(1).filter(|f| *f > 0)?;
    Some(match freedom {
        1..=30 => TABLE[freedom - 1],
        31..=39 => 2.042,
        40..=59 => 2.021,
        60..=119 => 2.000,
        _ => 1.980,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_student_ts_on_a_logarithmic_scale() {
        // Mean 5, s = 2.138, n = 8: half 2.365 x 2.138 / sqrt 8 = 1.7878, exp(1.7878 / 5) = 1.4298.
        let told = interval(vec![2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        let (low, high) = (told.low.unwrap(), told.high.unwrap());
        assert_eq!(told.mean, 5.0);
        assert!((high - 7.149).abs() < 1e-3 && (low - 3.497).abs() < 1e-3, "{low} to {high}");
        // Of runs that agree it is the usual one: 100 ± 2.4841.
        let told = interval(vec![99.0, 100.0, 101.0]);
        let (low, high) = (told.low.unwrap(), told.high.unwrap());
        assert!((high - 102.4841).abs() < 0.05 && (low - 97.5159).abs() < 0.05, "{low} to {high}");
    }

    #[test]
    fn no_interval_reaches_below_nothing() {
        for values in [vec![1.0, 100.0], vec![0.0, 5.0], vec![0.0, 0.0], vec![1e-3, 1e9, 4.0]] {
            let told = interval(values.clone());
            let (low, high) = (told.low.unwrap(), told.high.unwrap());
            assert!(0.0 <= low && low <= told.mean && told.mean <= high && high.is_finite(), "{told:?}");
            assert_eq!(low > 0.0, told.mean > 0.0, "{told:?}");
        }
    }

    #[test]
    fn one_value_has_no_interval() {
        let told = interval(vec![3.0]);
        assert_eq!((told.mean, told.low, told.high), (3.0, None, None));
        assert!(repeat(&[], 1).is_none());
    }

    #[test]
    fn a_figure_that_a_run_lacks_is_of_the_others() {
        let run = |value| Run([("x", value)].into());
        let told = repeat(&[run(1.0), Run(BTreeMap::new()), run(3.0)], 3).unwrap();
        assert_eq!((told.runs, told.figures["x"].values.clone()), (3, vec![1.0, 3.0]));
    }
}
