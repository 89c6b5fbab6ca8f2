//! What is known of a device's memory bandwidth without its counters.
//!
//! Owns the table of peak bandwidths and the bound that it gives for decoding. A part of `bottleneck`.

/// Bytes a second by NVML's name of the device, from NVIDIA's data sheets of these products.
const PEAKS: [(&str, f64); 18] = [
    ("NVIDIA B200", 8.0e12),
    ("NVIDIA H200", 4.8e12),
    ("NVIDIA H200 NVL", 4.8e12),
    ("NVIDIA H100 80GB HBM3", 3.35e12),
    ("NVIDIA H100 NVL", 3.9e12),
    ("NVIDIA H100 PCIe", 2.0e12),
    ("NVIDIA A100-SXM4-80GB", 2.039e12),
    ("NVIDIA A100 80GB PCIe", 1.935e12),
    ("NVIDIA A100-SXM4-40GB", 1.555e12),
    ("NVIDIA A100-PCIE-40GB", 1.555e12),
    ("NVIDIA L40S", 864e9),
    ("NVIDIA L40", 864e9),
    ("NVIDIA L4", 300e9),
    ("NVIDIA A10", 600e9),
    ("NVIDIA RTX A6000", 768e9),
    ("Tesla T4", 320e9),
    ("NVIDIA GeForce RTX 4090", 1.008e12),
    ("NVIDIA GeForce RTX 3090", 936e9),
];

pub(super) fn peak(name: &str) -> Option<f64> {
    PEAKS.iter().find(|(known, _)| *known == name).map(|(_, peak)| *peak)
}

/// Percent of the peak that reading all of the target's memory on the device once a step takes, at so many steps a
/// second. It is the most that decoding reads where each step reads what it needs once: the memory holds the weights, and
/// caches and buffers beside them.
pub(super) fn most_read_percent(peak: f64, memory_bytes: u64, steps_per_s: f64) -> f64 {
    memory_bytes as f64 * steps_per_s / peak * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An H200 with a 7B model (Q4_K, 4.4 GB of weights, 5.6 GB held) at 252 tokens/s: the counters said 22%.
    #[test]
    fn the_bound_is_above_what_the_counters_said() {
        let most = most_read_percent(peak("NVIDIA H200").unwrap(), 5_600_000_000, 252.0);
        assert!((22.0..35.0).contains(&most), "{most}");
        assert_eq!(peak("NVIDIA H900"), None);
    }
}
