//! One thing that is wrong, and what holds of every run that meets one.

use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

use inferscope_tests::binary::{self, Ended};

/// Beyond this a run hangs; its own limits are seconds.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Case {
    pub(crate) area: &'static str,
    pub(crate) name: String,
    program: Option<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    codes: Vec<i32>,
}

impl Case {
    pub(crate) fn new<S: Into<OsString>>(
        area: &'static str,
        name: impl Into<String>,
        args: impl IntoIterator<Item = S>,
        code: i32,
    ) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        let name = name.into();
        Self { area, name, program: None, args, env: Vec::new(), codes: vec![code] }
    }

    /// Where the kernel or the machine decides.
    pub(crate) fn or(mut self, code: i32) -> Self {
        self.codes.push(code);
        self
    }

    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// By a shell: `$INFERSCOPE "$@"` is the run.
    pub(crate) fn through_shell(mut self, script: impl Into<OsString>) -> Self {
        self.program = Some(script.into());
        self
    }

    /// `None`: it hangs.
    pub(crate) fn run(&self) -> Option<Ended> {
        let mut command = match &self.program {
            None => Command::new(binary::inferscope_bin()),
            Some(script) => {
                let mut shell = Command::new("bash");
                shell.arg("-c").arg(script).arg("bash").env("RUN", binary::inferscope_bin());
                shell
            }
        };
        binary::clean(&mut command);
        command.args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        binary::start_cleaned(command).within(LIMIT)
    }

    /// What a run must never do, and what this one should have done.
    pub(crate) fn faults(&self, ended: Option<&Ended>) -> Vec<String> {
        let Some(ended) = ended else { return vec![format!("still runs after {LIMIT:?}")] };
        let mut faults = Vec::new();
        let mut fault = |holds: bool, what: String| {
            if !holds {
                faults.push(what);
            }
        };
        fault(
            ended.code.is_some_and(|code| self.codes.contains(&code)),
            format!("{:?}, not {:?}", ended.code, self.codes),
        );
        for noise in ["panicked", "RUST_BACKTRACE", "stack backtrace", "Caused by", "thread '", "unwrap()"] {
            fault(!ended.stderr.contains(noise) && !ended.stdout.contains(noise), format!("says {noise:?}"));
        }
        for (stream, text) in [("stderr", &ended.stderr), ("stdout", &ended.stdout)] {
            let control = text.chars().find(|c| is_forbidden(*c));
            fault(control.is_none(), format!("{stream} holds {control:?}"));
        }
        if matches!(ended.code, Some(1 | 2 | 3 | 5)) {
            let lines: Vec<&str> = ended.stderr.lines().collect();
            let at = lines.iter().position(|line| line.starts_with("error: "));
            let remedy = at.and_then(|at| lines.get(at + 1));
            fault(at.is_some(), "no `error: ` line".to_owned());
            fault(remedy.is_some_and(|line| line.starts_with("  ")), "no remedy".to_owned());
        }
        if self.args.iter().any(|arg| arg == "--json") && !ended.stdout.is_empty() {
            let document = serde_json::from_str::<serde_json::Value>(&ended.stdout);
            fault(document.is_ok(), "stdout is no JSON".to_owned());
        }
        faults
    }
}

/// What a terminal obeys, or a reader does not see.
fn is_forbidden(c: char) -> bool {
    let hidden = ['\u{61c}', '\u{ad}', '\u{feff}', '\u{2028}', '\u{2029}'];
    (c.is_control() && c != '\n')
        || hidden.contains(&c)
        || ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{2069}').contains(&c)
}
