use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::*;
use crate::fixture::{
    cgroup, client_late, demo, engine, everything_failed, gpus, losses, no_target, oom, open_loop, recycled,
    repeated, sweep, sweep_of_dashes,
};
use crate::report::model::TokenSource;

fn reports() -> Vec<Report> {
    let fixtures =
        [demo(), engine(), everything_failed(), no_target(), recycled(), cgroup(), losses(), oom(), gpus()];
    let further = [client_late(), open_loop(), repeated(), sweep(), sweep_of_dashes()];
    fixtures.map(|f| f.report()).into_iter().chain(further).collect()
}

/// What the JSON document has in the figure's place.
fn in_json<'j>(document: &'j Json, reading: &Reading<'_>) -> &'j Json {
    let key = match reading.of {
        Subject::Run => reading.about.key.to_owned(),
        Subject::Step(n) => format!("sweep.steps.{n}.{}", reading.about.key),
        Subject::Device(n) => reading.about.key.replacen("[]", &format!(".{n}"), 1),
    };
    document.pointer(&format!("/{}", key.replace('.', "/"))).unwrap_or(&Json::Null)
}

fn same(number: Option<f64>, json: &Json) -> bool {
    number == json.as_f64()
}

#[test]
fn every_getter_reads_the_field_that_its_key_names() {
    for report in reports() {
        let document = serde_json::to_value(&report).unwrap();
        for reading in readings(&report) {
            let (key, json) = (reading.about.key, in_json(&document, &reading));
            let is_it = match reading.value {
                Value::Dist(dist) => serde_json::to_value(dist).unwrap() == *json,
                Value::Stat(stat) => {
                    json["count"] == stat.count
                        && same(stat.min, &json["min"])
                        && same(stat.mean, &json["mean"])
                        && same(stat.max, &json["max"])
                        && stat.reason == json["reason"].as_str()
                }
                Value::Count(n) => *json == n,
                Value::Number { value, .. } => same(Some(value), json),
                Value::Unknown(_) | Value::Absent => json.is_null(),
            };
            assert!(is_it, "{key}: {:?} is not {json}", reading.value);
        }
    }
}

/// A report in which every part is there.
fn whole_report() -> Json {
    let mut report = gpus().report();
    report.efficiency.prefill_decode = Some(crate::report::model::PrefillDecode {
        method: "alone".to_owned(),
        requests: 1,
        prompt_tokens: None,
        decode_tokens: 1,
        prefill_mj: None,
        prefill_error_mj: None,
        prefill_reason: None,
        joules_per_prompt_token: None,
        joules_per_prompt_token_error: None,
        joules_per_prompt_token_reason: None,
        decode_mj: None,
        decode_error_mj: None,
        decode_reason: None,
        joules_per_decode_token: None,
        joules_per_decode_token_error: None,
    });
    serde_json::to_value(&report).unwrap()
}

#[test]
fn a_number_in_the_fields_place_is_what_its_getter_gives() {
    const NUMBER: u64 = 7_654_321;
    let document = whole_report();
    for about in chapters().into_iter().flat_map(|(_, figures)| figures) {
        let key = about.key.replacen("[]", ".0", 1).replace('.', "/");
        let (part, name) = key.rsplit_once('/').unwrap();
        let read = |json: Json| {
            let mut document = document.clone();
            let part = document.pointer_mut(&format!("/{part}")).unwrap_or_else(|| panic!("{key}"));
            part.as_object_mut().unwrap().insert(name.to_owned(), json);
            let report: Report = serde_json::from_value(document).ok()?;
            let reading = readings(&report)
                .into_iter()
                .find(|r| r.about.key == about.key && r.of != Subject::Device(1))?;
            match reading.value {
                Value::Dist(dist) => Some(dist.count as f64),
                Value::Stat(stat) => Some(stat.count as f64),
                Value::Count(n) => Some(n as f64),
                Value::Number { value, .. } => Some(value),
                Value::Unknown(_) | Value::Absent => None,
            }
        };
        let dist = serde_json::to_value(Dist { count: NUMBER, ..Dist::default() }).unwrap();
        let stat = serde_json::to_value(Stat::<u64> { count: NUMBER, ..Stat::default() }).unwrap();
        let given = [NUMBER.into(), dist, stat].into_iter().find_map(read);
        assert_eq!(given, Some(NUMBER as f64), "{key}");
    }
}

#[test]
fn every_error_is_that_of_its_figure() {
    let mut seen = 0;
    for report in reports() {
        let document = serde_json::to_value(&report).unwrap();
        for reading in readings(&report) {
            let Value::Number { error: Some(error), .. } = reading.value else { continue };
            let key = match reading.about.key {
                "gpus[].energy_mj" => "gpus[].energy_error_mj".to_owned(),
                key => format!("{key}_error"),
            };
            let about: &'static About = Box::leak(Box::new(About { key: key.leak(), ..*reading.about }));
            let json = in_json(&document, &Reading { about, ..reading });
            assert_eq!(Some(error), json.as_f64(), "{}", about.key);
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

/// The numbers and distributions of a part of the model, by the schema.
fn fields<S: schemars::JsonSchema>(at: &str) -> BTreeSet<String> {
    let schema = serde_json::to_value(schemars::schema_for!(S)).unwrap();
    let is_figure = |field: &Json| {
        let text = field.to_string();
        text.contains("\"integer\"")
            || text.contains("\"number\"")
            || text.contains("Dist")
            || text.contains("Stat_of")
    };
    let fields = schema["properties"].as_object().unwrap();
    fields.iter().filter(|(_, field)| is_figure(field)).map(|(name, _)| format!("{at}.{name}")).collect()
}

#[test]
fn every_figure_of_timing_and_every_cost_is_in_the_catalogue() {
    let known: BTreeSet<&str> =
        chapters().iter().flat_map(|(_, all)| all.iter().map(|about| about.key)).collect();
    let all = fields::<Timing>("timing").into_iter().chain(fields::<Efficiency>("efficiency"));
    let missing: Vec<String> =
        all.filter(|key| !key.ends_with("_error") && !known.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "describe these in report/catalogue: {missing:?}");
}

#[test]
fn no_two_entries_have_the_same_key_and_each_has_words() {
    let mut keys = BTreeSet::new();
    for (_, figures) in chapters() {
        for about in figures {
            assert!(keys.insert(about.key), "{} is there twice", about.key);
            assert!(about.definition.len() > 7 && !about.label.is_empty(), "{}", about.key);
            assert!(about.same_as.is_none_or(|key| keys.contains(key)), "{} comes before it", about.key);
        }
    }
}

#[test]
fn an_assumed_token_count_is_called_assumed_in_the_definitions() {
    let assumed = timing_definitions(Some(TokenSource::Chunks));
    assert!(assumed["output_tokens"].contains("ASSUMED"));
    assert!(!timing_definitions(Some(TokenSource::Usage))["output_tokens"].contains("ASSUMED"));
}

#[test]
fn every_latency_and_rate_of_the_report_is_defined() {
    let defined = timing_definitions(None);
    for key in fields::<Timing>("timing") {
        let name = key.trim_start_matches("timing.");
        // Counts that the rates are made from.
        if !["prompt_tokens", "token_chunks", "good_requests"].contains(&name) {
            assert!(defined.contains_key(name), "{name}");
        }
    }
}

/// docs/figures.md as the catalogue tells it.
fn document() -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('<', "\\<");
    let mut text = DOCUMENT_HEAD.to_owned();
    for (title, figures) in chapters() {
        text.push_str(&format!(
            "\n## {title}\n\n| in the text | in the JSON | unit | what it is |\n|---|---|---|---|\n"
        ));
        for about in figures {
            let (label, unit, words) = (cell(about.label), about.unit.name(), cell(about.definition));
            text.push_str(&format!("| {label} | `{}` | {unit} | {words} |\n", about.key));
        }
    }
    text.push_str("\n## Terms\n\n| term | what it is |\n|---|---|\n");
    for (term, words) in terms::terms() {
        text.push_str(&format!("| {term} | {} |\n", cell(words)));
    }
    text
}

const DOCUMENT_HEAD: &str = "\
# What each figure means

<!-- Made from inferscope/src/report/catalogue.rs. To renew it: UPDATE_DOCS=1 cargo test -p inferscope --lib catalogue -->

The text report shows the label, the JSON document has the key. A time in the JSON is in nanoseconds; the text chooses the
unit. `null` (in the text a dash or *unknown*) is a figure that is not known, and a field `…_reason` beside it says why. A
token is not a chunk: tokens are the server's `usage`; without it one token a chunk is assumed, and the report says ASSUMED.

The report itself carries these words: `timing.definitions` and `efficiency.definitions`.
";

#[test]
fn the_document_of_the_figures_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/figures.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, document()).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == document(),
        "docs/figures.md is stale: UPDATE_DOCS=1 cargo test -p inferscope --lib catalogue"
    );
}
