use super::layout::WIDTH;
use super::{Style, to_text};
use crate::analysis::fixture::{Fixture, demo, engine, everything_failed, no_target};
use crate::report::model::Report;

const MS: u64 = 1_000_000;

fn plain(report: &Report) -> String {
    to_text(report, Style::Plain)
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_demo_run() {
    let report = demo().report();
    let timing = report.timing.as_ref().unwrap();
    assert_eq!((timing.output_tokens, timing.window_ns), (Some(480), Some(5_931 * MS)));
    assert_eq!((timing.ttft_ns.count, timing.ttft_ns.p50), (12, Some(40 * MS)));
    assert_eq!((timing.inter_token_ns.count, timing.inter_token_ns.max), (12 * 39, Some(10 * MS)));
    assert_eq!(timing.decode_tokens_per_s, Some(100.0));
    let counts = report.processes.counts.as_ref().unwrap();
    assert_eq!((counts.seen, counts.short_lived), (18, 12));
    // 145 ms by the lasting ones, 72 ms by the helpers.
    assert_eq!(report.processes.cpu.total_ns, Some(217 * MS));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "SYNTHETIC TOKENS",
            "80.9 (480 tokens by the server's usage, in 480 chunks, over 5.93 s)",
            "12 ok, 0 failed, 2.02 a second; 1 warm-up left out",
            "12 ×  helper   helper      72.0 ms  33.2%  ≤40.0 MiB",
            "71.0 MiB, summed: pages that forked processes share",
            "33% of the CPU time went to 12 processes too short-lived for any sample",
            "pid 42 (bash) is a wrapper: the work is in its children",
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn an_engine_run() {
    let report = engine().report();
    let timing = report.timing.as_ref().unwrap();
    assert_eq!((timing.output_tokens, timing.token_chunks), (Some(4 * 31), 4 * 30));
    assert_eq!((timing.ttft_ns.max, timing.ttfo_ns.max), (Some(350 * MS), Some(500 * MS)));
    assert_eq!((timing.inter_token_ns.count, timing.tpot_ns.max), (4 * 29, Some(15 * MS)));
    assert_eq!(report.resources.rss_bytes.max, Some(310.0 * 1024.0 * 1024.0));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "124 tokens by the server's usage, in 120 chunks",
            "4 ok, 1 failed",
            "1 of 5 requests failed",
            "1 × timed out",
            "no answer within 5s",
            "eBPF, complete",
            "peak RSS            310 MiB\n",
            "inter-token = inter-chunk    116  15.0 ms",
            "8.50 s (8.20 s user, 300 ms system",
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_run_in_which_everything_failed() {
    let report = everything_failed().report();
    assert_eq!(report.load.as_ref().map(|l| (l.requests_ok, l.requests_failed)), Some((0, 5)));
    assert_eq!(report.processes.list.len(), 503);
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "output tokens/s     unknown: no measured request succeeded",
            "no latencies: no measured request succeeded",
            "INVALID  none of the 5 measured requests succeeded",
            "2 × HTTP 503",
            "/proc polling, INCOMPLETE: no permission to load eBPF (CAP_BPF)",
            "500 ×  helper  sh         1.50 s  64.7%  ≤10.0 MiB",
        ],
    );
    // 500 helpers are one line, and the server's escape code is gone.
    assert!(text.lines().count() < 50 && !text.contains('\x1b'));
    insta::assert_snapshot!(text);
}

#[test]
fn a_run_without_a_target() {
    let report = no_target().report();
    let timing = report.timing.as_ref().unwrap();
    assert_eq!((timing.output_tokens, timing.token_chunks), (Some(192), 30));
    assert_eq!((timing.inter_chunk_ns.count, timing.inter_token_ns.count), (27, 0));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "192 tokens by the server's usage, in 30 chunks",
            "target              none: the endpoint is not on this machine",
            "CPU, memory         unknown: the endpoint is not on this machine",
            "– inter-token: the server's total differs from the chunks with text",
            "asked for model 'smollm2', answered as 'smollm2-instruct'",
        ],
    );
    assert!(!text.contains("RSS"));
    insta::assert_snapshot!(text);
}

fn all() -> [Fixture; 4] {
    [demo(), engine(), everything_failed(), no_target()]
}

#[test]
fn no_line_is_wider_than_the_page_or_ends_in_space() {
    for f in all() {
        for line in plain(&f.report()).lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }
}

#[test]
fn colour_changes_nothing_but_colour_and_the_text_is_the_same_every_time() {
    for f in all() {
        let colored = to_text(&f.report(), Style::Color);
        assert!(colored.contains("\x1b["));
        let mut stripped = String::new();
        for (i, part) in colored.split('\x1b').enumerate() {
            stripped.push_str(if i == 0 { part } else { part.split_once('m').unwrap().1 });
        }
        assert_eq!(stripped, plain(&f.report()));
    }
}

#[test]
fn a_figure_that_is_unknown_never_prints_as_zero() {
    let mut report = engine().report();
    report.processes.list[0].cpu_user_ns = None;
    report.processes.list[0].max_rss_bytes = None;
    report.processes.list[0].peak_threads = None;
    report.processes.cpu.total_ns = None;
    report.own.cpu_ns = None;
    report.own.bpf_run_ns = None;
    report.own.bpf_reason = Some("statistics are off".into());
    let text = plain(&report);
    let row = text.lines().find(|l| l.contains("llama-server")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["42", "root", "llama-server", "–", "–", "–", "–", "before", "alive"]);
    assert_has(
        &text,
        &["CPU                 unknown", "unknown of CPU, 12.0 MiB", "unknown: statistics are off"],
    );
}

#[test]
fn a_folded_sum_says_when_parts_of_it_are_unknown() {
    let mut report = demo().report();
    let helpers = |r: &mut Report, n: usize| {
        let unknown = r.processes.list.iter_mut().filter(|p| p.comm == "helper").take(n);
        unknown.for_each(|p| p.cpu_user_ns = None);
    };
    helpers(&mut report, 2);
    assert_has(&plain(&report), &["12 ×  helper   helper      ≥60.0 ms      –  ≤40.0 MiB"]);
    helpers(&mut report, 12);
    assert_has(&plain(&report), &["12 ×  helper   helper            –      –  ≤40.0 MiB"]);
}

#[test]
fn assumed_tokens_are_called_assumed_in_the_first_line() {
    let mut f = engine();
    for r in &mut f.load.as_mut().unwrap().requests {
        r.usage = None;
    }
    let text = plain(&f.report());
    assert_has(&text, &["120 tokens ASSUMED from 120 chunks", "inter-token (1 a chunk assumed)"]);
}

#[test]
fn an_observation_alone_says_that_nothing_was_sent() {
    let f = Fixture { load: None, ..engine() };
    let text = plain(&f.report());
    assert_has(&text, &["nothing was sent; observed for 10.0 s", "Server processes"]);
    assert!(!text.contains("tokens/s"));
}

#[test]
fn more_processes_than_the_table_holds_are_folded_by_command() {
    let mut report = demo().report();
    let worker = report.processes.list.iter().find(|p| p.pid == 46).unwrap().clone();
    for n in 0..30 {
        report.processes.list.push(crate::report::model::Process { pid: 900 + n, ..worker.clone() });
    }
    let text = plain(&report);
    // Of 34 workers 8 have a line of their own; one process alone needs no folding.
    assert_has(&text, &["26 ×  worker   inferscope   940 ms", "    42  wrapper  bash           0 ns"]);
    assert_eq!(text.lines().filter(|l| l.contains("inferscope") && l.contains("worker")).count(), 9);
}
