//! The JSON Schema of the report.
//!
//! Owns nothing but the printing: the schema comes from the types in `model`, so that the two can't
//! drift apart. Called by `inferscope schema`, and by the check that compares it with the one in git.

use super::model::Report;

/// Draft 2020-12, indented, with a newline at its end. The same text for the same types.
#[must_use]
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(Report);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema has string keys");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_names_the_contracts_sections_by_their_serialized_names() {
        let schema: serde_json::Value = serde_json::from_str(&json_schema()).unwrap();
        let required: Vec<&str> =
            schema["required"].as_array().unwrap().iter().filter_map(|v| v.as_str()).collect();
        for section in [
            "schema_version",
            "tool",
            "host",
            "run",
            "validity",
            "target",
            "requests",
            "processes",
            "resources",
            "gpus",
            "efficiency",
            "insights",
            "self",
        ] {
            assert!(required.contains(&section), "{section} is not required");
        }
        for section in ["load", "timing", "stalls"] {
            assert!(schema["properties"][section].is_object(), "{section} is not in the schema");
        }
    }

    #[test]
    fn it_is_the_same_text_every_time() {
        assert_eq!(json_schema(), json_schema());
        assert!(json_schema().ends_with("}\n"));
    }
}
