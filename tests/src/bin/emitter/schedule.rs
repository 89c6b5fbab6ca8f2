//! What is written when.
//!
//! Owns the steps of an answer, by mode, as offsets from the request's arrival. Pure. Called by `server`.

use std::time::Duration;

use crate::hostile::{self, Kind};
use crate::options::{Mode, Options, Usage};
use crate::request::Ask;

/// One write of an answer, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// From the time at which the answer begins.
    pub(crate) at_ns: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    StreamHead,
    Role,
    Tokens {
        n: u32,
        reasoning: bool,
    },
    Finish,
    Usage,
    Done,
    /// An error object in the stream.
    Error,
    LastChunk,
    /// The whole answer in one piece, for who wants no stream.
    Document {
        tokens: u32,
    },
    Raw(Vec<u8>),
    /// Until the client has had enough.
    Forever {
        bytes: Vec<u8>,
        every_ns: u64,
    },
    /// Nothing more, and the connection stays.
    Hang,
    Close,
    /// Closes with a reset.
    Reset,
}

/// An answer that is to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// What the log calls it where all of it was written.
    pub(crate) outcome: String,
    /// A client that closes the connection does what it should.
    pub(crate) is_garbage: bool,
    pub(crate) steps: Vec<Step>,
}

/// The answer to the `index`th completion request.
pub(crate) fn script(options: &Options, ask: Ask, index: u64) -> Script {
    let mode = match options.mode {
        Mode::AllGarbage if index.is_multiple_of(2) => Mode::Steady,
        Mode::AllGarbage => Mode::Garbage(Kind::ALL[(index / 2) as usize % Kind::ALL.len()]),
        mode => mode,
    };
    let tokens = ask.max_tokens.map_or(options.tokens, |most| most.min(options.tokens)).max(1);
    if let Mode::Garbage(kind) = mode {
        let outcome = format!("garbage:{}", kind.name());
        return Script { outcome, is_garbage: true, steps: hostile::steps(kind, options) };
    }
    let mut steps = tokens_of(options, mode, tokens, index);
    if !ask.stream {
        let at_ns = steps.last().map_or(0, |step| step.at_ns);
        let steps = vec![Step { at_ns, what: What::Document { tokens } }];
        return Script { outcome: "ok".to_owned(), is_garbage: false, steps };
    }
    let head_ns = if mode == Mode::SlowStart { steps[0].at_ns } else { 0 };
    let mut before = vec![Step { at_ns: head_ns, what: What::StreamHead }];
    if mode == Mode::RoleFirst {
        before.push(Step { at_ns: nanos(options.first_token) / 2, what: What::Role });
    }
    let (outcome, ending): (_, &[What]) = match mode {
        Mode::StreamError => ("stream_error", &[What::Error, What::LastChunk]),
        Mode::Disconnect => ("disconnect", &[What::Close]),
        _ if options.usage == Usage::Last => ("ok", &[What::Finish, What::Usage, What::Done]),
        _ => ("ok", &[What::Finish, What::Done]),
    };
    if matches!(mode, Mode::StreamError | Mode::Disconnect) {
        steps.truncate(steps.len().div_ceil(2));
    }
    let at_ns = steps.last().map_or(0, |step| step.at_ns);
    let ending = ending.iter().map(|what| Step { at_ns, what: what.clone() });
    let steps = before.into_iter().chain(steps).chain(ending).collect();
    Script { outcome: outcome.to_owned(), is_garbage: false, steps }
}

fn tokens_of(options: &Options, mode: Mode, tokens: u32, index: u64) -> Vec<Step> {
    let mut random = Random::new(options.seed, index);
    let a_chunk = if mode == Mode::Chunks { options.tokens_per_chunk } else { 1 };
    let mut at_ns = 0;
    let steps = (0..tokens).step_by(a_chunk as usize).map(|first| {
        let gap = match mode {
            Mode::SlowStart if first == 0 => options.first_token * 8,
            _ if first == 0 => options.first_token,
            Mode::Stalls if first % options.stall_every == 0 => options.stall,
            _ => options.interval,
        };
        let jitter = if mode == Mode::Jitter { random.up_to(nanos(options.jitter)) } else { 0 };
        at_ns += nanos(gap) + jitter;
        let reasoning = mode == Mode::ReasoningFirst && first < tokens / 2;
        Step { at_ns, what: What::Tokens { n: a_chunk.min(tokens - first), reasoning } }
    });
    steps.collect()
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The same numbers for the same seed and request.
struct Random(u64);

impl Random {
    fn new(seed: u64, index: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index))
    }

    /// SplitMix64, as one seed is as good as the next for it.
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % (most + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Api;

    const ASK: Ask = Ask { api: Api::Chat, stream: true, max_tokens: None, prompt_bytes: 1 };

    fn of(mode: Mode, ask: Ask, index: u64) -> Script {
        script(&Options { mode, tokens: 10, ..Options::default() }, ask, index)
    }

    /// The times and sizes of what holds tokens.
    fn tokens(script: &Script) -> (Vec<u64>, Vec<u32>) {
        let tokens = script.steps.iter().filter_map(|step| match step.what {
            What::Tokens { n, .. } => Some((step.at_ns / 1_000_000, n)),
            _ => None,
        });
        tokens.unzip()
    }

    #[test]
    fn each_mode_keeps_its_pace() {
        let even: Vec<u64> = (0..10).map(|i| 50 + 20 * i).collect();
        for mode in [Mode::Steady, Mode::RoleFirst, Mode::ReasoningFirst] {
            assert_eq!(tokens(&of(mode, ASK, 0)), (even.clone(), vec![1; 10]), "{mode:?}");
        }
        assert_eq!(tokens(&of(Mode::Chunks, ASK, 0)), (vec![50, 70, 90], vec![4, 4, 2]));
        assert_eq!(tokens(&of(Mode::Stalls, ASK, 0)).0[7..], [190, 340, 360]);
        assert_eq!(tokens(&of(Mode::SlowStart, ASK, 0)).0[..2], [400, 420]);
        assert_eq!(of(Mode::SlowStart, ASK, 0).steps[0].at_ns, 400_000_000);
        assert_eq!(tokens(&of(Mode::Disconnect, ASK, 0)).0.len(), 5);
        let jitter = of(Mode::Jitter, ASK, 3);
        assert_eq!(jitter, of(Mode::Jitter, ASK, 3));
        let times = tokens(&jitter).0;
        assert_ne!(times, tokens(&of(Mode::Jitter, ASK, 4)).0);
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            gaps.iter().all(|gap| (19..=50).contains(gap)) && gaps.iter().any(|gap| *gap > 25),
            "{gaps:?}"
        );
    }

    #[test]
    fn the_request_may_ask_for_less() {
        assert_eq!(tokens(&of(Mode::Steady, Ask { max_tokens: Some(3), ..ASK }, 0)).0.len(), 3);
        assert_eq!(tokens(&of(Mode::Steady, Ask { max_tokens: Some(30), ..ASK }, 0)).0.len(), 10);
        let document = of(Mode::Steady, Ask { stream: false, ..ASK }, 0);
        assert_eq!(document.steps, [Step { at_ns: 230_000_000, what: What::Document { tokens: 10 } }]);
    }

    #[test]
    fn garbage_comes_in_turn_with_good_answers_between() {
        let outcomes: Vec<String> = (0..4).map(|index| of(Mode::AllGarbage, ASK, index).outcome).collect();
        let [first, second] = [Kind::ALL[0], Kind::ALL[1]].map(|kind| format!("garbage:{}", kind.name()));
        assert_eq!(outcomes, ["ok", &first, "ok", &second]);
    }
}
