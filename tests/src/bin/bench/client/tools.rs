//! The load tools: how each is made to send the same load, and what it says about it.
//!
//! Owns their command lines and configuration files, the tokenizer that the others need without a network, and the
//! reading of their results. Runs nothing. Called by `client`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use inferscope_tests::binary;
use serde_json::{Value, json};

/// Of each answer. A multiple of what the server's largest chunk holds.
pub(crate) const TOKENS: u64 = 32;
pub(crate) const CONCURRENCY: u32 = 4;
const MODEL: &str = "emitter";
const TOKENIZER: &str = "bench/tokenizer";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Inferscope,
    /// The same without its kernel program: what the load costs, and the polling of /proc.
    InferscopePolling,
    Aiperf,
    Guidellm,
    InferencePerf,
}

#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) kind: Kind,
    program: PathBuf,
    /// As it is installed.
    pub(crate) version: String,
}

/// What a tool reports, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Told {
    pub(crate) ttft_mean_ms: f64,
    /// The 50th and 90th percentile of its figure that comes nearest to the time between two chunks.
    pub(crate) gap_ms: [f64; 2],
    pub(crate) requests: u64,
}

impl Tool {
    /// Those that are there. What is missing of the others was told by `cargo xtask bench`.
    pub(crate) fn all() -> Vec<Self> {
        let ours = |kind| Self { kind, program: binary::inferscope_bin(), version: "this tree".to_owned() };
        let clients = installed();
        let other = |kind: Kind| {
            let client = &clients[kind.name()];
            let program = PathBuf::from(client["program"].as_str()?);
            Some(Self { kind, program, version: client["version"].as_str()?.to_owned() })
        };
        let others = [Kind::Aiperf, Kind::Guidellm, Kind::InferencePerf].into_iter().filter_map(other);
        [ours(Kind::Inferscope), ours(Kind::InferscopePolling)].into_iter().chain(others).collect()
    }

    /// Sends `requests` requests of the load to the endpoint. `dir` is empty and takes what it writes.
    ///
    /// # Errors
    /// Its configuration can't be written.
    pub(crate) fn command(&self, endpoint: &str, requests: u32, dir: &Path) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        binary::clean(&mut command);
        if !self.kind.is_ours() {
            let hub = dir.join("hub");
            write_tokenizer(&hub)?;
            command.env("HF_HOME", &hub).env("HF_HUB_OFFLINE", "1").env("TRANSFORMERS_OFFLINE", "1");
        }
        command.current_dir(dir);
        let (n, streams, tokens) = (requests.to_string(), CONCURRENCY.to_string(), TOKENS.to_string());
        match self.kind {
            Kind::Inferscope | Kind::InferscopePolling => {
                command.args(["--endpoint", endpoint, "--model", MODEL, "--requests", &n, "--quiet"]);
                command.args(["--concurrency", &streams, "--max-tokens", &tokens, "--output", "report.json"]);
                if self.kind == Kind::InferscopePolling {
                    command.args(["--tracker", "proc"]);
                }
            }
            Kind::Aiperf => {
                let prompts = (0..requests).map(|i| json!({ "text": prompt(i) }));
                write_lines(&dir.join("prompts.jsonl"), prompts)?;
                command.args(["profile", "--model", MODEL, "--url", endpoint, "--endpoint-type", "chat"]);
                command.args(["--streaming", "--concurrency", &streams, "--request-count", &n]);
                command.args(["--tokenizer", TOKENIZER, "--input-file", "prompts.jsonl"]);
                command.args(["--custom-dataset-type", "single_turn", "--ui", "none"]);
                command.args(["--extra-inputs", &format!("max_tokens:{tokens}")]);
                command.args(["--no-gpu-telemetry", "--no-server-metrics", "--output-artifact-dir", "told"]);
            }
            Kind::Guidellm => {
                let prompts =
                    (0..requests).map(|i| json!({ "prompt": prompt(i), "output_tokens_count": TOKENS }));
                write_lines(&dir.join("prompts.jsonl"), prompts)?;
                command.args([
                    "run",
                    "--backend",
                    &format!("kind=openai_http,target={endpoint},model={MODEL}"),
                ]);
                command.args(["--profile", &format!("kind=concurrent,streams={streams}")]);
                command.args(["--constraint", &format!("kind=max_requests,count={n}")]);
                command.args(["--tokenizer", &format!("kind=hf_auto,model={TOKENIZER}")]);
                command.args(["--data", "kind=json_file,path=prompts.jsonl"]);
                command.args(["--output", "kind=json,path=told.json"]);
            }
            Kind::InferencePerf => {
                let configuration = json!({
                    "api": {"type": "chat", "streaming": true},
                    // Of what it makes chat requests from, the one that can be told how many tokens to ask for.
                    "data": {"type": "shared_prefix", "shared_prefix": {
                        "num_groups": 1, "num_prompts_per_group": requests,
                        "system_prompt_len": 4, "question_len": 8, "output_len": TOKENS}},
                    "load": {"type": "concurrent", "interval": 0,
                        "stages": [{"num_requests": requests, "concurrency_level": CONCURRENCY}]},
                    "server": {"type": "vllm", "model_name": MODEL, "base_url": endpoint},
                    "tokenizer": {"pretrained_model_name_or_path": TOKENIZER},
                    "storage": {"local_storage": {"path": "told"}},
                });
                // JSON is YAML.
                fs::write(dir.join("configuration.yml"), configuration.to_string())?;
                command.args(["--config_file", "configuration.yml"]);
            }
        }
        Ok(command)
    }

    /// What it left in `dir`.
    ///
    /// # Errors
    /// It left nothing, or nothing that can be understood.
    pub(crate) fn told(&self, dir: &Path) -> Result<Told, String> {
        let file = dir.join(match self.kind {
            Kind::Inferscope | Kind::InferscopePolling => "report.json",
            Kind::Aiperf => "told/profile_export_aiperf.json",
            Kind::Guidellm => "told.json",
            Kind::InferencePerf => "told/summary_lifecycle_metrics.json",
        });
        let text = fs::read_to_string(&file).map_err(|e| format!("no {}: {e}", file.display()))?;
        let result: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        self.kind.told(&result).ok_or_else(|| format!("{} is not as expected", file.display()))
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inferscope => "inferscope",
            Self::InferscopePolling => "inferscope --tracker proc",
            Self::Aiperf => "aiperf",
            Self::Guidellm => "guidellm",
            Self::InferencePerf => "inference-perf",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Inferscope | Self::InferscopePolling)
    }

    /// What it calls the time between two chunks, or what is nearest to it.
    pub(crate) fn gap_is_called(self) -> &'static str {
        match self {
            Self::Inferscope | Self::InferscopePolling => "`inter_chunk_ns`: every gap between chunks",
            Self::Aiperf => {
                "`inter_chunk_latency`: every gap between chunks, in its JSON alone; the ITL that it prints is one \
                 mean a request"
            }
            Self::Guidellm => "`inter_token_latency_ms`: one mean a request, counted once for each token",
            Self::InferencePerf => "`inter_token_latency`: one gap a token, those within a chunk are 0",
        }
    }

    fn told(self, result: &Value) -> Option<Told> {
        let at = |path: &str| result.pointer(path)?.as_f64();
        let scaled = |scale: f64, ttft: &str, gap: [&str; 2], requests: &str| {
            Some(Told {
                ttft_mean_ms: at(ttft)? * scale,
                gap_ms: [at(gap[0])? * scale, at(gap[1])? * scale],
                requests: result.pointer(requests)?.as_f64()? as u64,
            })
        };
        match self {
            Self::Inferscope | Self::InferscopePolling => scaled(
                1e-6,
                "/timing/ttft_ns/mean",
                ["/timing/inter_chunk_ns/p50", "/timing/inter_chunk_ns/p90"],
                "/load/requests_ok",
            ),
            Self::Aiperf => scaled(
                1.0,
                "/time_to_first_token/avg",
                ["/inter_chunk_latency/p50", "/inter_chunk_latency/p90"],
                "/request_count/avg",
            ),
            Self::Guidellm => {
                let of = |figure: &str| format!("/benchmarks/0/metrics/{figure}");
                let gap = |p: &str| of(&format!("inter_token_latency_ms/successful/percentiles/{p}"));
                scaled(
                    1.0,
                    &of("time_to_first_token_ms/successful/mean"),
                    [&gap("p50"), &gap("p90")],
                    &of("request_totals/successful"),
                )
            }
            Self::InferencePerf => scaled(
                1e3,
                "/successes/latency/time_to_first_token/mean",
                [
                    "/successes/latency/inter_token_latency/median",
                    "/successes/latency/inter_token_latency/p90",
                ],
                "/successes/count",
            ),
        }
    }
}

/// `clients.json` of `cargo xtask bench client`.
fn installed() -> Value {
    let json = std::env::var_os("INFERSCOPE_CLIENTS_JSON")
        .map_or_else(|| binary::target_dir().join("clients/clients.json"), PathBuf::from);
    let told = fs::read(json).ok().map(|text| serde_json::from_slice(&text));
    told.map_or(Value::Null, |told| told.expect("clients.json is JSON"))
}

fn prompt(i: u32) -> String {
    format!("Say something about the sea, please: {i}.")
}

fn write_lines(path: &Path, lines: impl Iterator<Item = Value>) -> io::Result<()> {
    let text: String = lines.map(|line| line.to_string() + "\n").collect();
    fs::write(path, text)
}

/// A tokenizer with a token a word, in a cache of the Hugging Face libraries, where all three look without a network.
fn write_tokenizer(hub: &Path) -> io::Result<()> {
    const COMMIT: &str = "0000000000000000000000000000000000000001";
    let model = hub.join("hub/models--bench--tokenizer");
    let snapshot = model.join("snapshots").join(COMMIT);
    for dir in [&snapshot, &model.join("refs")] {
        fs::create_dir_all(dir)?;
    }
    let unknown = json!({
        "id": 0, "content": "[UNK]", "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
    });
    // The first are the server's and the unknown; from the rest prompts are made.
    let vocabulary: serde_json::Map<String, Value> = ["[UNK]".to_owned(), "tok".to_owned()]
        .into_iter()
        .chain((2..64).map(|i| format!("word{i}")))
        .zip((0..).map(Value::from))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "decoder": null, "added_tokens": [unknown], "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    let configuration = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "model_max_length": 8192,
    });
    fs::write(model.join("refs/main"), COMMIT)?;
    fs::write(snapshot.join("tokenizer.json"), tokenizer.to_string())?;
    fs::write(snapshot.join("tokenizer_config.json"), configuration.to_string())?;
    fs::write(snapshot.join("config.json"), "{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_in_milliseconds() {
        let told = |kind: Kind, result: Value| kind.told(&result).unwrap();
        let expected = Told { ttft_mean_ms: 50.5, gap_ms: [20.0, 30.0], requests: 20 };
        let ours = json!({
            "timing": {"ttft_ns": {"mean": 50.5e6}, "inter_chunk_ns": {"p50": 20_000_000, "p90": 30_000_000}},
            "load": {"requests_ok": 20},
        });
        assert_eq!(told(Kind::Inferscope, ours.clone()), expected);
        let aiperf = json!({
            "time_to_first_token": {"avg": 50.5}, "inter_chunk_latency": {"p50": 20.0, "p90": 30.0},
            "request_count": {"avg": 20.0},
        });
        assert_eq!(told(Kind::Aiperf, aiperf), expected);
        let metrics = json!({
            "time_to_first_token_ms": {"successful": {"mean": 50.5}},
            "inter_token_latency_ms": {"successful": {"percentiles": {"p50": 20.0, "p90": 30.0}}},
            "request_totals": {"successful": 20},
        });
        assert_eq!(told(Kind::Guidellm, json!({ "benchmarks": [{ "metrics": metrics }] })), expected);
        let latency = json!({
            "time_to_first_token": {"mean": 0.0505}, "inter_token_latency": {"median": 0.02, "p90": 0.03},
        });
        let told_of = told(Kind::InferencePerf, json!({"successes": {"count": 20, "latency": latency}}));
        assert!((told_of.ttft_mean_ms - 50.5).abs() < 1e-9 && told_of.gap_ms == [20.0, 30.0]);
        assert_eq!(Kind::Aiperf.told(&ours), None);
    }
}
