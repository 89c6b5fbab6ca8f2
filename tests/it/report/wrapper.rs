//! The pid that one is given is often a wrapper's: by whichever pid a server is found, the report is the same.

use inferscope_tests::process::Wrapped;
use inferscope_tests::report::Named;
use inferscope_tests::stats::relative_error;
use inferscope_tests::{binary, requirements};

const RSS_TOLERANCE: f64 = 0.02;
/// Of `bash`.
const WRAPPER_THREADS: f64 = 1.0;
/// Below this a target with one thread and no CPU looks like a wrapper.
const IDLE_BYTES: f64 = 10.0 * (1 << 20) as f64;

struct Row {
    target: String,
    rss_bytes: f64,
    threads: f64,
    processes: f64,
    cpu_ms: f64,
    stderr: String,
}

impl Row {
    fn measure(server: &Wrapped, target: &[&str]) -> Self {
        let endpoint = server.endpoint();
        let mut args = vec!["--endpoint", &endpoint, "--json", "--requests", "3", "--max-tokens", "32"];
        // The engine keeps what it has of each prompt: with another in each run it would grow from row to row.
        args.extend(["--prompt", "Why do the tides follow the moon?"]);
        args.extend(target);
        let ended = binary::run(&args);
        let report = ended.report();
        let peak = |name: &str| report["resources"][name].real("max");
        Self {
            target: target.join(" "),
            rss_bytes: peak("rss_bytes"),
            threads: peak("threads"),
            processes: peak("processes"),
            cpu_ms: report["processes"]["cpu"].real("total_ns") / 1e6,
            stderr: ended.stderr,
        }
    }

    fn warns(&self) -> bool {
        self.stderr.contains("wrapper")
    }
}

/// What docs/targets.md shows.
fn table(name: &str, rows: &[(&str, &Row)]) {
    requirements::say(&format!(
        "\n{name}\n\n| target | peak RSS | threads | processes | CPU | warning |\n|---|--:|--:|--:|--:|---|"
    ));
    for (shown, row) in rows {
        let warns = if row.warns() { "yes" } else { "no" };
        requirements::say(&format!(
            "| {shown} | {:.1} MiB | {} | {} | {:.0} ms | {warns} |",
            row.rss_bytes / f64::from(1 << 20),
            row.threads,
            row.processes,
            row.cpu_ms
        ));
    }
}

fn check(name: &str, server: &Wrapped) {
    let [wrapper, worker] = [server.wrapper_pid(), server.server_pid].map(|pid| pid.to_string());
    // Buffers grow with the first answers, and caches fill.
    Row::measure(server, &[]);
    let by_wrapper = Row::measure(server, &["--pid", &wrapper]);
    let by_worker = Row::measure(server, &["--pid", &worker]);
    let by_socket = Row::measure(server, &[]);
    let alone = Row::measure(server, &["--pid", &wrapper, "--no-descendants"]);
    table(
        name,
        &[
            ("`--pid WRAPPER`", &by_wrapper),
            ("`--pid WORKER`", &by_worker),
            ("no pid (found by its socket)", &by_socket),
            ("`--pid WRAPPER --no-descendants`", &alone),
        ],
    );
    let whole = [&by_wrapper, &by_worker, &by_socket];
    for (a, b) in [(0, 1), (0, 2), (1, 2)].map(|(a, b)| (whole[a], whole[b])) {
        let error = relative_error(a.rss_bytes, b.rss_bytes);
        assert!(error <= RSS_TOLERANCE, "{} and {}: peak RSS differs by {error}", a.target, b.target);
        let threads = (a.threads - b.threads).abs();
        assert!(threads <= WRAPPER_THREADS, "{} and {}: threads differ by {threads}", a.target, b.target);
    }
    for row in whole {
        assert!(row.cpu_ms > 0.0, "{}", row.target);
        assert!(!row.warns(), "{}: the tree holds the real work: {}", row.target, row.stderr);
    }
    assert!(alone.rss_bytes > 0.0 && alone.rss_bytes < IDLE_BYTES, "{}", alone.rss_bytes);
    assert_eq!((alone.threads, alone.processes), (1.0, 1.0));
    assert!(alone.warns(), "a wrapper alone must be warned of: {}", alone.stderr);
}

#[test]
fn a_real_engine_is_the_same_by_whichever_pid_it_is_found() {
    let Some(engine) = requirements::engine("a real engine behind a wrapper") else { return };
    let [server, model] = [&engine.server, &engine.model].map(|path| path.to_str().unwrap());
    let args = [server, "--model", model, "--lifetime", "300"];
    check(
        "llama.cpp, SmolLM2-135M, behind `bash -c 'server & wait'`",
        &Wrapped::start(&engine.python, &args),
    );
}
