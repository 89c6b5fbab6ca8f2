//! Each stamp of a report against the write that it is of.
//!
//! Owns the matching, by request, and how far a stamp is from the truth. The kernel takes a chunk in within the server's
//! write(2): a stamp between the server's clock before it and after it is as true as the server can tell, and one outside is
//! off by at least the distance. Called by the test and the bench of stamps.

use std::collections::HashMap;

use crate::emitter::Served;
use crate::report::Report;

/// One write of the server's, in CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    pub before_ns: u64,
    pub after_ns: u64,
}

/// In nanoseconds, in no order.
#[derive(Debug, Clone, Default)]
pub struct Stamps {
    /// From the clock before the write to the stamp.
    pub since: Vec<f64>,
    /// Outside of the write: negative before it.
    pub off: Vec<f64>,
    /// How long the writes took: what the server itself leaves open.
    pub took: Vec<f64>,
}

/// The truth of an emitter's log, by `x-request-id`.
#[must_use]
pub fn truth(log: &[Served]) -> HashMap<String, Vec<Write>> {
    let of = |served: &Served| {
        let writes = served.writes.iter();
        writes.map(|write| Write { before_ns: write.at_ns, after_ns: write.after_ns }).collect()
    };
    log.iter().filter_map(|served| Some((served.id.clone()?, of(served)))).collect()
}

/// Of the measured requests. `truth`: by `x-request-id`, the writes with tokens.
///
/// # Errors
/// Where a request of the report, or one of its stamps, has no write.
pub fn compare(report: &Report, truth: &HashMap<String, Vec<Write>>) -> Result<Stamps, String> {
    let origin = report.run.origin_monotonic_ns;
    let mut stamps = Stamps::default();
    for request in report.measured() {
        let id = report.request_id(request);
        let writes = truth.get(&id).ok_or_else(|| format!("the server knows no {id}"))?;
        let seen: Vec<u64> = request.text().map(|chunk| chunk.t_ns + origin).collect();
        if seen.len() != writes.len() {
            return Err(format!("{} stamps of {} writes of {id}", seen.len(), writes.len()));
        }
        for (at, write) in seen.into_iter().zip(writes) {
            let [at, before, after] = [at, write.before_ns, write.after_ns].map(|ns| ns as f64);
            stamps.since.push(at - before);
            stamps.off.push(if at < before { at - before } else { (at - after).max(0.0) });
            stamps.took.push(after - before);
        }
    }
    Ok(stamps)
}

/// The share `q` of the sizes is not above it.
///
/// # Panics
/// When there are none: what compared nothing is no comparison.
#[must_use]
pub fn quantile(values: &[f64], q: f64) -> f64 {
    assert!(!values.is_empty(), "nothing was compared");
    let mut sizes: Vec<f64> = values.iter().map(|value| value.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    sizes[((sizes.len() as f64 * q).ceil() as usize).clamp(1, sizes.len()) - 1]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stamp_within_its_write_is_not_off() {
        let chunk = |t_ns: u64, kind: &str| json!({"t_ns": t_ns, "kind": kind, "bytes": 1});
        let text = |t_ns: u64| chunk(t_ns, "content");
        let chunks = json!([chunk(0, "other"), text(15), text(95), text(240)]);
        let report = Report::from(json!({
            "schema_version": 1, "validity": [],
            "run": {"id": "r", "origin_monotonic_ns": 1000, "duration_ns": 1, "interrupted": false},
            "requests": [{"id": 7, "warmup": false, "ok": true, "sent_ns": 0, "done_ns": 1, "chunks": chunks}],
            "processes": {"tracker": "none", "complete": false, "cpu": {}, "list": []},
        }));
        let write = |before_ns, after_ns| Write { before_ns, after_ns };
        let mut truth = HashMap::from([(
            "inferscope-r-7".to_owned(),
            vec![write(1010, 1020), write(1100, 1120), write(1200, 1220)],
        )]);
        let stamps = compare(&report, &truth);
        let stamps = stamps.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((stamps.off, stamps.took), (vec![0.0, -5.0, 20.0], vec![10.0, 20.0, 20.0]));
        assert_eq!(quantile(&stamps.since, 1.0), 40.0);
        truth.clear();
        assert!(compare(&report, &truth).is_err());
    }
}
