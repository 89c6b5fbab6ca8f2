use super::*;

fn line(words: &[&str]) -> String {
    arguments(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>()).join(" ")
}

/// A shape in which a secret stands on a command line, and how the line is shown. The secret is `hunter2`, `13377331` or
/// what stands behind a well-known beginning.
const SHAPES: &[(&[&str], &str)] = &[
    // A flag whose name says so.
    (&["srv", "--api-key", "hunter2"], "srv --api-key ***"),
    (&["srv", "--api-key=hunter2"], "srv --api-key=***"),
    (&["srv", "--api_key", "hunter2"], "srv --api_key ***"),
    (&["srv", "--password", "hunter2"], "srv --password ***"),
    (&["srv", "--pass", "hunter2"], "srv --pass ***"),
    (&["srv", "--passwd=hunter2"], "srv --passwd=***"),
    (&["srv", "--db-pwd", "hunter2"], "srv --db-pwd ***"),
    (&["srv", "--hf-token", "hunter2"], "srv --hf-token ***"),
    (&["srv", "--secret", "hunter2"], "srv --secret ***"),
    (&["srv", "--client-secret=hunter2"], "srv --client-secret=***"),
    (&["srv", "--auth", "hunter2"], "srv --auth ***"),
    (&["srv", "--credentials", "hunter2"], "srv --credentials ***"),
    (&["srv", "--cookie", "hunter2"], "srv --cookie ***"),
    (&["srv", "--cookie", "session=hunter2; path=/"], "srv --cookie ***"),
    (&["srv", "--bearer", "hunter2"], "srv --bearer ***"),
    (&["srv", "--session-id", "hunter2"], "srv --session-id ***"),
    (&["srv", "--pat", "hunter2"], "srv --pat ***"),
    (&["srv", "--pin", "13377331"], "srv --pin ***"),
    (&["srv", "--dsn", "hunter2"], "srv --dsn ***"),
    (&["srv", "--license", "hunter2"], "srv --license ***"),
    // The value is a number, a path or begins with a dash.
    (&["srv", "--password", "13377331"], "srv --password ***"),
    (&["srv", "--password=13377331"], "srv --password=***"),
    (&["srv", "--password", "-hunter2"], "srv --password ***"),
    (&["srv", "--password", "--hunter2"], "srv --password ***"),
    (&["srv", "--password", "/hunter2"], "srv --password ***"),
    (&["srv", "--password", "-hunter2", "--port", "80"], "srv --password *** --port 80"),
    (&["srv", "--enable-auth", "--port", "80", "hunter2"], "srv --enable-auth --port 80 ***"),
    (&["srv", "--api-key", "a=hunter2"], "srv --api-key ***"),
    (&["srv", "--token", ""], "srv --token ***"),
    // Short flags.
    (&["srv", "-p", "hunter2"], "srv -p ***"),
    (&["srv", "-p", "13377331"], "srv -p ***"),
    (&["mysql", "-phunter2"], "mysql -p***"),
    (&["mysql", "-phunter2=x"], "mysql -p***"),
    (&["curl", "-u", "me:hunter2"], "curl -u ***"),
    (&["curl", "-ume:hunter2"], "curl -u***"),
    (&["curl", "-b", "session=hunter2"], "curl -b ***"),
    (&["curl", "-d", "{\"key\": \"hunter2\"}"], "curl -d ***"),
    (&["redis-cli", "-a", "hunter2"], "redis-cli -a ***"),
    (&["srv", "-k", "hunter2"], "srv -k ***"),
    (&["srv", "-x", "hunter2"], "srv -x ***"),
    (&["srv", "-password=hunter2"], "srv -password=***"),
    (&["srv", "-password", "hunter2"], "srv -p*** ***"),
    (&["java", "-Dkey=hunter2", "-jar", "a.jar"], "java -D*** -j*** a.jar"),
    // Headers.
    (&["curl", "-H", "Authorization: Bearer hunter2"], "curl -H ***"),
    (&["curl", "-HX-Key: hunter2"], "curl -H***"),
    (&["curl", "--header", "X-Api-Key: hunter2"], "curl --header X-Api-Key: ***"),
    (&["curl", "--header=X-Api-Key: hunter2"], "curl --header=X-Api-Key: ***"),
    (&["curl", "--header", "hunter2"], "curl --header ***"),
    (&["srv", "--default-header", "hunter2"], "srv --default-header ***"),
    // Code and JSON.
    (&["bash", "-c", "curl -H 'Authorization: Bearer hunter2' http://h"], "bash -c ***"),
    (&["bash", "-lc", "KEY=hunter2 serve"], "bash -lc ***"),
    (&["sh", "-ec", "serve --key hunter2", "sh", "hunter2"], "sh -ec *** *** ***"),
    (&["python3", "-c", "key = 'hunter2'"], "python3 -c ***"),
    (&["python3", "-Ic", "key = 'hunter2'"], "python3 -Ic ***"),
    (&["node", "-e", "key='hunter2'"], "node -e ***"),
    (
        &["vllm", "serve", "--kv-transfer-config", "{\"key\": \"hunter2\"}"],
        "vllm serve --kv-transfer-config ***",
    ),
    (&["srv", "--options", "key=hunter2,port=80"], "srv --options ***"),
    (&["srv", "{\"key\": \"hunter2\"}"], "srv ***"),
    // Assignments.
    (&["env", "API_KEY=hunter2", "srv"], "env API_KEY=*** srv"),
    (&["env", "FOO=hunter2", "srv"], "env FOO=*** srv"),
    (&["env", "VLLM_API_KEY=13377331", "srv"], "env VLLM_API_KEY=*** srv"),
    (&["srv", "--env", "KEY=hunter2"], "srv --env ***"),
    (&["srv", "-e", "KEY=hunter2"], "srv -e ***"),
    (&["srv", "aHVudGVyMg=="], "srv ***"),
    (&["env", "dbPass=hunter2word", "srv"], "env dbPass=*** srv"),
    (&["nohup", "env", "-i", "a.b=hunter4", "foo"], "nohup env -i a.b=*** foo"),
    (&["env", "aHVudGVyMg==", "srv"], "env *** srv"),
    // Further values of a flag that takes several, and of one that nobody knows.
    (&["vllm", "serve", "m", "--api-key", "alphabeta", "gammadelta"], "vllm serve m --api-key *** ***"),
    (
        &["vllm", "serve", "m", "--api-key=alphabeta", "gammadelta", "--port", "80"],
        "vllm serve m --api-key=*** *** --port 80",
    ),
    (
        &["vllm", "serve", "m", "--unheard-of", "Alpha", "gammadelta", "-asc", "2"],
        "vllm serve m --unheard-of *** *** -asc 2",
    ),
    (&["srv", "--api-key", "alphabeta", "run"], "srv --api-key *** ***"),
    (&["uvicorn", "app:app", "--api-key", "alphabeta", "gammadelta"], "uvicorn app:app --api-key *** ***"),
    // The value of a flag whose name means something else to each program.
    (&["foo", "--host", "admin:hunter2pw@db"], "foo --host ***"),
    (&["vllm", "serve", "--host", "admin:hunter2pw@db"], "vllm serve --host ***"),
    (&["foo", "--bind", "cn=admin:hunter2"], "foo --bind ***"),
    (&["foo", "--config", "pwd=hunter2"], "foo --config ***"),
    (&["vllm", "serve", "--config", "pwd=hunter2"], "vllm serve --config ***"),
    (&["foo", "--output", "pass hunter2"], "foo --output ***"),
    (&["foo", "--file", "hunter2"], "foo --file ***"),
    (&["foo", "--name", "hunter2"], "foo --name ***"),
    // URLs.
    (&["srv", "--db", "postgres://u:hunter2@h:1/x"], "srv --db postgres://***@h:1/x"),
    (&["srv", "--endpoint", "http://u:hunter2@h:1/v1"], "srv --endpoint http://***@h:1/v1"),
    (&["srv", "postgres://u:hunter2@h:1/x"], "srv postgres://***@h:1/x"),
    (&["srv", "postgres://u:hunt/er2@h:1/x"], "srv postgres://***@h:1/x"),
    (&["srv", "http://u:hunter2@h"], "srv http://***@h"),
    (&["srv", "https://h/b?X-Amz-Signature=hunter2"], "srv https://h/b?***"),
    (&["srv", "https://h/b?a=1&sig=hunter2"], "srv https://h/b?***"),
    (&["srv", "https://h/b#access_token=hunter2"], "srv https://h/b#***"),
    (
        &["srv", "https://hooks.example.com/services/T000/B000/Hunter2"],
        "srv https://hooks.example.com/services/***/***/***",
    ),
    // By their beginning, where a value of that flag is shown else.
    (&["vllm", "serve", "--model", "sk-hunter2hunter2"], "vllm serve --model ***"),
    (&["vllm", "serve", "AKIAIOSFODNN7EXAMPLE"], "vllm serve ***"),
    (&["vllm", "serve", "eyJhbGciOiJIUzI1NiJ9.e30.hunter2"], "vllm serve ***"),
    (&["vllm", "serve", "AIzaSyhunter2"], "vllm serve ***"),
    (&["vllm", "serve", "gsk_hunter2"], "vllm serve ***"),
    (&["vllm", "serve", "glpat-hunter2"], "vllm serve ***"),
    (&["vllm", "serve", "github_pat_hunter2"], "vllm serve ***"),
    (&["vllm", "serve", "gho_hunter2"], "vllm serve ***"),
    (&["vllm", "serve", "nvapi-hunter2"], "vllm serve ***"),
    (&["vllm", "serve", "hf_hunter2"], "vllm serve ***"),
    (&["vllm", "serve", "xoxb-hunter2"], "vllm serve ***"),
    (&["srv", "--host", "ghp_hunter2"], "srv --host ***"),
    (&["srv", "--config", "/run/sk-hunter2hunter2"], "srv --config ***"),
    (&["srv", "--sk-hunter2hunter2"], "srv ***"),
    // What stands by itself.
    (&["srv", "hunter2"], "srv ***"),
    (&["srv", "13377331"], "srv ***"),
    (&["srv", "/opt/aB3dE5gH7jK9mN1pQ3"], "srv ***"),
    (&["srv --password hunter2"], "srv --password ***"),
    (&["postgres: me hunter2 127.0.0.1(5) idle"], "postgres: *** *** *** idle"),
];

#[test]
fn no_shape_of_a_secret_is_shown() {
    assert!(SHAPES.len() >= 59, "{}", SHAPES.len());
    for (words, expected) in SHAPES {
        let shown = line(words);
        assert_eq!(shown, *expected, "{words:?}");
        for secret in ["hunter2", "unter2", "13377331", "AKIA", "eyJ", "aHVu", "hunter4", "beta", "gamma"] {
            assert!(!shown.contains(secret), "{words:?}: {shown}");
        }
    }
}

/// Real command lines, which stay as they are.
const READABLE: &[&str] = &[
    "vllm serve meta-llama/Llama-3.1-8B-Instruct --host 0.0.0.0 --port 8000 --tensor-parallel-size 4 --max-model-len 32768 \
     --gpu-memory-utilization 0.92 --dtype bfloat16 --enable-prefix-caching --max-num-batched-tokens 8192",
    "vllm serve Qwen/Qwen2.5-Coder-32B-Instruct-AWQ --served-model-name qwen coder --quantization awq_marlin \
     --tool-call-parser hermes --enable-auto-tool-choice --kv-cache-dtype fp8 --swap-space 4",
    "/usr/bin/python3 -m vllm.entrypoints.openai.api_server --model /models/llama --port 8000 --tensor-parallel-size 4",
    "/opt/venv/bin/python3.12 /opt/venv/bin/vllm serve Qwen/Qwen3-0.6B --enforce-eager --max-num-seqs 64",
    "python -m sglang.launch_server --model-path /models/qwen --tp 2 --mem-fraction-static 0.85 --host 127.0.0.1 --port 30000",
    "python3 -u -m uvicorn app.main:app --host 0.0.0.0 --port 8080 --workers 4 --timeout-keep-alive 75",
    "llama-server -m /models/q.gguf -ngl 99 -c 4096 -np 8 --port 8080 --host 127.0.0.1 -fa on -t 8 -ub 512 --metrics",
    "./llama-server -hf ggml-org/gemma-3-1b-it-GGUF:Q4_K_M -ngl -1 --cont-batching --parallel 4 -ctk q8_0",
    "gunicorn -w 4 -k uvicorn.workers.UvicornWorker -b 0.0.0.0:8000 --timeout 120 --max-requests 1000 app.main:app",
    "/usr/bin/python3 /usr/local/bin/gunicorn -c gunicorn.conf.py --workers 2 --preload service.wsgi:application",
    "gunicorn -c python:service.config -b unix:/run/app.sock app:create_app()",
    "uvicorn main:app --host 0.0.0.0 --port 80 --log-level info --loop uvloop --http httptools",
    "hypercorn app:app --bind 127.0.0.1:8000 --workers 2",
    "text-generation-launcher --model-id mistralai/Mistral-7B-v0.1 --num-shard 2 --max-total-tokens 4096 --quantize awq",
    "text-generation-server serve mistralai/Mistral-7B-v0.1 --num-shard 2 --uds-path /tmp/tgi",
    "ollama serve",
    "ollama run llama3.2:1b",
    "ollama runner --model /root/.ollama/models/blobs/sha256-74701a8c --ctx-size 8192 --batch-size 512 --n-gpu-layers 33 \
     --threads 4 --parallel 4 --port 43211",
    "tritonserver --model-repository /models --http-port 8000",
    "env CUDA_VISIBLE_DEVICES=0,1 OMP_NUM_THREADS=8 vllm serve Qwen/Qwen3-0.6B --port 8001",
    "numactl --cpunodebind 0 --membind 0 python3 server.py --port 8000 --workers 3",
    "timeout 60s /usr/bin/python3 server.py",
    "taskset -c 0,1 ./server --port 9000",
    "vllm serve Qwen/Qwen3-0.6B --api-server-count 2 -asc 4 --decode-context-parallel-size 2 --limit-mm-per-prompt image=4 \
     --cudagraph-capture-sizes 1 2 4 8 --new-backend round_robin --new-limit 512",
    "vllm serve /root/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de289a04d12100db370d81485cdf75e47ca --port 8000",
    "python3 -m sglang.launch_server --model-path Qwen/Qwen3-0.6B --page-size 64 --disaggregation-mode prefill --random-seed 7 \
     --base-gpu-id 0 --cuda-graph-bs 1 2 4 --deepep-mode low_latency --load-balance-method round_robin",
    "trtllm-serve Qwen/Qwen3-0.6B --backend pytorch --kv_cache_free_gpu_memory_fraction 0.9 --max_beam_width 1 --max_num_tokens 8192",
    "llama-server -m /models/q.gguf --flash-attn on --n-cpu-moe 12 -ot blk\\..*_exps\\.=CPU --port 8080",
    "ollama runner --model /root/.ollama/models/blobs/sha256-74701a8c35f6c8d9a4b91f3f3497643001d63e0c7a84e085bed452548fa88d45 --port 1",
    "foo --host db.example.org --format json --log-level info --config /etc/foo.yaml",
    "nginx: worker process",
    "gunicorn: master [app.main:app]",
    "make -j8 all",
    "sleep 60",
];

#[test]
fn the_command_lines_of_servers_stay_readable() {
    for expected in READABLE {
        let words: Vec<&str> =
            if expected.contains(": ") { vec![expected] } else { expected.split_whitespace().collect() };
        let shown = line(&words);
        assert_eq!(shown, expected.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

#[test]
fn inferscopes_own_line_holds_no_prompt_and_no_header() {
    let own =
        |words: &[&str]| own_arguments(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>()).join(" ");
    assert_eq!(
        own(&[
            "inferscope",
            "--endpoint",
            "http://127.0.0.1:8000",
            "--prompt",
            "-my diagnosis",
            "--prompt=x",
            "-H",
            "X-Key: abc",
            "-HX-Key: abc"
        ]),
        "inferscope --endpoint http://127.0.0.1:8000 --prompt *** --prompt=*** -H X-Key: *** -HX-Key: ***"
    );
    assert_eq!(
        own(&[
            "inferscope",
            "--extra-body",
            "{}",
            "--system",
            "x",
            "--unheard-of",
            "x",
            "--duration",
            "1m 30s",
            "--slo",
            "ttft=200ms,itl=30ms",
            "-o",
            "run 1.json"
        ]),
        "inferscope --extra-body *** --system *** --unheard-of *** --duration 1m 30s --slo ttft=200ms,itl=30ms -o run 1.json"
    );
    assert_eq!(
        own(&[
            "inferscope",
            "exec",
            "--sweep",
            "concurrency=1,2,4",
            "--price-per-hour",
            "H100=2.5",
            "--gpu",
            "0,2",
            "--",
            "srv",
            "--prompt",
            "abc",
            "--port",
            "1"
        ]),
        "inferscope exec --sweep concurrency=1,2,4 --price-per-hour H100=2.5 --gpu 0,2 -- srv --prompt *** --port 1"
    );
    assert_eq!(
        own(&["inferscope", "observe", "--pid", "7", "--ring-size", "2M", "--api-key-env", "MY_API_KEY"]),
        "inferscope observe --pid 7 --ring-size 2M --api-key-env MY_API_KEY"
    );
}

#[test]
fn redaction_has_three_degrees() {
    let argv = vec!["srv".to_owned(), "--port".to_owned(), "80".to_owned(), "hunter2".to_owned()];
    let shown = |redact: Redact| redact.command_line(Some(&argv)).map(|argv| argv.join(" "));
    assert_eq!(shown(Redact::Names).as_deref(), Some("srv --port 80 ***"));
    assert_eq!(shown(Redact::Off).as_deref(), Some("srv --port 80 hunter2"));
    assert_eq!(shown(Redact::Full), None);
    assert_eq!(Redact::Off.command_line(None), None);
}

#[test]
fn credentials_in_a_url_are_masked() {
    for (url, shown) in [
        ("postgres://u:p@h:1/x", "postgres://***@h:1/x"),
        ("redis://u:p/q#r@h/x", "redis://***@h/x"),
        ("http://h:80/a@b", "http://***@b"),
        ("http://h/a@b", "http://h/a@b"),
        ("no url", "no url"),
    ] {
        assert_eq!(without_credentials(url), shown);
    }
}

#[test]
fn an_empty_line_and_one_of_any_characters_is_read() {
    assert_eq!(arguments(&[]), [""; 0]);
    for arg in ["", "-", "--", "---", "-=", "--=", "=", "://", "\u{fffd}", "-\u{e9}x", "--\u{e9}"] {
        for program in ["", "sh", "python3", "inferscope", "llama-server"] {
            assert_eq!(arguments(&[program.to_owned(), arg.to_owned(), arg.to_owned()]).len(), 3);
        }
    }
}

#[test]
fn a_header_that_is_no_secret_is_none_and_a_user_without_a_password_neither() {
    for (name, value) in [("X-Client", "inferscope"), ("X-Env", "production"), ("X-Model", "llama-3.1-8b")] {
        assert_eq!(of_header(name, value), [""; 0], "{name}");
    }
    for (name, value) in [
        ("X-Env", "sk-proj-abcd"),
        ("X-Extra", "mumble-0987654321"),
        ("X-Tenant", "550e8400-e29b-41d4-a716-446655440000"),
        ("X-Api-Key", "production"),
        ("Cookie", "a=production"),
    ] {
        assert!(of_header(name, value).contains(&value.to_owned()), "{name}");
    }
    assert_eq!(of_url("http://production@h/"), [""; 0]);
    assert_eq!(of_url("http://ghp_abcdefgh1234@h/"), ["ghp_abcdefgh1234"]);
}

#[test]
fn only_what_nobody_would_call_anything_is_masked_within_words() {
    let known = KnownSecrets::new(["production", "sk-abcdefgh1234", "12345678", "1234"].map(str::to_owned));
    assert_eq!(known.mask("production-eu reproductions"), "***-eu reproductions");
    assert_eq!(known.mask("asd_sk-abcdefgh1234x"), "asd_***x");
    // As `Basic` carries it no word is in it.
    assert_eq!(known.mask("xcHJvZHVjdGlvbgx"), "x***x");
    assert_eq!(known.mask("1234 tokens in 3123456789 ns"), "1234 tokens in 3123456789 ns");
    assert!(KnownSecrets::new(["inferscope", "profile", "observe"].map(str::to_owned)).is_empty());
}

#[test]
fn a_key_in_a_message_is_masked_and_its_words_are_not() {
    let text = "can't read the certificate 'sk-proj-abcd1234efgh': no such file";
    assert_eq!(without_keys(text), "can't read the certificate '***': no such file");
    for text in ["give a task-list in /tmp/hf_hub_download/x.json", "fw_ r8_x", ""] {
        assert_eq!(without_keys(text), text);
    }
}
