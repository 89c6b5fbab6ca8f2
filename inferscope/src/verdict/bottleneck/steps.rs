//! A sweep's verdicts against what the next step measured.
//!
//! Owns the contradictions: a step of which the next one gave much more was not at a limit that more requests can't move,
//! and one of which the next gave no more had none to gain by them. A part of `bottleneck`.

use super::{Limit, Shown, Step, Verdict};

/// So much more load is a step that tells something.
const MORE: f64 = 1.5;
/// Tokens a second of the next step against this one's: there was room, and there was none.
const ROOM: f64 = 1.25;
const NO_ROOM: f64 = 1.1;

/// `all`: each step's verdicts by the device's place. The next step is the one with the next higher load, in whichever order they
/// were run.
pub(super) fn hold_against_the_next(steps: &[Step<'_>], all: &mut [Vec<(usize, Verdict)>]) {
    for (this, of_step) in steps.iter().zip(all.iter_mut()) {
        let higher = steps.iter().filter(|other| other.offered > this.offered);
        let Some(next) = higher.min_by(|a, b| a.offered.total_cmp(&b.offered)) else { continue };
        let Some((gave, gives)) = this.gave.zip(next.gave).filter(|(gave, _)| *gave > 0.0) else { continue };
        for (_, verdict) in of_step {
            hold(verdict, next.offered / this.offered, gives / gave);
        }
    }
}

fn hold(verdict: &mut Verdict, asked: f64, gave: f64) {
    verdict.evidence.insert("next_step_load_ratio", Shown::Ratio(asked));
    verdict.evidence.insert("next_step_tokens_ratio", Shown::Ratio(gave));
    let refuted = match verdict.limit {
        Ok(Limit::Tensor | Limit::Compute) if gave >= ROOM => Some(format!(
            "its units were near their limit, and yet the next step, with {asked:.1} times the load, gave {gave:.1} times the \
             tokens a second"
        )),
        Ok(Limit::Latency) if asked >= MORE && gave < NO_ROOM => Some(format!(
            "none of its units was near its limit, and yet the next step, with {asked:.1} times the load, gave only {gave:.2} \
             times the tokens a second"
        )),
        _ => None,
    };
    if let Some(reason) = refuted {
        verdict.limit = Err(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::bottleneck::ShownEvidence;

    fn held(limit: Limit, asked: f64, gave: f64) -> Verdict {
        let mut verdict = Verdict { limit: Ok(limit), evidence: ShownEvidence::new() };
        hold(&mut verdict, asked, gave);
        verdict
    }

    #[test]
    fn a_step_that_the_next_one_outdid_was_not_at_its_limit() {
        for limit in [Limit::Tensor, Limit::Compute] {
            assert!(held(limit, 4.0, 3.0).limit.unwrap_err().contains("gave 3.0 times"));
            assert_eq!(held(limit, 4.0, 1.02).limit, Ok(limit));
        }
        // Requests that are worked on together share the reading of the weights: no contradiction.
        assert_eq!(held(Limit::Bandwidth, 4.0, 3.0).limit, Ok(Limit::Bandwidth));
    }

    /// llama.cpp's 7B on an H200: 470 tokens/s at 4, 482 at 8.
    #[test]
    fn a_step_of_which_more_requests_gave_nothing_has_no_room_for_them() {
        assert!(held(Limit::Latency, 2.0, 482.0 / 470.0).limit.is_err());
        assert_eq!(held(Limit::Latency, 16.0, 945.0 / 248.0).limit, Ok(Limit::Latency));
        assert_eq!(held(Limit::Latency, 1.2, 1.0).limit, Ok(Limit::Latency));
        assert_eq!(held(Limit::Latency, 2.0, 0.9).evidence["next_step_tokens_ratio"], Shown::Ratio(0.9));
    }
}
