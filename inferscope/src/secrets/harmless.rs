//! The kinds of values that can be shown.
//!
//! Pure: each function decides whether one value is of a kind that reveals nothing, or how such a value is shown.

use super::shape::{begins_like_a_key, looks_random, looks_secret};
use super::{MASK, without_credentials};

/// Longer values are somebody's text.
const LONGEST: usize = 200;
/// Most letters and digits in a row: in the place of a name, and in any place.
const NAMED: usize = 24;
const UNNAMED: usize = 16;

/// Numbers, sizes, times and ratios, lists of them, and the few words that stand for a number.
pub(super) fn is_number(value: &str) -> bool {
    const WORDS: [&str; 14] = [
        "auto", "true", "false", "none", "null", "on", "off", "yes", "no", "all", "max", "min", "inf",
        "default",
    ];
    let one = |part: &str| {
        let digits = part.trim_start_matches(['-', '+']);
        let number = digits.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
        let unit = &digits[number.len()..];
        let numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+' | ':' | '/');
        WORDS.contains(&part.to_ascii_lowercase().as_str())
            || number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                && number.chars().all(numeric)
                && number.chars().any(|c| c.is_ascii_digit())
                && unit.len() <= 3
    };
    !value.is_empty()
        && value.len() <= LONGEST
        && value.split(',').all(|part| one(part.trim()) || is_time(part))
}

/// `1m 30s`.
fn is_time(text: &str) -> bool {
    const UNITS: [&str; 20] = [
        "ns", "us", "ms", "s", "sec", "secs", "second", "seconds", "m", "min", "mins", "minute", "minutes",
        "h", "hr", "hour", "hours", "d", "day", "days",
    ];
    let mut rest = text.trim();
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let next = unit.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(unit.len());
        if unit.len() == rest.len() || !UNITS.contains(&&unit[..next]) {
            return false;
        }
        rest = unit[next..].trim_start();
    }
    !text.trim().is_empty()
}

/// The name of a variable.
pub(crate) fn is_variable(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && value.len() <= 64
        && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !begins_like_a_key(value)
        && !looks_random(value, NAMED)
}

/// Names of models, of modules, of modes; lists and assignments of them.
pub(super) fn is_word(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/:,@=+-[]*~{}()".contains(c);
    !value.is_empty()
        && value.len() <= LONGEST
        && value.chars().all(plain)
        && !looks_secret(value)
        && !has_credentials(value)
        && !looks_random(&without_digests(value), NAMED)
}

/// A word in small letters, as programs call their modes.
pub(super) fn is_mode(value: &str) -> bool {
    let of_mode = |b: u8| b.is_ascii_lowercase() || b == b'_' || b == b'-';
    value.starts_with(|c: char| c.is_ascii_lowercase())
        && value.len() <= UNNAMED
        && value.bytes().all(of_mode)
        && !looks_secret(value)
}

/// A number of few digits. Values with a meaning of their own need a flag in a table.
pub(super) fn is_short_number(value: &str) -> bool {
    is_number(value) && value.bytes().filter(u8::is_ascii_digit).count() <= 6
}

/// The name of a host, or a pattern or socket of one, with its port.
pub(super) fn is_host(value: &str) -> bool {
    let (host, port) = value.rsplit_once(':').map_or((value, None), |(host, port)| (host, Some(port)));
    let of_host = |c: char| c.is_ascii_alphanumeric() || ".-_*".contains(c);
    is_address(value)
        || !host.is_empty()
            && host.chars().all(of_host)
            && port.is_none_or(|port| port.parse::<u16>().is_ok())
            && is_word(value)
}

/// A pattern over a model's tensors, with their placement: `blk\..*_exps\.=CPU`.
pub(super) fn is_pattern(value: &str) -> bool {
    is_word(&value.replace(['\\', '|', '^', '$', '?'], "."))
}

/// `user:password@host`.
fn has_credentials(value: &str) -> bool {
    value.find(':').is_some_and(|at| value[at..].contains('@'))
}

/// Removes the digests in the file names of a hub's and a registry's cache.
fn without_digests(path: &str) -> String {
    let digest = |segment: &str| {
        let hex = segment.strip_prefix("sha256-").unwrap_or(segment);
        matches!(hex.len(), 40 | 64) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut before = "";
    let named = |segment| {
        let holds = matches!(std::mem::replace(&mut before, segment), "snapshots" | "blobs");
        if holds && digest(segment) { "" } else { segment }
    };
    path.split('/').map(named).collect::<Vec<_>>().join("/")
}

/// `package.module:application`, with or without a call without arguments.
pub(super) fn is_application(value: &str) -> bool {
    let name = |part: &str| {
        part.split('.').all(|word| {
            word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let call = |part: &str| name(part.strip_suffix("()").unwrap_or(part));
    let plain = value.split_once(':').map_or_else(|| name(value), |(module, app)| name(module) && call(app));
    plain && is_word(value)
}

/// A known path.
pub(super) fn is_path(value: &str) -> bool {
    let plain =
        |c: char| c.is_alphanumeric() || "._/@+~=,:-*%[] ".contains(c) || c == char::REPLACEMENT_CHARACTER;
    !value.is_empty()
        && value.len() <= 4_096
        && value.chars().all(plain)
        && !looks_secret(value)
        && !has_credentials(value)
}

/// A value that can only be a path, whatever its flag.
pub(super) fn looks_like_path(value: &str) -> bool {
    let rooted = ["/", "./", "../", "~/"].iter().any(|start| value.starts_with(start));
    let segment = |s: &str| s.len() <= 64 && !looks_random(s, UNNAMED);
    let named = without_digests(value);
    rooted && is_path(value) && !value.contains(' ') && named.split('/').all(segment) || is_file(value)
}

/// The name of a file, by its ending.
fn is_file(value: &str) -> bool {
    const ENDINGS: [&str; 26] = [
        "py",
        "sh",
        "js",
        "mjs",
        "ts",
        "rb",
        "pl",
        "jar",
        "gguf",
        "bin",
        "safetensors",
        "json",
        "jsonl",
        "yaml",
        "yml",
        "toml",
        "ini",
        "cfg",
        "conf",
        "log",
        "txt",
        "so",
        "sock",
        "pid",
        "csv",
        "cu",
    ];
    let ending = value.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ending)| ending);
    ending.is_some_and(|e| ENDINGS.contains(&e)) && is_word(value) && !value.contains(['=', ',', ':', '@'])
}

/// An address of this machine or an IP, with or without a port.
pub(super) fn is_address(value: &str) -> bool {
    use std::net::{IpAddr, SocketAddr};
    let port = |text: &str| text.parse::<u16>().is_ok();
    value.parse::<IpAddr>().is_ok()
        || value.parse::<SocketAddr>().is_ok()
        || value == "localhost"
        || value.strip_prefix("localhost:").is_some_and(port)
}

/// The scheme, host and port of a URL, and the harmless part of its path; never its user, query and fragment.
pub(super) fn url(value: &str) -> Option<String> {
    let (scheme, _) = value.split_once("://")?;
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if scheme.is_empty() || scheme.len() > 24 || !scheme.chars().all(of_scheme) || looks_secret(scheme) {
        return None;
    }
    let bare = without_credentials(value);
    let rest = bare.get(scheme.len() + 3..)?;
    let (rest, tail) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], format!("{}{MASK}", &rest[at..=at])),
        None => (rest, String::new()),
    };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let of_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]_*@,".contains(c);
    if host.len() > 260 || !host.chars().all(of_host) || looks_secret(host) || looks_random(host, NAMED) {
        return None;
    }
    let place = |s: &str| {
        s.len() <= 32
            && s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
            && !looks_secret(s)
            && !looks_random(s, UNNAMED)
    };
    let path: Vec<&str> = path.split('/').map(|s| if place(s) { s } else { MASK }).collect();
    Some(format!("{scheme}://{host}{}{tail}", path.join("/")))
}
