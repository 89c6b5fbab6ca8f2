//! The reports that are recomputed: loads, servers and targets of every kind.
//!
//! Owns how each comes about. Judges none.

use std::io::Write as _;
use std::time::Duration;

use inferscope_tests::binary::{self, Ended};
use inferscope_tests::emitter::Emitter;
use inferscope_tests::gpu::Scene;
use inferscope_tests::process::Wrapped;
use inferscope_tests::script::{Step, What, after_ms, content, ending, reasoning, steady};
use inferscope_tests::timed_server::{Answer, TimedServer};
use serde_json::{Value, json};

pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn Fn() -> Result<Value, String> + Send + Sync>,
}

const LIFETIME: [&str; 2] = ["--lifetime", "60s"];
/// Of 16 tokens and 50 ms, where nothing else is asked for.
const QUICK: [&str; 6] = ["--first-token", "15ms", "--interval", "2ms", "--tokens", "16"];

/// The report of a run that ended, well or with some or all requests failed.
fn report_of(ended: &Ended) -> Result<Value, String> {
    match serde_json::from_str(&ended.stdout) {
        Ok(report) if matches!(ended.code, Some(0 | 3 | 4 | 130)) => Ok(report),
        _ => Err(format!("exit code {:?}: {}", ended.code, ended.stderr)),
    }
}

/// Against the emitter. The later of two equal flags holds.
fn emitter(name: &'static str, server: &'static str, args: &'static str) -> Run {
    let run = move || {
        let server: Vec<&str> = LIFETIME.into_iter().chain(QUICK).chain(server.split_whitespace()).collect();
        let emitter = Emitter::start(&server);
        report_of(&drive(&emitter.endpoint, args))
    };
    Run { name, run: Box::new(run) }
}

fn drive(endpoint: &str, args: &str) -> Ended {
    let tokens: &[&str] = if args.contains("--max-tokens") { &[] } else { &["--max-tokens", "16"] };
    let head = [&["--endpoint", endpoint, "--json", "--quiet"], tokens].concat();
    binary::run(&head.into_iter().chain(args.split_whitespace()).collect::<Vec<_>>())
}

/// The same with a file of these lines as the last argument.
fn with_file(name: &'static str, args: &'static str, lines: &'static [&'static str]) -> Run {
    let run = move || {
        let emitter = Emitter::start(&[&LIFETIME[..], &QUICK].concat());
        let mut file = tempfile::NamedTempFile::new().expect("there is room for temporary files");
        lines.iter().for_each(|line| writeln!(file, "{line}").expect("the file is ours"));
        let path = file.path().to_str().expect("a temporary path is text");
        report_of(&drive(&emitter.endpoint, &format!("{args} {path}")))
    };
    Run { name, run: Box::new(run) }
}

/// Against a server of this process that plays a script.
fn script(name: &'static str, steps: fn() -> Vec<Step>, args: &'static str) -> Run {
    let run = move || {
        let server = TimedServer::start(Answer::Stream(steps()));
        report_of(&drive(&server.endpoint(), args))
    };
    Run { name, run: Box::new(run) }
}

fn demo_server(more: &str) -> Wrapped {
    let args = ["demo-server", "--lifetime", "60s", "--first-token", "5ms", "--token-interval", "2ms"];
    let args: Vec<&str> = args.into_iter().chain(more.split_whitespace()).collect();
    Wrapped::start(&binary::inferscope_bin(), &args)
}

/// Against the demo's server, which forks.
fn demo(name: &'static str, server: &'static str, args: &'static str) -> Run {
    let run = move || {
        let server = demo_server(server);
        let wrapper = server.wrapper_pid().to_string();
        report_of(&drive(&server.endpoint(), &args.replace("WRAPPER", &wrapper)))
    };
    Run { name, run: Box::new(run) }
}

/// Observes the demo's server while somebody else sends.
fn observe(name: &'static str, args: &'static str) -> Run {
    let run = move || {
        let server = demo_server("--workers 2");
        let wrapper = server.wrapper_pid().to_string();
        let args = args.replace("WRAPPER", &wrapper);
        let args: Vec<&str> = ["observe", "--json", "--quiet", "--duration", "700ms"]
            .into_iter()
            .chain(args.split_whitespace())
            .collect();
        let mut running = binary::start(&args);
        running.wait_until_observing();
        for _ in 0..3 {
            let body = r#"{"model": "inferscope-demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}"#;
            let answer = inferscope_tests::client::request(server.port, "POST", "/v1/chat/completions", body);
            assert_eq!(answer.expect("it answers").status, 200);
        }
        report_of(&running.wait())
    };
    Run { name, run: Box::new(run) }
}

fn exec(name: &'static str, args: &'static [&'static str]) -> Run {
    let run = move || {
        let args: Vec<&str> = ["exec", "--json", "--quiet"].into_iter().chain(args.iter().copied()).collect();
        report_of(&binary::run(&args))
    };
    Run { name, run: Box::new(run) }
}

/// A command of `exec` that is driven.
fn exec_driven(name: &'static str) -> Run {
    let run = move || {
        let port = free_port().to_string();
        let endpoint = format!("http://127.0.0.1:{port}");
        let bin = binary::inferscope_bin();
        let mut args = vec!["exec", "--endpoint", &endpoint, "--json", "--quiet", "--requests", "6", "--"];
        args.extend([bin.to_str().expect("a path of ours is text"), "demo-server", "--port", &port]);
        args.extend(["--lifetime", "60s", "--first-token", "5ms", "--token-interval", "1ms"]);
        report_of(&binary::run(&args))
    };
    Run { name, run: Box::new(run) }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    listener.local_addr().expect("it is bound").port()
}

/// Cut off by Ctrl-C in mid-stream.
fn interrupted(name: &'static str, server: &'static str, args: &'static str) -> Run {
    let run = move || {
        let server: Vec<&str> = LIFETIME.into_iter().chain(server.split_whitespace()).collect();
        let emitter = Emitter::start(&server);
        let head = ["--endpoint", &emitter.endpoint, "--json", "--quiet"];
        let mut running = binary::start(&head.into_iter().chain(args.split_whitespace()).collect::<Vec<_>>());
        running.wait_until_observing();
        std::thread::sleep(Duration::from_millis(700));
        running.process.interrupt();
        report_of(&running.wait())
    };
    Run { name, run: Box::new(run) }
}

/// Beside the stand-in for the driver.
fn gpu(name: &'static str, scenario: fn() -> Value, steps: fn() -> Vec<Step>, args: &'static str) -> Run {
    let run = move || {
        let args: Vec<&str> =
            ["--gpu-baseline", "200ms"].into_iter().chain(args.split_whitespace()).collect();
        Ok(Scene::new(scenario()).drive(Answer::Stream(steps()), &args).report.into_document())
    };
    Run { name, run: Box::new(run) }
}

fn gpu_observed(name: &'static str) -> Run {
    Run { name, run: Box::new(|| Ok(Scene::new(one_device()).observe("600ms").into_document())) }
}

/// That many watts under load, 60 at rest.
fn device(watts: u64) -> Value {
    let power = json!([[0, 60_000], [1, watts * 1000], [300, watts * 900], [600, watts * 1100]]);
    json!({
        "name": "NVIDIA L4", "uuid": format!("GPU-{watts}"), "memory_total": 24_000_000_000_u64,
        "memory_reserved": 500_000_000, "memory_used": 2_300_000_000_u64, "sm": [[0, 40], [500, 90]],
        "memory_busy": 30, "temperature": [[0, 50], [900, 70]], "sm_clock": 1500, "max_sm_clock": 1980,
        "power_mw": power, "power_instant": true, "power_average_ms": 1000, "power_limit_mw": 400_000,
        "throttle": 4, "energy": {"start_mj": 5_000_000, "refresh_ms": 100},
        "samples": {"every_ms": 20, "keep": 120}, "utilization_ms": 166,
        "processes": [{"name": "server", "memory": 2_000_000_000_u64, "sm": 50}],
    })
}

fn one_device() -> Value {
    json!({"devices": [device(300)]})
}

/// With counters of its own, by `NVML_GPM_METRIC_…`.
fn with_counters() -> Value {
    let mut device = device(300);
    device["gpm"] = json!({"1": [[0, 80], [2000, 90]], "2": [[0, 70], [900, 75]], "3": [[0, 30]], "5": [[0, 0.01]], "10": [[0, 20], [1500, 24]]});
    json!({"devices": [device]})
}

fn two_devices() -> Value {
    json!({"devices": [device(300), device(200)]})
}

fn without_counter() -> Value {
    let mut device = device(300);
    device["energy"] = Value::Null;
    json!({"devices": [device]})
}

fn averaged() -> Value {
    let mut device = device(300);
    device["power_instant"] = json!(false);
    json!({"devices": [device]})
}

fn shared() -> Value {
    let mut device = device(300);
    device["processes"] = json!([{"name": "server", "memory": 1_000_000_000, "sm": 20}, {"pid": 1, "memory": 1_000_000_000, "sm": 30}]);
    json!({"devices": [device]})
}

fn second() -> Vec<Step> {
    steady(25, 100, 20)
}

fn long_prefill() -> Vec<Step> {
    steady(25, 600, 24)
}

/// Two answers to one request, token by token in turn.
fn two_choices() -> Vec<Step> {
    let chunk = |index: u32, text: &str| {
        let choice = json!({"index": index, "delta": {"content": text}, "finish_reason": null});
        let event = json!({"id": "timed-1", "object": "chat.completion.chunk", "created": 0, "model": "timed", "choices": [choice]});
        What::Raw(format!("data: {event}\n\n").into_bytes())
    };
    let mut steps = Vec::new();
    for n in 0..8 {
        steps.push(after_ms(if n == 0 { 20 } else { 10 }, chunk(0, " one")));
        steps.push(after_ms(1, chunk(1, " two")));
    }
    [steps, ending(Some(16))].concat()
}

/// Usage is one more than the chunks: an end token that was not sent.
fn unsent_end() -> Vec<Step> {
    let gaps = (0..10).map(|_| content(3));
    gaps.chain(ending(Some(11))).collect()
}

/// The server's total says nothing of where its tokens were.
fn of_unknown_cut() -> Vec<Step> {
    let gaps = (0..10).map(|_| content(3));
    gaps.chain(ending(Some(14))).collect()
}

fn thinks_first() -> Vec<Step> {
    let thoughts = (0..6).map(|_| reasoning(3));
    thoughts.chain((0..6).map(|_| content(4))).chain(ending(Some(12))).collect()
}

fn only_thinks() -> Vec<Step> {
    (0..6).map(|_| reasoning(3)).chain(ending(Some(6))).collect()
}

fn says_nothing() -> Vec<Step> {
    [vec![after_ms(5, What::Role)], ending(Some(0))].concat()
}

fn breaks_off() -> Vec<Step> {
    vec![content(5), content(3), after_ms(3, What::Disconnect)]
}

fn stalls_for_good() -> Vec<Step> {
    vec![content(5), content(3), after_ms(3, What::Stall)]
}

/// A proxy that lets ten tokens through at a time.
fn in_bursts() -> Vec<Step> {
    let gaps = (0..40).map(|n| content(if n % 10 == 0 { 60 } else { 0 }));
    gaps.chain(ending(Some(40))).collect()
}

fn all_at_once() -> Vec<Step> {
    let gaps = (0..20).map(|n| content(if n == 0 { 80 } else { 0 }));
    gaps.chain(ending(Some(20))).collect()
}

fn of_impossible_usage() -> Vec<Step> {
    let gaps = (0..8).map(|_| content(4));
    gaps.chain(ending(Some(1_000_000))).collect()
}

pub(crate) fn all() -> Vec<Run> {
    let mut all = loads();
    all.extend(servers());
    all.extend(targets());
    all.extend(devices());
    all
}

/// What is sent, and when.
fn loads() -> Vec<Run> {
    vec![
        emitter("one request", "", ""),
        emitter("closed, one at a time", "", "--requests 8"),
        emitter(
            "closed, four at a time",
            "",
            "--requests 24 --concurrency 4 --warmup 3 --slo ttft=100ms,itl=20ms,e2e=1s",
        ),
        emitter("closed, 32 at a time", "--interval 4ms", "--requests 64 --concurrency 32"),
        emitter("for a time", "", "--duration 600ms --concurrency 3"),
        emitter(
            "for a time, long answers",
            "--tokens 400",
            "--duration 300ms --concurrency 2 --max-tokens 200",
        ),
        emitter("one token each", "", "--requests 6 --max-tokens 1"),
        emitter("two tokens each", "", "--requests 6 --max-tokens 2 --slo tpot=10ms"),
        emitter("completions", "", "--requests 5 --api completions"),
        emitter("ramp-up, closed", "", "--ramp-up 300ms --concurrency 4 --requests 24"),
        emitter("ramp-up, open", "", "--ramp-up 300ms --rate 30 --duration 600ms"),
        emitter("open, Poisson", "", "--rate 30 --duration 900ms --warmup 2 --slo ttft=30ms"),
        emitter("open, constant", "", "--rate 25 --arrival constant --requests 15"),
        emitter(
            "open, beyond what is served",
            "--slots 1",
            "--rate 60 --duration 700ms --slo ttft=100ms,ttfo=90ms",
        ),
        emitter("open, few under way", "--slots 1", "--rate 60 --requests 20 --max-in-flight 3"),
        emitter("repeated", "", "--repeat 3 --requests 5 --warmup 1"),
        emitter(
            "repeated, four at a time",
            "--mode jitter --jitter 4ms",
            "--repeat 4 --requests 12 --concurrency 4",
        ),
        emitter("repeated, open", "", "--repeat 2 --rate 40 --duration 400ms"),
        emitter("a sweep", "", "--sweep concurrency=1,2,4 --requests 8 --sweep-all --slo itl=30ms"),
        emitter(
            "a sweep that saturates",
            "--slots 2",
            "--sweep concurrency=1,2,4,8 --requests 10 --warmup 1",
        ),
        emitter("a sweep of rates", "", "--sweep rate=10,40 --duration 500ms"),
        emitter("a sweep, repeated", "", "--sweep concurrency=1,3 --requests 6 --repeat 2"),
        with_file("prompts in lines", "--requests 6 --prompt-file", &["why", "what is it", "how so"]),
        with_file(
            "a data set",
            "--concurrency 2 --dataset",
            &[
                r#"{"prompt": "why is the sky blue", "max_tokens": 5}"#,
                r#"{"messages": [{"role": "user", "content": "hello"}]}"#,
                r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}"#,
            ],
        ),
        with_file(
            "a trace",
            "--dataset",
            &[
                r#"{"timestamp": 0, "input_length": 5, "output_length": 4}"#,
                r#"{"timestamp": 100, "input_length": 9, "output_length": 8}"#,
                r#"{"timestamp": 120, "input_length": 2, "output_length": 3}"#,
                r#"{"timestamp": 400, "input_length": 2, "output_length": 12}"#,
            ],
        ),
        emitter("made prompts", "", "--input-tokens 40 --shared-prefix 10 --requests 6 --concurrency 2"),
        interrupted(
            "interrupted",
            "--tokens 400 --interval 10ms",
            "--concurrency 3 --requests 30 --max-tokens 60",
        ),
        interrupted(
            "interrupted, open",
            "--tokens 400 --interval 10ms",
            "--rate 20 --duration 20s --max-tokens 30",
        ),
    ]
}

/// How it is answered.
fn servers() -> Vec<Run> {
    vec![
        emitter("jitter", "--mode jitter --jitter 6ms", "--requests 10 --concurrency 2 --slo itl=6ms"),
        emitter("several tokens a chunk", "--mode chunks", "--requests 6"),
        emitter(
            "several tokens a chunk, each told",
            "--mode chunks --usage continuous",
            "--requests 6 --slo tpot=3ms",
        ),
        emitter("several tokens a chunk, none told", "--mode chunks --usage none", "--requests 6"),
        emitter("tokens told one by one", "--usage continuous", "--requests 6"),
        emitter("no usage", "--usage none", "--requests 8 --concurrency 2"),
        emitter("a role first", "--mode role-first", "--requests 6"),
        emitter("reasoning first", "--mode reasoning-first", "--requests 6 --slo ttfo=25ms"),
        emitter("reasoning first, no usage", "--mode reasoning-first --usage none", "--requests 6"),
        emitter("a slow start", "--mode slow-start", "--requests 5"),
        emitter(
            "stalls",
            "--mode stalls --stall-every 5 --stall 40ms",
            "--requests 8 --concurrency 2 --slo itl=20ms,ttft=1s",
        ),
        emitter("errors in mid-stream", "--mode stream-error", "--requests 4 --concurrency 2"),
        emitter("broken connections", "--mode disconnect", "--requests 4"),
        emitter(
            "garbage now and then",
            "--mode garbage:all",
            "--requests 20 --timeout 500ms --concurrency 4",
        ),
        emitter("garbage, open", "--mode garbage:all", "--rate 30 --duration 700ms --timeout 300ms"),
        script(
            "two answers to a request",
            two_choices,
            "--requests 4 --extra-body {\"n\":2} --slo itl=5ms,tpot=15ms",
        ),
        script("an end token that is not sent", unsent_end, "--requests 4"),
        script("tokens of unknown place", of_unknown_cut, "--requests 4 --slo tpot=2ms"),
        script("in bursts", in_bursts, "--requests 4 --max-tokens 40 --slo itl=70ms,tpot=10ms"),
        script("all at once", all_at_once, "--requests 4 --max-tokens 20"),
        script("usage that can't be true", of_impossible_usage, "--requests 4 --concurrency 2"),
        script("thoughts, then words", thinks_first, "--requests 4 --concurrency 2"),
        script("thoughts alone", only_thinks, "--requests 3 --slo ttfo=1s"),
        script("nothing said", says_nothing, "--requests 3"),
        script("breaks off", breaks_off, "--requests 4 --concurrency 2"),
        script("stalls for good", stalls_for_good, "--requests 3 --concurrency 3 --timeout 300ms"),
    ]
}

/// Whose processes.
fn targets() -> Vec<Run> {
    vec![
        demo(
            "the demo's server",
            "--workers 2 --max-requests 4",
            "--requests 12 --concurrency 2 --pid WRAPPER",
        ),
        demo("the demo's server, polled", "--workers 2", "--requests 8 --pid WRAPPER --tracker proc"),
        demo("the wrapper alone", "--workers 1", "--requests 4 --pid WRAPPER --no-descendants"),
        demo("found by its socket", "--workers 2", "--rate 15 --duration 800ms --slo ttft=20ms,e2e=100ms"),
        demo("long enough for CPU a token", "--workers 2", "--duration 1500ms --concurrency 2 --pid WRAPPER"),
        observe("observed", "--pid WRAPPER"),
        observe("observed, polled", "--pid WRAPPER --tracker proc"),
        observe("observed alone", "--pid WRAPPER --no-descendants"),
        exec(
            "a command with children",
            &[
                "--",
                "bash",
                "-c",
                "for i in 1 2 3 4 5; do (head -c 2000000 /dev/zero | wc -c >&2); sleep 0.05; done",
            ],
        ),
        exec("a command that fails", &["--", "bash", "-c", "sleep 0.1; exit 3"]),
        exec_driven("a server that exec starts"),
    ]
}

/// With the stand-in for NVIDIA's driver.
fn devices() -> Vec<Run> {
    vec![
        gpu("a device", one_device, second, "--requests 2 --price-per-hour 2.5"),
        gpu("two devices", two_devices, second, "--requests 3 --concurrency 2"),
        gpu("counters of its own", with_counters, second, "--requests 3"),
        gpu("no energy counter", without_counter, second, "--requests 2"),
        gpu("averaged power", averaged, second, "--requests 2"),
        gpu("a device that is shared", shared, second, "--requests 2"),
        gpu("prefill and decode", one_device, long_prefill, "--requests 2 --sample-interval 20ms"),
        gpu("a sweep on a device", one_device, second, "--sweep concurrency=1,2 --requests 2 --sweep-all"),
        gpu("repeated on a device", one_device, second, "--repeat 2 --requests 1"),
        gpu_observed("a device that is observed"),
    ]
}
