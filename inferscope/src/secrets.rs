//! Values that must not be shown.
//!
//! Owns two rules. Values that are known to be secret ([`KnownSecrets`]: the API key, headers, passwords in URLs) may appear
//! nowhere. Of the command line of any program ([`Redact`], [`arguments`]) only what is known to be harmless is shown.
//! Pure: the caller hands in the environment. Used by `plan` (the known values, the own command line), by the figures
//! (command lines of the watched processes), and by `report` and `console` (the gates that all text passes).

mod argv;
mod flags;
mod harmless;
mod known;
mod shape;

pub use argv::{arguments, own_arguments};
#[cfg(test)]
pub(crate) use flags::is_decided;
pub(crate) use harmless::is_variable;
pub use known::KnownSecrets;
pub use known::{of_header, of_url, of_variable};
pub use shape::{is_secret_name, looks_secret};

/// What stands for what is not shown.
pub const MASK: &str = "***";

/// How much of command lines and prompts a report holds. Known secrets are in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redact {
    /// Command lines with the names of flags and the values that are known to be harmless.
    #[default]
    Names,
    /// No command lines and no prompts.
    Full,
    /// Command lines as they are.
    Off,
}

impl Redact {
    /// As the flag and the report name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Full => "full",
            Self::Off => "off",
        }
    }

    /// The command line of a watched process as the report may hold it.
    #[must_use]
    pub fn command_line(self, argv: Option<&[String]>) -> Option<Vec<String>> {
        match self {
            Self::Names => argv.map(arguments),
            Self::Full => None,
            Self::Off => argv.map(<[String]>::to_vec),
        }
    }
}

/// `text` with the user and password of a URL in it (`scheme://user:password@host`) as `***`.
#[must_use]
pub fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // A password may hold what ends a host elsewhere; then the last @ is the one before the host.
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@').or_else(|| rest.rfind('@').filter(|_| rest[..end].contains(':')));
    match at {
        Some(at) => format!("{scheme}://{MASK}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// The same of what was given as a server's address, with or without a scheme, and without what a query, a fragment or
/// a place in it may tell.
#[must_use]
pub fn without_tokens(address: &str) -> String {
    const SCHEME: &str = "http://";
    let bare = match address.contains("://") {
        true => without_credentials(address),
        false => without_credentials(&format!("{SCHEME}{address}"))[SCHEME.len()..].to_owned(),
    };
    let (rest, tail) = match bare.find(['?', '#']) {
        Some(at) => (&bare[..at], format!("{}{MASK}", &bare[at..=at])),
        None => (&bare[..], String::new()),
    };
    let shown = |part| if looks_secret(part) || shape::looks_random(part, 16) { MASK } else { part };
    rest.split('/').map(shown).collect::<Vec<_>>().join("/") + &tail
}

/// `text` with all that begins as a key does as `***`: one that was typed where none belongs is not repeated.
#[must_use]
pub fn without_keys(text: &str) -> String {
    let of_key = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let drawn = |word: &str| word.len() >= 12 && word.contains(|c: char| c.is_ascii_digit());
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !of_key(c)).unwrap_or(rest.len()));
        shown.push_str(if drawn(word) && shape::begins_like_a_key(word) { MASK } else { word });
        let between = after.find(of_key).unwrap_or(after.len());
        shown.push_str(&after[..between]);
        rest = &after[between..];
    }
    shown
}

#[cfg(test)]
mod tests;
