//! Prefill's energy and decode's.
//!
//! Owns when they can be told apart: in windows of a load in which no two requests were in flight at a time, a request's
//! prefill is from its send to its first token, its decode from there to its last. Never splits by a model of what a
//! token costs: over a sweep each step has the same mix of prompt and output tokens, so that a regression on both has no
//! answer (see the test). A part of `cost`.

use std::collections::BTreeSet;

use crate::clock::Window;
use crate::event::{PowerPoint, PowerSource};
use crate::figures::energy::{ACCURACY, Energy, Fluctuation, Metered, Readings};
use crate::reason::EnergyReason;
use crate::units::Nanos;

use super::requests::InFlight;
use super::{Delivered, Joules, TargetDevices};

/// A reading is of some moment of its call. Slower calls than twice this are made seldom (`observe/gpu`).
const STAMP_ERROR: Nanos = Nanos::from_millis(2);

/// What stalls of the client may have shifted the ends of the parts by, as a divisor of the shorter kind's time.
const MOST_SHIFTED: u64 = 50;

/// By which of a device's readings its parts are known. The order is that in which the report names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Counter,
    PowerOfTheMoment,
}

/// What the devices used before and after the first token of each request, summed over the successful ones.
#[derive(Debug)]
pub(crate) struct PhaseEnergy {
    pub(crate) ways: BTreeSet<Way>,
    /// Whose parts are summed.
    pub(crate) requests: u64,
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) decode_tokens: u64,
    pub(crate) prefill: Result<Energy, EnergyReason>,
    pub(crate) decode: Result<Energy, EnergyReason>,
    pub(crate) a_prompt_token: Option<Joules>,
    pub(crate) a_decode_token: Option<Joules>,
}

/// # Errors
/// Why they can't be told apart in the load's windows.
pub(crate) fn prefill_decode(
    requests: &InFlight,
    load: &Delivered<'_>,
    target: &TargetDevices<'_>,
) -> Result<PhaseEnergy, EnergyReason> {
    let parts = requests.parts(load.whole)?;
    let decode_tokens = load.decode_tokens.ok_or(EnergyReason::FirstPieceUnknown)?;
    let stalls = load.stalls;
    let shifted = Nanos(stalls.longest.0.saturating_mul(stalls.first_tokens + stalls.ends));
    let shorter = [&parts.prefill, &parts.decode].map(|of| length(of)).into_iter().min();
    if shorter.is_some_and(|shorter| shifted.0.saturating_mul(MOST_SHIFTED) > shorter.0) {
        return Err(EnergyReason::ClientStalled {
            longest_ms: stalls.longest.as_secs_f64() * 1e3,
            answers: stalls.first_tokens.max(stalls.ends),
        });
    }
    let of = |kind: &Kind<'_>| known(kind, load.whole, target);
    let prefill = of(&Kind { phase: "prefill", longer: "prompts", parts: &parts.prefill });
    let decode = of(&Kind { phase: "decode", longer: "outputs", parts: &parts.decode });
    let ways = [&prefill, &decode].into_iter().flatten().flat_map(|known| known.1.clone()).collect();
    let (prefill, decode) = (prefill.map(|known| known.0), decode.map(|known| known.0));
    let both = || [(&prefill, &parts.prefill), (&decode, &parts.decode)].into_iter();
    let sum = both().filter_map(|(energy, _)| energy.as_ref().ok()).fold(Energy::NONE, |sum, e| sum.plus(*e));
    let time = both().filter(|(energy, _)| energy.is_ok()).map(|(_, of)| length(of)).sum();
    agrees(sum, time, load.whole, target)?;
    if let (Err(a), Err(b)) = (&prefill, &decode) {
        let both = || EnergyReason::Both(Box::new(a.clone()), Box::new(b.clone()));
        return Err(if a == b { a.clone() } else { both() });
    }
    let each = |energy: &Result<Energy, EnergyReason>, n: Option<u64>| {
        let energy = energy.as_ref().ok()?;
        Some(Joules::of(*energy).each(n.filter(|n| *n > 0)?))
    };
    Ok(PhaseEnergy {
        ways,
        requests: parts.requests,
        prompt_tokens: load.prompt_tokens,
        decode_tokens,
        a_prompt_token: each(&prefill, load.prompt_tokens),
        a_decode_token: each(&decode, Some(decode_tokens)),
        prefill,
        decode,
    })
}

fn length(parts: &[Window]) -> Nanos {
    parts.iter().map(|w| w.length()).sum()
}

/// Where counters hold the sum, parts that can't be of it are none.
fn agrees(
    parts: Energy,
    time: Nanos,
    windows: &[Window],
    target: &TargetDevices<'_>,
) -> Result<(), EnergyReason> {
    let all = target.each(windows, |device| {
        let spent = counted(device, windows)?;
        Ok((spent, device.device.power.iter().map(|p| p.mw).max().unwrap_or(0) as f64))
    });
    // Without a counter there is nothing to contradict.
    let Ok(all) = all else { return Ok(()) };
    let whole = all.iter().fold(Energy::NONE, |sum, (spent, _)| sum.plus(*spent));
    let rest = length(windows).saturating_sub(time).as_secs_f64();
    // What the time beside the parts may have taken.
    let rest_mj: f64 = all.iter().map(|(_, most)| most * rest).sum();
    let too_much = parts.mj - parts.error_mj > whole.mj + whole.error_mj;
    let too_little = parts.mj + parts.error_mj + rest_mj < whole.mj - whole.error_mj;
    if too_much || too_little {
        let joules = |energy: Energy| (energy.mj / 1e3, energy.error_mj / 1e3);
        return Err(EnergyReason::Contradicted { parts: joules(parts), whole: joules(whole) });
    }
    Ok(())
}

fn counted(device: &Metered<'_>, windows: &[Window]) -> Result<Energy, EnergyReason> {
    let counter = device.counter()?;
    windows.iter().try_fold(Energy::NONE, |sum, window| Ok(sum.plus(counter.within(*window)?)))
}

/// Why a sweep as a whole has none.
pub(crate) fn of_a_sweep<'a>(
    steps: impl Iterator<Item = &'a Result<PhaseEnergy, EnergyReason>> + Clone,
) -> EnergyReason {
    match steps.clone().next() {
        None => EnergyReason::NoStep,
        Some(Err(why)) if steps.clone().all(Result::is_err) => EnergyReason::SameMix(Box::new(why.clone())),
        Some(_) => EnergyReason::EachStep,
    }
}

/// The parts of one kind.
struct Kind<'a> {
    phase: &'static str,
    /// What would have to be longer.
    longer: &'static str,
    parts: &'a [Window],
}

/// The energy of one kind of parts over all devices that count, and by which ways.
///
/// # Errors
/// It is unknown, or known too roughly.
fn known(
    kind: &Kind<'_>,
    windows: &[Window],
    target: &TargetDevices<'_>,
) -> Result<(Energy, BTreeSet<Way>), EnergyReason> {
    if kind.parts.is_empty() {
        return Err(EnergyReason::NoSecondToken);
    }
    let all = target.each(windows, |device| best(device, kind.parts))?;
    let ways = all.iter().map(|made| made.1).collect();
    let energy = all.into_iter().fold(Energy::NONE, |sum, made| sum.plus(made.0));
    if energy.is_known() {
        return Ok((energy, ways));
    }
    Err(EnergyReason::PartsTooShort {
        phase: kind.phase,
        longer: kind.longer,
        joules: energy.mj / 1e3,
        error: energy.error_mj / 1e3,
        part_ms: median_ms(kind.parts.iter().map(|w| w.length())),
    })
}

/// By the counter or by the power of the moment, whichever has the smaller error.
fn best(device: &Metered<'_>, parts: &[Window]) -> Result<(Energy, Way), EnergyReason> {
    let by_counter = counted(device, parts).map(|energy| (energy, Way::Counter));
    let by_power = by_power(device, parts).map(|energy| (energy, Way::PowerOfTheMoment));
    match (by_counter, by_power) {
        (Ok(a), Ok(b)) => Ok(if a.0.error_mj <= b.0.error_mj { a } else { b }),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(a), Err(b)) => Err(EnergyReason::Both(Box::new(a), Box::new(b))),
    }
}

/// The area under the power of the moment, all readings within such parts together being samples of it. A part in which
/// nothing was read may have had any power that was seen in the stretch; where most of the time lies in such parts, what they
/// took was never seen. An average of a second is of both kinds of parts.
fn by_power(device: &Metered<'_>, parts: &[Window]) -> Result<Energy, EnergyReason> {
    if device.device.power_source != Some(PowerSource::Instant) {
        return Err(EnergyReason::PowerIsAverage);
    }
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Ok(Energy::NONE) };
    let power = device.power(Readings::Polled, Window { from: first.from, to: last.to })?;
    let points = power.points;
    let begin = points.partition_point(|p| p.t <= first.from).saturating_sub(1);
    let end = (points.partition_point(|p| p.t < last.to) + 1).min(points.len());
    let stretch = &points[begin.min(end)..end];
    // Where a counter holds the sum, what no reading met can't be much.
    let most_mw = power.kind.most_mw.filter(|_| device.counter().is_err());
    let whole = Fluctuation::of([stretch].into_iter(), most_mw);
    let within = |part: &Window| {
        let from = points.partition_point(|p| p.t < part.from);
        &points[from..points.partition_point(|p| p.t <= part.to).max(from)]
    };
    let seen = Fluctuation::of(parts.iter().map(within), most_mw).refreshed_as(&whole);
    let (mut sum, mut unseen, mut all) = (Energy::NONE, Nanos::ZERO, Nanos::ZERO);
    for part in parts {
        sum.mj += power.energy(*part)?.mj;
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
        return Err(EnergyReason::PartsBetweenReadings {
            part_ms: median_ms(parts.iter().map(|p| p.length())),
            every_ms: median_ms(stretch.windows(2).map(|w| w[1].t.since(w[0].t))),
        });
    }
    Ok(sum)
}

/// Whether power was read within the part, and not at its very edge.
fn is_seen(points: &[PowerPoint], part: &Window) -> bool {
    let first = points.partition_point(|p| p.t < part.from.plus(STAMP_ERROR));
    points.get(first).is_some_and(|p| p.t.plus(STAMP_ERROR) <= part.to)
}

fn median_ms(lengths: impl Iterator<Item = Nanos>) -> f64 {
    let mut lengths: Vec<Nanos> = lengths.collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).map_or(0.0, |n| n.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests;
