//! The error message of a server, as one line.
//!
//! Owns the search for the message in a response (a JSON error in its many shapes, an HTML page, plain text) and its
//! shortening to one line of a report. Pure. Used by `interpret`, `request`, `http` and `models`.

use serde_json::Value;

/// Longest message kept, in characters.
const MESSAGE_CHARS: usize = 300;
/// Longest excerpt of bytes that could not be parsed.
const EXCERPT_BYTES: usize = 80;
/// Deepest nesting of errors in errors.
const DEPTH: u32 = 4;

/// The message in a JSON error: `{"error": {"message": …}}`, `{"error": …}`, `{"message": …}`,
/// `{"detail": …}` with a text or with FastAPI's list of `{"loc", "msg"}`, or a bare text.
pub(super) fn in_value(value: &Value) -> Option<String> {
    words(value, DEPTH).map(|w| one_line(&w)).filter(|w| !w.is_empty())
}

fn words(value: &Value, depth: u32) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let messages: Vec<String> = items.iter().take(3).filter_map(|item| words(item, depth)).collect();
            (!messages.is_empty()).then(|| messages.join("; "))
        }
        Value::Object(map) => {
            let message = ["error", "message", "detail", "msg", "error_message"]
                .iter()
                .filter_map(|key| map.get(*key))
                .find_map(|inner| words(inner, depth))?;
            // FastAPI names the rejected field beside the message.
            match map.get("loc").and_then(Value::as_array).and_then(|l| l.last()).and_then(Value::as_str) {
                Some(field) => Some(format!("{field}: {message}")),
                None => Some(message),
            }
        }
        _ => None,
    }
}

/// The message in an error's body: from JSON, else an HTML page's title, else the first line that is not blank.
pub(super) fn in_body(body: &[u8]) -> Option<String> {
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        return in_value(&value);
    }
    let text = String::from_utf8_lossy(body);
    let message = if text.trim_start().starts_with('<') {
        let lower = text.to_ascii_lowercase();
        let from = lower.find("<title>")? + "<title>".len();
        let title = text.get(from..)?;
        one_line(&title[..title.find('<').unwrap_or(title.len())])
    } else {
        one_line(text.lines().find(|line| !line.trim().is_empty())?)
    };
    (!message.is_empty()).then_some(message)
}

/// The beginning of bytes that could not be parsed, for a message.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    let cut = bytes.len() > EXCERPT_BYTES;
    let head = one_line(&String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT_BYTES)]));
    if cut { format!("{head}…") } else { head }
}

/// `text` on one line: control characters and runs of blanks become one blank, and a long text is cut.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MESSAGE_CHARS));
    let mut chars = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if chars > 0 {
            line.push(' ');
            chars += 1;
        }
        for c in word.chars() {
            if chars >= MESSAGE_CHARS {
                line.push('…');
                return line;
            }
            line.push(c);
            chars += 1;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_in_every_shape_of_error() {
        for (body, said) in [
            (r#"{"error":{"message":"no such model","code":404}}"#, Some("no such model")),
            (r#"{"error":"out of memory"}"#, Some("out of memory")),
            (r#"{"object":"error","message":"too long","type":"BadRequestError"}"#, Some("too long")),
            (r#"{"detail":"Not Found"}"#, Some("Not Found")),
            (
                r#"{"detail":[{"loc":["body","model"],"msg":"field required","input":"x"}]}"#,
                Some("model: field required"),
            ),
            (r#"{"error":null,"message":"m"}"#, Some("m")),
            (r#"{"error":{}}"#, None),
            ("<!DOCTYPE html><html><head><TITLE>502 Bad\nGateway</TITLE>", Some("502 Bad Gateway")),
            ("<html>", None),
            ("\n  upstream\tconnect error\nmore", Some("upstream connect error")),
            ("", None),
            (" \n", None),
        ] {
            assert_eq!(in_body(body.as_bytes()).as_deref(), said, "{body}");
        }
    }

    #[test]
    fn a_message_is_one_short_line_without_control_characters() {
        let said = one_line(&format!("a\u{1b}[31m\r\nb {}", "é".repeat(1000)));
        assert!(said.starts_with("a [31m b é") && said.ends_with('…'), "{said}");
        assert_eq!(said.chars().count(), MESSAGE_CHARS + 1);
        assert_eq!(excerpt(&[0xff; 100]).chars().count(), EXCERPT_BYTES + 1);
    }

    #[test]
    fn nesting_without_end_is_not_followed() {
        let deep = format!("{}\"x\"{}", "{\"error\":".repeat(50), "}".repeat(50));
        assert_eq!(in_body(deep.as_bytes()), None);
    }
}
