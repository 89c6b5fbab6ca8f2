//! The report's shape: the schema that is checked in, the schema that the program prints, a real report and
//! the contract all say the same.

use std::collections::BTreeSet;
use std::path::Path;

use inferscope_tests::binary;
use inferscope_tests::report::Named;
use inferscope_tests::script;
use inferscope_tests::timed_server::{Answer, TimedServer};
use serde_json::Value;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../inferscope/schema/report.v1.json");

/// Those of docs/contract.md, in its order.
const TOP_LEVEL: [&str; 15] = [
    "schema_version",
    "tool",
    "host",
    "run",
    "validity",
    "target",
    "load",
    "requests",
    "timing",
    "processes",
    "resources",
    "gpus",
    "efficiency",
    "stalls",
    "insights",
];

fn printed_schema() -> String {
    let ended = binary::run(&["schema"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    ended.stdout
}

#[test]
fn the_schema_that_is_checked_in_is_the_one_that_is_printed() {
    let checked_in = std::fs::read_to_string(Path::new(SCHEMA)).unwrap_or_default();
    assert!(
        checked_in == printed_schema(),
        "inferscope/schema/report.v1.json is not what `inferscope schema` prints; if the change is meant, \
         write it there and say in CHANGELOG.md what old and new readers do with it"
    );
}

fn assert_valid(report: &Value) {
    let schema = serde_json::from_str(&printed_schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(report).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let keys: BTreeSet<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    for key in TOP_LEVEL.iter().chain(&["self"]) {
        assert!(keys.contains(key), "the report has no {key}");
    }
    assert_eq!(report["schema_version"], 1);
}

#[test]
fn a_real_report_is_valid() {
    let server = TimedServer::start(Answer::Stream(script::steady(8, 20, 10)));
    let args = ["--endpoint", &server.endpoint(), "--json", "--requests", "3"];
    for tracker in ["auto", "proc"] {
        let report = binary::run(&[&args[..], &["--tracker", tracker]].concat()).report();
        assert_valid(&report);
        // The server is a thread of this test, so the tracer is a child of its own target. Other tests of
        // this binary start an inferscope too, which belongs there: only the run's own pid must not.
        let (_, pid) = report["run"].text("id").rsplit_once('-').unwrap();
        let own = u64::from_str_radix(pid, 16).unwrap();
        let list = report["processes"].list("list");
        assert!(list.iter().any(|p| p["pid"] == std::process::id()), "the target is there: {list:#?}");
        assert!(list.iter().all(|p| p["pid"] != own), "it measures itself: {list:#?}");
    }
}

#[test]
fn a_report_in_a_file_is_the_one_on_stdout() {
    let server = TimedServer::start(Answer::Stream(script::steady(4, 5, 5)));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let ended = binary::run(&["--endpoint", &server.endpoint(), "--json", "-o", path.to_str().unwrap()]);
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(written, *ended.report());
    assert_valid(&written);
}

#[test]
fn a_report_holds_no_secret() {
    let server = TimedServer::start(Answer::Stream(script::steady(2, 5, 5)));
    let args = [
        "--endpoint",
        &server.endpoint(),
        "--json",
        "-H",
        "X-Key: hunter2",
        "--extra-body",
        r#"{"k": "hunter2"}"#,
    ];
    let ended = binary::run(&args);
    let _ = ended.report();
    assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{ended:#?}");
    assert_eq!(server.exchanges()[0].body["k"], "hunter2", "but it was sent");
}
