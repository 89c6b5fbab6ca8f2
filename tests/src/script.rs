//! What the timed server sends: the engines' dialects, as schedules.
//!
//! Owns the bytes of each step and the usual sequences. Pure. Read by `timed_server`, written by tests.

use std::time::Duration;

use serde_json::{Value, json};

/// The model that the server lists.
pub const MODEL: &str = "timed";

/// One write of a stream.
#[derive(Debug, Clone)]
pub struct Step {
    /// From the step before it, or from the request's arrival.
    pub after: Duration,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// `delta: {role, content: null}`: no token.
    Role,
    Content(String),
    Reasoning(String),
    Finish,
    Usage {
        prompt: u64,
        completion: u64,
    },
    Done,
    /// Sent as they are, as one chunk of the transfer.
    Raw(Vec<u8>),
    /// An `error` object in the stream.
    Error(String),
    /// Waits until the test lets it go on (`TimedServer::open_gate`), or the server ends.
    Gate,
    /// Closes the connection in the middle of the transfer.
    Disconnect,
    /// Sends nothing more and keeps the connection.
    Stall,
}

impl What {
    #[must_use]
    pub const fn has_token(&self) -> bool {
        matches!(self, Self::Content(_) | Self::Reasoning(_))
    }

    /// The chunk's data; nothing where the step is no write.
    #[must_use]
    pub fn data(&self) -> Option<Vec<u8>> {
        let delta = |delta: Value, finish: Value| {
            event(&chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}])))
        };
        Some(match self {
            Self::Role => delta(json!({"role": "assistant", "content": null}), Value::Null),
            Self::Content(text) => delta(json!({"content": text}), Value::Null),
            Self::Reasoning(text) => delta(json!({"reasoning_content": text}), Value::Null),
            Self::Finish => delta(json!({}), json!("stop")),
            Self::Usage { prompt, completion } => {
                let mut usage = chunk(json!([]));
                usage["usage"] = json!({
                    "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion
                });
                event(&usage)
            }
            Self::Done => b"data: [DONE]\n\n".to_vec(),
            Self::Raw(bytes) => bytes.clone(),
            Self::Error(message) => event(&json!({"error": {"message": message, "code": 500}})),
            Self::Gate | Self::Disconnect | Self::Stall => return None,
        })
    }
}

fn chunk(choices: Value) -> Value {
    json!({"id": "timed-1", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": choices})
}

fn event(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

/// A step after that many milliseconds.
#[must_use]
pub const fn after_ms(ms: u64, what: What) -> Step {
    Step { after: Duration::from_millis(ms), what }
}

#[must_use]
pub fn content(ms: u64) -> Step {
    after_ms(ms, What::Content(" token".into()))
}

#[must_use]
pub fn reasoning(ms: u64) -> Step {
    after_ms(ms, What::Reasoning(" thought".into()))
}

/// What ends a good answer. `usage: None`: the server does not count.
#[must_use]
pub fn ending(usage: Option<u64>) -> Vec<Step> {
    let mut steps = vec![after_ms(0, What::Finish)];
    steps.extend(usage.map(|completion| after_ms(0, What::Usage { prompt: 5, completion })));
    steps.push(after_ms(0, What::Done));
    steps
}

/// `tokens` chunks of one token each at an even pace, with usage.
#[must_use]
pub fn steady(tokens: u64, first_ms: u64, gap_ms: u64) -> Vec<Step> {
    let gaps = (0..tokens).map(|i| content(if i == 0 { first_ms } else { gap_ms }));
    gaps.chain(ending(Some(tokens))).collect()
}

/// The same with gaps between 1 and `2 × gap_ms − 1` milliseconds, always the same ones.
#[must_use]
pub fn jitter(tokens: u64, first_ms: u64, gap_ms: u64) -> Vec<Step> {
    let mut state = 42_u64;
    let mut next = || {
        // Knuth's MMIX generator; its upper bits are good enough to scatter.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (state >> 33) % (2 * gap_ms - 1)
    };
    let gaps = (0..tokens).map(|i| content(if i == 0 { first_ms } else { next() }));
    gaps.chain(ending(Some(tokens))).collect()
}
