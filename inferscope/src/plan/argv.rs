//! The command line as a report may show it.

use crate::secrets::{arguments, without_credentials};

/// The command line as the report may show it: header values and request extras are left out
/// (either may hold a key), and so are URL credentials.
pub(super) fn mask_argv(argv: &[String]) -> Vec<String> {
    const SECRET_FLAGS: [&str; 3] = ["-H", "--header", "--extra-body"];
    let mut masked = Vec::with_capacity(argv.len());
    let mut value_of: Option<&str> = None;
    for arg in argv {
        if let Some(flag) = value_of.take() {
            masked.push(mask_value(flag, arg));
        } else if SECRET_FLAGS.contains(&arg.as_str()) {
            value_of = Some(arg);
            masked.push(arg.clone());
        } else if let Some((flag, value)) = arg.split_once('=').filter(|(f, _)| SECRET_FLAGS.contains(f)) {
            masked.push(format!("{flag}={}", mask_value(flag, value)));
        } else if let Some(value) = arg.strip_prefix("-H") {
            masked.push(format!("-H{}", mask_value("-H", value)));
        } else {
            masked.push(without_credentials(arg));
        }
    }
    masked
}

/// The same, where a command of the user's follows `--`: it is masked as the command lines of observed
/// processes are.
pub(super) fn mask_with_command(argv: &[String]) -> Vec<String> {
    let own = argv.iter().position(|arg| arg == "--").map_or(argv.len(), |at| at + 1);
    let mut masked = mask_argv(&argv[..own]);
    masked.extend(arguments(argv[own..].to_vec()));
    masked
}

fn mask_value(flag: &str, value: &str) -> String {
    match value.split_once(':') {
        Some((name, _)) if flag != "--extra-body" => format!("{name}: ***"),
        _ => "***".to_owned(),
    }
}
