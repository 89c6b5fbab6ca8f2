//! The process set.
//!
//! Owns the counts, the CPU time and the folding by command, from `processes.list[]` and `processes.events[]`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::book::{Book, Figure};

pub(super) fn check(book: &mut Book<'_>) {
    let list = book.at("/processes/list").as_array().map_or(&[][..], Vec::as_slice);
    if list.is_empty() {
        return;
    }
    check_counts(book, list);
    check_cpu(book, list);
    check_commands(book, list);
}

fn cpu(process: &Value) -> Option<u64> {
    Some(process["cpu_user_ns"].as_u64()? + process["cpu_system_ns"].as_u64()?)
}

fn check_counts(book: &mut Book<'_>, list: &[Value]) {
    let count = |book: &Book<'_>, name: &str| book.whole(&format!("/processes/counts/{name}"));
    let seen = ["alive_at_start", "forks", "moved_in"].map(|name| count(book, name).unwrap_or(0));
    let seen = Figure::Whole(seen.iter().sum());
    book.is("/processes/counts/seen", seen, "alive at start + forks + moved in");
    if count(book, "lost/unlisted_processes") != Some(0) || book.at("/processes/complete") != true {
        return;
    }
    let listed = Figure::Whole(list.len() as u64);
    book.is("/processes/counts/seen", listed, "every process that was seen is listed");
    let ended = list.iter().filter(|process| process["exited_ns"].is_u64()).count();
    book.is("/processes/counts/exits", Figure::Whole(ended as u64), "thread groups that ended");
    let unseen = list.iter().filter(|process| process["sampled"] == false).count();
    let path = "/processes/counts/short_lived";
    let reason = "/processes/counts/short_lived_reason";
    book.is_unless(
        path,
        reason,
        Figure::Whole(unseen as u64),
        "listed processes that no /proc sample caught",
    );
    let parts = ["lost/ring_full", "lost/unmarked", "lost/undecodable"].map(|name| count(book, name));
    let lost: Option<u64> = parts.into_iter().sum();
    book.is("/processes/counts/lost_events", Figure::whole(lost), "ring_full + unmarked + undecodable");
    if book.at("/processes/tracker") == "ebpf" && count(book, "lost/unlisted_events") == Some(0) {
        check_events(book);
    }
}

fn check_events(book: &mut Book<'_>) {
    const DEFINITION: &str = "by the listed events";
    let events = book.at("/processes/events").as_array().map_or(&[][..], Vec::as_slice);
    let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count() as u64;
    for (name, kind) in [
        ("forks", "fork"),
        ("execs", "exec"),
        ("exits", "exit"),
        ("moved_in", "migrate_in"),
        ("moved_out", "migrate_out"),
    ] {
        book.is(&format!("/processes/counts/{name}"), Figure::Whole(of(kind)), DEFINITION);
    }
    let begun = book.whole("/processes/counts/alive_at_start").unwrap_or(0) as i64;
    let strict = events.iter().any(|event| event["kind"] == "migrate_out");
    let (mut now, mut peak) = (begun, begun);
    for event in events {
        now += match event["kind"].as_str() {
            Some("fork" | "migrate_in") => 1,
            Some("exit") => -1,
            _ => 0,
        };
        peak = peak.max(now);
    }
    if !strict {
        book.is("/processes/counts/peak_alive", Figure::Whole(peak.unsigned_abs()), "most alive at a time");
    }
}

fn check_cpu(book: &mut Book<'_>, list: &[Value]) {
    const DEFINITION: &str =
        "CPU of the set within the run's window: that of the listed, and what no line shows";
    let field = |book: &Book<'_>, name: &str| book.whole(&format!("/processes/cpu/{name}"));
    let sum = |a: Option<u64>, b: Option<u64>| Figure::whole(a.zip(b).map(|(a, b)| a + b));
    let total = sum(field(book, "user_ns"), field(book, "system_ns"));
    book.is("/processes/cpu/total_ns", total, "user and system");
    let total = sum(field(book, "exited_ns"), field(book, "live_ns"));
    book.is("/processes/cpu/total_ns", total, "of processes that ended, and of those alive at the end");
    let unlisted = field(book, "unlisted_ns").unwrap_or(0);
    let all: Option<Vec<u64>> = list.iter().map(cpu).collect();
    if let Some(all) = all {
        let total = all.iter().sum::<u64>() + unlisted;
        book.is("/processes/cpu/total_ns", Figure::Whole(total), DEFINITION);
        let part = |name: &str| list.iter().map(|process| process[name].as_u64()).sum::<Option<u64>>();
        if unlisted == 0 {
            book.is("/processes/cpu/user_ns", Figure::whole(part("cpu_user_ns")), DEFINITION);
            book.is("/processes/cpu/system_ns", Figure::whole(part("cpu_system_ns")), DEFINITION);
            let ended = list.iter().filter(|process| process["exited_ns"].is_u64());
            let ended: u64 = ended.filter_map(cpu).sum();
            book.is("/processes/cpu/exited_ns", Figure::Whole(ended), "of processes that ended");
        }
    }
    let (total, cgroup) = (book.number("/processes/cpu/total_ns"), book.number("/processes/cpu/cgroup_ns"));
    if let Some((total, cgroup)) = total.zip(cgroup).filter(|(_, cgroup)| *cgroup > 0.0) {
        let error = Figure::real((total - cgroup) / cgroup * 100.0);
        let path = "/processes/cpu/reconciliation_error_pct";
        let reason = "/processes/cpu/reconciliation_reason";
        book.is_unless(path, reason, error, "total_ns less cgroup_ns, in percent of the latter");
    }
}

/// Of one role and command.
#[derive(Debug, Default)]
struct Fold {
    count: u64,
    short_lived: u64,
    cpu: u64,
    unknown: bool,
    max_rss: Option<u64>,
    /// Of each, if that is known.
    at_most: Vec<Option<u64>>,
}

fn check_commands(book: &mut Book<'_>, list: &[Value]) {
    const DEFINITION: &str = "listed processes of one role and command";
    let mut folds: BTreeMap<(String, String), Fold> = BTreeMap::new();
    for process in list {
        let key = (process["role"].to_string(), process["comm"].to_string());
        let fold = folds.entry(key).or_default();
        fold.count += 1;
        fold.short_lived += u64::from(process["sampled"] == false);
        fold.cpu += cpu(process).unwrap_or(0);
        fold.unknown |= cpu(process).is_none();
        fold.max_rss = fold.max_rss.max(process["max_rss_bytes"].as_u64());
        let is_peak = process["max_rss_at_least"] != true;
        let peak = process["max_rss_bytes"].as_u64().filter(|_| is_peak);
        fold.at_most.push(process["max_rss_at_most_bytes"].as_u64().or(peak));
    }
    let commands = book.at("/processes/commands").as_array().map_or(&[][..], Vec::as_slice);
    let same = commands.len() == folds.len();
    book.holds("/processes/commands", same, &format!("{} commands", folds.len()), DEFINITION);
    let by_kernel = book.at("/processes/tracker") == "ebpf";
    let none = Fold::default();
    for (n, command) in commands.iter().enumerate() {
        let fold = folds.get(&(command["role"].to_string(), command["comm"].to_string())).unwrap_or(&none);
        let field = |name: &str| format!("/processes/commands/{n}/{name}");
        book.is(&field("count"), Figure::Whole(fold.count), DEFINITION);
        // Polling has no list of those.
        let short = if by_kernel { Figure::Whole(fold.short_lived) } else { Figure::Unknown };
        book.is(&field("short_lived"), short, DEFINITION);
        book.is(&field("cpu_at_least_ns"), Figure::Whole(fold.cpu), "the sum of those that are known");
        let cpu = if fold.unknown { Figure::Unknown } else { Figure::Whole(fold.cpu) };
        book.is(&field("cpu_ns"), cpu, "null where that of any of them is unknown");
        book.is(&field("max_rss_bytes"), Figure::whole(fold.max_rss), "the largest of one process");
        let at_most: Option<Vec<u64>> = fold.at_most.iter().copied().collect();
        let at_most = at_most.and_then(|all| all.into_iter().max());
        book.is(&field("max_rss_at_most_bytes"), Figure::whole(at_most), "no process of them was larger");
    }
}
