//! `cargo xtask schema`: keeps the checked-in JSON Schema equal to the types.
//!
//! Owns the file `inferscope/schema/report.v1.json`. Never generates a schema: `inferscope schema` does. Called by
//! `main.rs` and by `ci.rs`.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::steps::{captured, say, visibly};
use crate::workspace::Workspace;

const SCHEMA: &str = "inferscope/schema/report.v1.json";

/// Writes the file, or with `check` compares it and changes nothing.
pub(crate) fn run(workspace: &Workspace, check: bool) -> Result<()> {
    visibly(workspace.cargo().args(["build", "--quiet", "--package", "inferscope"]))?;
    let generated =
        captured(std::process::Command::new(workspace.binary("debug", "inferscope")).arg("schema"))?;
    let generated = generated.trim_end().to_owned() + "\n";
    let path = workspace.root.join(SCHEMA);
    let written = fs::read_to_string(&path).unwrap_or_default();
    if written == generated {
        say(format_args!("{SCHEMA} is up to date"));
        return Ok(());
    }
    ensure!(
        !check,
        "{SCHEMA} differs from the report's types at {}; run `cargo xtask schema`",
        first(&written, &generated)
    );
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(&path, generated).with_context(|| format!("cannot write {SCHEMA}"))?;
    say(format_args!("wrote {SCHEMA}"));
    Ok(())
}

/// Where two texts begin to differ.
fn first(left: &str, right: &str) -> String {
    let same = left.lines().zip(right.lines()).take_while(|(left, right)| left == right).count();
    format!("line {}", same + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_difference_is_named_by_line() {
        assert_eq!(first("a\nb\n", "a\nc\n"), "line 2");
        assert_eq!(first("a\n", "a\nb\n"), "line 2");
        assert_eq!(first("", "a\n"), "line 1");
    }
}
