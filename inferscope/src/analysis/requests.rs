//! The requests, as the report lists them.
//!
//! Owns which requests count (measured and successful) and the load's own counts; puts stamps on the
//! run's timeline. Never computes a latency (`timing` does). Called by `analysis`.

use crate::clock::{Mono, Origin};
use crate::event::{Chunk, ChunkKind, FailureKind, LoadLog, RequestLog};
use crate::plan::LoadPlan;
use crate::report::model;
use crate::units::Nanos;

use super::dist::{self, Distribution};
use super::tokens::Tokens;

/// One request with what is known of its tokens.
pub(super) struct Answer<'a> {
    pub(super) request: &'a RequestLog,
    pub(super) tokens: Tokens,
}

impl Answer<'_> {
    /// Neither warm-up nor failed: the only ones in a distribution.
    pub(super) fn counts(&self) -> bool {
        !self.request.warmup && self.request.failure.is_none()
    }

    /// The chunks that hold generated text, in the order of arrival.
    pub(super) fn text_chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.request.chunks.iter().filter(|c| c.kind.has_tokens())
    }

    pub(super) fn first_token(&self) -> Option<Mono> {
        self.text_chunks().next().map(|c| c.t)
    }

    pub(super) fn last_token(&self) -> Option<Mono> {
        self.text_chunks().last().map(|c| c.t)
    }
}

pub(super) fn answers(load: &LoadLog) -> Vec<Answer<'_>> {
    load.requests.iter().map(|request| Answer { request, tokens: Tokens::of(request) }).collect()
}

/// First send to last byte of the measured requests, failed ones included (their time was spent as
/// well) but not one that Ctrl-C cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: Mono,
    pub(super) to: Mono,
}

impl Window {
    pub(super) fn of(answers: &[Answer<'_>]) -> Option<Self> {
        let cut_off = |r: &RequestLog| r.failure.as_ref().is_some_and(|f| f.kind == FailureKind::Interrupted);
        let within = || answers.iter().map(|a| a.request).filter(|r| !r.warmup && !cut_off(r));
        Some(Self { from: within().map(|r| r.sent).min()?, to: within().map(|r| r.done).max()? })
    }

    pub(super) fn length(self) -> Nanos {
        self.to.since(self.from)
    }
}

pub(super) fn load(plan: &LoadPlan, model: Option<&str>, answers: &[Answer<'_>]) -> model::Load {
    let measured = || answers.iter().filter(|a| !a.request.warmup);
    let sent = measured().count() as u64;
    let ok = measured().filter(|a| a.counts()).count() as u64;
    let mut lag = Distribution::new();
    let mut scheduled = false;
    for answer in answers.iter().filter(|a| a.counts()) {
        if let Some(wanted) = answer.request.scheduled {
            scheduled = true;
            lag.record(answer.request.sent.since(wanted));
        }
    }
    model::Load {
        shape: if scheduled { "open" } else { "closed" }.to_owned(),
        concurrency: (!scheduled).then_some(1),
        rate_per_s: None,
        api: plan.api.name().to_owned(),
        endpoint: plan.endpoint.to_string(),
        model: model.map(str::to_owned),
        warmup: answers.len() as u64 - sent,
        requests_sent: sent,
        requests_ok: ok,
        requests_failed: sent - ok,
        schedule_lag_ns: if scheduled {
            lag.report("no measured request succeeded")
        } else {
            dist::empty("a closed loop has no schedule")
        },
    }
}

pub(super) fn list(origin: Origin, answers: &[Answer<'_>]) -> Vec<model::Request> {
    answers.iter().map(|a| request(origin, a)).collect()
}

fn request(origin: Origin, answer: &Answer<'_>) -> model::Request {
    let r = answer.request;
    let at = |t: Mono| origin.at(t).0;
    model::Request {
        id: r.id,
        warmup: r.warmup,
        scheduled_ns: r.scheduled.map(at),
        sent_ns: at(r.sent),
        headers_ns: r.headers.map(at),
        first_token_ns: answer.first_token().map(at),
        last_token_ns: answer.last_token().map(at),
        done_ns: at(r.done),
        ok: r.failure.is_none(),
        error_kind: r.failure.as_ref().map(|f| error_kind(f.kind)),
        error: r.failure.as_ref().map(|f| f.message.clone()),
        http_status: r.http_status,
        prompt_tokens: r.usage.and_then(|u| u.prompt_tokens),
        output_tokens: answer.tokens.total,
        token_source: answer.tokens.source,
        finish_reason: r.finish_reason.clone(),
        chunks: r
            .chunks
            .iter()
            .map(|c| model::Chunk {
                t_ns: at(c.t),
                tokens: answer.tokens.in_chunk(c),
                bytes: c.bytes,
                kind: chunk_kind(c.kind),
            })
            .collect(),
    }
}

const fn chunk_kind(kind: ChunkKind) -> model::ChunkKind {
    match kind {
        ChunkKind::Content => model::ChunkKind::Content,
        ChunkKind::Reasoning => model::ChunkKind::Reasoning,
        ChunkKind::Tool => model::ChunkKind::Tool,
        ChunkKind::Other => model::ChunkKind::Other,
    }
}

const fn error_kind(kind: FailureKind) -> model::ErrorKind {
    match kind {
        FailureKind::Connect => model::ErrorKind::Connect,
        FailureKind::Timeout => model::ErrorKind::Timeout,
        FailureKind::Status => model::ErrorKind::Status,
        FailureKind::ServerError => model::ErrorKind::ServerError,
        FailureKind::Malformed => model::ErrorKind::Malformed,
        FailureKind::Disconnect => model::ErrorKind::Disconnect,
        FailureKind::Empty => model::ErrorKind::Empty,
        FailureKind::Interrupted => model::ErrorKind::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::{self, RequestBuilder, ms};

    #[test]
    fn warm_up_is_apart_and_ok_plus_failed_is_sent() {
        let log = LoadLog {
            requests: vec![
                RequestBuilder::new(0).warmup().content([20]).build(),
                RequestBuilder::new(1).content([20]).build(),
                RequestBuilder::new(2).failed(FailureKind::Timeout, "no answer").build(),
            ],
        };
        let load = load(fixture::plan().load.as_ref().unwrap(), None, &answers(&log));
        assert_eq!((load.warmup, load.requests_sent, load.requests_ok, load.requests_failed), (1, 2, 1, 1));
        assert_eq!(load.schedule_lag_ns.reason.as_deref(), Some("a closed loop has no schedule"));
    }

    #[test]
    fn the_window_holds_failed_requests_but_no_warm_up_and_no_interrupted_one() {
        let log = LoadLog {
            requests: vec![
                RequestBuilder::new(0).sent(0).warmup().done(900).build(),
                RequestBuilder::new(1).sent(1_000).content([1_050]).done(1_100).build(),
                RequestBuilder::new(2).sent(1_100).failed(FailureKind::Timeout, "slow").done(1_500).build(),
                RequestBuilder::new(3).sent(1_500).failed(FailureKind::Interrupted, "^C").done(9_000).build(),
            ],
        };
        let window = Window::of(&answers(&log)).unwrap();
        assert_eq!((window.from, window.to), (ms(1_000), ms(1_500)));
    }

    #[test]
    fn schedule_lag_is_the_send_behind_its_schedule() {
        let log =
            LoadLog { requests: vec![RequestBuilder::new(0).scheduled(10).sent(13).content([20]).build()] };
        let load = load(fixture::plan().load.as_ref().unwrap(), None, &answers(&log));
        assert_eq!((load.shape.as_str(), load.schedule_lag_ns.max), ("open", Some(3_000_000)));
    }

    #[test]
    fn a_failed_request_keeps_what_was_received() {
        let log = LoadLog {
            requests: vec![
                RequestBuilder::new(0).content([20, 30]).failed(FailureKind::Disconnect, "closed").build(),
            ],
        };
        let listed = &list(fixture::ORIGIN, &answers(&log))[0];
        assert!(!listed.ok);
        assert_eq!(listed.error_kind, Some(model::ErrorKind::Disconnect));
        assert_eq!((listed.first_token_ns, listed.output_tokens), (Some(20_000_000), Some(2)));
    }
}
