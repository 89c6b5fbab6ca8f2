//! What a token and a request cost.
//!
//! Owns the divisions of `efficiency` and of a step's. What is divided `resources` and `gpus` tell.

use super::book::{Book, Figure};
use super::energy;
use super::load::Load;
use super::resources;
use super::timing::Set;

/// "Beyond 25% of the figure it is withheld."
const MOST_ERROR: f64 = 0.25;

pub(super) fn check(book: &mut Book<'_>, load: Option<&Load>) {
    let Some(load) = load else { return };
    let set = load.set(&load.phases());
    let tokens = set.tokens_in_windows().filter(|n| *n > 0);
    // "joules_per_token x the output tokens of a successful request, on average", and CPU the same.
    let requests = tokens.zip(set.tokens_a_request()).map(|(tokens, each)| tokens as f64 / each);
    let tokens = tokens.map(|n| n as f64);
    const CPU: &str = "CPU of the whole set over the load's window, a token put out";
    let cpu = resources::cpu_within(book, &set.times());
    cpu_per(book, "/efficiency/cpu_ns_per_token", "/efficiency/cpu_reason", cpu, tokens, CPU);
    cpu_per(book, "/efficiency/cpu_ns_per_request", "/efficiency/cpu_reason", cpu, requests, CPU);
    check_at_rest(book, &set, tokens);
    check_joules(book, tokens, requests);
    let energy = ["/gpu_summary/energy_mj", "/gpu_summary/energy_error_mj"];
    energy::check_parts(book, "/efficiency", &set, energy);
    check_cost(book, &set);
}

/// "CPU time a second of the set in the rest before the load x the window / the same tokens."
fn check_at_rest(book: &mut Book<'_>, set: &Set<'_>, tokens: Option<f64>) {
    let end = |name: &str| book.whole(&format!("/efficiency/cpu_rest/{name}"));
    let Some((from, to)) = end("from_ns").zip(end("to_ns")) else {
        book.is("/efficiency/cpu_idle_ns_per_token", Figure::Unknown, "there was no rest");
        return;
    };
    let loaded: u64 = set.times().iter().map(|(from, to)| to - from).sum();
    let part = loaded as f64 / (to - from) as f64;
    let cpu = resources::cpu_within(book, &[(from, to)]).map(|(low, high)| (low * part, high * part));
    const AT_REST: &str = "CPU of the set in the rest, by its length, for the window's length, a token";
    cpu_per(book, "/efficiency/cpu_idle_ns_per_token", "/efficiency/cpu_idle_reason", cpu, tokens, AT_REST);
}

fn cpu_per(
    book: &mut Book<'_>,
    path: &str,
    reason: &str,
    cpu: Option<(f64, f64)>,
    n: Option<f64>,
    words: &str,
) {
    let figure =
        cpu.zip(n).map_or(Figure::Unknown, |((low, high), n)| Figure::Between(low / n - 1.0, high / n + 1.0));
    book.is_unless(path, reason, figure, words);
}

/// A figure and its error, both divided by `n`; unknown where the error is too large.
fn each(energy: Option<(f64, f64)>, n: Option<f64>) -> (Figure, Figure) {
    let known = energy.filter(|(mj, error)| *mj > 0.0 && *error <= *mj * MOST_ERROR);
    let Some(((mj, error), n)) = known.zip(n) else { return (Figure::Unknown, Figure::Unknown) };
    // The sums are told in whole millijoules, a device each.
    let off = 4.0 / 1e3 / n;
    let joules = |mj: f64| mj / 1e3 / n;
    (Figure::Real(joules(mj), off), Figure::Real(joules(error), off))
}

fn check_joules(book: &mut Book<'_>, tokens: Option<f64>, requests: Option<f64>) {
    let definition = |book: &Book<'_>, name: &str| {
        book.at(&format!("/efficiency/definitions/{name}")).as_str().unwrap_or("(no definition)").to_owned()
    };
    let pair = |book: &Book<'_>, name: &str| {
        let whole = |name: &str| book.number(&format!("/gpu_summary/{name}"));
        whole(&format!("{name}_mj")).zip(whole(&format!("{name}_error_mj")))
    };
    let (spent, above) = (pair(book, "energy"), pair(book, "energy_above_idle"));
    let reason = "/efficiency/joules_reason";
    for (name, energy, n) in [
        ("joules_per_token", spent, tokens),
        ("joules_per_request", spent, requests),
        ("joules_per_token_above_idle", above, tokens),
    ] {
        let words = definition(book, name);
        let (joules, error) = each(energy, n);
        book.is_unless(&format!("/efficiency/{name}"), reason, joules, &words);
        book.is_unless(&format!("/efficiency/{name}_error"), reason, error, &definition(book, "error"));
    }
    check_inverse(book, "/efficiency");
}

/// Tokens a joule from joules a token.
fn check_inverse(book: &mut Book<'_>, path: &str) {
    const DEFINITION: &str = "1 / joules_per_token; its error is the wider side";
    let joules = book.number(&format!("{path}/joules_per_token"));
    let error = book.number(&format!("{path}/joules_per_token_error"));
    book.is(&format!("{path}/tokens_per_joule"), Figure::maybe(joules.map(|j| 1.0 / j)), DEFINITION);
    let wider = joules.zip(error).map(|(j, e)| 1.0 / (j - e) - 1.0 / j);
    book.is(&format!("{path}/tokens_per_joule_error"), Figure::maybe(wider), DEFINITION);
}

/// A sweep's step.
pub(super) fn check_step(book: &mut Book<'_>, path: &str, set: &Set<'_>) {
    let tokens = set.tokens_in_windows().filter(|n| *n > 0).map(|n| n as f64);
    let cpu = resources::cpu_within(book, &set.times());
    let (figure, reason) = (format!("{path}/cpu_ns_per_token"), format!("{path}/cpu_reason"));
    cpu_per(book, &figure, &reason, cpu, tokens, "CPU of the set over the step's windows, a token");
    let path = format!("{path}/energy");
    let [mj, error_mj] = ["energy_mj", "energy_error_mj"].map(|name| format!("{path}/{name}"));
    let energy = book.number(&mj).zip(book.number(&error_mj));
    let reason = format!("{path}/joules_reason");
    let (joules, error) = each(energy, tokens);
    book.is_unless(&format!("{path}/joules_per_token"), &reason, joules, "of the step's own windows");
    book.is_unless(&format!("{path}/joules_per_token_error"), &reason, error, "of the step's own windows");
    check_inverse(book, &path);
    energy::check_within(book, [mj.as_str(), error_mj.as_str()], &set.times());
    energy::check_parts(book, &path, set, [&mj, &error_mj]);
}

/// Where one price holds for all devices.
fn check_cost(book: &mut Book<'_>, set: &Set<'_>) {
    const DEFINITION: &str = "the price of a million output tokens at the measured output tokens/s";
    let argv = book.at("/run/argv").as_array().map_or(&[][..], Vec::as_slice);
    let flag = argv.iter().position(|word| word == "--price-per-hour");
    let price = flag.and_then(|at| argv.get(at + 1)?.as_str()?.parse::<f64>().ok());
    let Some(price) = price else { return };
    let devices = book.at("/gpu_summary/devices").as_array().map_or(0, Vec::len);
    let pace = set.per_second(set.tokens_in_windows().filter(|n| *n > 0));
    let cost = pace.filter(|_| devices > 0).map(|pace| price * devices as f64 / 3_600.0 / pace * 1e6);
    book.is("/efficiency/cost_per_million_tokens", Figure::maybe(cost), DEFINITION);
}
