//! What load tools say of a server whose times are known, and what they take to say it.
//!
//! Owns the rounds, the truth by the server's log, and the tables. Each run has a server of its own; every round runs
//! every tool in each mode, and nobody is always the first. Called by `main.rs`.

mod table;
mod tools;

use std::path::Path;
use std::time::Duration;

use inferscope_tests::emitter::{Emitter, Served};
use inferscope_tests::requirements::say;
use inferscope_tests::stats::median;

use crate::cost;
use tools::{TOKENS, Told, Tool};

/// How the server streams: its mode, the time between two chunks, and that in words.
const MODES: [(&str, &str, &str); 3] = [
    ("steady", "20ms", "a token every 20 ms"),
    ("jitter", "20ms", "a token every 20 ms and up to 30 ms more"),
    ("chunks", "80ms", "four tokens at once every 80 ms"),
];
const LIMIT: Duration = Duration::from_secs(300);
const LIFETIME: &str = "320s";

/// What really happened, in milliseconds, by the server's log.
#[derive(Debug, Clone, Copy)]
struct Truth {
    ttft_mean_ms: f64,
    gap_ms: [f64; 2],
    tokens: u64,
    /// From the first request's arrival to the last token's write.
    load_s: f64,
}

/// One run of one tool.
#[derive(Debug, Clone, Copy)]
struct Run {
    truth: Truth,
    told: Told,
    cost: cost::Cost,
}

pub(crate) fn run(rounds: u32, requests: u32) {
    let mut tools = Tool::all();
    // Once for nothing: files are read from the disk, and caches of the tools' own are made.
    tools.retain(|tool| {
        say(&format!("bench: warming up {}", tool.kind.name()));
        let warm = measure(tool, 0, 4);
        warm.inspect_err(|why| say(&format!("bench: left out: {}: {why}", tool.kind.name()))).is_ok()
    });
    let mut runs: Vec<[Vec<Run>; MODES.len()]> = tools.iter().map(|_| Default::default()).collect();
    for round in 0..rounds {
        for (place, (mode, ..)) in MODES.iter().enumerate() {
            say(&format!("bench: round {} of {rounds}, {mode}", round + 1));
            for turn in 0..tools.len() {
                let which = (turn + round as usize + place) % tools.len();
                match measure(&tools[which], place, requests) {
                    Ok(run) => runs[which][place].push(run),
                    Err(why) => say(&format!("bench: a run of {} failed: {why}", tools[which].kind.name())),
                }
            }
        }
    }
    table::print(rounds, requests, &tools, &runs);
}

/// One run against a server of its own, in the mode of that place in [`MODES`].
fn measure(tool: &Tool, mode: usize, requests: u32) -> Result<Run, String> {
    let (mode, interval, _) = MODES[mode];
    let tokens = TOKENS.to_string();
    let how = ["--mode", mode, "--interval", interval, "--tokens", &tokens, "--lifetime", LIFETIME];
    let emitter = Emitter::start(&how);
    let dir = tempfile::tempdir().map_err(|e| format!("no room for temporary files: {e}"))?;
    let command = tool.command(&emitter.endpoint, requests, dir.path());
    let said = dir.path().join("said");
    let cost = command.and_then(|mut command| cost::of(&mut command, &said, LIMIT));
    let cost = cost.map_err(|e| e.to_string())?;
    if !cost.status.success() {
        return Err(format!("{}: {}", cost.status, last_words(&said)));
    }
    let told = tool.told(dir.path()).map_err(|why| format!("{why}: {}", last_words(&said)))?;
    let truth = Truth::of(&emitter.end(), requests)?;
    if told.requests != u64::from(requests) {
        return Err(format!("it tells of {} requests instead of {requests}", told.requests));
    }
    Ok(Run { truth, told, cost })
}

/// The end of what a tool said.
fn last_words(said: &Path) -> String {
    let said = std::fs::read(said).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

impl Truth {
    /// The load is to be the same for all.
    fn of(log: &[Served], requests: u32) -> Result<Self, String> {
        let whole = |served: &&Served| served.outcome == "ok" && served.tokens() == TOKENS;
        let ok = log.iter().filter(whole).count();
        if ok != requests as usize || ok != log.len() {
            return Err(format!("it sent {} requests, {ok} of them for {TOKENS} tokens", log.len()));
        }
        let ttft_ms: f64 = log.iter().map(|served| served.ttft_ns() as f64 / 1e6).sum();
        let mut gaps: Vec<u64> = log.iter().flat_map(Served::gaps_ns).collect();
        gaps.sort_unstable();
        let rank = |share: f64| gaps[((gaps.len() as f64 * share).ceil() as usize).max(1) - 1] as f64 / 1e6;
        let first = log.iter().map(|served| served.arrived_ns).min().ok_or("no request")?;
        let writes = log.iter().flat_map(|served| &served.writes);
        let last = writes.map(|write| write.at_ns).max().ok_or("no token")?;
        Ok(Self {
            ttft_mean_ms: ttft_ms / log.len() as f64,
            gap_ms: [rank(0.5), rank(0.9)],
            tokens: TOKENS * log.len() as u64,
            load_s: (last - first) as f64 / 1e9,
        })
    }
}

/// Medians over the rounds.
impl Run {
    fn all(runs: &[Self], of: impl Fn(&Self) -> f64) -> f64 {
        median(&runs.iter().map(of).collect::<Vec<_>>())
    }

    fn ttft_error_ms(&self) -> f64 {
        self.told.ttft_mean_ms - self.truth.ttft_mean_ms
    }

    fn gap_error_ms(&self, percentile: usize) -> f64 {
        self.told.gap_ms[percentile] - self.truth.gap_ms[percentile]
    }

    fn cpu_us_a_token(&self) -> f64 {
        self.cost.cpu_s * 1e6 / self.truth.tokens as f64
    }

    fn overhead_s(&self) -> f64 {
        self.cost.wall_s - self.truth.load_s
    }
}

#[cfg(test)]
mod tests {
    use inferscope_tests::emitter::Write;

    use super::*;

    fn served(arrived_ms: u64, writes_ms: &[u64], tokens: u64) -> Served {
        let write = |ms: &u64| Write {
            at_ns: ms * 1_000_000,
            after_ns: ms * 1_000_000,
            due_ns: 0,
            tokens,
            reasoning: false,
        };
        Served {
            id: None,
            arrived_ns: arrived_ms * 1_000_000,
            read_ns: 0,
            prompt_bytes: 1,
            writes: writes_ms.iter().map(write).collect(),
            outcome: "ok".to_owned(),
        }
    }

    #[test]
    fn the_truth_is_of_the_servers_log() {
        let log = [served(100, &[150, 170, 200, 260], 8), served(90, &[150, 170, 190, 210], 8)];
        let truth = Truth::of(&log, 2).unwrap();
        assert_eq!((truth.ttft_mean_ms, truth.gap_ms, truth.tokens), (55.0, [20.0, 60.0], 64));
        assert!((truth.load_s - 0.17).abs() < 1e-9);
    }

    #[test]
    fn another_load_than_asked_for_is_refused() {
        let log = [served(0, &[1, 2, 3, 4], 8)];
        assert!(Truth::of(&log, 2).is_err());
        assert!(Truth::of(&[served(0, &[1, 2, 3], 8)], 1).is_err());
    }
}
