//! What must not be shown.
//!
//! Owns the rules that hold for any text: today, credentials in a URL. Pure. Used by `plan` (the own command
//! line) and `observe` (those of the watched processes), which add what is special to theirs.

/// `text` with the user and password of a URL in it (`scheme://user:password@host`) as `***`.
#[must_use]
pub fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => text.to_owned(),
    }
}
