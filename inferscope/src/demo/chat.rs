//! The OpenAI chat API of the demo's server: parses requests, builds chunks and errors.
//!
//! Owns the JSON; never touches a socket or a clock. Called by the worker.

use serde_json::{Value, json};

use super::MODEL;

/// Size of the simulated context.
const MAX_TOKENS: u64 = 4096;
const DEFAULT_TOKENS: u64 = 16;

/// The text of the tokens, in a cycle.
const WORDS: [&str; 12] = [
    "These",
    " tokens",
    " are",
    " synthetic",
    ":",
    " the",
    " processes",
    " behind",
    " them",
    " are",
    " real",
    ".\n",
];

/// A valid request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) tokens: u32,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Words of the prompt: the count of the simulated tokenizer.
    prompt_tokens: u64,
}

/// An error in the form `{"error": {…}}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    message: String,
}

impl ApiError {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn body(&self) -> Value {
        let kind = match self.status {
            404 => "NotFoundError",
            500.. => "InternalServerError",
            _ => "BadRequestError",
        };
        json!({"error": {"message": self.message, "type": kind, "param": null, "code": self.status}})
    }
}

impl Ask {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|e| ApiError::new(400, format!("the request's body is not valid JSON: {e}")))?;
        let model = body["model"].as_str().unwrap_or_default();
        if model != MODEL {
            return Err(ApiError::new(404, format!("The model `{model}` does not exist.")));
        }
        let messages = body["messages"]
            .as_array()
            .filter(|messages| !messages.is_empty())
            .ok_or_else(|| ApiError::new(400, "`messages` must be a list of at least one message"))?;
        let words =
            |message: &Value| message["content"].as_str().map_or(1, |text| text.split_whitespace().count());
        let prompt_tokens = messages.iter().map(words).sum::<usize>() as u64;
        let limit =
            [&body["max_completion_tokens"], &body["max_tokens"]].into_iter().find(|limit| !limit.is_null());
        let tokens = match limit {
            None => DEFAULT_TOKENS,
            Some(limit) => limit.as_u64().filter(|n| (1..=MAX_TOKENS).contains(n)).ok_or_else(|| {
                ApiError::new(
                    400,
                    format!("`max_tokens` must be a number from 1 to {MAX_TOKENS}, got {limit}"),
                )
            })?,
        };
        Ok(Self {
            // The value is within MAX_TOKENS.
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            stream: body["stream"] == true,
            include_usage: body["stream_options"]["include_usage"] == true,
            prompt_tokens,
        })
    }
}

/// The parts of one response.
pub(super) struct ChatCompletion<'a> {
    ask: &'a Ask,
    id: String,
    created_unix_s: u64,
}

impl<'a> ChatCompletion<'a> {
    pub(super) fn new(ask: &'a Ask, id: String, created_unix_s: u64) -> Self {
        Self { ask, id, created_unix_s }
    }

    /// The opening chunk: the role, without content.
    pub(super) fn role(&self) -> Value {
        self.chunk(json!({"role": "assistant", "content": null}), Value::Null)
    }

    pub(super) fn token(&self, index: u32) -> Value {
        self.chunk(json!({"content": word(index)}), Value::Null)
    }

    pub(super) fn finish(&self) -> Value {
        self.chunk(json!({}), json!("length"))
    }

    pub(super) fn usage(&self) -> Value {
        let mut chunk = self.head("chat.completion.chunk");
        chunk["choices"] = json!([]);
        chunk["usage"] = self.counts();
        chunk
    }

    /// The whole response, if no stream was requested.
    pub(super) fn whole(&self) -> Value {
        let text: String = (0..self.ask.tokens).map(word).collect();
        let mut answer = self.head("chat.completion");
        answer["choices"] = json!([
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
        ]);
        answer["usage"] = self.counts();
        answer
    }

    fn chunk(&self, delta: Value, finish_reason: Value) -> Value {
        let mut chunk = self.head("chat.completion.chunk");
        chunk["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]);
        chunk
    }

    fn head(&self, object: &str) -> Value {
        json!({"id": self.id, "object": object, "created": self.created_unix_s, "model": MODEL})
    }

    fn counts(&self) -> Value {
        let (prompt, completion) = (self.ask.prompt_tokens, u64::from(self.ask.tokens));
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
    }
}

/// The response to `GET /v1/models`.
pub(super) fn models() -> Value {
    json!({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "inferscope"}]})
}

fn word(index: u32) -> &'static str {
    WORDS[index as usize % WORDS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<Ask, ApiError> {
        Ask::parse(body.to_string().as_bytes())
    }

    #[test]
    fn a_request_is_understood() {
        let ask = parse(json!({
            "model": MODEL, "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 3,
            "messages": [{"role": "user", "content": "why is the sky blue"}],
        }));
        assert_eq!(ask.unwrap(), Ask { tokens: 3, stream: true, include_usage: true, prompt_tokens: 5 });
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        let message = json!([{"role": "user", "content": "x"}]);
        let cases = [
            (json!({"model": "other", "messages": message}), 404, "The model `other` does not exist."),
            (json!({"messages": message}), 404, "The model `` does not exist."),
            (json!({"model": MODEL}), 400, "`messages` must be"),
            (json!({"model": MODEL, "messages": message, "max_tokens": 0}), 400, "`max_tokens` must be"),
            (json!({"model": MODEL, "messages": message, "max_tokens": "9"}), 400, "`max_tokens` must be"),
        ];
        for (body, status, said) in cases {
            let error = parse(body).unwrap_err();
            assert_eq!(error.status, status);
            let body = error.body();
            assert_eq!(body["error"]["code"], status);
            assert!(body["error"]["message"].as_str().unwrap().starts_with(said), "{body}");
        }
        let error = Ask::parse(b"{").unwrap_err();
        assert!(error.message.contains("not valid JSON"), "{}", error.message);
    }

    #[test]
    fn an_answer_has_its_tokens_and_its_usage() {
        let ask = Ask { tokens: 14, stream: true, include_usage: true, prompt_tokens: 2 };
        let answer = ChatCompletion::new(&ask, "id".into(), 1);
        assert_eq!(answer.role()["choices"][0]["delta"]["content"], Value::Null);
        assert_eq!(answer.token(12)["choices"][0]["delta"]["content"], "These");
        assert_eq!(answer.finish()["choices"][0]["finish_reason"], "length");
        assert_eq!(answer.usage()["choices"], json!([]));
        assert_eq!(answer.usage()["usage"]["total_tokens"], 16);
        let text = answer.whole()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        assert!(text.ends_with(".\nThese tokens"), "{text}");
    }
}
