//! How far repeated runs agree.
//!
//! Owns the confidence intervals over the runs of one load. The runs are the sample: requests within a run
//! share its conditions and say nothing of another run's. Called by `timing`.

use crate::aggregate::load::phase_totals::Repetition;

/// Whose agreement is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepeatedFigure {
    TtftMean,
    TtftP50,
    TtftP99,
    InterChunkP50,
    InterChunkP99,
    E2eMean,
    E2eP99,
    OutputTokensPerS,
    RequestsPerS,
}

/// Its value in one run.
type Getter = fn(&Repetition) -> Option<f64>;

impl RepeatedFigure {
    const ALL: [(Self, Getter); 9] = [
        (Self::TtftMean, |run| run.ttft_mean),
        (Self::TtftP50, |run| run.ttft_p50),
        (Self::TtftP99, |run| run.ttft_p99),
        (Self::InterChunkP50, |run| run.inter_chunk_p50),
        (Self::InterChunkP99, |run| run.inter_chunk_p99),
        (Self::E2eMean, |run| run.e2e_mean),
        (Self::E2eP99, |run| run.e2e_p99),
        (Self::OutputTokensPerS, |run| run.output_tokens_per_s),
        (Self::RequestsPerS, |run| run.requests_per_s),
    ];
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Repeat {
    pub(crate) runs: usize,
    pub(crate) confidence: f64,
    /// Of those that any run has.
    pub(crate) figures: Vec<(RepeatedFigure, Interval)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    /// `None` with one run.
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
    /// One a run.
    pub(crate) values: Vec<f64>,
}

/// The intervals of the runs; `None` where the load was not repeated.
pub(crate) fn repeat(runs: &[Repetition], planned: u32) -> Option<Repeat> {
    if planned < 2 {
        return None;
    }
    let figures = RepeatedFigure::ALL.into_iter().filter_map(|(figure, of)| {
        let values: Vec<f64> = runs.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| (figure, interval(values)))
    });
    Some(Repeat { runs: runs.len(), confidence: 0.95, figures: figures.collect() })
}

/// Of the mean, on a logarithmic scale, as no figure is below 0: mean / f to mean x f, with
/// f = exp(t x s / (mean x sqrt n)). Where the runs agree to some percent that is mean ± t x s / sqrt n. Of runs that do
/// not, it holds the mean more often than that does (92% against 84% of 3 runs whose logarithms have a deviation of
/// 1) or an interval of the logarithms, which is of the geometric mean.
fn interval(values: Vec<f64>) -> Interval {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let factor = t_975(values.len()).map(|t| {
        // Of the sample: n - 1.
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
        let half = t * (variance / n).sqrt();
        if mean > 0.0 { (half / mean).exp() } else { 1.0 }
    });
    Interval { mean, low: factor.map(|f| mean / f), high: factor.map(|f| mean * f), values }
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
        let run = |value| Repetition { e2e_mean: Some(value), ..Repetition::default() };
        let told = repeat(&[run(1.0), Repetition::default(), run(3.0)], 3).unwrap();
        assert_eq!(told.runs, 3);
        let figures: Vec<_> = told.figures.iter().map(|(figure, of)| (*figure, of.values.clone())).collect();
        assert_eq!(figures, [(RepeatedFigure::E2eMean, vec![1.0, 3.0])]);
    }
}
