//! Chunks that come in bursts.
//!
//! Owns the judgement whether the gaps between chunks are a server's pace. A server that drafts several tokens a step, and a
//! proxy that buffers, send several chunks at once: the gaps within such a burst are the network's and the reading's, and
//! percentiles over them tell nothing. Never looks at what is in a chunk. Fed by `totals`; asked by `figures` and by validity.

use crate::units::Nanos;

use super::request_figures::RequestFigures;
use super::streams::TOGETHER;

/// Share of such gaps beyond what chunks that come one by one, at any time, at that rate have.
const MOST_BEYOND: f64 = 0.1;
/// Share of answers that came at once from which on the first token is no first one.
const MOST_AT_ONCE: f64 = 0.1;
/// Fewer gaps have no share.
const LEAST_GAPS: u64 = 10;
/// Fewer chunks may come at once by chance.
const LEAST_CHUNKS: u64 = 4;
/// A single chunk with at least so many tokens is an answer that was not streamed.
const LEAST_TOKENS: u64 = 8;

/// Of a stretch of load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bursts {
    /// Of answers that did not come at once.
    gaps: u64,
    together: u64,
    time: Nanos,
    /// Answers that are long enough to tell.
    answers: u64,
    at_once: u64,
}

impl Bursts {
    pub(crate) fn add(&mut self, answer: &RequestFigures<'_>) {
        let (mut one, mut at_once) = (Self::default(), true);
        for gap in answer.gaps() {
            one.gaps += 1;
            one.together += u64::from(gap < TOGETHER);
            one.time += gap;
            at_once &= gap < TOGETHER;
        }
        let chunks = answer.tokens.chunks;
        let whole = chunks == 1 && answer.tokens.total.is_some_and(|n| n >= LEAST_TOKENS);
        // Chunks without a gap between them are of several choices, and what the client read late tells nothing.
        if (chunks < LEAST_CHUNKS || one.gaps == 0) && !whole || answer.left_out().gaps > 0 {
            return;
        }
        self.answers += 1;
        if at_once {
            self.at_once += 1;
        } else {
            self.merge(&one);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.gaps += other.gaps;
        self.together += other.together;
        self.time += other.time;
        self.answers += other.answers;
        self.at_once += other.at_once;
    }

    /// The share of gaps within bursts, and the one that their rate allows.
    fn share(&self) -> Option<(f64, f64)> {
        if self.gaps < LEAST_GAPS {
            return None;
        }
        let gaps = self.gaps as f64;
        // Of arrivals that know nothing of each other.
        let allowed = 1.0 - (-(TOGETHER.0 as f64) * gaps / (self.time.0 as f64).max(1.0)).exp();
        Some((self.together as f64 / gaps, allowed))
    }

    fn in_bursts(&self) -> Option<(f64, f64)> {
        self.share().filter(|(share, allowed)| *share > allowed + MOST_BEYOND)
    }

    /// Answers that came at once, and those that could have, where they are many.
    fn at_once(&self) -> Option<(u64, u64)> {
        (self.at_once > 0 && self.at_once as f64 >= MOST_AT_ONCE * self.answers as f64)
            .then_some((self.at_once, self.answers))
    }

    pub(crate) fn is_bursty(&self) -> bool {
        self.in_bursts().is_some() || self.at_once().is_some()
    }

    /// What is doubtful, in words; `None` where nothing is.
    pub(crate) fn doubt(&self) -> Option<String> {
        let bursts = self.in_bursts().map(|(share, allowed)| {
            format!(
                "{:.0}% of the gaps between chunks are below 100 µs, where their rate allows {:.0}%",
                share * 100.0,
                allowed * 100.0
            )
        });
        let at_once = self.at_once().map(|(n, of)| {
            format!(
                "{n} of {of} answers came all at once: their time to first token is that of the whole answer"
            )
        });
        let told: Vec<String> = [bursts, at_once].into_iter().flatten().collect();
        (!told.is_empty()).then(|| {
            format!(
                "chunks arrive in bursts, from the server's batching or speculation or from a proxy that buffers: {}; \
                 a gap within a burst is no pace of the server's, so that percentiles of inter-token and inter-chunk \
                 latency are withheld; TPOT and decoding (of what came after the first burst) and the gaps between bursts hold",
                told.join("; ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RequestLog;
    use crate::fixture::{RequestBuilder, ms};

    /// Chunks so many microseconds after 100 ms.
    fn answer(at_us: impl IntoIterator<Item = u64>) -> RequestLog {
        let at: Vec<u64> = at_us.into_iter().collect();
        let mut r = RequestBuilder::new(0).content(at.iter().map(|_| 100)).done(1_000).build();
        for (chunk, us) in r.chunks.iter_mut().zip(&at) {
            chunk.t = ms(100).plus(Nanos(*us * 1_000));
        }
        r
    }

    fn of(requests: &[RequestLog]) -> Bursts {
        let mut all = Bursts::default();
        requests.iter().for_each(|r| all.add(&RequestFigures::of(r)));
        all
    }

    #[test]
    fn ten_tokens_a_flush_are_bursts() {
        let flushed = answer((0..60).map(|n| n / 10 * 100_000 + n % 10));
        let told = of(&[flushed]);
        assert!(told.is_bursty());
        let doubt = told.doubt().unwrap();
        assert!(doubt.contains("92% of the gaps") && !doubt.contains("at once"), "{doubt}");
    }

    #[test]
    fn three_tokens_a_step_are_bursts_as_well() {
        assert!(of(&[answer((0..60).map(|n| n / 3 * 12_000 + n % 3 * 20))]).is_bursty());
    }

    #[test]
    fn a_fast_engine_is_no_burst() {
        // 5,000 tokens a second.
        assert!(!of(&[answer((0..200).map(|n| n * 200))]).is_bursty());
        // The same, now and then two at once: at that rate 39% may come so by chance.
        assert!(!of(&[answer((0..200).map(|n| n * 200 - n % 3 * 60))]).is_bursty());
        // An even pace with a few chunks that were held up.
        assert!(
            !of(&[answer((0..200).map(|n| if n % 20 == 0 { n * 10_000 + 9_990 } else { n * 10_000 }))])
                .is_bursty()
        );
    }

    #[test]
    fn an_answer_that_comes_at_its_end_has_no_first_token() {
        for requests in [answer((0..60).map(|n| n * 5)), answer([0, 0, 0, 0])] {
            let doubt = of(&[requests]).doubt().unwrap();
            assert!(doubt.contains("1 of 1 answers came all at once"), "{doubt}");
        }
        let whole = RequestBuilder::new(0).content([500]).usage(5, 64).done(501).build();
        assert!(of(&[whole]).is_bursty(), "in one chunk");
        let short = RequestBuilder::new(0).content([500, 500]).usage(5, 2).done(501).build();
        assert!(!of(&[short]).is_bursty(), "two tokens may");
        let steady = || answer((0..60).map(|n| n * 10_000));
        let one_of_20: Vec<_> = (0..19).map(|_| steady()).chain([answer([0, 1, 2, 3])]).collect();
        assert!(!of(&one_of_20).is_bursty(), "one of twenty");
    }

    #[test]
    fn choices_that_come_beside_each_other_are_no_burst() {
        let r = (0..30).fold(RequestBuilder::new(0), |r, n| {
            let at = 100 + n * 20;
            r.choice(0).content([at]).choice(1).content([at]).choice(2).content([at])
        });
        assert!(!of(&[r.usage(5, 90).build()]).is_bursty());
    }
}
