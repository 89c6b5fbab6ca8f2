//! The server's model list, and which model to ask for.
//!
//! Owns the reading of `GET /v1/models` in the shapes that servers give it and the choice. Pure. Called
//! by the driver before the first request.

use serde_json::Value;

use super::error::{self, LoadError};
use super::server_message;

/// A served model: its id first, then the other names that it answers to.
type Names = Vec<String>;

/// The models in `{"data": [{"id": …}]}` (OpenAI), `{"models": [{"name": …}]}` or a bare list; `None`
/// where the body is nothing like that.
pub(super) fn parse(body: &[u8]) -> Option<Vec<Names>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let items = match &value {
        Value::Array(items) => items,
        Value::Object(map) => ["data", "models"].iter().find_map(|key| map.get(*key)?.as_array())?,
        _ => return None,
    };
    Some(items.iter().filter_map(names).collect())
}

/// Whether a server with this list takes the wish for usage with each chunk. Those that are not known to may refuse
/// the request for it. vLLM: `continuous_usage_stats` since 0.5.2; SGLang has the same.
pub(super) fn gives_usage_with_each_chunk(body: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return false };
    let items = value.get("data").and_then(Value::as_array);
    items.into_iter().flatten().any(|item| {
        item.get("owned_by").and_then(Value::as_str).is_some_and(|owner| matches!(owner, "vllm" | "sglang"))
    })
}

fn names(item: &Value) -> Option<Names> {
    let own = match item {
        Value::String(id) => Some(id.as_str()),
        _ => ["id", "name", "model"].iter().find_map(|key| item.get(*key)?.as_str()),
    };
    let aliases =
        item.get("aliases").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    Some(std::iter::once(own?).chain(aliases).map(server_message::one_line).collect())
}

/// The model to ask for: `asked`, or the only one. An empty list tells nothing: then it is `asked`, or none. Many servers
/// take what they don't list (short names, adapters, gateways), so that this is a doubt, told beside.
///
/// # Errors
/// None was asked for and there are several.
pub(super) fn choose(
    asked: Option<&str>,
    served: &[Names],
) -> Result<(Option<String>, Option<String>), LoadError> {
    let ids = || served.iter().filter_map(|names| names.first().cloned()).collect::<Vec<_>>();
    match (asked, served) {
        (asked, []) => Ok((asked.map(str::to_owned), None)),
        (Some(asked), served) if served.iter().flatten().any(|name| answers_to(name, asked)) => {
            Ok((Some(asked.to_owned()), None))
        }
        (Some(asked), _) => {
            let doubt = format!(
                "the server does not list model '{asked}' and was asked for it all the same; it lists {}",
                error::list(&ids())
            );
            Ok((Some(asked.to_owned()), Some(doubt)))
        }
        (None, [only]) => Ok((only.first().cloned(), None)),
        (None, _) => Err(LoadError::SeveralModels { served: ids() }),
    }
}

/// Whether the model listed as `name` is meant by `asked`: Ollama adds `:latest` to a name without a
/// tag, gateways list patterns such as `openai/*`.
fn answers_to(name: &str, asked: &str) -> bool {
    name == asked
        || name.strip_suffix(":latest") == Some(asked)
        || name.strip_suffix('*').is_some_and(|stem| asked.starts_with(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_are_known_to_take_it_are_asked_for_usage_with_each_chunk() {
        for (body, asked) in [
            (r#"{"object":"list","data":[{"id":"m","owned_by":"vllm"}]}"#, true),
            (r#"{"data":[{"id":"m","owned_by":"sglang"}]}"#, true),
            (r#"{"data":[{"id":"m","owned_by":"llamacpp"}]}"#, false),
            (r#"{"data":[{"id":"vllm","owned_by":7}]}"#, false),
            ("no JSON", false),
        ] {
            assert_eq!(gives_usage_with_each_chunk(body.as_bytes()), asked, "{body}");
        }
    }

    fn chosen(asked: Option<&str>, body: &str) -> Result<Option<String>, LoadError> {
        choose(asked, &parse(body.as_bytes()).expect("a model list")).map(|chosen| chosen.0)
    }

    #[test]
    fn the_only_model_is_chosen_from_every_shape_of_list() {
        for body in [
            r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#,
            r#"{"models":[{"name":"m","model":"m"}],"object":"list","data":[{"id":"m"}]}"#,
            r#"[{"id":"m"}]"#,
            r#"{"data":["m"]}"#,
            r#"{"data":[{"id":"m"},{"object":"model"}]}"#,
        ] {
            assert_eq!(chosen(None, body), Ok(Some("m".into())), "{body}");
        }
        for body in ["", "ok", "<html>", "7", r#"{"status":"ok"}"#] {
            assert!(parse(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn a_model_that_is_not_listed_is_asked_for_all_the_same_and_told() {
        let body = r#"{"data":[{"id":"a","aliases":["alias"]},{"id":"b:latest"},{"id":"openai/*"}]}"#;
        for asked in ["a", "alias", "b", "b:latest", "openai/gpt"] {
            assert_eq!(chosen(Some(asked), body), Ok(Some(asked.into())));
        }
        let served: Vec<String> = ["a", "b:latest", "openai/*"].map(String::from).into();
        let list = parse(body.as_bytes()).unwrap();
        let (model, doubt) = choose(Some("c"), &list).unwrap();
        assert_eq!(model.as_deref(), Some("c"));
        assert!(doubt.unwrap().ends_with("it lists a, b:latest, openai/*"));
        assert_eq!(choose(Some("b"), &list), Ok((Some("b".into()), None)));
        assert_eq!(chosen(None, body), Err(LoadError::SeveralModels { served }));
    }

    #[test]
    fn an_empty_list_tells_nothing() {
        assert_eq!(chosen(Some("m"), r#"{"data":[]}"#), Ok(Some("m".into())));
        assert_eq!(chosen(None, r#"{"data":[]}"#), Ok(None));
    }
}
