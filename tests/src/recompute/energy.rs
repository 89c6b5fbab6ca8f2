//! Energy, as far as the listed readings of power tell it.
//!
//! Owns the area under them with its bounds, and the parts of prefill and decode. A counter's readings are in no list: its
//! energy and that of the power have to have a value in common.

use serde_json::Value;

use super::book::{Book, Figure};
use super::request::Request;
use super::timing::Set;
use super::window::Window;

/// Nanoseconds and milliwatts.
type Reading = (u64, f64);

/// Least and most millijoules of one device within the windows: between two readings power lay within what both show, and
/// what neighbours show. `None`: they do not cover the windows.
fn area(readings: &[Reading], windows: &[Window]) -> Option<(f64, f64)> {
    windows.iter().try_fold((0.0, 0.0), |(low, high), window| {
        let (l, h) = area_of(readings, *window)?;
        Some((low + l, high + h))
    })
}

fn area_of(readings: &[Reading], (from, to): Window) -> Option<(f64, f64)> {
    let (mut low, mut high, mut covered) = (0.0, 0.0, 0);
    for (n, pair) in readings.windows(2).enumerate() {
        let (begin, end) = (pair[0].0.max(from), pair[1].0.min(to));
        if begin >= end {
            continue;
        }
        covered += end.saturating_sub(begin);
        // An average of a second shows late what was.
        let around = &readings[n.saturating_sub(1)..(n + 3).min(readings.len())];
        let seconds = end.saturating_sub(begin) as f64 / 1e9;
        low += around.iter().map(|r| r.1).fold(f64::MAX, f64::min) * seconds;
        high += around.iter().map(|r| r.1).fold(0.0, f64::max) * seconds;
    }
    (covered == to.saturating_sub(from)).then_some((low, high))
}

/// Of a device of the report.
fn readings(device: &Value) -> [Vec<Reading>; 2] {
    let polled = device["samples"].as_array().into_iter().flatten();
    let polled = polled.filter_map(|s| Some((s["t_ns"].as_u64()?, s["power_mw"].as_f64()?))).collect();
    let sampled = device["driver_samples"]["power"].as_array().into_iter().flatten();
    let sampled = sampled.filter_map(|s| Some((s[0].as_u64()?, s[1].as_f64()?))).collect();
    [polled, sampled]
}

/// The energy of device `n` within the windows has a value in common with the area under its power. An average over a
/// second is late by as much as power changed, so that it is held against power of the moment only.
pub(super) fn check_device(book: &mut Book<'_>, n: usize, windows: &[Window]) {
    let paths = ["energy_mj", "energy_error_mj"].map(|name| format!("/gpus/{n}/{name}"));
    let device = book.at(&format!("/gpus/{n}"));
    if device["power_source"] != "instant" {
        return;
    }
    common(book, [&paths[0], &paths[1]], &[device], windows);
}

/// Of all the devices that count.
pub(super) fn check_within(book: &mut Book<'_>, paths: [&str; 2], windows: &[Window]) {
    let devices = counted(book);
    if devices.iter().all(|device| device["power_source"] == "instant") {
        common(book, paths, &devices, windows);
    }
}

fn counted<'a>(book: &Book<'a>) -> Vec<&'a Value> {
    let places = book.at("/gpu_summary/devices").as_array().map_or(&[][..], Vec::as_slice);
    places.iter().filter_map(Value::as_u64).map(|n| book.at(&format!("/gpus/{n}"))).collect()
}

fn common(book: &mut Book<'_>, [mj, error]: [&str; 2], devices: &[&Value], windows: &[Window]) {
    const DEFINITION: &str =
        "the truth is within the error: energy and the area under the listed power have a value in common";
    let Some(off) = book.number(mj).and(book.number(error)) else { return };
    let of = |device: &&Value| {
        let [polled, sampled] = readings(device);
        area(&polled, windows).or_else(|| area(&sampled, windows))
    };
    let areas: Option<Vec<(f64, f64)>> = devices.iter().map(of).collect();
    let Some(areas) = areas.filter(|areas| !areas.is_empty()) else { return };
    let (low, high) = areas.iter().fold((0.0, 0.0), |(l, h), (low, high)| (l + low, h + high));
    book.is(mj, Figure::Between(low - off - 1.0, high + off + 1.0), DEFINITION);
}

/// Prefill and decode, whose own tokens the list tells.
pub(super) fn check_parts(book: &mut Book<'_>, path: &str, set: &Set<'_>, whole: [&str; 2]) {
    let path = format!("{path}/prefill_decode");
    if !book.at(&path).is_object() {
        return;
    }
    let field = |name: &str| format!("{path}/{name}");
    book.is(&field("requests"), Figure::Whole(set.ok_count()), "successful requests, whose parts are summed");
    let prompt: Option<u64> = set.ok().map(|request| request.prompt_tokens).sum();
    book.is(&field("prompt_tokens"), Figure::whole(prompt), "their prompt tokens by usage");
    let after: Option<u64> = set.ok().map(Request::after_first).sum();
    book.is(&field("decode_tokens"), Figure::whole(after), "their output tokens without the first of each");
    for (figure, mj, n) in
        [("joules_per_prompt_token", "prefill", prompt), ("joules_per_decode_token", "decode", after)]
    {
        for (end, of) in [("", format!("{mj}_mj")), ("_error", format!("{mj}_error_mj"))] {
            let joules = book.number(&field(&of)).zip(n.filter(|n| *n > 0));
            let value =
                joules.map_or(Figure::Unknown, |(mj, n)| Figure::Real(mj / 1e3 / n as f64, 2e-3 / n as f64));
            book.is_unless(
                &field(&format!("{figure}{end}")),
                &field(&format!("{figure}_reason")),
                value,
                "a part's energy / its tokens",
            );
        }
    }
    let spans = |from: fn(&Request) -> Option<u64>, to: fn(&Request) -> Option<u64>| -> Vec<Window> {
        set.ok().filter_map(|request| from(request).zip(to(request))).collect()
    };
    let first: fn(&Request) -> Option<u64> = |r| Some(r.text().next()?.t);
    let prefill = spans(|r| Some(r.sent), first);
    let decode = spans(first, |r| Some(r.text().last()?.t));
    check_within(book, [&field("prefill_mj"), &field("prefill_error_mj")], &prefill);
    check_within(book, [&field("decode_mj"), &field("decode_error_mj")], &decode);
    let sum = |name: &str| {
        book.number(&field(&format!("prefill_{name}"))).zip(book.number(&field(&format!("decode_{name}"))))
    };
    let (parts, errors) = (sum("mj"), sum("error_mj"));
    if let (Some((prefill, decode)), Some((off, more))) = (parts, errors)
        && let Some((mj, error)) = book.number(whole[0]).zip(book.number(whole[1]))
    {
        let holds = prefill + decode - off - more <= mj + error + 1.0;
        book.holds(
            &field("prefill_mj"),
            holds,
            &format!("with decode no more than {mj} ± {error}"),
            "parts are not more than the whole",
        );
    }
}
