//! What is not recomputed.
//!
//! Owns the list, with the reason for each. A number of the report that is neither compared nor here makes the test fail, so
//! that no figure is passed over in silence.

const INPUT: &str = "what the figures are recomputed from";
const ASKED: &str = "what was asked for, not measured";
const RAW: &str = "read at its source, in no list of the report";
const MOMENT: &str = "at a moment, or of readings, that the report does not list";
const OWN: &str = "what inferscope itself cost: it keeps no list of it";
const COPY: &str = "evidence of an insight or a verdict: figures from elsewhere in the report";
const BOUND: &str = "a bound: what can have happened between two samples";
const LAST: &str = "the last stretch of a phase ends with it, at a moment that is not told";

/// `*` is one key or place, `**` the rest. The first that fits holds.
const PATTERNS: &[(&str, &str)] = &[
    ("/schema_version", RAW),
    ("/host/**", RAW),
    ("/run/**", RAW),
    ("/target/**", RAW),
    ("/requests/**", INPUT),
    ("/requests_omitted", "what is not in the list can't be counted from it"),
    ("/resources/samples/**", INPUT),
    ("/processes/list/**", INPUT),
    ("/processes/events/**", INPUT),
    ("/gpus/*/samples/**", INPUT),
    ("/gpus/*/driver_samples/**", INPUT),
    ("/load/concurrency", ASKED),
    ("/load/rate_per_s", ASKED),
    ("/load/seed", ASKED),
    ("/load/input_tokens_asked", ASKED),
    ("/load/slo_ns/**", ASKED),
    ("/load/requests_resent", RAW),
    ("/load/connections_opened", RAW),
    ("/load/in_flight/samples/*/t_ns", INPUT),
    ("/load/in_flight/samples/**", LAST),
    ("/sweep/steps/*/concurrency", ASKED),
    ("/sweep/steps/*/rate_per_s", ASKED),
    ("/sweep/steps/*/in_flight/samples/*/t_ns", INPUT),
    ("/sweep/steps/*/in_flight/samples/**", LAST),
    ("/sweep/steps_left_out", "how many were asked for is in argv alone"),
    ("/sweep/steps/*/energy/**", MOMENT),
    ("/timing/repeat/confidence", ASKED),
    ("/sweep/steps/*/timing/repeat/confidence", ASKED),
    ("/timing/left_out/longest_stall_ns", OWN),
    ("/sweep/steps/*/timing/left_out/longest_stall_ns", OWN),
    ("/processes/counts/**", RAW),
    ("/processes/cpu/**", RAW),
    ("/resources/memory_peak_bytes", RAW),
    ("/resources/memory_limit_bytes", RAW),
    ("/resources/peak_rss_pid", "of several that held the same, either"),
    ("/gpus/*/index", RAW),
    ("/gpus/*/mig/**", RAW),
    ("/gpus/*/limits/**", RAW),
    ("/gpus/*/lost_ns", RAW),
    ("/gpus/*/interruptions/**", RAW),
    ("/gpus/*/failed_queries/**", RAW),
    ("/gpus/*/dropped_values/**", RAW),
    ("/gpus/*/processes/**", MOMENT),
    ("/gpus/*/shared_with/**", MOMENT),
    ("/gpus/*/target_sm_percent/**", MOMENT),
    ("/gpus/*/pcie_tx_kb_per_s/**", MOMENT),
    ("/gpus/*/pcie_rx_kb_per_s/**", MOMENT),
    ("/gpus/*/nvlink_tx_kib_per_s", MOMENT),
    ("/gpus/*/nvlink_rx_kib_per_s", MOMENT),
    ("/gpus/*/target_memory_bytes", MOMENT),
    ("/gpus/*/other_memory_bytes", MOMENT),
    ("/gpus/*/unattributed_memory_bytes", MOMENT),
    ("/gpus/*/limited_by_evidence/**", COPY),
    ("/sweep/steps/*/devices/**", COPY),
    ("/gpus/*/mean_power_mw", MOMENT),
    ("/gpus/*/energy_mj", MOMENT),
    ("/gpus/*/energy_error_mj", MOMENT),
    ("/gpus/*/energy_refresh_ns", MOMENT),
    ("/gpus/*/idle_power_mw", MOMENT),
    ("/gpus/*/energy_above_idle_mj", MOMENT),
    ("/gpus/*/energy_above_idle_error_mj", MOMENT),
    ("/gpu_summary/devices/**", INPUT),
    ("/gpu_summary/poll/**", OWN),
    ("/gpu_summary/**", MOMENT),
    ("/efficiency/cpu_ns_per_token_error", BOUND),
    ("/efficiency/cpu_ns_per_request_error", BOUND),
    ("/efficiency/cpu_idle_ns_per_token_error", BOUND),
    ("/efficiency/cpu_rest/**", INPUT),
    ("/sweep/steps/*/cpu_ns_per_token_error", BOUND),
    ("/efficiency/cpu_package_joules", RAW),
    ("/efficiency/cpu_package_joules_error", RAW),
    ("/efficiency/cpu_joules_per_token", RAW),
    ("/efficiency/cpu_joules_per_token_error", RAW),
    ("/efficiency/cost_per_million_tokens", "prices by device are in argv alone"),
    ("/efficiency/prefill_decode/**", MOMENT),
    ("/insights/**", COPY),
    ("/self/**", OWN),
];

/// The pattern that leaves out the number at this pointer, and the reason.
pub(super) fn why(path: &str) -> Option<(&'static str, &'static str)> {
    PATTERNS.iter().copied().find(|(pattern, _)| fits(pattern, path))
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (Some("**"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_pointers() {
        assert!(fits("/gpus/*/limits/**", "/gpus/0/limits/power_mw"));
        assert!(!fits("/gpus/*/limits/**", "/gpus/0/limits"));
        assert!(!fits("/gpus/*/index", "/gpus/0/index/x") && !fits("/gpus/*/index", "/gpus/0"));
        assert!(why("/timing/ttft_ns/p50").is_none());
    }
}
