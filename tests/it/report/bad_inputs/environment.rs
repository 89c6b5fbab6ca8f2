//! Environments that inferscope was not made for: variables, limits, closed descriptors, missing folders.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::case::Case;

const AREA: &str = "environment";
const OK: i32 = 0;
const USAGE: i32 = 2;
const NOTHING: i32 = 3;
const PRIVILEGE: i32 = 5;

/// A run that goes well where nothing else is wrong.
fn good(endpoint: &str) -> Vec<String> {
    ["--endpoint", endpoint, "--tracker", "proc", "--gpu", "off", "--quiet", "--json"]
        .map(str::to_owned)
        .to_vec()
}

pub(crate) fn cases(dir: &Path, endpoint: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    // Each flag is a variable too.
    for (name, value) in [
        ("INFERSCOPE_ENDPOINT", "ftp://x"),
        ("INFERSCOPE_CONCURRENCY", "many"),
        ("INFERSCOPE_REQUESTS", ""),
        ("INFERSCOPE_RATE", "fast"),
        ("INFERSCOPE_DURATION", "long"),
        ("INFERSCOPE_MAX_TOKENS", "-1"),
        ("INFERSCOPE_TIMEOUT", "never"),
        ("INFERSCOPE_SWEEP", "x"),
        ("INFERSCOPE_SLO", "good"),
        ("INFERSCOPE_DATASET", "/nonexistent"),
        ("INFERSCOPE_PROMPT_FILE", "/nonexistent"),
        ("INFERSCOPE_EXTRA_BODY", "{"),
        ("INFERSCOPE_API", "soap"),
        ("INFERSCOPE_SEED", "x"),
        ("INFERSCOPE_TEMPERATURE", "x"),
        ("INFERSCOPE_PID", "-3"),
        ("INFERSCOPE_TRACKER", "x"),
        ("INFERSCOPE_SAMPLE_INTERVAL", "0s"),
        ("INFERSCOPE_RING_SIZE", "x"),
        ("INFERSCOPE_COLOR", "x"),
        ("INFERSCOPE_JSON", "x"),
        ("INFERSCOPE_OUTPUT", "/nonexistent/x"),
        ("INFERSCOPE_MAX_MEMORY", "x"),
        ("INFERSCOPE_REDACT", "x"),
        ("INFERSCOPE_API_KEY_ENV", "sk-abcdefghijklmnop"),
    ] {
        let args: Vec<String> = if name == "INFERSCOPE_ENDPOINT" {
            vec!["--quiet".into()]
        } else {
            ["--endpoint", "http://127.0.0.1:1", "--quiet"].map(str::to_owned).to_vec()
        };
        let mut case = Case::new(AREA, format!("{name}={value}"), args, USAGE).env(name, value);
        // An empty variable is one that is not set.
        if value.is_empty() {
            case = case.or(NOTHING);
        }
        cases.push(case);
    }
    for (name, value) in [("OPENAI_BASE_URL", "nonsense://"), ("OPENAI_BASE_URL", "")] {
        cases.push(Case::new(AREA, format!("{name}={value:?}"), ["--quiet"], USAGE).env(name, value));
    }
    for name in ["INFERSCOPE_ENDPOINT", "OPENAI_BASE_URL", "INFERSCOPE_MODEL", "INFERSCOPE_PROMPT"] {
        let value = OsString::from_vec(b"\xff\xfe".to_vec());
        let args: &[&str] = if name.ends_with("URL") || name.ends_with("ENDPOINT") {
            &[]
        } else {
            &["--endpoint", "http://127.0.0.1:1"]
        };
        cases.push(
            Case::new(AREA, format!("{name}: no UTF-8"), args.iter().map(OsString::from), USAGE)
                .env(name, value),
        );
    }
    for (name, value) in [("key with a newline", "sk-a\nX: y"), ("key with ESC", "sk-\u{1b}[31m")] {
        let args = ["--endpoint", "http://127.0.0.1:1", "--quiet"];
        cases.push(Case::new(AREA, name, args, USAGE).env("OPENAI_API_KEY", value));
    }
    let key = OsString::from_vec(b"sk-\xff".to_vec());
    cases.push(
        Case::new(AREA, "key that is no UTF-8", ["--endpoint", "http://127.0.0.1:1"], USAGE)
            .env("OPENAI_API_KEY", key),
    );
    cases.push(
        Case::new(AREA, "proxy that is no address", good("http://192.0.2.1:1"), USAGE)
            .or(NOTHING)
            .env("http_proxy", "::::"),
    );
    cases.push(
        Case::new(AREA, "proxy that nobody is", good("http://192.0.2.1:1"), NOTHING)
            .env("http_proxy", "http://127.0.0.1:1"),
    );
    // What changes nothing.
    for (name, value) in [
        ("HOME", "/nonexistent"),
        ("TMPDIR", "/nonexistent"),
        ("PATH", "/nonexistent"),
        ("TERM", "bogus\u{1b}[2J"),
        ("LANG", "xx_XX.bogus"),
        ("LC_ALL", "C"),
        ("TZ", "Mars/Base"),
        ("COLUMNS", "0"),
        ("COLUMNS", "-5"),
        ("COLUMNS", "x"),
        ("NO_COLOR", ""),
        ("INFERSCOPE_LOG", "=x=,,["),
        ("RUST_LOG", "trace"),
        ("TOKIO_WORKER_THREADS", "0"),
        ("SSL_CERT_FILE", "/nonexistent"),
        ("NO_PROXY", ",,,"),
        ("INFERSCOPE_UNHEARD_OF", "1"),
        ("MALLOC_ARENA_MAX", "x"),
    ] {
        cases.push(
            Case::new(AREA, format!("{name}={}", value.escape_debug()), good(endpoint), OK).env(name, value),
        );
    }
    for (name, script) in [
        ("stdin closed", "exec \"$RUN\" \"$@\" <&-"),
        ("stderr closed", "exec \"$RUN\" \"$@\" 2>&-"),
        ("stderr full", "exec \"$RUN\" \"$@\" 2>/dev/full"),
        ("stderr a pipe that nobody reads", "\"$RUN\" \"$@\" 2> >(exit)"),
        ("an empty environment", "exec env -i \"$RUN\" \"$@\""),
        ("a folder that is gone", "d=$(mktemp -d); cd $d; rmdir $d; exec \"$RUN\" \"$@\""),
        ("SIGCHLD ignored", "trap '' CHLD; exec \"$RUN\" \"$@\""),
        ("SIGPIPE ignored", "trap '' PIPE; exec \"$RUN\" \"$@\""),
        ("niced", "exec nice -n 19 \"$RUN\" \"$@\""),
        ("one CPU of two", "exec taskset -c 0 \"$RUN\" \"$@\""),
        ("core dumps on", "ulimit -c unlimited; exec \"$RUN\" \"$@\""),
        ("20 files open at most", "ulimit -n 20; exec \"$RUN\" \"$@\""),
        ("1 MiB of stack", "ulimit -s 1024; exec \"$RUN\" \"$@\""),
        ("no locked memory", "ulimit -l 0; exec \"$RUN\" \"$@\""),
        ("argv[0] empty", "exec -a '' \"$RUN\" \"$@\""),
        ("argv[0] hostile", "exec -a $'\\e[2J' \"$RUN\" \"$@\""),
        ("a signal blocked", "exec env --block-signal=INT \"$RUN\" \"$@\""),
        ("a folder that can't be written", "cd /proc; exec \"$RUN\" \"$@\""),
    ] {
        cases.push(Case::new(AREA, name, good(endpoint), OK).through_shell(script));
    }
    for (name, script, codes) in [
        ("10 files open at most", "ulimit -n 10; exec \"$RUN\" \"$@\"", &[OK, 1, 2, 3][..]),
        ("5 files open at most", "ulimit -n 5; exec \"$RUN\" \"$@\"", &[1, 2, 3]),
        ("stdout closed", "exec \"$RUN\" \"$@\" >&-", &[OK, 1]),
        ("stdout full", "exec \"$RUN\" \"$@\" >/dev/full", &[1]),
        ("stdout a pipe that nobody reads", "\"$RUN\" \"$@\" > >(exit)", &[OK, 1]),
        ("all closed", "exec \"$RUN\" \"$@\" <&- >&- 2>&-", &[OK, 1]),
    ] {
        let case = Case::new(AREA, name, good(endpoint), codes[0]).through_shell(script);
        cases.push(codes[1..].iter().fold(case, |case, code| case.or(*code)));
    }
    // A driver that is none.
    let text = dir.join("driver.so");
    std::fs::write(&text, "no library").unwrap();
    for (name, library) in [
        ("missing", "/nonexistent.so"),
        ("text", text.to_str().unwrap()),
        ("a directory", "/tmp"),
        ("another library", "libc.so.6"),
    ] {
        let mut args = good(endpoint);
        args.retain(|arg| arg != "--gpu" && arg != "off");
        args.extend(["--gpu", "all", "--nvml-lib", library].map(str::to_owned));
        cases.push(Case::new(AREA, format!("driver: {name}"), args, PRIVILEGE));
    }
    cases
}
