//! The flags that say where the report goes, and what is in it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::secrets;

#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Print the JSON report instead of the text
    #[arg(long, env = "INFERSCOPE_JSON", help_heading = "Output")]
    pub json: bool,
    /// Write the JSON report to FILE as well, the text where it ends in .txt
    ///
    /// Can be given several times.
    /// A file is replaced by a whole new one when the report is complete: until then, and where the disk is full, an
    /// older report stays. A symbolic link is kept, and what it leads to is replaced. - is standard output, for the
    /// JSON. A FIFO needs its reader first.
    #[arg(short, long, value_name = "FILE", env = "INFERSCOPE_OUTPUT", help_heading = "Output")]
    pub output: Vec<PathBuf>,
    /// Who may read and write the files of -o, as chmod(1) takes it in octal
    ///
    /// A report names processes, paths and arguments.
    #[arg(
        long,
        value_name = "MODE",
        default_value = "0600",
        value_parser = parse_mode,
        env = "INFERSCOPE_REPORT_MODE",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub report_mode: u32,
    /// Print no progress and no hints
    #[arg(long, env = "INFERSCOPE_QUIET", help_heading = "Output")]
    pub quiet: bool,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        env = "INFERSCOPE_COLOR",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub color: ColorArg,
    /// What the report holds of command lines and prompts; a known API key it never does
    #[arg(
        long,
        value_enum,
        default_value = "names",
        env = "INFERSCOPE_REDACT",
        hide_short_help = true,
        help_heading = "Output"
    )]
    pub redact: RedactArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ColorArg {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RedactArg {
    /// The names of flags, and values that are known to be harmless
    Names,
    /// Neither
    Full,
    /// Command lines as they are
    Off,
}

impl From<RedactArg> for secrets::Redact {
    fn from(a: RedactArg) -> Self {
        match a {
            RedactArg::Names => Self::Names,
            RedactArg::Full => Self::Full,
            RedactArg::Off => Self::Off,
        }
    }
}

/// Octal permission bits, as chmod(1) takes them.
///
/// # Errors
/// The reason why the text is no mode.
fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o777 && !digits.starts_with('+') => Ok(mode),
        _ => Err("give octal permission bits, as 0600 or 0640".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_permission_bits_and_nothing_else() {
        assert_eq!(
            ["0600", "640", "0o644", "0"].map(|text| parse_mode(text).ok()),
            [0o600, 0o640, 0o644, 0].map(Some)
        );
        for text in ["", "0800", "-1", "+600", "u=rw", "1777", "4755", "0x1ff"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }
}
