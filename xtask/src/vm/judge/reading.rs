//! Reads the judged values from a report.
//!
//! Owns the paths into the JSON. Called by the checks beside it.

use serde_json::Value;

pub(super) const NO_REASON: &str = "no tracker_reason";

pub(super) struct Report(pub(super) Value);

impl Report {
    pub(super) fn processes(&self) -> &Value {
        &self.0["processes"]
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.processes()["counts"][name].as_u64()
    }

    pub(super) fn list(&self) -> &[Value] {
        self.processes()["list"].as_array().map_or(&[], Vec::as_slice)
    }

    pub(super) fn cpu(&self, name: &str) -> Option<u64> {
        self.processes()["cpu"][name].as_u64()
    }

    /// Programs that the kernel skipped and nothing made good.
    pub(super) fn missed(&self) -> u64 {
        self.processes()["counts"]["lost"]["missed_runs"].as_u64().unwrap_or(0)
    }

    /// The use of one process, from its entry.
    pub(super) fn cpu_of(&self, pid: u64) -> u64 {
        let parts =
            |line: &Value| ["cpu_user_ns", "cpu_system_ns"].map(|part| line[part].as_u64().unwrap_or(0));
        let lines = self.list().iter().filter(|process| process["pid"] == pid);
        lines.map(|line| parts(line).iter().sum::<u64>()).sum()
    }

    /// The faults of a report that should be complete and from the kernel tracker.
    pub(super) fn complete(&self) -> Vec<String> {
        let tree = self.processes();
        let mut faults = Vec::new();
        if tree["tracker"] != "ebpf" {
            faults.push(format!("tracker {}: {}", tree["tracker"], tree["tracker_reason"]));
        } else if tree["complete"] != true {
            faults.push(format!(
                "complete {}, {} runs missed: {}",
                tree["complete"],
                self.missed(),
                self.warnings()
            ));
        }
        if self.count("lost_events").unwrap_or(0) > 0 {
            faults.push(format!("lost_events {}", tree["counts"]["lost_events"]));
        }
        faults
    }

    /// The faults of a report that should be from the fallback.
    pub(super) fn fell_back(&self) -> Vec<String> {
        let tree = self.processes();
        let mut faults = Vec::new();
        if tree["tracker"] != "proc" {
            faults.push(format!("tracker {}, where only /proc can be had", tree["tracker"]));
        }
        if tree["tracker_reason"].as_str().is_none_or(str::is_empty) {
            faults.push(NO_REASON.to_owned());
        }
        if tree["complete"] != false {
            faults.push(format!("complete {}, by polling", tree["complete"]));
        }
        faults
    }

    fn warnings(&self) -> String {
        let entries = self.0["validity"].as_array().map_or(&[][..], Vec::as_slice);
        let codes =
            entries.iter().filter(|entry| entry["level"] != "ok").filter_map(|entry| entry["code"].as_str());
        codes.collect::<Vec<_>>().join(", ")
    }
}

/// Lines of a kernel's log that look like a complaint on every boot, whatever runs.
pub(super) fn is_known(line: &str) -> bool {
    line.contains("Spectre") || line.contains("unprivileged eBPF")
}
