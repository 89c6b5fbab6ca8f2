//! What must not be shown.
//!
//! Owns the rules for any text (credentials in a URL) and for the command line of any program. Pure. Used by
//! `plan` (inferscope's own command line, and the command in it) and `observe` (those of the watched processes).

const NAMES: [&str; 6] = ["key", "token", "secret", "passw", "credential", "auth"];
/// Flags whose whole value may hold a key.
const OPAQUE_FLAGS: [&str; 3] = ["-H", "--header", "--extra-body"];
const VALUE_PREFIXES: [&str; 5] = ["sk-", "hf_", "ghp_", "Bearer ", "xox"];

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

/// Numbers and sizes that happen to have such a name (`--max-tokens 128`) are kept.
fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|n| name.contains(n)) && value.parse::<f64>().is_err() && !value.is_empty()
}

/// The arguments of any program, with the values of flags and assignments whose name looks like a key or
/// token as `***`.
#[must_use]
pub fn arguments(args: Vec<String>) -> Vec<String> {
    let mut masked = Vec::with_capacity(args.len());
    let mut flag: Option<String> = None;
    for arg in args {
        let named = flag.take();
        if let Some((name, value)) = arg.split_once('=').filter(|(n, v)| is_secret(n, v)) {
            let _ = value;
            masked.push(format!("{name}=***"));
        } else if VALUE_PREFIXES.iter().any(|p| arg.starts_with(p))
            || named.is_some_and(|name| {
                OPAQUE_FLAGS.contains(&name.as_str()) || (!arg.starts_with('-') && is_secret(&name, &arg))
            })
        {
            masked.push("***".to_owned());
        } else {
            if arg.starts_with('-') && !arg.contains('=') {
                flag = Some(arg.clone());
            }
            masked.push(without_credentials(&arg));
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn credentials_in_a_url_are_masked() {
        let masked =
            arguments(vec!["--db".into(), "postgres://u:p@h:1/x".into(), "--store=redis://u:p@h".into()]);
        assert_eq!(masked, ["--db", "postgres://***@h:1/x", "--store=redis://***@h"]);
    }

    #[test]
    fn values_of_secret_flags_are_masked_and_token_counts_are_not() {
        let line = "serve --api-key abc --hf-token=def --max-tokens 128 OPENAI_API_KEY=ghi sk-123 -H X-K:v --port 80";
        let masked = arguments(line.split(' ').map(String::from).collect()).join(" ");
        assert_eq!(
            masked,
            "serve --api-key *** --hf-token=*** --max-tokens 128 OPENAI_API_KEY=*** *** -H *** --port 80"
        );
    }
}
