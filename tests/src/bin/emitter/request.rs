//! HTTP requests, as far as clients of an OpenAI-compatible API send them.
//!
//! Owns their parsing from whatever has been read so far. Pure. Called by `server`.

use serde_json::Value;

/// A head beyond this is no client's of ours.
const MOST_HEAD_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// `x-request-id`.
    pub(crate) id: Option<String>,
    /// The client wants the connection closed after the answer.
    pub(crate) last: bool,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Completions,
}

/// What a completion request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) api: Api,
    pub(crate) stream: bool,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) prompt_bytes: usize,
}

/// Takes the first request off `inbox`; `None` until it is there to its end.
pub(crate) fn take(inbox: &mut Vec<u8>) -> Result<Option<Request>, String> {
    let Some(at) = inbox.windows(4).position(|window| window == b"\r\n\r\n") else {
        let too_long = inbox.len() > MOST_HEAD_BYTES;
        return if too_long { Err("the request's head has no end".to_owned()) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&inbox[..at]).map_err(|_| "the request's head is no text")?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path)) = (first.next(), first.next()) else {
        return Err("no request line".to_owned());
    };
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let header = |wanted: &str| {
        headers.iter().find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| value.trim()))
    };
    if header("transfer-encoding").is_some() {
        return Err("a request's body needs a Content-Length here".to_owned());
    }
    let length = header("content-length").map_or(Ok(0), str::parse::<usize>);
    let end = at + 4 + length.map_err(|_| "the Content-Length is no number")?;
    if inbox.len() < end {
        return Ok(None);
    }
    let request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        id: header("x-request-id").map(str::to_owned),
        last: header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        body: inbox[at + 4..end].to_vec(),
    };
    inbox.drain(..end);
    Ok(Some(request))
}

impl Ask {
    /// What a completion request's body says; a body that says nothing asks for a stream.
    pub(crate) fn of(api: Api, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let limit = ["max_tokens", "max_completion_tokens"].iter().find_map(|name| body[*name].as_u64());
        let messages = body["messages"].as_array().into_iter().flatten();
        let said = messages.map(|message| text_bytes(&message["content"])).sum::<usize>();
        Self {
            api,
            stream: body["stream"] != false,
            max_tokens: limit.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            prompt_bytes: said + text_bytes(&body["prompt"]),
        }
    }
}

/// Text, or a list of parts with text.
fn text_bytes(content: &Value) -> usize {
    match content {
        Value::String(text) => text.len(),
        Value::Array(parts) => parts.iter().map(text_bytes).sum(),
        Value::Object(part) => part.get("text").map_or(0, text_bytes),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_one_by_one_and_only_whole() {
        let text = b"POST /v1/x HTTP/1.1\r\nX-Request-ID: a-1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\nConnection: Close\r\n\r\n";
        let mut inbox = Vec::new();
        let mut taken = Vec::new();
        for byte in text {
            inbox.push(*byte);
            taken.extend(take(&mut inbox).unwrap());
        }
        let [first, second] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!((first.path.as_str(), &first.body[..]), ("/v1/x", &b"abc"[..]));
        assert_eq!((first.id.as_deref(), first.last), (Some("a-1"), false));
        assert_eq!((second.method.as_str(), second.last), ("GET", true));
        assert!(inbox.is_empty());
        assert!(take(&mut vec![b'x'; MOST_HEAD_BYTES + 1]).is_err());
        assert!(take(&mut b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_vec()).is_err());
    }

    #[test]
    fn a_body_says_how_much_and_how() {
        let body = br#"{"messages": [{"content": "abc"}, {"content": [{"type": "text", "text": "de"}]}], "max_tokens": 7}"#;
        let ask = Ask::of(Api::Chat, body);
        assert_eq!(ask, Ask { api: Api::Chat, stream: true, max_tokens: Some(7), prompt_bytes: 5 });
        let ask = Ask::of(Api::Completions, br#"{"prompt": "abcd", "stream": false}"#);
        assert_eq!((ask.stream, ask.max_tokens, ask.prompt_bytes), (false, None, 4));
    }
}
