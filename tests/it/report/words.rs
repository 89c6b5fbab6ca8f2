//! What is written for a person does nothing but show, and holds no secret that is known.
//!
//! Names in any bytes, and a server that answers with escape sequences and with the key that it was sent, in every place
//! where it says something. Every byte of standard error, of the text and of the JSON is looked at.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

use inferscope_tests::binary::{self, Ended};
use inferscope_tests::process::Group;
use inferscope_tests::report::Named;
use inferscope_tests::server::{Request, Server};
use inferscope_tests::terminal::run_on;
use serde_json::{Value, json};

/// A title, a cleared screen, C1's own CSI, both kinds of turned text, what is drawn as nothing.
const HOSTILE: &str =
    "a\x1b]0;pwn\x07\x1b[2J\u{9b}1A\u{202e}b\u{2066}\u{200b}\u{feff}\u{ad}\u{61c}\u{2028}\x7f\u{e0041}z";
/// At most 15 bytes, as the kernel cuts a process's name.
const COMM: &[u8] = b"\x1b]0;p\x07\xe2\x80\xae\xffz";
const KEY: &str = "sk-hush\"quoted/0123456789+abc=";
const HEADER: &str = "mumble-0987654321";

/// By the ranges that the requirement names, and not by what `clean` knows.
fn is_hidden(c: char) -> bool {
    let ranges = [
        0x80..=0x9f,
        0xad..=0xad,
        0x61c..=0x61c,
        0x200b..=0x200f,
        0x2028..=0x202e,
        0x2060..=0x2064,
        0x2066..=0x2069,
        0xfeff..=0xfeff,
        0xe0001..=0xe007f,
    ];
    c != '\n' && c.is_ascii_control() || ranges.iter().any(|range| range.contains(&u32::from(c)))
}

fn assert_only_shows(what: &str, text: &str) {
    let found = text.char_indices().find(|(_, c)| is_hidden(*c));
    assert_eq!(found, None, "{what}: {text:?}");
}

fn assert_both_only_show(what: &str, ended: &Ended) {
    assert_only_shows(&format!("{what}, stderr"), &ended.stderr);
    assert_only_shows(&format!("{what}, stdout"), &ended.stdout);
    assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
}

/// Answers each connection once: status, type and body, by the request.
fn serve(answer: impl Fn(&Request) -> (u16, &'static str, String) + Send + Sync + 'static) -> Server {
    Server::start(move |connection| {
        let Some(request) = connection.request()? else { return Ok(()) };
        let (status, kind, body) = answer(&request);
        connection.respond_and_close(status, kind, body.as_bytes())
    })
}

/// A stream of one token in which `said` stands wherever a server can say something.
fn stream(said: &str) -> String {
    let chunk = |delta: Value, finish: Value| json!({"id": said, "model": said, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let chunks = [chunk(json!({"content": "x"}), Value::Null), chunk(json!({}), json!(said))];
    let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    format!("{events}data: [DONE]\n\n")
}

/// A good answer of one token.
fn one_token() -> Server {
    serve(|request| match request.method.as_str() {
        "GET" => (200, "application/json", json!({"data": [{"id": "m"}]}).to_string()),
        _ => (200, "text/event-stream", stream("stop")),
    })
}

/// The third request, and every third from there on, is refused with `said` as the reason.
fn saying(said: impl Fn(&[String]) -> String + Send + Sync + 'static) -> Server {
    let count = std::sync::atomic::AtomicU32::new(0);
    serve(move |request| {
        let said = said(&request.head);
        if request.method == "GET" {
            return (200, "application/json", json!({"data": [{"id": said}]}).to_string());
        }
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 {
            0 => (200, "text/event-stream", stream(&said)),
            1 => (400, "application/json", json!({"error": {"message": said}}).to_string()),
            _ => (500, "text/plain", said),
        }
    })
}

fn command(args: &[&OsStr]) -> Command {
    let mut command = Command::new(binary::inferscope_bin());
    command.args(args);
    binary::clean(&mut command);
    command
}

fn run(args: &[&OsStr]) -> Ended {
    binary::start_cleaned(command(args)).wait()
}

fn strs<'a>(args: &[&'a str]) -> Vec<&'a OsStr> {
    args.iter().map(|&arg| OsStr::new(arg)).collect()
}

/// `sleep` under a name that a terminal would obey.
fn hostile_program(dir: &tempfile::TempDir) -> PathBuf {
    let program = dir.path().join(OsStr::from_bytes(COMM));
    fs::copy("/bin/sleep", &program).unwrap();
    program
}

#[test]
fn a_process_of_a_hostile_name_is_measured_and_its_name_shown() {
    let dir = tempfile::tempdir().unwrap();
    let program = hostile_program(&dir);
    let mut child = Group::start(Command::new(&program).arg("60"));
    let pid = child.pid().to_string();
    let observe = ["observe", "--pid", &pid, "--duration", "300ms", "--redact", "off"];
    let text = run(&strs(&observe));
    let document = run(&strs(&[&observe[..], &["--json"]].concat()));
    let _ = child.child.kill();
    assert_eq!(text.code, Some(0), "{text:#?}");
    assert_both_only_show("observe", &text);
    assert!(text.stdout.contains("\\x1b]0;p\\x07\\u{202e}"), "{}", text.stdout);
    assert_both_only_show("observe --json", &document);
    let report = document.report();
    let told = &report["processes"]["list"][0];
    assert_eq!(told["comm"], String::from_utf8_lossy(COMM).as_ref(), "the value is as it was");
    assert_eq!(told["argv"][1], "60");

    let exec = [OsStr::new("exec"), OsStr::new("--"), program.as_os_str(), OsStr::new("0.3")];
    let exec = run(&exec);
    assert_eq!(exec.code, Some(0), "{exec:#?}");
    assert_both_only_show("exec", &exec);
    assert!(exec.stdout.contains("\\x1b]0;p\\x07\\u{202e}"), "{}", exec.stdout);
}

#[test]
fn a_hostile_servers_words_are_shown_and_steer_nothing() {
    let server = saying(|_| HOSTILE.to_owned());
    let endpoint = server.endpoint();
    let profile = ["--endpoint", &endpoint, "--requests", "3", "--gpu", "off"];
    let text = run(&strs(&profile));
    assert_both_only_show("profile", &text);
    assert!(text.stdout.contains("\\u{202e}b\\u{2066}"), "{text:#?}");
    let document = run(&strs(&[&profile[..], &["--json"]].concat()));
    assert_both_only_show("profile --json", &document);
    let model = &document.json()["load"]["model"];
    assert!(model.as_str().unwrap().contains("\u{202e}b\u{2066}\u{200b}"), "the value is as it was: {model}");
    // On a terminal, too, where a bar is drawn: its own escapes are no titles and no C1.
    let seen = run_on(command(&strs(&profile)), 100, true);
    assert_eq!(seen.screen.find("\x1b]"), None, "{:?}", seen.screen);
    assert_eq!(seen.screen.find(|c: char| !c.is_ascii() && is_hidden(c)), None, "{:?}", seen.screen);

    // Every request fails: the server's words are the error's.
    let refusing = serve(|_| (401, "text/plain", HOSTILE.to_owned()));
    let refused = run(&strs(&["--endpoint", &refusing.endpoint(), "--model", HOSTILE, "--gpu", "off"]));
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    assert_both_only_show("a refusal", &refused);
}

#[test]
fn arguments_in_any_bytes_are_told_without_effect_and_stay_on_their_line() {
    let odd = OsString::from(OsStr::from_bytes(b"/nowhere/\x1b[2J\xff\xc2\x9b\xe2\x80\xae\nerror: forged"));
    let odd = odd.as_os_str();
    let plain = |arg| OsStr::new(arg);
    let lines: [(&[&OsStr], i32); 14] = [
        (&[odd], 2),
        (&[plain(HOSTILE)], 2),
        (&[plain("--concurrency"), plain(HOSTILE)], 2),
        (&[plain("--api"), plain(HOSTILE)], 2),
        (&[plain("--model"), odd], 2),
        (&[plain("--endpoint"), plain(HOSTILE)], 2),
        (&[plain("--endpoint"), plain("h:1"), plain("--slo"), plain(HOSTILE)], 2),
        (&[plain("--endpoint"), plain("h:1"), plain("--sweep"), plain(HOSTILE)], 2),
        (&[plain("--endpoint"), plain("h:1"), plain("--header"), plain(HOSTILE)], 2),
        (&[plain("--endpoint"), plain("h:1"), plain("-o"), odd], 2),
        (&[plain("--endpoint"), plain("h:1"), plain("--prompt-file"), odd], 2),
        (&[plain("--endpoint"), plain("h:1"), plain("--cacert"), odd], 2),
        (&[plain("observe"), plain("--cgroup"), odd], 3),
        (&[plain("exec"), plain("--"), odd], 2),
    ];
    for (args, code) in lines {
        let ended = run(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:#?}");
        assert_both_only_show(&format!("{args:?}"), &ended);
        assert!(ended.stderr.starts_with("error: "), "{args:?}: {}", ended.stderr);
        let lines = ended.stderr.lines().count();
        assert!(!ended.stderr.contains("\nerror: forged"), "{args:?}: {}", ended.stderr);
        assert!((1..=3).contains(&lines), "{args:?}: {}", ended.stderr);
    }
    let doctor = run(&[plain("doctor"), plain("--nvml-lib"), odd]);
    assert_both_only_show("doctor", &doctor);
    let doctor = run(&[plain("doctor"), plain("--json"), plain("--nvml-lib"), odd]);
    assert_both_only_show("doctor --json", &doctor);
    let mut demo = command(&strs(&["demo", "--requests", "1"]));
    demo.env("INFERSCOPE_LOG", "debug").env("HOME", odd).env(HOSTILE, HOSTILE);
    let demo = binary::start_cleaned(demo).wait();
    assert_eq!(demo.code, Some(0), "{demo:#?}");
    assert_both_only_show("demo", &demo);
}

#[test]
fn files_and_commands_in_any_bytes_work() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &[u8]| dir.path().join(OsStr::from_bytes(name));
    let (prompts, output) = (file(b"pro\xffmpts\x1b"), file(b"re\xff\xfeport\x1b.json"));
    fs::write(&prompts, "one\ntwo\n").unwrap();
    let server = one_token();
    let endpoint = server.endpoint();
    let mut args = strs(&["--endpoint", &endpoint, "--gpu", "off", "--prompt-file"]);
    args.extend([prompts.as_os_str(), OsStr::new("-o"), output.as_os_str()]);
    let ended = run(&args);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let report: Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
    assert_eq!(report["load"]["requests_ok"], 2);
    assert_only_shows("-o", &fs::read_to_string(&output).unwrap());

    let argument = OsStr::from_bytes(b"\xff\xfe");
    let exec = [
        strs(&["exec", "--json", "--", "sh", "-c", "test \"$1\" = \"$(printf '\\377\\376')\"", "sh"]),
        vec![argument],
    ];
    let report = run(&exec.concat()).report();
    assert_eq!(report["target"]["exit"]["code"], 0, "the command has its arguments as they were: {report:#}");
}

/// What a server that repeats the key, as it is and as it stands in JSON and in a URL, says of it.
fn echo(head: &[String]) -> String {
    let value = |name: &str| {
        head.iter().find_map(|h| {
            h.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned())
        })
    };
    let key = value("authorization").unwrap_or_default();
    let quoted = key.replace('"', "\\\"");
    let encoded = key
        .replace(' ', "%20")
        .replace('"', "%22")
        .replace('/', "%2F")
        .replace('+', "%2B")
        .replace('=', "%3D");
    format!("no {key} {} {quoted} {encoded}", value("x-extra").unwrap_or_default())
}

fn assert_no_secret(what: &str, text: &str) {
    for part in ["quoted", "0123456789", "sk-hush", HEADER, "bXVtYmxl"] {
        assert!(!text.contains(part), "{what} has {part}: {text}");
    }
}

#[test]
fn a_key_that_the_server_repeats_is_in_no_byte_that_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("report.json");
    let server = saying(echo);
    let endpoint = server.endpoint();
    let secret = |args: &[&str]| {
        let mut command = command(&strs(args));
        command.env("OPENAI_API_KEY", KEY).env("INFERSCOPE_LOG", "debug");
        command.env("INFERSCOPE_OUTPUT", &saved);
        binary::start_cleaned(command).wait()
    };
    let header = format!("X-Extra: {HEADER}");
    let profile = ["--endpoint", &endpoint, "--requests", "3", "--gpu", "off", "-H", &header];
    for more in [&[][..], &["--json"], &["--json", "--redact", "off"], &["--concurrency", "3"]] {
        let ended = secret(&[&profile[..], more].concat());
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert_no_secret("stdout", &ended.stdout);
        assert_no_secret("stderr", &ended.stderr);
        assert!(ended.stdout.contains("***"), "{}", ended.stdout);
        assert_no_secret("-o", &fs::read_to_string(&saved).unwrap());
    }
    // A server that lists nothing and refuses all: the error's own words.
    let refusing = serve(|request| (401, "text/plain", echo(&request.head)));
    let refused =
        secret(&["--endpoint", &refusing.endpoint(), "--model", "m", "--gpu", "off", "-H", &header]);
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    assert_no_secret("a refusal", &refused.stderr);
    assert!(refused.stderr.contains("***"), "{}", refused.stderr);
    // On the command line of what is watched, where nothing else is masked.
    let exec =
        secret(&["exec", "--json", "--redact", "off", "--", "sh", "-c", "sleep 0.2", "sh", KEY, "shown"]);
    assert_eq!(exec.code, Some(0), "{exec:#?}");
    assert_no_secret("exec", &exec.stdout);
    assert!(exec.stdout.contains("shown") && exec.stdout.contains("sleep 0.2"), "{}", exec.stdout);
}

#[test]
fn a_key_in_the_place_of_its_variables_name_is_refused_and_not_shown() {
    for key in ["sk-abc123def456", "hf_abc123def456", "abc123def456", "0abc123def456", "abc123 def456"] {
        for args in [
            &["--endpoint", "http://127.0.0.1:1", "--api-key-env", key][..],
            &["--endpoint", "http://127.0.0.1:1", &format!("--api-key-env={key}")],
            &["exec", "--endpoint", "http://127.0.0.1:1", "--api-key-env", key, "--", "true"],
        ] {
            let ended = run(&strs(args));
            assert_eq!(ended.code, Some(2), "{args:?}: {ended:#?}");
            assert!(
                !ended.stderr.contains("123") && ended.stderr.starts_with("error: --api-key-env"),
                "{}",
                ended.stderr
            );
        }
    }
}

#[test]
fn command_lines_and_prompts_are_kept_as_far_as_redact_says() {
    let server = one_token();
    let endpoint = server.endpoint();
    let report = |redact: &str| {
        let args = [
            "--endpoint",
            &endpoint,
            "--gpu",
            "off",
            "--json",
            "--prompt",
            "my diagnosis",
            "--redact",
            redact,
        ];
        run(&strs(&args)).report()
    };
    let names = report("names");
    let argv = names["run"]["argv"].to_string();
    assert!(argv.contains("--prompt") && argv.contains(&endpoint) && !argv.contains("diagnosis"), "{argv}");
    assert_eq!(names["run"]["redact"], "names");
    assert!(report("off")["run"]["argv"].to_string().contains("my diagnosis"));
    let full = report("full");
    assert_eq!(full["run"]["argv"], json!([]));
    let list = full["processes"].list("list");
    assert!(!list.is_empty() && list.iter().all(|p| p["argv"].is_null()), "{list:#?}");
    assert!(!full.to_string().contains("diagnosis"));
}
