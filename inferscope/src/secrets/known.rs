//! The values that are known to be secret.
//!
//! Owns the forms in which a server, a program or an error message may repeat such a value, and masks them in any text.
//! Pure. Created by `plan`; used where text leaves the program (`report`, `console`).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::MASK;
use super::shape::{looks_random, looks_secret};

/// Shorter values occur in too many words to be searched for.
const SHORTEST: usize = 4;
/// A value of this length that is no word is also masked within words.
const WITHIN_WORDS: usize = 8;
/// No word is longer.
const UNSPOKEN: usize = 20;
/// Length of a value's beginning that is masked where a text was cut.
const BEGINNING: usize = 6;
/// Length at which the kernel cuts a process's name.
const COMM_BYTES: usize = 15;
/// Placeholders for servers that accept any key, and the report's own words. These are no keys.
const PLACEHOLDERS: &str = "\
    empty none null dummy test token key no-key nokey no_key not-needed unused fake local localhost ollama vllm sglang \
    llama llama.cpp lmstudio lm-studio openai api-key apikey api_key your-api-key anything whatever placeholder demo \
    inferscope profile observe sk-no-key-required sk-no-key-needed usage chunks content reasoning other tool chat completions ebpf proc tree cgroup \
    exec fork exit warn info invalid closed open trace names full text lines dataset";

/// Secrets by value. Its clones share them.
#[derive(Clone, Default)]
pub struct KnownSecrets(Option<Arc<Values>>);

struct Values {
    /// The values as given.
    raw: Vec<String>,
    /// All forms, in the order of the automaton's patterns.
    forms: Vec<String>,
    automaton: AhoCorasick,
}

impl fmt::Debug for KnownSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl KnownSecrets {
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Skips placeholders, and values too short to be distinguished from words.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut raw: Vec<String> = values.into_iter().map(|value| value.trim().to_owned()).collect();
        let short_number = |v: &str| v.len() < WITHIN_WORDS && v.bytes().all(|b| b.is_ascii_digit());
        raw.retain(|v| v.len() >= SHORTEST && !is_placeholder(v) && !short_number(v));
        raw.sort_unstable();
        raw.dedup();
        let mut forms: Vec<String> = raw.iter().flat_map(|value| forms(value)).collect();
        forms.sort_unstable();
        forms.dedup();
        if forms.is_empty() {
            return Self::default();
        }
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&forms);
        // There are too many or too long values for an automaton. No real environment has so many.
        Self(automaton.ok().map(|automaton| Arc::new(Values { raw, forms, automaton })))
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// `text` with `***` for every secret, also for the beginning of one where the text is cut in the middle of it.
    #[must_use]
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(values) = &self.0 else { return Cow::Borrowed(text) };
        values.mask(text, |_| true)
    }

    /// The same for a text that is known to be cut at its end.
    #[must_use]
    pub fn mask_cut(&self, text: &str) -> String {
        let shown = self.mask(text);
        let Some(values) = &self.0 else { return shown.into_owned() };
        let (rest, cut) = values.end(&shown, MASK);
        format!("{rest}{}", cut.unwrap_or_default())
    }

    /// The same for a field's name, which may be one of the report's own: masks only what no field is called.
    #[must_use]
    pub fn mask_name<'t>(&self, name: &'t str) -> Cow<'t, str> {
        let Some(values) = &self.0 else { return Cow::Borrowed(name) };
        let of_a_field = |form: &str| form.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        values.mask(name, |form| form.len() >= WITHIN_WORDS && !of_a_field(form))
    }
}

impl Values {
    fn mask<'t>(&self, text: &'t str, counts: impl Fn(&str) -> bool) -> Cow<'t, str> {
        let stands_alone = |start: usize, end: usize| {
            let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            !letter(text[..start].chars().next_back()) && !letter(text[end..].chars().next())
        };
        let mut shown = String::new();
        let mut copied = 0;
        for found in self.automaton.find_iter(text) {
            let form = &self.forms[found.pattern().as_usize()];
            if counts(form) && (is_no_word(form) || stands_alone(found.start(), found.end())) {
                shown.push_str(&text[copied..found.start()]);
                shown.push_str(MASK);
                copied = found.end();
            }
        }
        let rest = &text[copied..];
        let (rest, cut) = self.cut(rest, text.len());
        if copied == 0 && cut.is_none() {
            return Cow::Borrowed(text);
        }
        shown.push_str(rest);
        shown.push_str(cut.unwrap_or_default());
        Cow::Owned(shown)
    }

    /// A cut secret at the end of `rest`: the text before it, and its replacement.
    fn cut<'t>(&self, rest: &'t str, whole: usize) -> (&'t str, Option<&'static str>) {
        let (body, sign) = match rest.strip_suffix('…') {
            Some(body) => (body, "***…"),
            None if whole == COMM_BYTES => (rest, MASK),
            None => return (rest, None),
        };
        match self.end(body, sign) {
            (_, None) => (rest, None),
            found => found,
        }
    }

    fn end<'t>(&self, body: &'t str, sign: &'static str) -> (&'t str, Option<&'static str>) {
        let begins = |value: &String| {
            let most = value.len().min(body.len() + 1);
            (BEGINNING..most)
                .rev()
                .find(|n| value.get(..*n).is_some_and(|beginning| body.ends_with(beginning)))
        };
        match self.raw.iter().filter_map(begins).max() {
            Some(n) => (&body[..body.len() - n], Some(sign)),
            None => (body, None),
        }
    }
}

/// The value occurs in no name by chance. An environment's name, which somebody uses as a key, is in hosts and paths,
/// too.
fn is_no_word(form: &str) -> bool {
    let has = |of: fn(&u8) -> bool| form.bytes().any(|b| of(&b));
    let (digit, upper, lower) =
        (has(u8::is_ascii_digit), has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase));
    let mixed = digit && (upper || lower) || lower && form.bytes().skip(1).any(|b| b.is_ascii_uppercase());
    let foreign = form.bytes().any(|b| !b.is_ascii_alphanumeric() && !b"-_. ".contains(&b));
    form.len() >= WITHIN_WORDS
        && (mixed || foreign || form.len() >= UNSPOKEN && !form.bytes().all(|b| b.is_ascii_digit()))
}

fn is_placeholder(value: &str) -> bool {
    PLACEHOLDERS.split_ascii_whitespace().any(|known| known.eq_ignore_ascii_case(value))
}

/// The value as it is, in a URL, in JSON, in HTML, and in base64 (the form in `Basic`).
fn forms(value: &str) -> Vec<String> {
    let json = value.replace('\\', "\\\\").replace('"', "\\\"");
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let mut forms = vec![
        value.to_owned(),
        percent(value, |byte| format!("%{byte:02X}")),
        percent(value, |byte| format!("%{byte:02x}")),
        json.replace('/', "\\/"),
        json,
        html.replace('\'', "&#39;"),
        html.replace('\'', "&#x27;"),
        html,
    ];
    if value.len() >= WITHIN_WORDS {
        forms.extend(
            [STANDARD.encode(value), URL_SAFE.encode(value)]
                .map(|form| form.trim_end_matches('=').to_owned()),
        );
    }
    forms
}

fn percent(value: &str, escape: impl Fn(u8) -> String) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { escape(b) }).collect()
}

/// The secrets in a header: its value, the credentials behind a scheme, each value of a cookie. A header that every
/// client sends has none. Nor has a header whose name and value look like no secret: the name of a tenant or an
/// environment occurs in hosts, paths and models.
#[must_use]
pub fn of_header(name: &str, value: &str) -> Vec<String> {
    const PLAIN: [&str; 10] = [
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "content-type",
        "host",
        "origin",
        "referer",
        "user-agent",
    ];
    let name = name.to_ascii_lowercase();
    if PLAIN.contains(&name.as_str()) {
        return Vec::new();
    }
    if !super::is_secret_name(&name) && !looks_secret(value) && !looks_random(value, WITHIN_WORDS) {
        return Vec::new();
    }
    let mut parts = vec![value.to_owned()];
    parts.extend(value.split_once(' ').map(|(_, credentials)| credentials.to_owned()));
    if let Some(encoded) = value.strip_prefix("Basic ").or_else(|| value.strip_prefix("basic ")) {
        let plain = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        parts.extend(
            plain.as_deref().and_then(|plain| plain.split_once(':')).map(|(_, pass)| pass.to_owned()),
        );
        parts.extend(plain);
    }
    if name == "cookie" {
        parts.extend(value.split(';').filter_map(|pair| Some(pair.split_once('=')?.1.trim().to_owned())));
    }
    parts
}

/// The password in a URL, raw, decoded, and with its user. A user without a password counts if it looks like a token.
#[must_use]
pub fn of_url(url: &str) -> Vec<String> {
    let Some((_, rest)) = url.split_once("://") else { return Vec::new() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((user, _)) = rest[..end].rsplit_once('@') else { return Vec::new() };
    let Some((_, password)) = user.split_once(':') else {
        let token = looks_secret(user) || looks_random(user, WITHIN_WORDS);
        return if token { vec![user.to_owned()] } else { Vec::new() };
    };
    vec![password.to_owned(), unescaped(password), user.to_owned(), unescaped(user)]
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match byte.filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The value of a variable whose name marks it as secret, if it is too long for a word.
#[must_use]
pub fn of_variable(name: &str, value: &str) -> Option<String> {
    const PARTS: [&str; 11] = [
        "KEY",
        "APIKEY",
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "PASS",
        "CREDENTIALS",
        "PAT",
        "AUTH",
    ];
    let named = name.to_ascii_uppercase().split('_').any(|part| PARTS.contains(&part));
    let long = value.len() >= 12 && value.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
    (named && long && !value.starts_with('/')).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-proj-a\"b/c+d=e&f\\0123456789";

    #[test]
    fn a_secret_is_masked_in_every_form_that_a_server_may_repeat_it_in() {
        let known = KnownSecrets::new([KEY.to_owned()]);
        let quoted = serde_json::to_string(KEY).expect("it is JSON");
        for said in [
            KEY.to_owned(),
            quoted,
            "sk-proj-a%22b%2Fc%2Bd%3De%26f%5C0123456789".to_owned(),
            "sk-proj-a%22b%2fc%2bd%3de%26f%5c0123456789".to_owned(),
            "sk-proj-a&quot;b/c+d=e&amp;f\\0123456789".to_owned(),
            STANDARD.encode(KEY),
            URL_SAFE.encode(KEY),
        ] {
            let shown = known.mask(&format!("x{said}y {said}")).into_owned();
            assert_eq!(shown.matches("***").count(), 2, "{said}: {shown}");
            assert!(!shown.contains("0123456789") && shown.len() < 16, "{said}: {shown}");
        }
        assert_eq!(format!("{known:?}"), "***");
    }

    #[test]
    fn the_beginning_of_a_secret_is_masked_where_a_text_is_cut() {
        let known = KnownSecrets::new(["sk-abcdefghijklmnop".to_owned()]);
        assert_eq!(known.mask("no such key sk-abcdefg…"), "no such key ***…");
        // Whole, and by chance.
        assert_eq!(known.mask("a task-abcdefg"), "a task-abcdefg");
        assert_eq!(known.mask("sk-a…"), "sk-a…");
        assert_eq!(known.mask("run sk-abcdefgh"), "run ***");
    }

    #[test]
    fn short_values_are_masked_as_words_and_placeholders_not_at_all() {
        let known =
            KnownSecrets::new(["hunter".to_owned(), "EMPTY".to_owned(), "abc".to_owned(), String::new()]);
        assert_eq!(known.mask("hunter, hunters: EMPTY abc (hunter)"), "***, hunters: EMPTY abc (***)");
        assert!(KnownSecrets::new(["none".to_owned()]).is_empty());
    }

    #[test]
    fn a_field_keeps_its_name_and_a_foreign_one_hides_the_secret() {
        let known = KnownSecrets::new(["prompt_tokens".to_owned(), "sk-abcdefghijklmnop".to_owned()]);
        assert_eq!(known.mask_name("prompt_tokens"), "prompt_tokens");
        assert_eq!(known.mask_name("series{sk-abcdefghijklmnop}"), "series{***}");
    }

    #[test]
    fn what_is_secret_of_a_header_a_url_and_a_variable() {
        assert_eq!(of_header("Content-Type", "application/json"), [""; 0]);
        assert_eq!(of_header("X-Tenant", "blue"), [""; 0]);
        assert!(of_header("authorization", "Bearer abcdef").contains(&"abcdef".to_owned()));
        assert!(of_header("Authorization", "Basic dXNlcjpodW50ZXIy").contains(&"hunter2".to_owned()));
        assert!(of_header("Cookie", "a=first; b=second").contains(&"second".to_owned()));
        assert!(of_url("http://me:p%40ss@h:1/x").contains(&"p@ss".to_owned()));
        assert_eq!(of_url("http://h:1/x@y"), [""; 0]);
        assert_eq!(of_variable("HF_TOKEN", "hf_abcdefgh1234"), Some("hf_abcdefgh1234".to_owned()));
        for (name, value) in
            [("SSH_AUTH_SOCK", "/tmp/x1234567890"), ("TOKEN", "1"), ("KEYBOARD", "ABCDEFGH12345")]
        {
            assert_eq!(of_variable(name, value), None, "{name}");
        }
    }
}
