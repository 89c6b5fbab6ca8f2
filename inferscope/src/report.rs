//! From the report's model to bytes.
//!
//! Owns the forms of the report: the JSON document, its schema, the text for a terminal. Never
//! computes a figure (`figures` does) and never writes anywhere: a form is bytes in memory. `view` is the table of the
//! forms, `catalogue` that of the figures. `plan` chooses forms, `session` writes them.

pub(crate) mod build;
pub mod catalogue;
mod json;
pub mod model;
mod schema;
mod text;
pub mod view;

pub use json::to_json;
pub use schema::json_schema;
pub(crate) use text::humanize;
pub use text::{Style, to_text};
