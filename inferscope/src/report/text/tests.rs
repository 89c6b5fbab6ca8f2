mod loads;

use super::layout::WIDTH;
use super::{Style, to_text};
use crate::event::ExitStatus;
use crate::fixture::{
    Fixture, cgroup, client_late, demo, engine, everything_failed, gpus, losses, no_target, oom, open_loop,
    recycled, repeated, sweep, sweep_of_dashes,
};
use crate::report::model::{Mode, Process, Report, Role};
use crate::secrets::KnownSecrets;

const MS: u64 = 1_000_000;

fn plain(report: &Report) -> String {
    to_text(report, Style::Plain, &KnownSecrets::none())
}

/// As it stands, or over the end of a line.
fn assert_has(text: &str, parts: &[&str]) {
    let in_one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(text.contains(part) || in_one_line.contains(part), "{part:?} is not in\n{text}");
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
    assert_eq!((counts.seen, counts.short_lived), (18, Some(12)));
    // 145 ms by the lasting ones, 72 ms by the helpers.
    assert_eq!(report.processes.cpu.total_ns, Some(217 * MS));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "SYNTHETIC TOKENS",
            "80.9 (480 tokens by the server's usage, in 480 chunks, over 5.93 s)",
            "12 ok, 0 failed, 2.02 a second; 1 warm-up left out",
            "12 ×  helper           helper      72.0 ms  33.2%  ≤40.0 MiB",
            "45  worker #1 gen 0  inferscope  43.0 ms  19.8%   14.0 MiB        1   before  SIGKILL",
            "46  worker #0 gen 1  inferscope  37.0 ms",
            "≥71.0 MiB, the most that a sample saw, summed: pages that forked processes share",
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
    assert_eq!(report.resources.rss_bytes.max, Some(310 << 20));
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
            "peak RSS            310 MiB since the start of pid 42\n",
            "inter-token and -chunk     116  15.0 ms",
            "TPOT (a request's mean)      4  15.0 ms",
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
            "500 ×  helper   sh         1.50 s  64.7%  ≤10.0 MiB",
        ],
    );
    // 500 helpers are one line, and the server's escape code is gone.
    assert!(text.lines().count() < 60 && !text.contains('\x1b'));
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

#[test]
fn a_run_with_recycled_workers() {
    let report = recycled().report();
    let of_slot = |slot| report.processes.list.iter().filter(move |p| p.slot == Some(slot));
    for slot in 0..4 {
        assert!(of_slot(slot).map(|p| p.generation).eq([Some(0), Some(1), Some(2)]), "{slot}");
        assert!(of_slot(slot).all(|p| (p.pid % 10, p.role) == (slot, Role::Worker)), "{slot}");
    }
    let helpers = &report.processes.commands[1];
    assert_eq!((helpers.comm.as_str(), helpers.exe.as_deref()), ("convert", Some("convert")));
    assert_eq!((helpers.count, helpers.short_lived, helpers.cpu_ns), (240, Some(228), Some(960 * MS)));
    let (rss, pss) = (report.resources.rss_bytes.max.unwrap(), report.resources.pss_bytes.max.unwrap());
    assert!(pss < rss && report.resources.pss_bytes.count == 4);
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "nothing was sent; observed for 10.0 s",
            // 3 × 330 ms of user time, 50 + 51 + 52 ms of system time.
            "3 ×  worker #3 gen 0–2  gunicorn   1.14 s",
            "240 ×  helper             convert    960 ms",
            "workers were replaced 8 times in 4 slots",
            "pages divided among those that share them (read in 4 of 19 samples)",
        ],
    );
    // Nothing but lower bounds.
    assert!(!text.contains("size memory by"));
    assert!(!text.contains("a token") && !text.contains("cgroup"));
    insta::assert_snapshot!(text);
}

#[test]
fn a_run_of_a_cgroup_beside_the_kernels_own_account() {
    let report = cgroup().report();
    let cpu = &report.processes.cpu;
    assert_eq!((cpu.total_ns, cpu.cgroup_ns), (Some(1_988 * MS), Some(2_000 * MS)));
    assert!((cpu.reconciliation_error_pct.unwrap() + 0.6).abs() < 1e-9);
    // 101 × 1.6 µs + 1,200 × 7 µs.
    assert_eq!(cpu.cgroup_overhead_ns, Some(8_561_600));
    assert!(report.processes.list.iter().all(|p| p.cgroup.as_deref() == Some("/srv/llm")));
    let roles: Vec<Role> = report.processes.list.iter().map(|p| p.role).collect();
    let (wrapper, worker) = (Role::Wrapper, Role::Worker);
    assert_eq!(roles[..5], [wrapper, wrapper, Role::Arbiter, worker, worker]);
    assert!(roles[5..].iter().all(|r| *r == Role::Helper));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "every process in cgroup /srv/llm and below (--cgroup)",
            "against the cgroup  1.988 s by the set, 2.000 s by cpu.stat: 0.6% apart",
            "up to 8.56 ms here)",
            "5 at the start + 100 forked + 1 moved in",
            "cgroup's peak       640 MiB by memory.peak",
            "cgroup was made: the number to size memory by",
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_run_with_losses() {
    let report = losses().report();
    let (counts, cpu) = (report.processes.counts.as_ref().unwrap(), &report.processes.cpu);
    let lost = counts.lost.as_ref().unwrap();
    assert_eq!((lost.ring_full, lost.unlisted_processes, counts.lost_events), (37, 300, Some(37)));
    // 1 s by the server, 2 ms by each of 400 listed helpers, 640 ms by the others.
    assert_eq!((cpu.total_ns, cpu.unlisted_ns), (Some(2_440 * MS), Some(640 * MS)));
    assert!(!report.processes.complete);
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "eBPF, INCOMPLETE",
            "640 ms of CPU are in no line; raise --ring-size (now 512K)",
            "raise --max-processes",
            "it was stretched to 200 ms",
            "(in no line)  640 ms  26.2%",
            "37 records lost, 0 unreadable; 300 not listed",
            "peak PSS            unknown: a look at smaps_rollup took longer than an interval",
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_run_with_an_oom_kill() {
    let report = oom().report();
    let killed: Vec<u32> = report
        .processes
        .list
        .iter()
        .filter(|p| p.exit.as_ref().unwrap().oom == Some(true))
        .map(|p| p.pid)
        .collect();
    assert_eq!(killed, [43]);
    assert_eq!(report.target.exit.as_ref().unwrap().code, Some(3));
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "the command, pid 42 with all descendants in cgroup /inferscope-42 (started by exec): exit 3",
            "the kernel's OOM killer chose pid 43 (gunicorn)",
            "+400 ms  OOM kill",
            "SIGSEGV, core",
            "SIGTERM",
            "the kernel's OOM killer ended pid 43 (gunicorn)",
            "1.770 s by the set, 1.771 s by cpu.stat: 0.1% apart",
        ],
    );
    // That the command ended is no reason for doubt.
    assert!(!text.contains("target_ended"));
    insta::assert_snapshot!(text);
}

fn all() -> [Report; 13] {
    let fixtures =
        [demo(), engine(), everything_failed(), no_target(), recycled(), cgroup(), losses(), oom()];
    let [a, b, c, d, e, f, g, h] = fixtures.map(|f| f.report());
    [a, b, c, d, e, f, g, h, client_late(), open_loop(), repeated(), sweep(), sweep_of_dashes()]
}

#[test]
fn no_line_is_wider_than_the_page_or_ends_in_space() {
    for f in all() {
        for line in plain(&f).lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }
}

#[test]
fn colour_changes_nothing_but_colour_and_the_text_is_the_same_every_time() {
    for f in all() {
        let colored = to_text(&f, Style::Color, &KnownSecrets::none());
        assert!(colored.contains("\x1b["));
        let mut stripped = String::new();
        for (i, part) in colored.split('\x1b').enumerate() {
            stripped.push_str(if i == 0 { part } else { part.split_once('m').unwrap().1 });
        }
        assert_eq!(stripped, plain(&f));
    }
}

#[test]
fn a_figure_that_is_unknown_never_prints_as_zero() {
    let mut report = engine().report();
    report.processes.list[0].pid = 0;
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
    assert_eq!(cells, ["–", "root", "llama-server", "–", "–", "–", "–", "before", "alive"]);
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
    assert_has(&plain(&report), &["12 ×  helper           helper      ≥60.0 ms      –  ≤40.0 MiB"]);
    helpers(&mut report, 12);
    assert_has(&plain(&report), &["12 ×  helper           helper            –      –  ≤40.0 MiB"]);
}

#[test]
fn assumed_tokens_are_called_assumed_in_the_first_line() {
    let mut f = engine();
    for r in &mut f.load.as_mut().unwrap().requests {
        r.usage = None;
    }
    let text = plain(&f.report());
    assert_has(&text, &["120 tokens ASSUMED from 120 chunks", "inter-token (assumed)"]);
}

#[test]
fn an_observation_alone_says_that_nothing_was_sent() {
    let f = Fixture { load: None, ..engine() };
    let text = plain(&f.report());
    assert_has(&text, &["nothing was sent; observed for 10.0 s", "Server processes"]);
    assert!(!text.contains("tokens/s"));
}

#[test]
fn the_end_of_a_command_is_in_the_targets_line() {
    let mut f = Fixture { load: None, mode: Mode::Exec, ..engine() };
    let line = |f: &Fixture| {
        let text = plain(&f.report());
        let words = text.split_once("target ").unwrap().1.split_once("\n  tracker ").unwrap().0;
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let unknown = ": its end is unknown, neither the command's parent nor the tracker could tell";
    assert!(line(&f).ends_with(unknown), "{}", line(&f));
    for (status, said) in [(0, ": exit 0"), (0x700, ": exit 7"), (15, ": SIGTERM"), (0x8b, ": SIGSEGV, core")]
    {
        f.target.exit = Some(ExitStatus::from_wait_status(status));
        assert!(line(&f).ends_with(said), "{}", line(&f));
    }
}

#[test]
fn more_processes_than_the_table_holds_are_folded_by_command() {
    let mut report = demo().report();
    let worker = report.processes.list.iter().find(|p| p.pid == 46).unwrap().clone();
    for n in 0..30 {
        report.processes.list.push(Process { pid: 900 + n, slot: None, generation: None, ..worker.clone() });
    }
    for p in &mut report.processes.list {
        (p.slot, p.generation) = (None, None);
    }
    let text = plain(&report);
    // Of 34 workers 8 have a line of their own; one process alone needs no folding.
    assert_has(&text, &["26 ×  worker   inferscope   940 ms", "    42  wrapper  bash           0 ns"]);
    assert_eq!(text.lines().filter(|l| l.contains("inferscope") && l.contains("worker")).count(), 9);
}

#[test]
fn a_run_on_two_devices_of_four() {
    let report = gpus().report();
    let summary = report.gpu_summary.as_ref().unwrap();
    assert_eq!((&summary.devices[..], summary.target_memory_bytes), (&[0, 1][..], Some(60 << 30)));
    // 100 W by the counter, 200 W by the power, for 2 s and 100 tokens.
    let joules = report.efficiency.joules_per_token.unwrap();
    assert!((joules - 6.0).abs() <= report.efficiency.joules_per_token_error.unwrap(), "{joules}");
    let text = plain(&report);
    assert_has(
        &text,
        &[
            "31.0 GiB at most of 80.0 GiB (39%); 30.0 GiB the target's; 64.0 MiB of other processes; 960 MiB of no listed process",
            "40% of the time on average, 40% at most",
            "100 W on average of 400 W (25%), 100 W at most; 100 W at rest before it",
            "clocks held back sw power cap 100% of the time",
            " J from its power",
            "not used            2 devices: 2 NVIDIA L4, 3 NVIDIA L4",
            "2 devices, 300 W on average",
            "60.0 GiB of memory the target's",
            "CUDA_VISIBLE_DEVICES=0,1 in the environment of pid 42",
            "device 3 was lost 0.70 s into the run",
            "for a million tokens at this load and the prices given",
            "limited by unknown (kernels ran 40% of the time; the target's devices may wait for each other)",
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn a_tokens_cpu_is_told_with_its_error_and_the_part_at_rest_where_they_matter() {
    let mut report = engine().report();
    let text = |report: &Report, error: f64, at_rest: Option<f64>| {
        let mut report = report.clone();
        let e = &mut report.efficiency;
        (e.cpu_ns_per_token, e.cpu_ns_per_request) = (Some(60e6), Some(1_860e6));
        (e.cpu_ns_per_token_error, e.cpu_idle_ns_per_token) = (Some(error), at_rest);
        plain(&report)
    };
    assert_has(&text(&report, 0.5e6, Some(2.9e6)), &["60.0 ms, 1.86 s a request, over the load's window\n"]);
    assert_has(
        &text(&report, 0.7e6, Some(3e6)),
        &[
            "60.0 ms ± 700 µs, 1.86 s a request, over the load's window",
            "; 3.00 ms of a token's (5.00%) is what the set used at rest before the load",
        ],
    );
    report.processes.cpu.error_ns = Some(u64::MAX / 2);
    assert_has(&text(&report, 0.0, None), &["s ± "]);
}
