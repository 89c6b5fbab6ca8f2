//! Figures for people: three significant digits and a unit.
//!
//! Owns the choice of the unit and the rounding. Never sees an unknown figure as a number: `None` is
//! [`UNKNOWN`]. Called by the other files of `text`, and by `session` for its progress.

/// What stands for a figure that is not known.
pub(super) const UNKNOWN: &str = "–";

/// `f` of a known value, else a dash.
pub(crate) fn or_dash<T>(value: Option<T>, f: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), f)
}

/// Three significant digits below a thousand, whole numbers with separators from there.
pub(crate) fn number(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        a if a < 0.000_999_5 => format!("{x:.1e}"),
        a if a < 0.099_95 => format!("{x:.4}"),
        a if a < 0.999_5 => format!("{x:.3}"),
        a if a < 9.995 => format!("{x:.2}"),
        a if a < 99.95 => format!("{x:.1}"),
        a if a < 999.5 => format!("{x:.0}"),
        a if a < 1e15 => {
            let whole = count(x.abs().round() as u64);
            if x < 0.0 { format!("-{whole}") } else { whole }
        }
        _ => format!("{x:.2e}"),
    }
}

/// As it was given: a whole number without decimals.
pub(crate) fn plain(x: f64) -> String {
    if x.fract() == 0.0 && (0.0..1e15).contains(&x) { count(x as u64) } else { number(x) }
}

/// A count with thousands separators.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 process`, `2 processes`.
pub(crate) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A length of time.
pub(crate) fn duration(ns: f64) -> String {
    let (unit, size) = match ns.abs() {
        a if a < 999.5 => ("ns", 1.0),
        a if a < 999.5e3 => ("µs", 1e3),
        a if a < 999.5e6 => ("ms", 1e6),
        a if a < 599.5e9 => ("s", 1e9),
        a if a < 3_600e9 => return minutes(ns, "min", 60.0, "s"),
        _ => return minutes(ns / 60.0, "h", 60.0, "min"),
    };
    if unit == "ns" { format!("{ns:.0} ns") } else { format!("{} {unit}", number(ns / size)) }
}

/// `large` units of `each` seconds and the `small` that remain.
fn minutes(ns: f64, large: &str, each: f64, small: &str) -> String {
    let seconds = (ns / 1e9).round();
    format!("{:.0} {large} {:.0} {small}", (seconds / each).floor(), seconds % each)
}

/// A whole number of nanoseconds.
pub(crate) fn nanos(ns: u64) -> String {
    duration(ns as f64)
}

/// A length of time to four digits or more, for two that are to be told apart.
pub(super) fn precise(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        a if a < 999.95e3 => format!("{:.1} µs", ns / 1e3),
        a if a < 9.9995e6 => format!("{:.3} ms", ns / 1e6),
        a if a < 99.995e6 => format!("{:.2} ms", ns / 1e6),
        a if a < 999.95e6 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.3} s", ns / 1e9),
    }
}

/// A signal by its name, as every architecture that this runs on numbers them.
pub(super) fn signal(n: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = usize::try_from(n).ok().and_then(|n| NAMES.get(n.checked_sub(1)?));
    name.map_or_else(|| format!("signal {n}"), |name| format!("SIG{name}"))
}

/// What follows a path's last `/`.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// An amount of memory, in powers of 1024.
pub(super) fn bytes(n: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (n, 0);
    while value.abs() >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{} {}", number(value), UNITS[unit]) }
}

/// `part` of `whole`, in percent.
pub(super) fn share(part: u64, whole: u64) -> Option<String> {
    (whole > 0).then(|| {
        let percent = part as f64 / whole as f64 * 100.0;
        if part > 0 && percent < 0.05 { "<0.1%".to_owned() } else { format!("{percent:.1}%") }
    })
}

/// Of milliwatts.
pub(super) fn watts(mw: f64) -> String {
    format!("{} W", number(mw / 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits_and_change_unit_where_rounding_would_overflow() {
        let shown: Vec<String> = [0u64, 999, 1_000, 41_234, 999_600, 41_234_567, 999_600_000, 1_234_000_000]
            .into_iter()
            .map(nanos)
            .collect();
        assert_eq!(shown, ["0 ns", "999 ns", "1.00 µs", "41.2 µs", "1.00 ms", "41.2 ms", "1.00 s", "1.23 s"]);
        assert_eq!(nanos(59_999_000_000), "60.0 s");
        assert_eq!(nanos(754_000_000_000), "12 min 34 s");
        assert_eq!(nanos(7_500_000_000_000), "2 h 5 min");
        assert_eq!(nanos(u64::MAX), "5124095 h 35 min");
    }

    #[test]
    fn two_times_that_differ_by_a_thousandth_are_told_apart() {
        let shown: Vec<String> =
            [1_234, 1_284_000, 12_840_000, 128_400_000, 1_284_000_000, 754_123_400_000].map(precise).to_vec();
        assert_eq!(shown, ["1.2 µs", "1.284 ms", "12.84 ms", "128.4 ms", "1.284 s", "754.123 s"]);
    }

    #[test]
    fn a_signal_has_its_name_and_one_without_has_its_number() {
        let shown = [1, 9, 11, 15, 31, 34, 0, -1].map(signal);
        let names =
            ["SIGHUP", "SIGKILL", "SIGSEGV", "SIGTERM", "SIGSYS", "signal 34", "signal 0", "signal -1"];
        assert_eq!(shown, names);
    }

    #[test]
    fn bytes_are_in_powers_of_1024() {
        let shown: Vec<String> = [0.0, 999.0, 1024.0, 3_500_000.0, 1_073_741_824.0].map(bytes).to_vec();
        assert_eq!(shown, ["0 B", "999 B", "1.00 KiB", "3.34 MiB", "1.00 GiB"]);
    }

    #[test]
    fn numbers_round_to_three_digits_and_separate_thousands() {
        let shown: Vec<String> =
            [0.0, 0.1234, 9.996, 99.96, 123.4, 1_234.4, 1_234_567.0].map(number).to_vec();
        assert_eq!(shown, ["0", "0.123", "10.0", "100", "123", "1,234", "1,234,567"]);
        assert_eq!((count(999), count(1_000)), ("999".into(), "1,000".into()));
    }

    #[test]
    fn what_was_given_as_a_whole_number_is_shown_as_one() {
        assert_eq!([0.5, 2.0, 1_600.0, 12.25].map(plain), ["0.500", "2", "1,600", "12.2"]);
    }

    #[test]
    fn a_share_that_is_something_is_not_shown_as_nothing() {
        assert_eq!(share(1, 1_000_000).as_deref(), Some("<0.1%"));
        assert_eq!(share(0, 10).as_deref(), Some("0.0%"));
        assert_eq!(share(1, 0), None);
    }

    #[test]
    fn unknown_is_a_dash_and_not_zero() {
        assert_eq!(or_dash(None, nanos), "–");
    }
}
