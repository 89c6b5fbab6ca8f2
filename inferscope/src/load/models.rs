//! Which model to ask for. Pure.

use serde_json::Value;

use super::LoadError;

/// Names in a message; a gateway can list hundreds.
const SHOWN: usize = 8;

/// The ids of a `/v1/models` answer; `None` where it is none.
pub(super) fn ids(answer: &Value) -> Option<Vec<String>> {
    let data = answer.get("data")?.as_array()?;
    Some(data.iter().filter_map(|m| m.get("id")?.as_str().map(str::to_owned)).collect())
}

/// `listed` is `None` where the server has no such list.
pub(super) fn choose(asked: Option<&str>, listed: Option<Vec<String>>) -> Result<Option<String>, LoadError> {
    let Some(listed) = listed.filter(|l| !l.is_empty()) else { return Ok(asked.map(str::to_owned)) };
    match asked {
        Some(asked) if listed.iter().any(|m| m == asked) => Ok(Some(asked.to_owned())),
        Some(asked) => {
            Err(LoadError::ModelNotServed { asked: super::said::one_line(asked), served: names(&listed) })
        }
        None if listed.len() == 1 => Ok(listed.into_iter().next()),
        None => Err(LoadError::ManyModels { count: listed.len(), served: names(&listed) }),
    }
}

fn names(listed: &[String]) -> String {
    let more = if listed.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", super::said::one_line(&listed[..listed.len().min(SHOWN)].join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_model_is_taken_and_several_must_be_chosen_from() {
        let list = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(choose(None, list(&["a"])).unwrap().as_deref(), Some("a"));
        assert_eq!(choose(Some("b"), list(&["a", "b"])).unwrap().as_deref(), Some("b"));
        assert!(matches!(choose(None, list(&["a", "b"])), Err(LoadError::ManyModels { count: 2, .. })));
        assert!(matches!(choose(Some("c"), list(&["a"])), Err(LoadError::ModelNotServed { .. })));
        assert_eq!(choose(Some("c"), None).unwrap().as_deref(), Some("c"));
        assert_eq!(choose(None, list(&[])).unwrap(), None);
    }
}
