//! `docs/kernels.md`: the table of kernels and checks.
//!
//! Owns the page. A row of a kernel that did not run stays. Called by `vm.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Row;
use super::judge::{Outcome, checks};
use super::kernels::{ALL, numbers};

const BEFORE: &str = "\
# Kernels

What `cargo xtask vm --write` found: Debian's kernels under QEMU (emulated, 2 CPUs, a pure cgroup-v2 host), one run each. A storm of
forks, vforks, spawns, execs (failing, twice, by a thread that is not the leader), threads, daemons, kills and zombies
has a truth, which the kernel told the parents by wait4(2).

- **doctor**: says that the tracker loads, or that it can't be had.
- **tree**, **cgroup**, **exec**, **pidns**: the storm as a process tree, in a cgroup (born and cloned into), as exec's command, in a pid
  namespace of its own together with inferscope. Forks, execs, exits, threads and listed processes are equal to the truth, the report is
  complete, the children's CPU is within 0.3% + 5 µs a process (the figure is what it was off by).
- **proc**: `--tracker proc` says that it is incomplete and tells of no more than there was.
- **oom**: the OOM killer's victim. **nobody**: without privileges, `/proc` by itself and exit code 5 for `--tracker ebpf`.
  **demo**: a load with its server. **self**: the program's own figures and the host's. **log**: the kernel complains of nothing.
- *fallback*: the kernel lacks what the tracker needs; the report is `/proc`'s, says why, and is never complete.

";

/// Replaces the rows of these kernels.
pub(super) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let existing = fs::read_to_string(path).unwrap_or_default();
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, page(&existing, rows)).with_context(|| format!("cannot write {}", path.display()))
}

fn page(existing: &str, rows: &[Row]) -> String {
    let checks: Vec<&str> = checks().collect();
    let head =
        format!("| kernel | version | {} |\n|---|---{}|\n", checks.join(" | "), "|---".repeat(checks.len()));
    let mut lines: BTreeMap<(usize, Vec<u32>, String), String> = BTreeMap::new();
    let old = existing.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| kernel"));
    for line in old {
        if let Some(kernel) = line.split('|').nth(1) {
            lines.insert(order(kernel.trim()), line.to_owned());
        }
    }
    for row in rows {
        lines.insert(order(&row.kernel), shown(row));
    }
    let lines: String = lines.values().map(|line| format!("{line}\n")).collect();
    format!("{BEFORE}{head}{lines}")
}

/// The position in the list of all kernels; unknown ones come last.
fn order(kernel: &str) -> (usize, Vec<u32>, String) {
    let listed = ALL.iter().position(|name| *name == kernel).unwrap_or(ALL.len());
    (listed, numbers(kernel), kernel.to_owned())
}

fn shown(row: &Row) -> String {
    let cell = |check: &str| {
        let Some(verdict) = row.verdicts.iter().find(|verdict| verdict.check == check) else {
            return "not run".to_owned();
        };
        let (word, what) = match &verdict.outcome {
            Outcome::Passed(what) => ("ok", what.clone()),
            Outcome::FellBack(what) => ("*fallback*", what.clone()),
            Outcome::Failed(faults) => ("**failed**", faults.join("; ")),
        };
        let what = what.replace('|', "/").replace('\n', " ");
        if what.is_empty() { word.to_owned() } else { format!("{word}: {what}") }
    };
    let cells: Vec<String> = checks().map(cell).collect();
    format!("| {} | {} | {} |", row.kernel, row.version, cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::super::judge::Verdict;
    use super::*;

    fn row(kernel: &str, outcome: Outcome) -> Row {
        let verdicts = vec![Verdict { check: "tree", outcome }];
        Row { kernel: kernel.to_owned(), version: format!("{kernel}.9"), verdicts }
    }

    #[test]
    fn rows_of_other_kernels_stay_and_come_in_the_order_of_the_list() {
        let first = page("", &[row("newest", Outcome::Passed("320 forks".to_owned()))]);
        assert!(first.contains("| newest | newest.9 | not run | ok: 320 forks | not run |"), "{first}");
        let failed = Outcome::Failed(vec!["forks 1 of 2".to_owned(), "a|b".to_owned()]);
        let second = page(&first, &[row("6.1", failed), row("6.16", Outcome::FellBack(String::new()))]);
        let at = |text: &str| second.find(text).unwrap_or_else(|| panic!("no {text} in {second}"));
        assert!(at("| 6.1 | 6.1.9 | not run | **failed**: forks 1 of 2; a/b |") < at("| newest |"));
        assert!(at("| newest |") < at("| 6.16 | 6.16.9 | not run | *fallback* |"));
        let third = page(&second, &[row("6.1", Outcome::Passed(String::new()))]);
        assert_eq!(third.matches("| 6.1 |").count(), 1);
        assert!(third.contains("| 6.1 | 6.1.9 | not run | ok |"), "{third}");
    }
}
