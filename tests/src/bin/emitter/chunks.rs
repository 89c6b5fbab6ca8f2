//! The bytes of an answer.
//!
//! Owns the JSON of chunks and documents and their HTTP framing. Pure. Called by `server` and `hostile`.

use serde_json::{Value, json};

use crate::request::Api;

pub(crate) const MODEL: &str = "emitter";
/// One token, for this server and for any tokenizer of a client's.
const TOKEN: &str = " tok";

pub(crate) const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Tokens so far, where the server tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) prompt: usize,
    pub(crate) completion: u32,
}

impl Counted {
    fn json(self) -> Value {
        let (prompt, completion) = (self.prompt, self.completion);
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion as usize})
    }
}

/// One chunk of the transfer.
pub(crate) fn framed(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

pub(crate) fn event(data: &Value) -> Vec<u8> {
    framed(format!("data: {data}\n\n").as_bytes())
}

pub(crate) fn role(api: Api) -> Vec<u8> {
    match api {
        Api::Chat => delta(json!({"role": "assistant", "content": null}), Value::Null),
        Api::Completions => text("", Value::Null, None),
    }
}

pub(crate) fn tokens(api: Api, n: u32, reasoning: bool, counted: Option<Counted>) -> Vec<u8> {
    let said = TOKEN.repeat(n as usize);
    // By hand, as this is what the server does 50,000 times a second.
    let usage = counted.map_or_else(String::new, |counted| format!(r#","usage":{}"#, counted.json()));
    let (object, choice) = match api {
        Api::Chat => {
            let field = if reasoning { "reasoning_content" } else { "content" };
            ("chat.completion.chunk", format!(r#""delta":{{"{field}":"{said}"}}"#))
        }
        Api::Completions => ("text_completion", format!(r#""text":"{said}""#)),
    };
    let data = format!(
        "data: {{\"id\":\"emitter-1\",\"object\":\"{object}\",\"created\":0,\"model\":\"{MODEL}\",\
         \"choices\":[{{\"index\":0,{choice},\"finish_reason\":null}}]{usage}}}\n\n"
    );
    framed(data.as_bytes())
}

pub(crate) fn finish(api: Api) -> Vec<u8> {
    match api {
        Api::Chat => delta(json!({}), json!("stop")),
        Api::Completions => text("", json!("stop"), None),
    }
}

pub(crate) fn usage(api: Api, counted: Counted) -> Vec<u8> {
    event(&chunk(api, json!([]), Some(counted)))
}

/// What ends a stream: its mark and the transfer's last chunk.
pub(crate) fn done() -> Vec<u8> {
    [framed(b"data: [DONE]\n\n"), LAST_CHUNK.to_vec()].concat()
}

pub(crate) fn error() -> Vec<u8> {
    event(&json!({"error": {"message": "the engine fell over", "type": "server_error", "code": 500}}))
}

/// The whole answer where no stream was asked for.
pub(crate) fn document(api: Api, counted: Counted) -> Value {
    let said = TOKEN.repeat(counted.completion as usize);
    let (object, choice) = match api {
        Api::Chat => (
            "chat.completion",
            json!({"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}),
        ),
        Api::Completions => ("text_completion", json!({"index": 0, "text": said, "finish_reason": "stop"})),
    };
    json!({"id": "emitter-1", "object": object, "created": 0, "model": MODEL, "choices": [choice], "usage": counted.json()})
}

/// An answer in one piece.
pub(crate) fn response(status: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

pub(crate) fn models() -> Value {
    json!({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "inferscope-tests"}]})
}

fn delta(delta: Value, finish: Value) -> Vec<u8> {
    event(&chunk(Api::Chat, json!([{"index": 0, "delta": delta, "finish_reason": finish}]), None))
}

fn text(text: &str, finish: Value, counted: Option<Counted>) -> Vec<u8> {
    event(&chunk(Api::Completions, json!([{"index": 0, "text": text, "finish_reason": finish}]), counted))
}

fn chunk(api: Api, choices: Value, counted: Option<Counted>) -> Value {
    let object = match api {
        Api::Chat => "chat.completion.chunk",
        Api::Completions => "text_completion",
    };
    let mut chunk =
        json!({"id": "emitter-1", "object": object, "created": 0, "model": MODEL, "choices": choices});
    if let Some(counted) = counted {
        chunk["usage"] = counted.json();
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_written_by_hand_are_json() {
        for (api, pointer) in [(Api::Chat, "/choices/0/delta/content"), (Api::Completions, "/choices/0/text")]
        {
            let bytes = tokens(api, 2, false, Some(Counted { prompt: 3, completion: 2 }));
            let text = String::from_utf8(bytes).unwrap();
            let (size, rest) = text.split_once("\r\n").unwrap();
            let data = &rest[..usize::from_str_radix(size, 16).unwrap()];
            assert_eq!(&rest[data.len()..], "\r\n");
            let json = data.strip_prefix("data: ").and_then(|data| data.strip_suffix("\n\n")).unwrap();
            let json: Value = serde_json::from_str(json).unwrap();
            assert_eq!(json.pointer(pointer).unwrap(), " tok tok");
            assert_eq!(json["usage"]["total_tokens"], 5);
        }
        assert!(String::from_utf8(tokens(Api::Chat, 1, true, None)).unwrap().contains("reasoning_content"));
    }
}
