//! Command lines that make no sense.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::case::Case;

const AREA: &str = "command line";
const USAGE: i32 = 2;
const NOTHING: i32 = 3;
/// Nobody listens there, and a refused command line does not look.
const NOBODY: [&str; 2] = ["--endpoint", "http://127.0.0.1:1"];

fn of(args: &[&str]) -> Case {
    Case::new(AREA, args.join(" "), args.iter().map(OsString::from), USAGE)
}

fn load(args: &[&str]) -> Case {
    let all = NOBODY.iter().chain(args).map(OsString::from);
    Case::new(AREA, args.join(" "), all, USAGE)
}

pub(crate) fn cases(dir: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    let urls = [
        "",
        " ",
        "http://",
        "https://",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:-1",
        "http://127.0.0.1:x",
        "http://[::1",
        "http://[::g]:80",
        "http://127.0.0.1/?a=b",
        "http://127.0.0.1/#x",
        "8000",
        "http://a b/",
        "http://exa\u{202e}mple/?x",
        "http:///v1",
        "://",
        "http//x:1",
        "unix:/tmp/socket",
        "http://\u{1b}[31m/",
        "http://127.0.0.1:80:80",
        "javascript:alert(1)",
        "http://%",
    ];
    for url in urls {
        let name = format!("--endpoint {url}").escape_debug().to_string();
        let case = Case::new(AREA, name, ["--endpoint", url], USAGE);
        // What reads as a host and a path is looked for.
        cases.push(if ["http:///v1", "http//x:1", "unix:/tmp/socket"].contains(&url) {
            case.or(NOTHING)
        } else {
            case
        });
    }
    for args in [
        &["--concurrency", "0"][..],
        &["--concurrency", "-1"],
        &["--concurrency", "1e9"],
        &["--concurrency", "99999999999"],
        &["--concurrency", ""],
        &["--concurrency", "4", "--rate", "5"],
        &["--rate", "0"],
        &["--rate", "-5"],
        &["--rate", "NaN"],
        &["--rate", "inf"],
        &["--rate", "1e300"],
        &["--rate", "5"],
        &["--rate", "x", "--duration", "1s"],
        &["--rate", "5", "--sweep", "rate=1,2"],
        &["--requests", "0"],
        &["--requests", "-1"],
        &["--requests", "1.5"],
        &["--requests", "18446744073709551616"],
        &["--duration", "0s"],
        &["--duration", "-1s"],
        &["--duration", "1"],
        &["--duration", "1 parsec"],
        &["--duration", "99999999999999999999s"],
        &["--warmup", "-1"],
        &["--warmup", "x"],
        &["--sweep", ""],
        &["--sweep", "concurrency"],
        &["--sweep", "concurrency="],
        &["--sweep", "concurrency=0,1"],
        &["--sweep", "concurrency=4,2"],
        &["--sweep", "concurrency=1,1"],
        &["--sweep", "concurrency=1,x"],
        &["--sweep", "users=1,2"],
        &["--sweep", "rate=NaN,2", "--duration", "1s"],
        &["--sweep", "rate=-1,2", "--duration", "1s"],
        &["--sweep-all"],
        &["--repeat", "0"],
        &["--repeat", "-1"],
        &["--ramp-up", "x"],
        &["--ramp-up", "-1s"],
        &["--max-in-flight", "0", "--rate", "5", "--duration", "1s"],
        &["--slo", ""],
        &["--slo", "ttft"],
        &["--slo", "ttft="],
        &["--slo", "ttft=fast"],
        &["--slo", "latency=1s"],
        &["--slo", "ttft=1s,ttft=2s"],
        &["--slo", "itl=-1ms"],
        &["--fail-on-slo"],
        &["--prompt", "a", "--input-tokens", "9"],
        &["--input-tokens", "0"],
        &["--input-tokens", "-1"],
        &["--input-tokens", "99999999999"],
        &["--input-tokens", "9", "--shared-prefix", "9"],
        &["--shared-prefix", "9"],
        &["--max-tokens", "0"],
        &["--max-tokens", "-1"],
        &["--max-tokens", "4294967296"],
        &["--temperature", "NaN"],
        &["--temperature", "hot"],
        &["--temperature", "-1"],
        &["--temperature", "inf"],
        &["--seed", "x"],
        &["--load-seed", "-1"],
        &["--extra-body", ""],
        &["--extra-body", "{"],
        &["--extra-body", "[]"],
        &["--extra-body", "1"],
        &["--extra-body", "null"],
        &["--extra-body", "{\"a\":NaN}"],
        &["--extra-body", "{} {}"],
        &["--extra-body", "@/etc/shadow"],
        &["-H", "nocolon"],
        &["-H", ": value"],
        &["-H", "a b: c"],
        &["-H", "X: a\nY: b"],
        &["-H", "X: \u{0}".trim_end_matches('\0'), "-H", "\u{e9}: x"],
        &["-H", "Content-Length: 5"],
        &["-H", "Connection: close"],
        &["-H", "Transfer-Encoding: chunked"],
        &["--timeout", "0s"],
        &["--timeout", "x"],
        &["--api", "grpc"],
        &["--arrival", "burst"],
        &["--api-key-env", "sk-1234567890abcdef"],
        &["--api-key-env", ""],
        &["--api-key-env", "A=B"],
        &["--color", "red"],
        &["--tracker", "dtrace"],
        &["--sample-interval", "0s"],
        &["--sample-interval", "x"],
        &["--ring-size", "0"],
        &["--ring-size", "-1"],
        &["--ring-size", "2X"],
        &["--ring-size", "1T"],
        &["--ring-size", "99999999999999999999"],
        &["--max-processes", "-1"],
        &["--gpu", ""],
        &["--gpu", "0,,1"],
        &["--gpu", "two"],
        &["--gpu", "-1"],
        &["--price-per-hour", "free"],
        &["--price-per-hour", "H100="],
        &["--price-per-hour", "-1"],
        &["--price-per-hour", "NaN"],
        &["--pid", "0"],
        &["--pid", "-1"],
        &["--pid", "x"],
        &["--pid", "4294967296"],
        &["--pid", "1", "--cgroup", "/x"],
        &["--pid", "1", "--cgroup-of", "1"],
        &["--cgroup", "/x", "--cgroup-of", "1"],
        &["--no-descendants", "--include-descendants"],
        &["--no-descendants"],
        &["--concurency", "4"],
        &["extra"],
        &["--model"],
        &["--json=maybe"],
        &["-o"],
        &["--max-memory", "0"],
        &["--max-memory", "lots"],
        &["--redact", "some"],
        &["--report-mode", "999"],
        &["--report-mode", "rw"],
    ] {
        cases.push(load(args));
    }
    for args in [
        &["observe"][..],
        &["observe", "--requests", "3"],
        &["observe", "--pid", "1", "--duration", "0s"],
        &["observe", "--pid", "1", "--cgroup", "/"],
        &["exec"],
        &["exec", "--"],
        &["exec", "true"],
        &["exec", "--grace", "x", "--", "true"],
        &["exec", "--", ""],
        &["exec", "--", "/nonexistent/program"],
        &["exec", "--", "/etc/passwd"],
        &["exec", "--", "/"],
        &["exec", "--requests", "3", "--", "true"],
        &["exec", "--ready-timeout", "x", "--endpoint", "http://127.0.0.1:1", "--", "true"],
        &["exec", "--command-output", "/nonexistent/dir/file", "--", "true"],
        &["exec", "--pid", "1", "--", "true"],
        &["demo", "--workers", "x"],
        &["demo", "--requests", "-1"],
        &["demo", "--requests", "0"],
        &["demo", "--endpoint", "http://127.0.0.1:1"],
        &["doctor", "--fix"],
        &["completions"],
        &["completions", "tcsh9"],
        &["unknown"],
        &["profile", "observe"],
        &["demo-server", "--port", "x"],
        &["--version=1"],
        &["help", "unknown"],
    ] {
        cases.push(of(args));
    }
    // Bytes that are no UTF-8 where text is asked for.
    for flag in [
        "--endpoint",
        "--model",
        "--prompt",
        "--extra-body",
        "-H",
        "--sweep",
        "--slo",
        "--gpu",
        "--api-key-env",
        "--ring-size",
    ] {
        let value = OsString::from_vec(b"\xff\xfe\x1b[2J".to_vec());
        let args = NOBODY.iter().map(OsString::from).chain([flag.into(), value]);
        let args: Vec<OsString> = if flag == "--endpoint" { args.skip(2).collect() } else { args.collect() };
        cases.push(Case::new(AREA, format!("{flag}: no UTF-8"), args, USAGE));
    }
    files(dir, &mut cases);
    cases
}

/// Files that the command line names.
fn files(dir: &Path, cases: &mut Vec<Case>) {
    let kinds: [(&str, &[u8]); 14] = [
        ("empty", b""),
        ("blank", b"\n\n \n"),
        ("binary", b"\x00\x01\x02\xff\xfe"),
        ("not-json", b"hello\nworld\n"),
        ("half", b"{\"prompt\": \"a"),
        ("number", b"5\n"),
        ("list-of-numbers", b"[1, 2, 3]"),
        ("empty-list", b"[]"),
        ("no-prompt", b"{\"answer\": \"a\"}\n"),
        ("prompt-type", b"{\"prompt\": 5}\n"),
        ("messages-type", b"{\"messages\": \"hi\"}\n"),
        ("messages-empty", b"{\"messages\": []}\n"),
        ("trace-negative", b"{\"timestamp\": 5, \"input_length\": -3, \"output_length\": 2}\n"),
        ("max-tokens-type", b"{\"prompt\": \"a\", \"max_tokens\": -4}\n"),
    ];
    for (name, bytes) in kinds {
        let path = dir.join(format!("data-{name}"));
        std::fs::write(&path, bytes).unwrap();
        let args = NOBODY.iter().map(OsString::from).chain(["--dataset".into(), path.into()]);
        cases.push(Case::new(AREA, format!("--dataset {name}"), args, USAGE));
    }
    let deep = dir.join("data-deep");
    std::fs::write(&deep, [b"{\"messages\": ".to_vec(), vec![b'['; 200_000]].concat()).unwrap();
    for (flag, path) in [
        ("--dataset", deep.as_path()),
        ("--dataset", Path::new("/nonexistent")),
        ("--dataset", dir),
        ("--dataset", Path::new("/dev/null")),
        ("--dataset", Path::new("/proc/self/mem")),
        ("--prompt-file", Path::new("/nonexistent")),
        ("--prompt-file", dir),
        ("--prompt-file", Path::new("/dev/null")),
        ("--prompt-file", Path::new("/proc/self/mem")),
        ("--cacert", Path::new("/nonexistent")),
        ("--cacert", dir),
        ("--cacert", Path::new("/dev/null")),
        ("--cacert", Path::new("/etc/passwd")),
    ] {
        let name = path.file_name().map_or("a directory".into(), |n| n.to_string_lossy().into_owned());
        let name = if path == dir { "a directory".to_owned() } else { name };
        let endpoint = if flag == "--cacert" { "https://127.0.0.1:1" } else { "http://127.0.0.1:1" };
        let args = ["--endpoint".into(), endpoint.into(), flag.into(), OsString::from(path)];
        cases.push(Case::new(AREA, format!("{flag}: {name}"), args, USAGE));
    }
    let cut = dir.join("cut.pem");
    std::fs::write(&cut, "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    let args = ["--endpoint".into(), "https://127.0.0.1:1".into(), "--cacert".into(), OsString::from(cut)];
    cases.push(Case::new(AREA, "--cacert: cut off", args, USAGE));
}
