use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::*;
use crate::aggregate::load::distribution::{Distribution, Recorded};
use crate::aggregate::load::latencies::LatencyKind;
use crate::aggregate::load::lateness::LeftOut;
use crate::aggregate::load::tokens::TokenSource;
use crate::clock::Mono;
use crate::figures::load::latency::Latency;
use crate::reason::LoadReason;
use crate::units::Nanos;

const ORIGIN: Origin = Origin { mono: Mono(0), unix_ns: 0, boottime_ahead_ns: 0 };

fn recorded(n: usize) -> Recorded {
    let mut all = Distribution::new();
    all.record_n(Nanos(1), n as u64);
    all.recorded().unwrap()
}

/// Each with another count.
fn latencies() -> Vec<(LatencyKind, Latency)> {
    let count = |kind: LatencyKind| Latency::of(Some(recorded(kind as usize + 1)), LoadReason::NoToken);
    LatencyKind::ALL.iter().map(|kind| (*kind, count(*kind))).collect()
}

fn json(timing: &model::Timing) -> Json {
    serde_json::to_value(timing).unwrap()
}

fn schema() -> serde_json::Map<String, Json> {
    let schema = serde_json::to_value(schemars::schema_for!(model::Timing)).unwrap();
    schema["properties"].as_object().unwrap().clone()
}

#[test]
fn every_latency_has_an_entry_in_the_catalogue_and_a_field_in_the_model() {
    let kinds: BTreeSet<&str> = LatencyKind::ALL.iter().map(|kind| kind.name()).collect();
    let entries: BTreeSet<&str> = catalogue::LATENCIES.iter().map(|figure| figure.about.name()).collect();
    let fields = schema();
    let fields = fields.iter().filter(|(_, field)| field.to_string().contains("Dist"));
    let fields: BTreeSet<&str> = fields.map(|(name, _)| name.as_str()).collect();
    assert_eq!(kinds.len(), LatencyKind::ALL.len(), "two latencies of one name");
    assert_eq!(kinds, entries, "aggregate/load/latencies against report/catalogue/timing");
    assert_eq!(kinds, fields, "aggregate/load/latencies against report/model/load");
}

#[test]
fn every_latency_is_in_the_field_of_its_name() {
    let t = Timing { latencies: latencies(), ..Timing::of_nothing() };
    let built = json(&timing(ORIGIN, &t));
    for kind in LatencyKind::ALL {
        assert_eq!(built[kind.name()]["count"], *kind as usize + 1, "{}", kind.name());
    }
}

#[test]
fn every_latency_without_a_value_has_its_reason() {
    let built = json(&timing(ORIGIN, &Timing::of_nothing()));
    for kind in LatencyKind::ALL {
        let latency = &built[kind.name()];
        let is_told = latency["reason"].is_string();
        assert!(latency.is_null() || is_told, "{}: {latency}", kind.name());
        assert_eq!(latency.is_null(), *kind == LatencyKind::InterBurst, "{}", kind.name());
    }
}

/// A latency is set after the others, so the compiler does not tell of a field that nobody fills.
#[test]
fn no_field_is_left_to_the_default() {
    let window = LoadWindow {
        windows: Vec::new(),
        length: Nanos(1),
        output_tokens: 1,
        failed_output_tokens: 1,
        token_chunks: 1,
        prompt_tokens: Some(1),
        requests: 1,
        output_tokens_per_s: Some(1.0),
        total_tokens_per_s: Some(1.0),
        requests_per_s: Some(1.0),
    };
    let unknown = Timing::of_nothing();
    let known = Timing {
        latencies: latencies(),
        output_tokens: Some(1),
        prompt_tokens: Some(1),
        output_tokens_per_s: Some(1.0),
        total_tokens_per_s: Some(1.0),
        requests_per_s: Some(1.0),
        decode_tokens_per_s: Ok(1.0),
        good_requests: Some(1),
        goodput_per_s: Ok(Some(1.0)),
        window: Some(window.clone()),
        steady: Ok(window.clone()),
        tail: Some(window),
        left_out: Some(LeftOut { gaps: 1, first_tokens: 1, ends: 1, longest: Nanos(1) }),
        token_source: Some(TokenSource::Usage),
        token_chunks: 1,
        repeat: Some(Repeat { runs: 1, confidence: 0.95, figures: Vec::new() }),
    };
    let default = json(&model::Timing::default());
    let built = [known, unknown].map(|t| json(&timing(ORIGIN, &t)));
    for field in schema().keys() {
        assert!(built.iter().any(|built| built.get(field) != default.get(field)), "{field} is never filled");
    }
}
