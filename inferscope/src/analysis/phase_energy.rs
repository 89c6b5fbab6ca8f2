//! Prefill's energy and decode's.
//!
//! Owns when they can be told apart: in a stretch of load in which no two requests were in flight at a time, a request's
//! prefill is from its send to its first token, its decode from there to its last. Never splits by a model of what a
//! token costs: over a sweep each step has the same mix of prompt and output tokens, so that a regression on both has no
//! answer (see the test). Called by `analysis` and `load`.

mod parts;

use std::collections::BTreeSet;

use crate::event::{GpuDevice, PowerPoint, PowerSource};
use crate::report::model;
use crate::units::Nanos;

use super::energy::{Counter, Energy, Fluctuation};
use super::gpus::{ACCURACY, Counted, Readings, power};
use super::joules::Joules;
use super::load_totals::Sums;
use super::window::Window;

pub(super) use parts::Requests;

/// A reading is of some moment of its call. Slower calls than twice this are made seldom (`observe/gpu`).
const STAMP_ERROR: Nanos = Nanos::from_millis(2);

/// What stalls of the client may have shifted the ends of the parts by, as a divisor of the shorter kind's time.
const MOST_SHIFTED: u64 = 50;

/// Of a stretch of load: its requests' parts and what is known of their tokens.
///
/// # Errors
/// In words: why they can't be told apart in it.
pub(super) fn prefill_decode(
    requests: &Requests<'_>,
    sums: &Sums,
    counted: &Counted<'_>,
) -> Result<model::PrefillDecode, String> {
    let parts = requests.parts(&sums.work.whole)?;
    let tokens = sums.after_first.total().ok_or(
        "of an answer it is not known that its first piece was one token: what came with it belongs to decode",
    )?;
    let late = sums.left_out;
    let shifted = Nanos(late.longest.0.saturating_mul(late.first_tokens + late.ends));
    let shorter = [&parts.prefill, &parts.decode]
        .map(|of| of.iter().map(|w| w.length()).sum::<Nanos>())
        .into_iter()
        .min();
    if shorter.is_some_and(|shorter| shifted.0.saturating_mul(MOST_SHIFTED) > shorter.0) {
        return Err(format!(
            "the client did not look for up to {:.1} ms at a time: when {} answers began or ended is known no better",
            late.longest.as_secs_f64() * 1e3,
            late.first_tokens.max(late.ends)
        ));
    }
    let prompt_tokens = sums.prompt.total().filter(|n| *n > 0);
    let of = |kind: &Kind<'_>| known(kind, &sums.work.whole, counted);
    let prefill = of(&Kind { what: "prefill", longer: "prompts", of: &parts.prefill });
    let decode = of(&Kind { what: "decode", longer: "outputs", of: &parts.decode });
    let ways: BTreeSet<&str> =
        [&prefill, &decode].into_iter().flatten().flat_map(|known| known.1.clone()).collect();
    let (prefill, decode) = (prefill.map(|known| known.0), decode.map(|known| known.0));
    let told = || [(&prefill, &parts.prefill), (&decode, &parts.decode)].into_iter();
    let sum = told().filter_map(|(energy, _)| energy.as_ref().ok()).fold(Energy::NONE, |sum, e| sum.plus(*e));
    let of_sum = told().filter(|(energy, _)| energy.is_ok()).flat_map(|(_, of)| of);
    agrees(sum, of_sum.map(|w| w.length()).sum(), &sums.work.whole, counted)?;
    if let (Err(a), Err(b)) = (&prefill, &decode) {
        return Err(if a == b { a.clone() } else { format!("{a}; {b}") });
    }
    let each = |energy: &Result<Energy, String>, n: Option<u64>| {
        let energy = energy.as_ref().ok()?;
        Some(Joules::of(*energy).each(n.filter(|n| *n > 0)?))
    };
    let a_prompt_token = each(&prefill, prompt_tokens);
    let a_decode_token = each(&decode, Some(tokens));
    Ok(model::PrefillDecode {
        method: format!(
            "one request was in flight at a time: prefill from the send to the first token, decode from there to the \
             last, by {}",
            ways.into_iter().collect::<Vec<_>>().join(" and ")
        ),
        requests: parts.requests,
        prompt_tokens,
        decode_tokens: tokens,
        prefill_mj: prefill.as_ref().ok().map(|e| e.whole_mj()),
        prefill_error_mj: prefill.as_ref().ok().map(|e| e.whole_error_mj()),
        joules_per_prompt_token: a_prompt_token.map(|j| j.joules),
        joules_per_prompt_token_error: a_prompt_token.map(|j| j.error),
        joules_per_prompt_token_reason: (prefill.is_ok() && a_prompt_token.is_none())
            .then(|| "the number of prompt tokens is unknown".to_owned()),
        prefill_reason: prefill.err(),
        decode_mj: decode.as_ref().ok().map(|e| e.whole_mj()),
        decode_error_mj: decode.as_ref().ok().map(|e| e.whole_error_mj()),
        joules_per_decode_token: a_decode_token.map(|j| j.joules),
        joules_per_decode_token_error: a_decode_token.map(|j| j.error),
        decode_reason: decode.err(),
    })
}

/// Where counters hold the sum, parts that can't be of it are none.
fn agrees(parts: Energy, time: Nanos, windows: &[Window], counted: &Counted<'_>) -> Result<(), String> {
    let all = counted.each(windows, |device, counter| {
        let counter = counter.as_ref().map_err(Clone::clone)?;
        let of = |w: &Window| counter.between(w.from, w.to);
        let spent =
            windows.iter().map(of).try_fold(Energy::NONE, |sum, of| Ok::<_, String>(sum.plus(of?)))?;
        Ok((spent, device.power.iter().map(|p| p.mw).max().unwrap_or(0) as f64))
    });
    // Without a counter there is nothing to contradict.
    let Ok(all) = all else { return Ok(()) };
    let whole = all.iter().fold(Energy::NONE, |sum, (spent, _)| sum.plus(*spent));
    let rest = windows.iter().map(|w| w.length()).sum::<Nanos>().saturating_sub(time).as_secs_f64();
    // What the time beside the parts may have taken.
    let rest_mj: f64 = all.iter().map(|(_, most)| most * rest).sum();
    let too_much = parts.mj - parts.error_mj > whole.mj + whole.error_mj;
    let too_little = parts.mj + parts.error_mj + rest_mj < whole.mj - whole.error_mj;
    if too_much || too_little {
        return Err(format!(
            "prefill and decode come to {:.1} J \u{b1} {:.1} J by the readings of power, and the counter says {:.1} J \u{b1} {:.1} J \
             for all of it: what was read between is not what was drawn",
            parts.mj / 1e3,
            parts.error_mj / 1e3,
            whole.mj / 1e3,
            whole.error_mj / 1e3
        ));
    }
    Ok(())
}

/// Why a sweep as a whole has none.
pub(super) fn of_a_sweep(sweep: &model::Sweep) -> String {
    let Some(first) = sweep.steps.first() else { return "no step was begun".to_owned() };
    if sweep.steps.iter().any(|step| step.energy.prefill_decode.is_some()) {
        return "each step of a sweep is for itself: see sweep.steps".to_owned();
    }
    let why = first.energy.prefill_decode_reason.as_deref().unwrap_or("not told");
    format!(
        "in the first step {why}; over a sweep they can't be told apart either, as each step has the same mix of prompt \
         and output tokens"
    )
}

/// The parts of one kind.
struct Kind<'a> {
    what: &'static str,
    /// What would have to be longer.
    longer: &'static str,
    of: &'a [Window],
}

/// The energy of one kind of parts over all devices that count, and by which ways; an error where it is too rough.
fn known(
    kind: &Kind<'_>,
    windows: &[Window],
    counted: &Counted<'_>,
) -> Result<(Energy, BTreeSet<&'static str>), String> {
    if kind.of.is_empty() {
        return Err("no answer had a second token".to_owned());
    }
    let all = counted.each(windows, |device, counter| best(device, counter, kind.of))?;
    let ways = all.iter().map(|told| told.1).collect();
    let energy = all.into_iter().fold(Energy::NONE, |sum, told| sum.plus(told.0));
    let joules = Joules::of(energy);
    if joules.is_known() {
        return Ok((energy, ways));
    }
    let Kind { what, longer, of } = kind;
    Err(format!(
        "{what}'s {:.1} J may be off by {:.1} J: its parts of {:.0} ms are too short, longer {longer} would tell",
        joules.joules,
        joules.error,
        median(of.iter().map(|w| w.length()))
    ))
}

/// By the counter or by the power of the moment, whichever has the smaller error.
fn best(
    device: &GpuDevice,
    counter: &Result<Counter<'_>, String>,
    parts: &[Window],
) -> Result<(Energy, &'static str), String> {
    let by_counter = counter.as_ref().map_err(Clone::clone).and_then(|counter| {
        let of = |part: &Window| counter.between(part.from, part.to);
        let sum = parts.iter().map(of).try_fold(Energy::NONE, |sum, of| Ok::<_, String>(sum.plus(of?)));
        Ok((sum?, "the energy counter"))
    });
    let by_power = by_power(device, parts, counter.is_ok()).map(|energy| (energy, "the power of the moment"));
    match (by_counter, by_power) {
        (Ok(a), Ok(b)) => Ok(if a.0.error_mj <= b.0.error_mj { a } else { b }),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(a), Err(b)) => Err(format!("{a}; {b}")),
    }
}

/// The area under the power of the moment, all readings within such parts together being samples of it. A part in which
/// nothing was read may have had any power that was seen in the stretch; where most of the time lies in such parts, what they
/// took was never seen. An average of a second is of both kinds of parts.
fn by_power(device: &GpuDevice, parts: &[Window], is_counted: bool) -> Result<Energy, String> {
    if device.power_source != Some(PowerSource::Instant) {
        return Err("its power is told as an average of a second, not of the moment".to_owned());
    }
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Ok(Energy::NONE) };
    let power = power(device, Readings::Polled, &Window { from: first.from, to: last.to })?;
    let points = power.points;
    let begin = points.partition_point(|p| p.t <= first.from).saturating_sub(1);
    let end = (points.partition_point(|p| p.t < last.to) + 1).min(points.len());
    let stretch = &points[begin.min(end)..end];
    // Where a counter holds the sum, what no reading met can't be much.
    let most_mw = power.kind.most_mw.filter(|_| !is_counted);
    let whole = Fluctuation::of([stretch].into_iter(), most_mw);
    let within = |part: &Window| {
        let from = points.partition_point(|p| p.t < part.from);
        &points[from..points.partition_point(|p| p.t <= part.to).max(from)]
    };
    let seen = Fluctuation::of(parts.iter().map(within), most_mw).refreshed_as(&whole);
    let (mut sum, mut unseen, mut all) = (Energy::NONE, Nanos::ZERO, Nanos::ZERO);
    for part in parts {
        sum.mj += power.energy(part)?.mj;
        // A reading is of some moment of its call, and as old as a refresh: what it moves over the part's ends.
        sum.error_mj += whole.stale_mj() + whole.range_mj(Nanos(STAMP_ERROR.0 * 2));
        if !is_seen(points, part) {
            unseen += part.length();
        }
        all += part.length();
    }
    sum.error_mj += whole.range_mj(unseen) + seen.error_mj(all.saturating_sub(unseen)) + ACCURACY * sum.mj;
    let (unseen, all) = (unseen.as_secs_f64(), all.as_secs_f64());
    if unseen * 2.0 > all {
        return Err(format!(
            "the parts of {:.0} ms are too short for readings of power every {:.0} ms",
            median(parts.iter().map(|p| p.length())),
            median(stretch.windows(2).map(|w| w[1].t.since(w[0].t)))
        ));
    }
    Ok(sum)
}

/// Whether power was read within the part, and not at its very edge.
fn is_seen(points: &[PowerPoint], part: &Window) -> bool {
    let first = points.partition_point(|p| p.t < part.from.plus(STAMP_ERROR));
    points.get(first).is_some_and(|p| p.t.plus(STAMP_ERROR) <= part.to)
}

/// In milliseconds.
fn median(lengths: impl Iterator<Item = Nanos>) -> f64 {
    let mut lengths: Vec<Nanos> = lengths.collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).map_or(0.0, |n| n.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests;
