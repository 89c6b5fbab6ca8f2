//! The steps of a sweep, and runs that are repeated.
//!
//! Owns the knee, and the interval of repeated runs. What a figure of one of them is, `timing` says.

use std::collections::BTreeSet;

use serde_json::Value;

use super::book::{Book, Figure};
use super::dist;
use super::efficiency;
use super::load::{self, Load, Phase};
use super::timing::{self, Set};

pub(super) fn check(book: &mut Book<'_>, load: &Load) {
    if !load.is_sweep {
        check_repeat(book, "/timing/repeat", load, 0);
        return;
    }
    let steps = book.at("/sweep/steps").as_array().map_or(&[][..], Vec::as_slice);
    let mut saturated = Vec::new();
    let mut gave: Option<(f64, f64)> = None;
    for (n, step) in steps.iter().enumerate() {
        let path = format!("/sweep/steps/{n}");
        let phases = phases_of(load, n as u64);
        let set = load.set(&phases);
        load::check_counts(book, &path, load, &phases);
        dist::check(book, &format!("{path}/schedule_lag_ns"), &set.lag(), "send time minus scheduled time");
        timing::check(book, &format!("{path}/timing"), &set);
        load::check_offered(book, &path, &format!("{path}/timing"), &set);
        check_repeat(book, &format!("{path}/timing/repeat"), load, n as u64);
        efficiency::check_step(book, &path, &set);
        saturated.push(step["saturated"].is_string());
        let Some(asked) = step["concurrency"].as_f64() else { continue };
        let gives = set.per_second(set.tokens_in_windows().or_else(|| set.requests_in_windows()));
        let should = gave
            .is_some_and(|(before, gave)| gives.unwrap_or(0.0) / gave - 1.0 < 0.1 * (asked / before - 1.0));
        const SATURATED: &str =
            "in a closed loop: more concurrency brings under a tenth of its share in tokens/s";
        let path = format!("{path}/saturated");
        book.holds(
            &path,
            step["saturated"].is_string() == should,
            &format!("saturated: {should}"),
            SATURATED,
        );
        gave = gives.map(|gives| (asked, gives));
    }
    check_knee(book, steps, &saturated);
}

fn phases_of(load: &Load, step: u64) -> BTreeSet<Phase> {
    load.phases().into_iter().filter(|phase| phase.0 == step).collect()
}

fn check_knee(book: &mut Book<'_>, steps: &[Value], saturated: &[bool]) {
    const DEFINITION: &str =
        "the last step before the server is saturated; null where no step was, or the first";
    let knee = saturated.iter().position(|is| *is).and_then(|first| first.checked_sub(1));
    let Some(knee) = knee else {
        book.holds("/sweep/knee", book.at("/sweep/knee").is_null(), "null", DEFINITION);
        return;
    };
    book.is("/sweep/knee/step", Figure::Whole(knee as u64), DEFINITION);
    let step = &steps[knee];
    let value = step["concurrency"].as_f64().or(step["rate_per_s"].as_f64());
    let offered = Figure::maybe(step["offered_rate_per_s"].as_f64());
    book.is("/sweep/knee/offered_rate_per_s", offered, "that of its step");
    book.is("/sweep/knee/value", Figure::maybe(value), "its concurrency or rate");
}

/// The figures of one run by the names that `repeat` gives them.
fn figures(set: &Set<'_>) -> Vec<(String, Figure)> {
    let mut all = Vec::new();
    for (name, values) in set.distributions() {
        all.push((format!("{name}.mean"), Figure::maybe(values.mean())));
        for (percentile, q) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)] {
            let figure = values.quantile(q).map_or(Figure::Unknown, |v| dist::to_digits(v as f64));
            all.push((format!("{name}.{percentile}"), figure));
        }
    }
    let rates = [
        ("output_tokens_per_s", set.per_second(set.tokens_in_windows())),
        ("requests_per_s", set.per_second(set.requests_in_windows())),
    ];
    all.extend(rates.map(|(name, value)| (name.to_owned(), Figure::maybe(value))));
    all
}

fn check_repeat(book: &mut Book<'_>, path: &str, load: &Load, step: u64) {
    const DEFINITION: &str =
        "one a run; mean and 95% interval over the runs (Student's t on a logarithmic scale)";
    let Some(told) = book.at(&format!("{path}/figures")).as_object() else { return };
    let phases = phases_of(load, step);
    book.is(&format!("{path}/runs"), Figure::Whole(phases.len() as u64), DEFINITION);
    let runs: Vec<_> = phases.iter().map(|phase| figures(&load.set(&[*phase].into()))).collect();
    for name in told.keys() {
        let path = format!("{path}/figures/{name}");
        let all = runs.iter().filter_map(|run| run.iter().find(|(of, _)| of == name));
        let all: Vec<Figure> = all.map(|(_, figure)| *figure).filter(|f| *f != Figure::Unknown).collect();
        let told = book.at(&format!("{path}/values")).as_array().map_or(0, Vec::len);
        // Of a run whose chunks came in bursts the percentiles of gaps are withheld, and which run that was is not told.
        let (mut all, withheld) = (all, name.starts_with("inter_") && !name.ends_with(".mean"));
        for n in 0..told {
            let value = book.number(&format!("{path}/values/{n}"));
            while withheld && all.len() > told && all.get(n).is_some_and(|figure| !figure.fits(value)) {
                all.remove(n);
            }
        }
        if withheld {
            all.truncate(told);
        }
        for (n, figure) in all.iter().enumerate() {
            book.is(&format!("{path}/values/{n}"), *figure, DEFINITION);
        }
        // What follows is reckoned from the values as told, which are told to be right above.
        let values: Vec<f64> = book
            .at(&format!("{path}/values"))
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .collect();
        let same = values.len() == all.len();
        book.holds(&format!("{path}/values"), same, &format!("{} values", all.len()), DEFINITION);
        let (mean, half) = interval(&values);
        book.is(&format!("{path}/mean"), Figure::maybe(mean), DEFINITION);
        let end = |side: f64| {
            let (mean, half) = mean.zip(half)?;
            // "mean / f to mean x f with f = exp(t x s / (mean x sqrt n))"; tables of t have three digits.
            let part = if mean > 0.0 { half / mean } else { 0.0 };
            let value = mean * (side * part).exp();
            Some(Figure::Real(value, value * part * 1e-3 + 1e-9))
        };
        book.is(&format!("{path}/low"), end(-1.0).unwrap_or(Figure::Unknown), DEFINITION);
        book.is(&format!("{path}/high"), end(1.0).unwrap_or(Figure::Unknown), DEFINITION);
    }
}

/// Mean, and half the width of the interval of Student's t.
fn interval(values: &[f64]) -> (Option<f64>, Option<f64>) {
    if values.is_empty() {
        return (None, None);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (Some(mean), None);
    }
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (Some(mean), Some(student(n - 1.0) * (variance / n).sqrt()))
}

/// Student's t at 97.5%, by the integral of its density.
fn student(freedom: f64) -> f64 {
    // t = tan(a) makes the tail of the density finite: its share up to t is that of cos(a)^(ν-1), t = √ν tan(a).
    const STEPS: usize = 200_000;
    let density = |a: f64| a.cos().powf(freedom - 1.0);
    let width = std::f64::consts::FRAC_PI_2 / STEPS as f64;
    let at = |n: usize| density((n as f64 + 0.5) * width);
    let half: f64 = (0..STEPS).map(at).sum();
    let mut sum = 0.0;
    for n in 0..STEPS {
        sum += at(n);
        if sum >= 0.95 * half {
            return freedom.sqrt() * ((n + 1) as f64 * width).tan();
        }
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_t_is_the_books() {
        for (freedom, book) in [(1.0, 12.706), (2.0, 4.303), (4.0, 2.776), (30.0, 2.042)] {
            assert!((student(freedom) / book - 1.0).abs() < 5e-4, "{freedom}: {}", student(freedom));
        }
    }
}
