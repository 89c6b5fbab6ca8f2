//! How many streams of 50 tokens/s inferscope stamps in time, on the CPUs that it shares with the server.
//!
//! Owns the loads, the comparison of each stamp with the server's log, and the table. Called by `main.rs`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use inferscope_tests::emitter::{self, Emitter, Served};
use inferscope_tests::requirements::say;
use inferscope_tests::{binary, cpu};
use serde_json::Value;

use crate::cost::{self, Cost};

const LOADS: [u32; 5] = [100, 250, 500, 1_000, 2_000];
const TOKENS: u32 = 400;
const INTERVAL: &str = "20ms";
const TOKENS_A_SECOND: u32 = 50;
const LIFETIME: &str = "150s";
const LIMIT: Duration = Duration::from_secs(120);
/// The issue's bound on the 99th percentile.
const IN_TIME_MS: f64 = 1.0;

/// A handful of a great many numbers, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    mean: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

struct Measured {
    streams: u32,
    /// Of all streams, by the server's writes.
    tokens_a_second: f64,
    /// The server's own: writes after they were due.
    late: Spread,
    /// Stamps after the writes, of as many as the report lists.
    error: Spread,
    compared: usize,
    read_lag_p99_ms: Option<f64>,
    /// In CPUs: inferscope's thread that sends and reads, all of inferscope, the server.
    busy: [Option<f64>; 3],
    rss_bytes: u64,
    /// Codes of what the report says of its own validity.
    doubts: BTreeSet<String>,
}

pub(crate) fn run() {
    println!("\n### Streams of {TOKENS_A_SECOND} tokens/s, {TOKENS} tokens each, all at once\n");
    println!(
        "| streams | tokens/s asked | reached | server late, p50 / p99 | stamp error, mean / p99 / max (stamps compared) | read lag p99 \
         | CPUs: load thread / inferscope / server | memory | the report's word |\n|--:|--:|--:|--:|--:|--:|--:|--:|---|"
    );
    let (mut in_time, mut and_good) = (None, None);
    for streams in LOADS {
        say(&format!("bench: {streams} streams"));
        match measure(streams) {
            Ok(measured) => {
                println!("{}", measured.line());
                if measured.error.p99 < IN_TIME_MS {
                    in_time = Some(streams);
                    and_good = if measured.is_invalid() { and_good } else { in_time };
                }
            }
            Err(why) => println!("| {streams} | {} | failed: {why} ||||||", streams * TOKENS_A_SECOND),
        }
    }
    let load = |streams: Option<u32>| {
        streams.map_or("none of these".to_owned(), |n| format!("{n} ({} tokens/s)", n * TOKENS_A_SECOND))
    };
    println!(
        "\nMost streams with 99% of the stamps within {IN_TIME_MS} ms of the write: {}; of loads that the report does \
         not call invalid: {}.",
        load(in_time),
        load(and_good)
    );
}

fn measure(streams: u32) -> Result<Measured, String> {
    let tokens = TOKENS.to_string();
    let how = ["--tokens", &tokens, "--interval", INTERVAL, "--lifetime", LIFETIME];
    let emitter = Emitter::start(&how);
    let dir = tempfile::tempdir().map_err(|e| format!("no room for temporary files: {e}"))?;
    let (report, said) = (dir.path().join("report.json"), dir.path().join("said"));
    let mut command = Command::new(binary::inferscope_bin());
    binary::clean(&mut command);
    let n = streams.to_string();
    command.args(["--endpoint", &emitter.endpoint, "--concurrency", &n, "--requests", &n, "--quiet"]);
    command.args(["--max-tokens", &tokens, "--output"]).arg(&report);
    let before = cpu::used_ns(emitter.pid);
    let cost = cost::of(&mut command, &said, LIMIT).map_err(|e| e.to_string())?;
    let server_ns = cpu::used_ns(emitter.pid).zip(before).map(|(after, before)| after - before);
    let log = emitter.end();
    if !cost.status.success() {
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        return Err(format!("{}: {}", cost.status, said.lines().last().unwrap_or_default()));
    }
    Measured::of(streams, &read(&report)?, &log, cost, server_ns)
}

fn read(report: &Path) -> Result<Value, String> {
    let text = std::fs::read(report).map_err(|e| format!("no report: {e}"))?;
    serde_json::from_slice(&text).map_err(|e| format!("the report is no JSON: {e}"))
}

impl Measured {
    fn of(
        streams: u32,
        report: &Value,
        log: &[Served],
        cost: Cost,
        server_ns: Option<u64>,
    ) -> Result<Self, String> {
        let ok = report["load"]["requests_ok"].as_u64();
        if ok != Some(u64::from(streams)) {
            return Err(format!("{ok:?} requests went well, failed: {}", report["load"]["requests_failed"]));
        }
        let writes = || log.iter().flat_map(|served| &served.writes);
        let ms = |ns: i128| ns as f64 / 1e6;
        let late = writes().map(|write| ms(i128::from(write.at_ns) - i128::from(write.due_ns))).collect();
        let times = writes().map(|write| write.at_ns);
        let (first, last) = times.clone().min().zip(times.max()).ok_or("nothing was written")?;
        let load_s = (last - first) as f64 / 1e9;
        let errors = stamp_errors_ms(report, log)?;
        let cpus = |ns: u64| ns as f64 / 1e9 / load_s;
        let said = report["validity"].as_array().ok_or("the report has no word on its validity")?;
        let doubts = said.iter().filter(|said| said["level"] != "ok");
        Ok(Self {
            streams,
            tokens_a_second: writes().map(|write| write.tokens).sum::<u64>() as f64 / load_s,
            late: Spread::of(late).ok_or("nothing was written")?,
            compared: errors.len(),
            error: Spread::of(errors).ok_or("nothing was compared")?,
            read_lag_p99_ms: report["self"]["read_lag_ns"]["p99"].as_f64().map(|ns| ns / 1e6),
            busy: [
                report["self"]["load_cpu_percent"].as_f64().map(|percent| percent / 100.0),
                Some(cost.cpu_s / load_s),
                server_ns.map(cpus),
            ],
            rss_bytes: cost.summed_bytes,
            doubts: doubts.map(|said| format!("{}: {}", text(&said["level"]), text(&said["code"]))).collect(),
        })
    }

    fn is_invalid(&self) -> bool {
        self.doubts.iter().any(|doubt| doubt.starts_with("invalid"))
    }

    fn line(&self) -> String {
        let [load, ours, server] =
            self.busy.map(|cpus| cpus.map_or("?".to_owned(), |cpus| format!("{cpus:.2}")));
        let doubts: Vec<&str> = self.doubts.iter().map(String::as_str).collect();
        format!(
            "| {} | {} | {:.0} | {:.2} / {:.2} ms | {:.3} / {:.3} / {:.2} ms ({}) | {} | {load} / {ours} / {server} | {} MiB | {} |",
            self.streams,
            self.streams * TOKENS_A_SECOND,
            self.tokens_a_second,
            self.late.p50,
            self.late.p99,
            self.error.mean,
            self.error.p99,
            self.error.max,
            self.compared,
            self.read_lag_p99_ms.map_or("?".to_owned(), |ms| format!("{ms:.2} ms")),
            self.rss_bytes >> 20,
            if doubts.is_empty() { "valid".to_owned() } else { doubts.join(", ") },
        )
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Each stamp's time after the write that it is of.
fn stamp_errors_ms(report: &Value, log: &[Served]) -> Result<Vec<f64>, String> {
    let number = |value: &Value| value.as_u64().ok_or_else(|| format!("no time: {value}"));
    let origin = number(&report["run"]["origin_monotonic_ns"])?;
    let run = text(&report["run"]["id"]);
    let served = emitter::by_id(log);
    let mut errors = Vec::new();
    for request in report["requests"].as_array().ok_or("no requests")? {
        let id = format!("inferscope-{run}-{}", request["id"]);
        let served = served.get(id.as_str()).ok_or_else(|| format!("the server knows no {id}"))?;
        // A report lists a bounded number of stamps; all are in its figures.
        if request["chunks_omitted"] == true {
            continue;
        }
        let chunks = request["chunks"].as_array().ok_or("no chunks")?;
        let stamps: Vec<&Value> = chunks.iter().filter(|chunk| chunk["kind"] != "other").collect();
        if stamps.len() != served.writes.len() {
            return Err(format!("{} stamps of {} writes of {id}", stamps.len(), served.writes.len()));
        }
        for (stamp, write) in stamps.into_iter().zip(&served.writes) {
            let at = i128::from(number(&stamp["t_ns"])? + origin);
            errors.push((at - i128::from(write.at_ns)) as f64 / 1e6);
        }
    }
    Ok(errors)
}

impl Spread {
    /// The mean is of the values, the rest of their sizes. `None`: there are none.
    fn of(values: Vec<f64>) -> Option<Self> {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let mut sizes: Vec<f64> = values.into_iter().map(f64::abs).collect();
        sizes.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let place = (sizes.len() as f64 * share).ceil() as usize;
            sizes.get(place.max(1) - 1).copied()
        };
        Some(Self { mean, p50: rank(0.5)?, p99: rank(0.99)?, max: rank(1.0)? })
    }
}

#[cfg(test)]
mod tests {
    use inferscope_tests::emitter::Write;
    use serde_json::json;

    use super::*;

    fn served(id: &str, at_ns: &[u64]) -> Served {
        let write = |&at_ns: &u64| Write { at_ns, after_ns: at_ns, due_ns: 0, tokens: 1, reasoning: false };
        Served {
            id: Some(id.to_owned()),
            arrived_ns: 0,
            read_ns: 0,
            prompt_bytes: 1,
            writes: at_ns.iter().map(write).collect(),
            outcome: "ok".to_owned(),
        }
    }

    fn report(times: &[u64]) -> Value {
        let chunk = |t_ns: &u64| json!({"t_ns": t_ns, "kind": "content"});
        let mut chunks = vec![json!({"t_ns": 0, "kind": "other"})];
        chunks.extend(times.iter().map(chunk));
        json!({
            "run": {"id": "r", "origin_monotonic_ns": 1_000_000},
            "requests": [{"id": 7, "chunks": chunks}],
        })
    }

    #[test]
    fn stamps_are_compared_with_the_writes_of_their_request() {
        let log = [served("inferscope-r-8", &[1]), served("inferscope-r-7", &[2_000_000, 5_000_000])];
        let errors = stamp_errors_ms(&report(&[1_500_000, 3_000_000]), &log).unwrap();
        assert_eq!(errors, [0.5, -1.0]);
        assert!(stamp_errors_ms(&report(&[1_500_000]), &log).unwrap_err().contains("1 stamps of 2 writes"));
        let mut omitted = report(&[]);
        omitted["requests"][0]["chunks_omitted"] = true.into();
        assert_eq!(stamp_errors_ms(&omitted, &log), Ok(Vec::new()));
        assert!(stamp_errors_ms(&report(&[1]), &log[..1]).unwrap_err().contains("knows no inferscope-r-7"));
    }

    #[test]
    fn a_spread_is_of_sizes_and_none_of_nothing() {
        let spread = Spread::of((1..=100).map(|i| -f64::from(i)).collect()).unwrap();
        assert_eq!(spread, Spread { mean: -50.5, p50: 50.0, p99: 99.0, max: 100.0 });
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
