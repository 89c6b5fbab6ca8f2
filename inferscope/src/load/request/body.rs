//! The JSON body of a request.
//!
//! Owns its fields, and reads from a finished body what it asks for. Pure. Called by `prompt_source`.

use serde_json::{Map, Value, json};

use crate::event::Asked;
use crate::plan::{Api, LoadPlan};

/// What one request asks for.
#[derive(Debug, Clone)]
pub(in crate::load) struct BodySpec<'a> {
    pub(in crate::load) model: Option<&'a str>,
    /// Messages, or a text for the completions API.
    pub(in crate::load) prompt: Value,
    pub(in crate::load) max_tokens: u32,
    /// The server accepts the option for usage in each chunk, which gives the tokens of each chunk.
    pub(in crate::load) usage_with_each_chunk: bool,
}

/// A request's JSON body. `--extra-body` overrides it key by key (an object in it replaces the whole object).
pub(in crate::load) fn body(plan: &LoadPlan, ask: BodySpec<'_>) -> Value {
    let mut body = Map::new();
    if let Some(model) = ask.model {
        body.insert("model".into(), model.into());
    }
    match plan.api {
        Api::Chat => body.insert("messages".into(), ask.prompt),
        Api::Completions => body.insert("prompt".into(), ask.prompt),
    };
    body.insert("max_tokens".into(), ask.max_tokens.into());
    body.insert("temperature".into(), plan.temperature.into());
    if let Some(seed) = plan.seed {
        body.insert("seed".into(), seed.into());
    }
    if plan.ignore_eos {
        body.insert("ignore_eos".into(), true.into());
    }
    body.insert("stream".into(), true.into());
    let mut options = json!({"include_usage": true});
    if ask.usage_with_each_chunk {
        options["continuous_usage_stats"] = true.into();
    }
    body.insert("stream_options".into(), options);
    for (key, value) in &plan.extra_body {
        body.insert(key.clone(), value.clone());
    }
    Value::Object(body)
}

/// What `body` asks for, whether its fields are ours or the user's.
pub(in crate::load) fn asked(body: &Value, body_bytes: usize) -> Asked {
    let count = |name: &str| body.get(name).and_then(Value::as_u64);
    // Some servers count all candidates of `best_of`.
    let each = count("n").max(count("best_of")).unwrap_or(1).max(1);
    let prompts = body.get("prompt").and_then(Value::as_array);
    // A list of numbers is the tokens of one prompt.
    let prompts = prompts.map_or(1, |list| list.iter().filter(|p| !p.is_number()).count().max(1) as u64);
    let messages = body.get("messages").and_then(Value::as_array).into_iter().flatten();
    let parts = messages.filter_map(|message| message.get("content")?.as_array()).flatten();
    let attached = parts.filter(|part| part.get("type").and_then(Value::as_str) != Some("text")).count();
    Asked {
        max_tokens: count("max_tokens").max(count("max_completion_tokens")),
        choices: u32::try_from(each.saturating_mul(prompts)).unwrap_or(u32::MAX),
        body_bytes: body_bytes as u64,
        attachments: u32::try_from(attached).unwrap_or(u32::MAX),
    }
}
