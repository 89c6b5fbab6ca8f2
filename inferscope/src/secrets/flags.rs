//! Flags by name, and the kinds of their values.
//!
//! Owns the tables: the long flags of model servers, of their launchers and of inferscope itself, whose names mean the
//! same everywhere, and the short flags of each kind of program. Pure. The value of a flag in no table is not shown.

use super::shape::is_secret_name;

/// The kind of a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The flag has no value.
    Switch,
    Number,
    /// A name, a mode, a host, or a list of them.
    Word,
    /// The same, with further words as arguments of their own.
    Words,
    Path,
    /// A pattern over the names of a model's tensors.
    Pattern,
    /// The name of a variable.
    Variable,
    /// `Name: value`. The name is shown.
    Header,
    /// A module, which runs with the rest of the line.
    Module,
    /// A secret, never shown.
    Secret,
    /// Unknown. Shown if it can only be a path or an address.
    Unknown,
    /// Unknown, but a model server's. A short number or a mode is shown, too: nobody passes a secret in such a flag
    /// without naming it.
    New,
    /// A host. Any program may have the flag.
    Host,
}

/// The kind of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Python,
    Shell,
    /// A program that runs the rest of its line: `env`, `timeout 60`, `numactl`.
    Wrapper,
    /// A program with a subcommand and a model as its arguments.
    Model,
    Llama,
    /// A program with a module and an application as its argument.
    App,
    Make,
    Sleep,
    Inferscope,
    Other,
}

impl Program {
    /// The kind, by the name of the file or of the module.
    pub(super) fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path).trim_start_matches('-');
        let name = name.strip_suffix(".py").unwrap_or(name);
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        match bare {
            "python" | "pypy" | "python-real" => Self::Python,
            "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "mksh" | "fish" | "busybox" => Self::Shell,
            "env" | "nohup" | "nice" | "ionice" | "taskset" | "timeout" | "sudo" | "doas" | "numactl"
            | "tini" | "catatonit" | "dumb-init" | "docker-init" | "setsid" | "stdbuf" | "chrt" | "exec"
            | "time" | "nsys" | "ncu" | "strace" | "perf" | "mpirun" | "mpiexec" | "torchrun"
            | "accelerate" | "setpriv" | "unshare" | "xvfb-run" => Self::Wrapper,
            "vllm"
            | "ollama"
            | "sglang"
            | "lmdeploy"
            | "trtllm-serve"
            | "mlx_lm"
            | "openllm"
            | "tabby"
            | "aphrodite"
            | "text-generation-launcher"
            | "text-generation-server"
            | "tritonserver"
            | "infinity_emb"
            | "xinference" => Self::Model,
            "llama-server"
            | "llama-cli"
            | "llama-bench"
            | "llama-batched-bench"
            | "koboldcpp"
            | "llamafile"
            | "server" => Self::Llama,
            "gunicorn" | "uvicorn" | "hypercorn" | "granian" | "daphne" | "waitress-serve" | "uwsgi"
            | "celery" | "fastapi" | "flask" => Self::App,
            "make" | "ninja" | "gmake" => Self::Make,
            "sleep" => Self::Sleep,
            "inferscope" => Self::Inferscope,
            _ if name.starts_with("vllm.") || name.starts_with("sglang.") => Self::Model,
            _ => Self::Other,
        }
    }

    /// The kind of the short flag `-NAME` of such a program.
    pub(super) fn short(self, name: &str) -> Option<Kind> {
        const PYTHON: [&str; 16] =
            ["b", "B", "bb", "d", "E", "i", "I", "O", "OO", "P", "q", "s", "S", "u", "v", "x"];
        let one_of = |names: &[&str]| names.contains(&name);
        Some(match self {
            Self::Python if one_of(&PYTHON) => Kind::Switch,
            Self::Python if one_of(&["X", "W"]) => Kind::Word,
            Self::Python if name == "m" => Kind::Module,
            Self::Python | Self::Shell if name == "c" => Kind::Secret,
            Self::Llama if one_of(&["m", "md", "mm", "f", "bf", "o", "lcs", "lcd", "hff"]) => Kind::Path,
            Self::Llama
                if one_of(&[
                    "hf", "hfr", "hfd", "hfrd", "a", "sm", "ctk", "ctv", "ctkd", "ctvd", "dev", "devd",
                ]) =>
            {
                Kind::Word
            }
            Self::Llama if one_of(&["cb", "nocb", "nkvo", "cmoe", "e", "h", "v", "kvu", "fit"]) => {
                Kind::Switch
            }
            Self::Llama if one_of(&["fa"]) => Kind::Number,
            Self::Llama if one_of(&["ot", "otd"]) => Kind::Pattern,
            Self::Llama if one_of(&LLAMA_NUMBERS) => Kind::Number,
            Self::App if one_of(&["w", "t"]) => Kind::Number,
            Self::App if one_of(&["k", "b", "c", "n", "A"]) => Kind::Word,
            Self::App if name == "D" => Kind::Switch,
            Self::Model
                if one_of(&[
                    "O", "tp", "pp", "dp", "ep", "n", "asc", "dcp", "pcp", "dpn", "dpr", "dpl", "dpp",
                ]) =>
            {
                Kind::Number
            }
            Self::Model if one_of(&["dpa", "dpb"]) => Kind::Word,
            Self::Model if name == "cc" => Kind::Secret,
            Self::Make if name == "j" => Kind::Number,
            Self::Make if one_of(&["C", "f"]) => Kind::Path,
            Self::Make if one_of(&["k", "s", "B", "n"]) => Kind::Switch,
            Self::Wrapper if one_of(&["n", "np", "c", "N", "m", "C", "k"]) => Kind::Number,
            Self::Wrapper if one_of(&["s", "i", "E"]) => Kind::Switch,
            Self::Inferscope if name == "o" => Kind::Path,
            Self::Inferscope if name == "H" => Kind::Header,
            Self::Inferscope if one_of(&["h", "V"]) => Kind::Switch,
            _ => return None,
        })
    }
}

const LLAMA_NUMBERS: [&str; 28] = [
    "c", "n", "t", "b", "ub", "ngl", "np", "tb", "mg", "ts", "C", "Cr", "s", "ngld", "cd", "td", "tbd", "to",
    "ns", "ncmoe", "sps", "gan", "gaw", "r", "d", "pg", "ctxcp", "cram",
];

/// The kind of a short flag in no table. Many programs use these letters for a password, a user or a header.
pub(super) fn short_elsewhere(name: &str) -> Kind {
    match name {
        "p" | "P" | "u" | "U" | "H" | "k" | "K" | "a" | "A" | "b" | "d" | "t" | "e" | "x" | "s" => {
            Kind::Secret
        }
        "h" | "v" | "V" | "q" => Kind::Switch,
        _ if is_secret_name(name) => Kind::Secret,
        _ => Kind::Unknown,
    }
}

/// The kind of a program's long flag `--NAME`.
pub(super) fn long(program: Program, name: &str) -> Kind {
    let name = name.replace('_', "-");
    let engine = matches!(program, Program::Model | Program::Llama);
    match in_tables(&name) {
        // These may be anything in any program.
        Some(Kind::Path) if program == Program::Other => Kind::Unknown,
        Some(Kind::Word) if program == Program::Other && is_one_of(HOSTS, &name) => Kind::Host,
        Some(Kind::Word) if program == Program::Other && is_one_of(GENERAL, &name) => Kind::New,
        Some(kind) => kind,
        None if engine && !is_secret_name(&name.replace("tokenizer", "")) => Kind::New,
        // The value is a count of tokens.
        None if engine && !is_secret_name(&name.replace("tokens", "")) => Kind::Number,
        None if is_secret_name(&name) => Kind::Secret,
        None => Kind::Unknown,
    }
}

/// The flag is in a table.
#[cfg(test)]
pub(crate) fn is_decided(name: &str) -> bool {
    in_tables(name).is_some()
}

pub(super) fn in_tables(name: &str) -> Option<Kind> {
    let kind = [
        (SWITCHES, Kind::Switch),
        (NUMBERS, Kind::Number),
        (WORDS, Kind::Word),
        (SEVERAL, Kind::Words),
        (PATHS, Kind::Path),
        ("override-tensor override-tensor-draft", Kind::Pattern),
        (VARIABLES, Kind::Variable),
        (HEADERS, Kind::Header),
        (TEXTS, Kind::Secret),
    ];
    kind.into_iter().find(|(names, _)| is_one_of(names, name)).map(|(_, kind)| kind)
}

fn is_one_of(names: &str, name: &str) -> bool {
    names.split_ascii_whitespace().any(|known| known == name)
}

/// Those of [`WORDS`] that programs of all kinds have.
const HOSTS: &str = "bind endpoint head-node host hostname http interface ip master-addr node";
const GENERAL: &str = "\
    alias api arrival color device fd fingerprint format interval loop loopback mode name pooling redact revision role \
    runner sched task type ws";

const SWITCHES: &str = "\
    aggregate-engine-logging async-scheduling calculate-kv-scales cont-batching cpu-strict daemon \
    data-parallel-external-lb data-parallel-hybrid-lb debug disable-cuda-graph disable-custom-all-reduce \
    disable-fastapi-docs disable-frontend-multiprocessing disable-log-requests disable-log-stats \
    disable-radix-cache disable-sliding-window disable-uvicorn-access-log embedding embeddings \
    enable-auto-tool-choice enable-chunked-prefill enable-dp-attention enable-eplb \
    enable-expert-parallel enable-log-requests enable-lora enable-metrics enable-mixed-chunk \
    enable-prefix-caching enable-prompt-tokens-details enable-reasoning enable-request-id-headers \
    enable-sleep-mode enable-torch-compile enforce-eager exit-with-command fail-on-slo full \
    headless help ignore-eos include-descendants insecure jinja json json-output live metrics mlock \
    multiprocessing-fork no-access-log no-context-shift no-descendants no-enable-prefix-caching \
    no-kv-offload no-mmap no-sendfile no-webui preload proxy-headers quiet reload reranking \
    skip-tokenizer-init slots strict-cgroup sweep-all traffic trust-remote-code use-v2-block-manager \
    verbose version";

const NUMBERS: &str = "\
    api-server-count attention-backend-id backlog base-gpu-id batch-size block-size cache-reuse cgroup-of chunked-prefill-size \
    concurrency context-length context-shift cpu-offload-gb cpunodebind ctx-size cuda-graph-max-bs \
    cuda-graphs cuda-memory-fraction data-parallel-address-port data-parallel-rank \
    data-parallel-rpc-port data-parallel-size data-parallel-size-local data-parallel-start-rank \
    decode-context-parallel-size dp \
    dp-size draft draft-max draft-min draft-p-min duration ep ep-size fail-on-errors first-token flash-attn \
    frequency-penalty gpu gpu-baseline gpu-layers gpu-layers-draft gpu-memory-utilization \
    gpu-memory-utilization-limit grace graceful-shutdown-timeout graceful-timeout \
    h11-max-incomplete-event-size input-tokens jobs keep keep-alive keepalive kv-cache-free-gpu-memory-fraction kv-cache-memory-bytes \
    lifetime limit-concurrency limit-max-requests limit-request-field-size limit-request-fields \
    limit-request-line load-seed long-prefill-token-threshold main-gpu master-port \
    max-batch-prefill-tokens max-batch-size max-batch-total-tokens max-beam-width max-best-of max-client-batch-size \
    max-concurrent-requests max-cpu-loras max-in-flight max-input-length max-input-tokens max-log-len \
    max-logprobs max-lora-rank max-loras max-mamba-cache-size max-memory max-model-len max-new-tokens \
    max-num-batched-tokens max-num-partial-prefills max-num-seqs max-num-tokens page-size random-seed max-parallel-loading-workers \
    max-prefill-tokens max-processes max-queue-size max-queued-requests max-requests max-requests-jitter \
    max-restarts max-running-requests max-seq-len max-seq-len-to-capture max-stop-sequences max-tokens \
    max-top-n-tokens max-total-tokens max-waiting-tokens mem-fraction-static membind message-size min-p \
    n-cpu-moe n-gpu-layers n-predict nnodes node-rank nproc-per-node num-continuous-decode-steps num-ctx num-gpu \
    num-gpu-blocks-override num-lookahead-slots num-parallel num-prompts num-scheduler-steps num-shard \
    num-speculative-tokens num-threads numa-node parallel physcpubind pid pipeline-parallel-size poll \
    port pp pp-size predict presence-penalty prio prometheus-port ramp-up rate ready-timeout repeat \
    repeat-penalty report-mode requests ring-size rope-freq-base rope-freq-scale rope-scale \
    sample-interval schedule-conservativeness scheduler-delay-factor seed shared-prefix shutdown-timeout \
    speculate speculative-eagle-topk speculative-num-draft-tokens speculative-num-steps split-size \
    stall-over stream-interval swap-space temp temperature tensor-parallel-size tensor-split threads \
    threads-batch threads-http threshold timeout timeout-graceful-shutdown timeout-keep-alive \
    token-interval top-k top-p tp tp-size traffic-bytes ubatch-size validation-workers \
    waiting-served-ratio warmup watchdog-timeout worker-connections workers";

const WORDS: &str = "\
    alias all2all-backend api arrival attention-backend backend bind deepep-mode disaggregation-mode cache-type-k cache-type-v \
    chat-template-content-format code-revision color config-format cpu-mask cpu-range \
    data-parallel-address data-parallel-backend device dist-init-addr distributed-executor-backend dtype \
    enable-reasoning-parser endpoint engine-metrics expert-placement-strategy factory-mode fd \
    fingerprint format forwarded-allow-ips generation-config gpu-calls grammar-backend \
    guided-decoding-backend head-node hf-file hf-repo hf-repo-draft host hostname http interface \
    interval ip kv-cache-dtype kv-offloading-backend lifespan limit-mm-per-prompt load-balance-method load-format log-level log-verbosity \
    logits-processor-pattern loop loopback mamba-ssm-cache-dtype master-addr mm-processor-mode mode \
    model model-id model-impl model-loader moe-a2a-backend moe-runner-backend name node numa \
    otlp-endpoint otlp-traces-endpoint output-format pooling price-per-hour prometheus-listen \
    quantization quantize reasoning-format reasoning-parser redact revision role rope-scaling runner \
    sampling-backend sched schedule-policy scheduling-policy sharded slo speculative-algorithm \
    speculative-draft-model-path split-mode sweep task tokenizer tokenizer-mode tokenizer-revision \
    tool-call-parser tracker traffic-tls type worker-class ws";

const SEVERAL: &str =
    "cuda-graph-bs cuda-graph-sizes cudagraph-capture-sizes lora-modules middleware-names served-model-name";

const PATHS: &str = "\
    access-logfile api-key-file app-dir cacert cgroup chat-template chat-template-file chdir \
    command-output config config-file dataset download-dir env-file error-logfile file grammar-file \
    hf-config-path huggingface-hub-cache log-config log-dir log-file lora lora-paths mmproj model-draft \
    model-path model-repository model-store models-dir nvml-lib out-file output path pid-file pidfile \
    prompt-file pythonpath root-path slot-save-path ssl-ca-certs ssl-cert-file ssl-certfile ssl-key-file \
    ssl-keyfile tokenizer-path uds unix-socket weights-cache-override working-dir";

const VARIABLES: &str = "api-key-env";

const HEADERS: &str = "header";

/// What carries a prompt, or anything at all.
const TEXTS: &str = "\
    extra-body hf-overrides json-schema messages override-generation-config prompt system system-prompt";
