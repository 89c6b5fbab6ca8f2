//! A sweep's verdicts against what the next step measured.
//!
//! Owns the contradictions: a step of which the next one gave much more was not at a limit that more requests can't move,
//! and one of which the next gave no more had none to gain by them. A part of `bottleneck`.

use serde_json::json;

use crate::report::model::LimitedBy;

use super::super::load_aggregate::StepDone;
use super::super::saturation::Height;
use super::verdict::Verdict;

/// So much more load is a step that tells something.
const MORE: f64 = 1.5;
/// Tokens a second of the next step against this one's: there was room, and there was none.
const ROOM: f64 = 1.25;
const NO_ROOM: f64 = 1.1;

/// Of each step the verdicts by device's place. The next step is the one with the next higher load, in whichever order they
/// were run.
pub(super) fn held_against_the_next(done: &[StepDone], all: &mut [Vec<(usize, Verdict)>]) {
    let heights: Vec<Height> = done.iter().map(Height::of).collect();
    for (this, of_step) in heights.iter().zip(all.iter_mut()) {
        let higher = heights.iter().filter(|other| other.offered > this.offered);
        let Some(next) = higher.min_by(|a, b| a.offered.total_cmp(&b.offered)) else { continue };
        let Some((gave, gives)) = this.gave.zip(next.gave).filter(|(gave, _)| *gave > 0.0) else { continue };
        for (_, verdict) in of_step {
            hold(verdict, next.offered / this.offered, gives / gave);
        }
    }
}

fn hold(verdict: &mut Verdict, asked: f64, gave: f64) {
    let figure = |v: f64| json!((v * 100.0).round() / 100.0);
    verdict.evidence.insert("next_step_load_ratio".to_owned(), figure(asked));
    verdict.evidence.insert("next_step_tokens_ratio".to_owned(), figure(gave));
    let refuted = match verdict.limit {
        Some(LimitedBy::Tensor | LimitedBy::Compute) if gave >= ROOM => Some(format!(
            "its units were near their limit, and yet the next step, with {asked:.1} times the load, gave {gave:.1} times the \
             tokens a second"
        )),
        Some(LimitedBy::Latency) if asked >= MORE && gave < NO_ROOM => Some(format!(
            "none of its units was near its limit, and yet the next step, with {asked:.1} times the load, gave only {gave:.2} \
             times the tokens a second"
        )),
        _ => None,
    };
    if let Some(reason) = refuted {
        (verdict.limit, verdict.reason) = (None, Some(reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(limit: LimitedBy, asked: f64, gave: f64) -> Verdict {
        let mut verdict = Verdict { limit: Some(limit), ..Verdict::default() };
        hold(&mut verdict, asked, gave);
        verdict
    }

    #[test]
    fn a_step_that_the_next_one_outdid_was_not_at_its_limit() {
        for limit in [LimitedBy::Tensor, LimitedBy::Compute] {
            assert_eq!(held(limit, 4.0, 3.0).limit, None);
            assert!(held(limit, 4.0, 3.0).reason.unwrap().contains("gave 3.0 times"));
            assert_eq!(held(limit, 4.0, 1.02).limit, Some(limit));
        }
        // Requests that are worked on together share the reading of the weights: no contradiction.
        assert_eq!(held(LimitedBy::Bandwidth, 4.0, 3.0).limit, Some(LimitedBy::Bandwidth));
    }

    /// llama.cpp's 7B on an H200: 470 tokens/s at 4, 482 at 8.
    #[test]
    fn a_step_of_which_more_requests_gave_nothing_has_no_room_for_them() {
        assert_eq!(held(LimitedBy::Latency, 2.0, 482.0 / 470.0).limit, None);
        assert_eq!(held(LimitedBy::Latency, 16.0, 945.0 / 248.0).limit, Some(LimitedBy::Latency));
        assert_eq!(held(LimitedBy::Latency, 1.2, 1.0).limit, Some(LimitedBy::Latency));
        assert_eq!(held(LimitedBy::Latency, 2.0, 0.9).evidence["next_step_tokens_ratio"], 0.9);
    }
}
