//! One request: its body, and the log that its reads add up to.
//!
//! Sans-IO: stamps and bytes are arguments. Driven by `http`.

use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::interpret::{self, Completion, Held, TokenCount};
use super::said;
use super::sse::SseParser;
use crate::clock::Mono;
use crate::event::{Chunk, Failure, FailureKind, RequestLog};
use crate::plan::{Api, LoadPlan};

/// Beside the tokens: role, finish, usage.
const CHUNKS_BESIDE_TOKENS: usize = 4;
/// Chunks that are made room for before the answer; more grow as they come.
const MAX_RESERVED: usize = 16_384;

/// The path under `/v1/`.
pub(super) const fn path(api: Api) -> &'static str {
    match api {
        Api::Chat => "chat/completions",
        Api::Completions => "completions",
    }
}

pub(super) fn body(plan: &LoadPlan, model: Option<&str>) -> Value {
    let mut body = json!({
        "stream": true,
        "stream_options": { "include_usage": true },
        "max_tokens": plan.max_tokens,
        "temperature": plan.temperature,
    });
    match plan.api {
        Api::Chat => body["messages"] = json!([{ "role": "user", "content": plan.prompt }]),
        Api::Completions => body["prompt"] = json!(plan.prompt),
    }
    if let Some(model) = model {
        body["model"] = json!(model);
    }
    if let Some(seed) = plan.seed {
        body["seed"] = json!(seed);
    }
    if plan.ignore_eos {
        body["ignore_eos"] = json!(true);
    }
    for (key, value) in &plan.extra_body {
        body[key] = value.clone();
    }
    body
}

/// A request under way.
pub(super) struct RequestState {
    log: RequestLog,
    parser: SseParser,
    tokens: TokenCount,
    /// A JSON document was sent where a stream was asked for.
    document: Option<Vec<u8>>,
    finished: bool,
    done: bool,
}

impl RequestState {
    pub(super) fn new(plan: &LoadPlan, id: u64, warmup: bool, sent: Mono) -> Self {
        let room = usize::try_from(plan.max_tokens).unwrap_or(MAX_RESERVED).min(MAX_RESERVED);
        Self {
            log: RequestLog {
                id,
                warmup,
                scheduled: None,
                sent,
                headers: None,
                http_status: None,
                chunks: Vec::with_capacity(room + CHUNKS_BESIDE_TOKENS),
                done: sent,
                usage: None,
                finish_reason: None,
                served_model: None,
                failure: None,
            },
            parser: SseParser::default(),
            tokens: TokenCount::default(),
            document: None,
            finished: false,
            done: false,
        }
    }

    pub(super) fn headers(&mut self, t: Mono, status: u16, is_json: bool) {
        self.log.headers = Some(t);
        self.log.http_status = Some(status);
        self.document = is_json.then(Vec::new);
    }

    /// Bytes of the body that were read at `t`. `Break`: nothing more is of interest.
    pub(super) fn read(&mut self, t: Mono, bytes: &[u8]) -> ControlFlow<()> {
        if let Some(document) = &mut self.document {
            if document.len() + bytes.len() > super::sse::LIMIT_BYTES {
                self.fail(
                    FailureKind::Malformed,
                    "a JSON answer larger than 1 MiB instead of a stream".into(),
                );
                return ControlFlow::Break(());
            }
            document.extend_from_slice(bytes);
            return ControlFlow::Continue(());
        }
        let mut parser = std::mem::take(&mut self.parser);
        let result = parser.feed(bytes, |event| self.take(t, interpret::event(event)));
        self.parser = parser;
        if let Err(e) = result {
            self.fail(FailureKind::Malformed, e.to_string());
        }
        if self.done || self.log.failure.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn take(&mut self, t: Mono, held: Result<Held<'_>, interpret::NotUnderstood>) -> ControlFlow<()> {
        match held {
            Ok(Held::Chunk(chunk)) => self.chunk(t, &chunk),
            Ok(Held::Done) => self.done = true,
            Ok(Held::Error(message)) => self.fail(FailureKind::ServerError, message),
            Ok(Held::Nothing) => {}
            Err(e) => self.fail(FailureKind::Malformed, e.why),
        }
        if self.done || self.log.failure.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn chunk(&mut self, t: Mono, chunk: &Completion<'_>) {
        let tokens = self.tokens.of(chunk);
        self.log.chunks.push(Chunk { t, bytes: chunk.bytes, tokens, kind: chunk.kind });
        if chunk.usage.is_some() {
            self.log.usage = chunk.usage;
        }
        if let Some(reason) = &chunk.finish_reason {
            self.log.finish_reason = Some(reason.clone().into_owned());
        }
        if self.log.served_model.is_none() {
            self.log.served_model = chunk.model.as_ref().map(|m| m.clone().into_owned());
        }
        self.finished |= chunk.finished != 0;
    }

    /// Keeps the first failure: later ones follow from it.
    pub(super) fn fail(&mut self, kind: FailureKind, message: String) {
        if self.log.failure.is_none() {
            self.log.failure = Some(Failure { kind, message: said::one_line(&message) });
        }
    }

    pub(super) const fn failed(&self) -> bool {
        self.log.failure.is_some()
    }

    /// The body ended, or was given up, at `t`.
    pub(super) fn end(mut self, t: Mono) -> RequestLog {
        self.log.done = t;
        if self.log.failure.is_none() && !self.done {
            let mut parser = std::mem::take(&mut self.parser);
            if let Err(e) = parser.finish(|event| self.take(t, interpret::event(event))) {
                self.fail(FailureKind::Malformed, e.to_string());
            }
        }
        if let Some(document) = self.document.take() {
            self.not_a_stream(&document);
        } else if !self.done && !self.finished {
            let what = if self.log.chunks.is_empty() {
                "the body holds no completion stream"
            } else {
                "the stream ended before the answer was complete"
            };
            self.fail(FailureKind::Disconnect, what.to_owned());
        }
        if !self.log.chunks.iter().any(|c| c.kind.has_tokens()) {
            self.fail(FailureKind::Empty, "the answer holds no generated token".to_owned());
        }
        self.log
    }

    /// A whole answer at once has no token times.
    fn not_a_stream(&mut self, document: &[u8]) {
        match interpret::completion(document) {
            Ok(Held::Error(message)) => self.fail(FailureKind::ServerError, message),
            Ok(_) => self.fail(
                FailureKind::Malformed,
                "the server sent its answer as one JSON document where a stream was asked for".to_owned(),
            ),
            Err(e) => self.fail(FailureKind::Malformed, e.why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ChunkKind;
    use crate::plan::{Endpoint, HttpPlan};
    use crate::units::Nanos;

    fn plan() -> LoadPlan {
        LoadPlan {
            endpoint: Endpoint::parse("http://127.0.0.1:1").unwrap(),
            model: None,
            api: Api::Chat,
            prompt: "p".into(),
            max_tokens: 4,
            ignore_eos: false,
            temperature: 0.0,
            seed: None,
            extra_body: serde_json::Map::from_iter([("max_tokens".to_owned(), json!(9))]),
            requests: 1,
            warmup: 0,
            duration: None,
            http: HttpPlan {
                timeout: Nanos::from_millis(1_000),
                headers: Vec::new(),
                api_key: None,
                cacert: None,
                insecure: false,
            },
        }
    }

    fn log(parts: &[&str]) -> RequestLog {
        let mut state = RequestState::new(&plan(), 0, false, Mono(0));
        state.headers(Mono(1), 200, false);
        for (i, part) in parts.iter().enumerate() {
            if state.read(Mono(10 + i as u64), part.as_bytes()).is_break() {
                break;
            }
        }
        state.end(Mono(99))
    }

    const ROLE: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n";
    const WORD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
    const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

    #[test]
    fn chunks_carry_the_stamp_of_the_read_that_completed_them() {
        let (start, rest) = WORD.split_at(12);
        let log = log(&[ROLE, start, rest, END, "data: [DONE]\n\n"]);
        assert_eq!(log.failure, None);
        let seen: Vec<_> = log.chunks.iter().map(|c| (c.t.0, c.kind)).collect();
        assert_eq!(seen, [(10, ChunkKind::Other), (12, ChunkKind::Content), (13, ChunkKind::Other)]);
        assert_eq!(log.finish_reason.as_deref(), Some("stop"));
    }

    #[test]
    fn a_stream_without_done_is_complete_after_a_finish_reason_and_cut_before() {
        assert_eq!(log(&[WORD, END]).failure, None);
        assert_eq!(log(&[WORD]).failure.unwrap().kind, FailureKind::Disconnect);
    }

    #[test]
    fn an_error_in_mid_stream_fails_the_request_with_the_servers_words() {
        let log = log(&[WORD, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n"]);
        let failure = log.failure.unwrap();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::ServerError, "out of memory"));
        assert_eq!(log.chunks.len(), 1);
    }

    #[test]
    fn an_answer_without_a_token_is_a_failure() {
        assert_eq!(log(&[ROLE, END, "data: [DONE]\n\n"]).failure.unwrap().kind, FailureKind::Empty);
    }

    #[test]
    fn extra_body_wins_over_the_bodys_own_fields() {
        assert_eq!(body(&plan(), Some("m"))["max_tokens"], 9);
        assert_eq!(body(&plan(), Some("m"))["model"], "m");
    }
}
