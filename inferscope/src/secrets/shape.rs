//! The look of a secret: by its shape or by its name.
//!
//! Pure. This is a second line of defence: the program shows only values that are known to be harmless, and none of
//! those may look like this.

/// The beginnings of issuers' keys. One counts if no letter or digit stands before it.
const BEGINNINGS: [&str; 58] = [
    "sk-",
    "sk_",
    "pk_live_",
    "rk_",
    "whsec_",
    "hf_",
    "api_org_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "glrt-",
    "glsoat-",
    "glptt-",
    "glcbt-",
    "xox",
    "xapp-",
    "xai-",
    "gsk_",
    "nvapi-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "GOCSPX-",
    "eyJ",
    "npm_",
    "pypi-",
    "dckr_pat_",
    "dop_v1_",
    "doo_v1_",
    "r8_",
    "pplx-",
    "tvly-",
    "csk-",
    "fw_",
    "esecret_",
    "lsv2_",
    "pcsk_",
    "hvs.",
    "hvb.",
    "figd_",
    "shpat_",
    "shpss_",
    "shpca_",
    "sq0",
    "lin_api_",
    "ntn_",
    "SG.",
    "dapi",
    "ATATT",
    "ATCTT",
    "AGE-SECRET-KEY-",
    "-----BEGIN",
];

/// Words before a secret, anywhere.
const LEADING: [&str; 20] = [
    "bearer ",
    "basic ",
    "bearer:",
    "bearer%20",
    "authorization",
    "x-amz-",
    "accountkey=",
    "sig=",
    "signature=",
    "token=",
    "key=",
    "secret=",
    "passwd=",
    "password=",
    "passphrase=",
    "pass=",
    "pwd=",
    "auth=",
    "credentials=",
    "cookie:",
];

/// `value` is or holds something that looks like a key, a token or a signature.
#[must_use]
pub fn looks_secret(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    LEADING.iter().any(|word| lower.contains(word)) || begins_like_a_key(value)
}

/// The same by the beginning of a word alone.
pub(super) fn begins_like_a_key(text: &str) -> bool {
    BEGINNINGS.iter().any(|beginning| begins_a_word(text, beginning))
}

fn begins_a_word(text: &str, beginning: &str) -> bool {
    text.match_indices(beginning).any(|(at, _)| {
        let inside = text[..at].chars().next_back().is_some_and(char::is_alphanumeric);
        // `sk-` alone, or before a single letter, is no key.
        !inside && text[at + beginning.len()..].chars().take_while(|c| !c.is_whitespace()).count() >= 4
    })
}

/// A piece of `text` with at least this many characters looks like a random number.
pub(super) fn looks_random(text: &str, least: usize) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        let count = |of: fn(&u8) -> bool| word.bytes().filter(of).count();
        let (digits, upper, lower) =
            (count(u8::is_ascii_digit), count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase));
        let mixed = digits >= 2 && upper + lower >= 2;
        word.len() >= least && (mixed || digits == word.len() || upper >= 3 && lower >= 3)
    })
}

/// A flag, variable or header of this name holds a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    const PARTS: [&str; 16] = [
        "key",
        "token",
        "secret",
        "pass",
        "pwd",
        "credential",
        "auth",
        "cookie",
        "bearer",
        "session",
        "signature",
        "sig",
        "pat",
        "dsn",
        "pin",
        "license",
    ];
    let lower = name.to_ascii_lowercase();
    PARTS.iter().any(|part| match *part {
        // Short words count only as whole words.
        "sig" | "pat" | "pin" | "dsn" => {
            lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w == *part)
        }
        part => lower.contains(part),
    })
}
