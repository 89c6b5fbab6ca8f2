//! The headers of every request.
//!
//! Owns the set of headers. A header that the user gives wins over one of ours. Pure. Used by `http`.

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::load::error::LoadError;
use crate::plan::HttpPlan;

/// The headers that go with every request.
///
/// # Errors
/// A header or a key that can't be sent.
pub(super) fn of(plan: &HttpPlan) -> Result<HeaderMap, LoadError> {
    let mut map = HeaderMap::new();
    map.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    map.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    map.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("inferscope/", env!("CARGO_PKG_VERSION"))),
    );
    if let Some(key) = &plan.api_key {
        let mut value =
            HeaderValue::try_from(format!("Bearer {}", key.reveal())).map_err(|_| LoadError::ApiKey)?;
        value.set_sensitive(true);
        map.insert(header::AUTHORIZATION, value);
    }
    // A header of the user replaces ours. Several of the user's with one name all stay.
    let mut own: Vec<HeaderName> = map.keys().cloned().collect();
    for (name, value) in &plan.headers {
        let error = || LoadError::Header { name: name.clone() };
        let header_name = HeaderName::try_from(name.as_str()).map_err(|_| error())?;
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| error())?;
        value.set_sensitive(true);
        if let Some(at) = own.iter().position(|n| *n == header_name) {
            own.swap_remove(at);
            map.insert(header_name, value);
        } else {
            map.append(header_name, value);
        }
    }
    Ok(map)
}
